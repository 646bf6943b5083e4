package peers

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Edge is the binary under test.
type Edge struct {
	*Process
	lab     *Lab
	host    *Host
	config  string
	State   string   // its state folder
	Environ []string // that it has besides, as "NAME=value"
	ca      string   // what phones trust, if it is not the self-signed certificate
	client  *http.Client
}

// EdgeConfig chooses what differs from test to test.
type EdgeConfig struct {
	PBX6   bool        // it speaks IPv6 with the PBX
	Edge   string      // lines for its [edge]
	PBX    string      // lines for its [pbx]
	PBXs   string      // the PBXs that it knows, as TOML has them; empty: the lab's
	CAFile string      // of the certificate that Extra names; empty: the self-signed one
	State  string      // name of its state folder; empty: the one that all of a lab's edges share
	Before func(*Edge) // what is done before it runs; or nil
	Extra  string      // appended to its configuration; its own [log] replaces the one of tests
}

// Unchecked are lines for EdgeConfig.PBX: the edge asks nobody whether it is there.
// It is for tests that see each message to the PBX.
const Unchecked = "check_interval = \"0s\"\n"

const edgeConfig = `
[edge]
domain = %q
public_ip = %s
plain_ip = %q
state_dir = %q
%s[pbx]
address = %s
%s[admin]
listen = "127.0.0.1:9060"
`

// edgeLog is what a ladder is drawn from.
const edgeLog = `
[log]
level = "debug"
format = "json"
`

// StartEdge runs the edge, and returns when it is healthy.
func StartEdge(l *Lab, c EdgeConfig) *Edge {
	l.t.Helper()
	e := &Edge{lab: l, host: l.Edge, State: filepath.Join(l.Dir, cmp.Or(c.State, "state")), config: filepath.Join(l.Dir, "sallyport.toml"), ca: c.CAFile}
	plain, pbx := EdgeInside, PBXAddr
	if c.PBX6 {
		plain, pbx = EdgeInside6, PBXAddr6
	}
	pbxs := cmp.Or(c.PBXs, strconv.Quote(net.JoinHostPort(pbx, "5060")))
	text := fmt.Sprintf(edgeConfig, "pbx.example.com", fmt.Sprintf("[%q, %q]", EdgeOutside, EdgeOutside6), plain, e.State, c.Edge, pbxs, c.PBX)
	e.start(text, c)
	return e
}

// start runs an edge with a configuration, and with what is appended to it, and
// returns when it is healthy.
func (e *Edge) start(text string, c EdgeConfig) {
	l := e.lab
	l.t.Helper()
	text += c.Extra
	if !strings.Contains(c.Extra, "[log]") {
		text += edgeLog
	}
	if err := os.WriteFile(e.config, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	e.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			err = e.host.Do(func() error {
				c, err = (&net.Dialer{}).DialContext(ctx, network, addr)
				return err
			})
			return c, err
		},
	}}
	if c.Before != nil {
		c.Before(e)
	}
	e.Start()
	l.edges = append(l.edges, e)
}

// Start runs the binary again after Stop, with the same state.
func (e *Edge) Start() {
	e.lab.t.Helper()
	e.launch()
	Until(e.lab.t, 10*time.Second, "the edge to be healthy", func() bool {
		if !e.Running() {
			e.lab.t.Fatal("the edge ended")
		}
		_, err := e.get("/healthz")
		return err == nil
	})
}

// HasPBX waits until the edge reaches its PBX: one that began before that may have asked
// in vain, and asks anew after a while.
func (e *Edge) HasPBX() {
	e.lab.t.Helper()
	Until(e.lab.t, 30*time.Second, "the edge to reach its PBX", func() bool { return e.Metric("sallyport_pbx_up") == 1 })
}

// Configure appends to the configuration. It is read at the next Start.
func (e *Edge) Configure(more string) {
	e.lab.t.Helper()
	before, err := os.ReadFile(e.config)
	if err == nil {
		err = os.WriteFile(e.config, append(before, more...), 0o600)
	}
	if err != nil {
		e.lab.t.Fatal(err)
	}
}

// StartFails does likewise, of an edge that must end by itself, and returns what it said.
func (e *Edge) StartFails() string {
	e.lab.t.Helper()
	e.launch()
	e.ending.Store(true)
	if code, err := e.Wait(10 * time.Second); err != nil || code == 0 {
		e.lab.t.Fatalf("the edge ended with status %d, %v, want a failure", code, err)
	}
	said, err := os.ReadFile(e.Log)
	if err != nil {
		e.lab.t.Fatal(err)
	}
	return string(said)
}

func (e *Edge) launch() {
	e.lab.t.Helper()
	cmd := e.command("run")
	cmd.Env = append(os.Environ(), e.Environ...)
	e.Process = e.lab.start("edge", cmd)
}

// Run runs another command of the binary, with the edge's configuration, and
// returns what it printed.
func (e *Edge) Run(args ...string) string {
	e.lab.t.Helper()
	out, err := e.command(args...).CombinedOutput()
	if err != nil {
		e.lab.t.Fatalf("run sallyport %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (e *Edge) command(args ...string) *exec.Cmd { return e.commandAt(e.host, args...) }

// commandAt is one for another host; files are the same for all.
func (e *Edge) commandAt(h *Host, args ...string) *exec.Cmd {
	e.lab.t.Helper()
	bin := built(e.lab.t, "SALLYPORT_BIN", "sallyport")
	return h.Command(bin, append(args, "-config", e.config)...)
}

// built finds a program of ours: where the environment says, or where make build
// leaves it.
func built(t testing.TB, variable, name string) string {
	t.Helper()
	bin := os.Getenv(variable)
	if bin == "" {
		_, here, _, _ := runtime.Caller(0)
		bin = filepath.Join(filepath.Dir(here), "..", "..", "bin", name)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("find %s: %v; run make build", name, err)
	}
	return bin
}

// CAFile is the certificate that phones must trust.
func (e *Edge) CAFile() string {
	if e.ca != "" {
		return e.ca
	}
	return filepath.Join(e.State, "tls", "self-signed.crt")
}

// certificate is the one in CAFile.
func (e *Edge) certificate() *x509.Certificate {
	e.lab.t.Helper()
	text, err := os.ReadFile(e.CAFile())
	if err != nil {
		e.lab.t.Fatalf("read the edge's certificate: %v", err)
	}
	var der []byte
	if block, _ := pem.Decode(text); block != nil {
		der = block.Bytes
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		e.lab.t.Fatalf("read the edge's certificate: %v", err)
	}
	return cert
}

// Trust changes what phones trust from now on; "" is the self-signed certificate.
func (e *Edge) Trust(caFile string) { e.ca = caFile }

// trust is what a phone's TLS takes for the edge.
func (e *Edge) trust(t testing.TB) *tls.Config {
	t.Helper()
	return trust(t, e.CAFile())
}

func trust(t testing.TB, caFile string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatalf("read the edge's certificate: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: "pbx.example.com"}
}

func (e *Edge) get(path string) (string, error) {
	res, err := e.client.Get("http://127.0.0.1:9060" + path)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s", path, res.Status)
	}
	return string(b), err
}

// Metrics reads all metrics, by name with labels.
func (e *Edge) Metrics() map[string]float64 {
	e.lab.t.Helper()
	text, err := e.get("/metrics")
	if err != nil {
		e.lab.t.Fatalf("read metrics: %v", err)
	}
	m := make(map[string]float64)
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		name, value, ok := cutLast(s.Text())
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.HasPrefix(name, "#") {
			m[name] = v
		}
	}
	return m
}

// Metric sums the metrics whose name with labels begins so. There must be one:
// a name that is misspelt must not pass for a zero.
func (e *Edge) Metric(prefix string) float64 {
	e.lab.t.Helper()
	sum, found := 0.0, false
	for name, v := range e.Metrics() {
		if name == prefix || strings.HasPrefix(name, prefix+"{") || strings.ContainsRune(prefix, '{') && strings.HasPrefix(name, prefix) {
			sum, found = sum+v, true
		}
	}
	if !found {
		e.lab.t.Fatalf("the edge has no metric %s", prefix)
	}
	return sum
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// Descriptors counts the open files of the process.
func (e *Edge) Descriptors() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", e.Pid()))
	if err != nil {
		e.lab.t.Fatalf("count descriptors: %v", err)
	}
	return len(entries)
}
