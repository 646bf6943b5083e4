package peers

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// SIPp is one run of SIPp 3.8, from a root of Debian's testing suite.
type SIPp struct {
	*Process
	lab   *Lab
	dir   string
	stats string
}

// SIPpSoundDiffers is the exit status when all calls were good, but not what
// came back.
const SIPpSoundDiffers = 253

// SIPpResult is what a run counted.
type SIPpResult struct {
	Exit               int
	Successful, Failed int
	Causes             map[string]int // of what failed, as SIPp names them
}

// StartSIPp runs a scenario over TLS against the edge.
func StartSIPp(h *Host, scenario string, args ...string) *SIPp {
	return startSIPp(h, "5061", scenario, args...)
}

// StartSIPpWSS runs a scenario over secure WebSocket against the edge, with a
// connection for each call.
func StartSIPpWSS(h *Host, scenario string, args ...string) *SIPp {
	return startSIPp(h, WSSPort, scenario, append([]string{"-t", "xn", "-max_socket", "1000"}, args...)...)
}

func startSIPp(h *Host, port, scenario string, args ...string) *SIPp {
	l := h.lab
	l.t.Helper()
	dir := h.sippDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := clientPair(cert, key); err != nil { // SIPp wants one, whoever asks for it
		l.t.Fatal(err)
	}
	return h.sipp(dir, append([]string{
		net.JoinHostPort(EdgeOutside, port), "-sf", scenario, "-i", h.Addr.String(), "-tls_cert", cert, "-tls_key", key,
	}, args...)...)
}

// StartPlainSIPp runs a scenario over UDP that calls an address, or answers there if
// target is empty; at a port of its own host.
func StartPlainSIPp(h *Host, scenario, target string, port int, args ...string) *SIPp {
	l := h.lab
	l.t.Helper()
	if target != "" {
		args = append([]string{target}, args...)
	}
	s := h.sipp(h.sippDir(), append(args, "-sf", scenario, "-i", h.Addr.String(), "-p", strconv.Itoa(port), "-t", "u1")...)
	Until(l.t, 5*time.Second, "SIPp to listen", func() bool {
		return !s.Running() || strings.Contains(h.Run(l.t, "ss", "-Hlun"), fmt.Sprintf("%s:%d", h.Addr, port))
	})
	return s
}

// StartSIPpPBX runs a scenario that answers over UDP, in the place of the PBX.
func StartSIPpPBX(l *Lab, scenario string, args ...string) *SIPp {
	l.t.Helper()
	h := l.PBX
	s := h.sipp(h.sippDir(), append([]string{"-sf", scenario, "-i", PBXAddr, "-p", "5060", "-t", "u1"}, args...)...)
	Until(l.t, 5*time.Second, "SIPp to listen", func() bool {
		return strings.Contains(h.Run(l.t, "ss", "-Hlun"), PBXAddr+":5060")
	})
	return s
}

func (h *Host) sippDir() string {
	h.lab.t.Helper()
	dir, err := os.MkdirTemp(h.lab.Dir, "sipp")
	if err != nil {
		h.lab.t.Fatal(err)
	}
	return dir
}

// sipp runs the binary, with its files in a folder.
func (h *Host) sipp(dir string, args ...string) *SIPp {
	l := h.lab
	l.t.Helper()
	s := &SIPp{lab: l, dir: dir, stats: filepath.Join(dir, "stats.csv")}
	cmd := h.forky("sipp", append([]string{
		"-nostdin", "-trace_stat", "-stf", s.stats, "-fd", "1", "-trace_err", "-error_file", filepath.Join(dir, "errors.log"),
	}, args...)...)
	cmd.Dir = dir
	s.Process = l.start("sipp", cmd)
	return s
}

// SIPpNotes is the argument that has SIPp note each SRTP packet, for Verified.
const SIPpNotes = "-rtpcheck_debug"

// Verified counts the SRTP packets whose tags SIPp verified, and those whose
// it could not.
func (s *SIPp) Verified() (good, bad int) {
	s.lab.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "debugafile"))
	if err != nil {
		s.lab.t.Fatalf("read SIPp's notes on SRTP: %v", err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if strings.Contains(line, "RXUACAUDIO -- processIncomingPacket() rc ==  0 ") {
			good++
		} else if strings.Contains(line, "RXUACAUDIO -- processIncomingPacket() rc == ") {
			bad++
		}
	}
	return good, bad
}

// Result waits for the run to end and reads its figures.
func (s *SIPp) Result(timeout time.Duration) SIPpResult {
	s.lab.t.Helper()
	exit, err := s.Wait(timeout)
	if err != nil {
		s.lab.t.Fatal(err)
	}
	f, err := os.Open(s.stats)
	if err != nil {
		s.lab.t.Fatalf("read SIPp's figures: %v", err)
	}
	defer f.Close()
	var head, last []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Split(sc.Text(), ";")
		if head == nil {
			head = fields
		} else {
			last = fields
		}
	}
	r := SIPpResult{Exit: exit, Causes: make(map[string]int)}
	for i, name := range head {
		if i >= len(last) {
			break
		}
		n, _ := strconv.Atoi(last[i])
		switch cause, failed := strings.CutPrefix(name, "Failed"); {
		case name == "SuccessfulCall(C)":
			r.Successful = n
		case name == "FailedCall(C)":
			r.Failed = n
		case failed && n > 0 && strings.HasSuffix(cause, "(C)"):
			r.Causes[strings.TrimSuffix(cause, "(C)")] = n
		}
	}
	return r
}

var unexpected = regexp.MustCompile(`received '([^\r\n']+)`)

// Unexpected counts the messages that ended calls, by their first lines.
func (s *SIPp) Unexpected() map[string]int {
	counts := make(map[string]int)
	b, _ := os.ReadFile(filepath.Join(s.dir, "errors.log")) // there is none without an error
	for _, m := range unexpected.FindAllStringSubmatch(string(b), -1) {
		counts[m[1]]++
	}
	return counts
}

var complaints = regexp.MustCompile(`(?s)(Aborting|Failed regexp).*`)

// Complaint is what the run, of any of its scenarios, has said against what came
// or did not come.
func (s *SIPp) Complaint() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "errors.log"))
	return complaints.FindString(string(b))
}

// Answers are the times that calls took from a scenario's start_rtd to its rtd,
// in the order of their ends. SIPp must have been told to note them: -trace_rtt.
func (s *SIPp) Answers() []time.Duration {
	s.lab.t.Helper()
	files, _ := filepath.Glob(filepath.Join(s.dir, "*_rtt.csv"))
	if len(files) != 1 {
		s.lab.t.Fatalf("read SIPp's times: %d files in %s", len(files), s.dir)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		s.lab.t.Fatalf("read SIPp's times: %v", err)
	}
	var all []time.Duration
	for _, line := range strings.Split(string(b), "\n")[1:] { // after the head: date; milliseconds; name
		if f := strings.Split(line, ";"); len(f) == 3 {
			ms, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				s.lab.t.Fatalf("read SIPp's times: %v", err)
			}
			all = append(all, time.Duration(ms*float64(time.Millisecond)))
		}
	}
	return all
}

// clientPair makes a certificate that means nothing to anybody.
func clientPair(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sipp"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	if err := os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}
