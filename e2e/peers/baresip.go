package peers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// BaresipConfig is one phone.
type BaresipConfig struct {
	User       string
	Password   string // secret-<User> if empty
	Server     string // host[:port]; the edge if empty
	Transport  string // tls if empty
	MediaEnc   string // srtp-mand for TLS if empty
	CertFile   string // of the certificate that it shows, with its key; or none
	CAFile     string // what the server's certificate is checked with
	ToneHz     float64
	AutoAnswer bool
	NoRegister bool
	Mux        bool // it offers RTCP on the RTP port
	Outbound   bool // it registers by outbound (RFC 5626), over IPv4 and over IPv6
}

// Baresip is a running softphone.
type Baresip struct {
	*Process
	lab    *Lab
	Dir    string
	config BaresipConfig
	conn   net.Conn

	forgot string // the recording that Forget was called in
	from   int    // its length then

	mu     sync.Mutex // guards events
	events []BaresipEvent
}

// BaresipEvent is what ctrl_tcp told.
type BaresipEvent struct {
	Type  string // CALL_ESTABLISHED, CALL_CLOSED, …
	Param string
	Peer  string `json:"peeruri"`
}

const baresipConfig = `poll_method epoll
sip_cafile %[1]s
sip_verify_server %[2]s
call_local_timeout 120
call_max_calls 4
audio_path /usr/share/baresip
audio_player aufile,%[3]s/player.wav
audio_source aufile,%[3]s/tone.wav
audio_alert aufile,%[3]s/player.wav
ausrc_srate 8000
auplay_srate 8000
audio_level no
rtp_tos 184
rtp_ports 40000-41000
rtcp_mux %[6]s
jitter_buffer_delay 2-10
net_interface %[4]s
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module srtp.so
module dtls_srtp.so
module sndfile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
snd_path %[3]s
ctrl_tcp_listen 127.0.0.1:4444
sip_listen %[5]s:0
`

// StartBaresip runs a phone on a host: one to a host, since its control port
// is fixed. Unless NoRegister, it returns when it is registered.
func StartBaresip(h *Host, c BaresipConfig) *Baresip {
	l := h.lab
	l.t.Helper()
	if _, err := exec.LookPath("baresip"); err != nil {
		l.t.Fatalf("find baresip: %v; run make peers", err)
	}
	b := NewBaresip(h, c)
	if !c.NoRegister {
		// By its log: it may be registered before its control port is open, and
		// nobody hears the event.
		b.WaitLog(`200 OK \(.*\) \[[1-9]\d* binding`, 10*time.Second)
	}
	return b
}

// NewBaresip runs a phone, and does not wait for its registration.
func NewBaresip(h *Host, c BaresipConfig) *Baresip {
	l := h.lab
	l.t.Helper()
	if c.Password == "" {
		c.Password = "secret-" + c.User
	}
	if c.Server == "" {
		c.Server = EdgeOutside
	}
	if c.Transport == "" {
		c.Transport = "tls"
	}
	if c.MediaEnc == "" && c.Transport == "tls" {
		c.MediaEnc = "srtp-mand"
	}
	dir, err := os.MkdirTemp(l.Dir, "baresip-"+c.User+"-")
	if err != nil {
		l.t.Fatal(err)
	}
	b := &Baresip{lab: l, Dir: dir, config: c}
	b.writeFiles(h)
	b.Process = l.start("baresip-"+c.User, h.Command("baresip", append(c.families(), "-s", "-v", "-f", dir)...))
	b.connect(h)
	return b
}

// families are baresip's options for the IP versions that it uses.
func (c BaresipConfig) families() []string {
	if c.Outbound {
		return nil
	}
	return []string{"-4"}
}

func (b *Baresip) writeFiles(h *Host) {
	b.lab.t.Helper()
	c := b.config
	verify := "yes"
	if c.CAFile == "" {
		verify = "no"
	}
	account := fmt.Sprintf("<sip:%s@%s;transport=%s>;auth_pass=%s", c.User, c.Server, c.Transport, c.Password)
	if c.MediaEnc != "" {
		account += ";mediaenc=" + c.MediaEnc
	}
	if c.AutoAnswer {
		account += ";answermode=auto"
	}
	if c.NoRegister {
		account += ";regint=0"
	} else {
		account += ";regint=60"
	}
	if c.Outbound {
		account += fmt.Sprintf(`;sipnat=outbound;outbound="sip:%s:5061;transport=tls";outbound2="sip:[%s]:5061;transport=tls"`, EdgeOutside, EdgeOutside6)
	}
	account += ";audio_codecs=PCMU/8000/1;ptime=20"
	mux := "no"
	if c.Mux {
		mux = "yes"
	}
	config := fmt.Sprintf(baresipConfig, c.CAFile, verify, b.Dir, h.Dev, h.Addr, mux)
	if c.CAFile == "" {
		config = strings.Replace(config, "sip_cafile \n", "", 1)
	}
	if c.CertFile != "" {
		config += "sip_certificate " + c.CertFile + "\n"
	}
	if c.Outbound {
		config = strings.Replace(config, fmt.Sprintf("sip_listen %s:0\n", h.Addr), "", 1)
	}
	tone := c.ToneHz
	for name, text := range map[string]string{"config": config, "accounts": account + "\n", "contacts": ""} {
		if err := os.WriteFile(filepath.Join(b.Dir, name), []byte(text), 0o600); err != nil {
			b.lab.t.Fatal(err)
		}
	}
	samples := Sine(tone, 300) // the file is not looped: longer than any test's call
	if err := WriteWAV(filepath.Join(b.Dir, "tone.wav"), samples); err != nil {
		b.lab.t.Fatal(err)
	}
}

// connect opens the control connection and collects events until the phone
// ends.
func (b *Baresip) connect(h *Host) {
	b.lab.t.Helper()
	Until(b.lab.t, 10*time.Second, "baresip's control port", func() bool {
		if !b.Running() {
			b.lab.t.Fatalf("baresip ended: %v", b.err)
		}
		return h.Do(func() (err error) {
			b.conn, err = net.DialTimeout("tcp", "127.0.0.1:4444", time.Second)
			return err
		}) == nil
	})
	go func() { // ends when the phone closes the connection
		r := bufio.NewReader(b.conn)
		for {
			text, err := netstring(r)
			if err != nil {
				return
			}
			var m struct {
				Event bool
				BaresipEvent
			}
			if json.Unmarshal(text, &m) == nil && m.Event {
				b.mu.Lock()
				b.events = append(b.events, m.BaresipEvent)
				b.mu.Unlock()
			}
		}
	}()
}

// netstring reads <length>:<bytes>, .
func netstring(r *bufio.Reader) ([]byte, error) {
	head, err := r.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(head, ":"))
	if err != nil || n < 0 || n > 1<<20 {
		return nil, fmt.Errorf("read netstring: bad length %q", head)
	}
	b := make([]byte, n+1)
	for at := 0; at < len(b); {
		k, err := r.Read(b[at:])
		if err != nil {
			return nil, err
		}
		at += k
	}
	return b[:n], nil
}

// Command sends one command of the menu module.
func (b *Baresip) Command(name, params string) {
	b.lab.t.Helper()
	text, _ := json.Marshal(map[string]string{"command": name, "params": params, "token": name})
	if _, err := fmt.Fprintf(b.conn, "%d:%s,", len(text), text); err != nil {
		b.lab.t.Fatalf("send %s to baresip %s: %v", name, b.config.User, err)
	}
}

// User is who the phone is registered as.
func (b *Baresip) User() string { return b.config.User }

// ToneHz is what the phone says.
func (b *Baresip) ToneHz() float64 { return b.config.ToneHz }

// Dial calls a number at the phone's server.
func (b *Baresip) Dial(number string) {
	b.lab.t.Helper()
	b.Command("dial", number)
}

// Hangup ends, refuses or cancels the call.
func (b *Baresip) Hangup() {
	b.lab.t.Helper()
	b.Command("hangup", "")
}

// Hold holds the call, Resume goes on with it. Once it has held a call,
// baresip 1.0.0 records no more of what it hears, with or without an edge.
func (b *Baresip) Hold() {
	b.lab.t.Helper()
	b.Command("hold", "")
}

// Resume ends Hold.
func (b *Baresip) Resume() {
	b.lab.t.Helper()
	b.Command("resume", "")
}

// Accept answers the call that rings.
func (b *Baresip) Accept() {
	b.lab.t.Helper()
	b.Command("accept", "")
}

// Event waits for an event that was not waited for before, and returns it;
// earlier events are passed over.
func (b *Baresip) Event(kind string, timeout time.Duration) BaresipEvent {
	b.lab.t.Helper()
	var found BaresipEvent
	Until(b.lab.t, timeout, fmt.Sprintf("%s of baresip %s", kind, b.config.User), func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for i, e := range b.events {
			if e.Type == kind {
				found, b.events = e, b.events[i+1:]
				return true
			}
		}
		if !b.Running() && !b.ending.Load() {
			b.lab.t.Fatalf("baresip ended: %v", b.err)
		}
		return false
	})
	return found
}

// Heard reads what the phone's user has heard: the newest recording, and of
// that what came after Forget.
func (b *Baresip) Heard() (samples []int16, rate int) {
	b.lab.t.Helper()
	file := b.recording()
	samples, rate, err := ReadWAV(file)
	if err != nil {
		return nil, Rate // not written to yet
	}
	if file == b.forgot {
		samples = samples[min(b.from, len(samples)):]
	}
	return samples, rate
}

// Forget drops what was heard: what Hears finds comes later.
func (b *Baresip) Forget() {
	b.lab.t.Helper()
	b.forgot = b.recording()
	samples, _, _ := ReadWAV(b.forgot)
	b.from = len(samples)
}

func (b *Baresip) recording() string {
	files, _ := filepath.Glob(filepath.Join(b.Dir, "dump-*dec.wav"))
	if len(files) == 0 {
		return ""
	}
	return files[len(files)-1]
}

// Hears waits until the phone's user has heard a second of a tone of that
// frequency, within 1 %.
func (b *Baresip) Hears(hz float64, timeout time.Duration) {
	b.lab.t.Helper()
	var got, share float64
	deadline := time.Now().Add(timeout)
	for time.Now().Before(deadline) {
		samples, rate := b.Heard()
		if len(samples) > rate {
			got, share = Tone(samples, rate)
			if Near(got, hz) && share > 0.8 {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.lab.t.Fatalf("baresip %s hears %.1f Hz (%.0f %% of the sound), want %.0f Hz", b.config.User, got, 100*share, hz)
}

// Near tells whether a frequency is another within 1 %.
func Near(got, want float64) bool { return got > 0.99*want && got < 1.01*want }
