package peers

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The stacks that a page's phone can be made from.
const (
	JsSIP = "JsSIP"
	SIPJS = "SIP.js"
	Own   = "sallyport" // the edge's own page, if sip.wss_phone is on
)

// BrowserConfig is one browser.
type BrowserConfig struct {
	User       string
	Stack      string  // JsSIP if empty
	ToneHz     float64 // what its microphone hears
	Page       string  // the origin of its page; PageOrigin if empty, not that of Own
	Distrust   bool    // it has no reason to trust the edge's certificate
	NoRegister bool
}

// Browser is a headless Chromium with one tab, in which a page has a phone.
type Browser struct {
	*Process
	lab     *Lab
	Host    *Host
	config  BrowserConfig
	tools   *devtools
	session string // of the tab
	console *os.File

	mu     sync.Mutex // guards events
	events []BrowserEvent
}

// BrowserEvent is what the page told.
type BrowserEvent struct{ Event, Detail string }

// StartBrowser runs a browser on a host and opens its page; unless NoRegister,
// it returns when the phone is registered.
func StartBrowser(h *Host, e *Edge, c BrowserConfig) *Browser {
	l := h.lab
	l.t.Helper()
	if _, err := os.Stat("/usr/bin/chromium"); err != nil {
		l.t.Fatalf("find Chromium: %v; run make peers", err)
	}
	if c.Stack == "" {
		c.Stack = JsSIP
	}
	if c.Page == "" {
		c.Page = PageOrigin
	}
	b := &Browser{lab: l, Host: h, config: c}
	if c.Stack == Own {
		b.config.Page = "https://pbx.example.com:" + WSSPort + "/phone"
	} else {
		servePage(h, c)
	}
	b.launch(e)
	b.open()
	if !c.NoRegister {
		b.Register()
	}
	return b
}

// browserFlags make a browser that a test can drive: its microphone is a file,
// nobody is asked for permission, and it calls nobody by itself.
var browserFlags = []string{
	"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
	"--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--disable-audio-output", "--autoplay-policy=no-user-gesture-required",
	"--disable-features=WebRtcHideLocalIpsWithMdns,OptimizationHints,MediaRouter", "--host-resolver-rules=MAP pbx.example.com " + EdgeOutside,
	"--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync",
	"--disable-default-apps", "--disable-extensions", "--disable-breakpad", "--disable-crash-reporter", "--enable-logging=stderr", "--log-level=2",
}

func (b *Browser) launch(e *Edge) {
	t := b.lab.t
	t.Helper()
	dir, err := os.MkdirTemp(b.lab.Dir, "browser-"+b.config.User+"-")
	if err != nil {
		t.Fatal(err)
	}
	tone := filepath.Join(dir, "tone.wav")
	if err := WriteWAV(tone, Sine(b.config.ToneHz, 60)); err != nil { // looped
		t.Fatal(err)
	}
	args := append([]string{"--user-data-dir=" + filepath.Join(dir, "profile"), "--use-file-for-fake-audio-capture=" + tone}, browserFlags...)
	if !b.config.Distrust {
		args = append(args, "--ignore-certificate-errors-spki-list="+e.keyHash())
	}
	fromBrowser, itsOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	itsIn, toBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := b.Host.Command("/usr/bin/chromium", append(args, "about:blank")...)
	cmd.ExtraFiles = []*os.File{itsIn, itsOut} // its 3 and 4
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir, "DBUS_SESSION_BUS_ADDRESS=disabled:", "DBUS_SYSTEM_BUS_ADDRESS=disabled:")
	b.Process = b.lab.start("browser-"+b.config.User, cmd)
	itsIn.Close()
	itsOut.Close()
	if b.console, err = os.OpenFile(b.Log, os.O_APPEND|os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	b.tools = newDevtools(fromBrowser, toBrowser, b.happened)
	t.Cleanup(b.end)
}

// keyHash is the hash of the edge's public key, by which Chromium is told to
// trust a certificate.
func (e *Edge) keyHash() string {
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
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// open opens the page in a tab.
func (b *Browser) open() {
	b.lab.t.Helper()
	var target struct{ TargetID string }
	b.must("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.must("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	b.must("Runtime.enable", nil, nil)
	b.must("Log.enable", nil, nil)
	b.must("Page.enable", nil, nil)
	b.must("Runtime.addBinding", map[string]any{"name": "told"}, nil)
	if b.config.Stack == Own {
		b.must("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": ownAdapter()}, nil)
	}
	b.must("Page.navigate", map[string]any{"url": b.config.Page}, nil)
	b.Event("loaded", 10*time.Second)
}

// Reload loads the page again, as its user would; the phone that was in it is
// gone.
func (b *Browser) Reload() {
	b.lab.t.Helper()
	b.must("Page.reload", nil, nil)
	b.Event("loaded", 10*time.Second)
}

// Register starts the page's phone, and returns when it is registered.
func (b *Browser) Register() {
	b.lab.t.Helper()
	b.Start()
	b.Event("registered", 10*time.Second)
}

// Start starts the page's phone.
func (b *Browser) Start() {
	b.lab.t.Helper()
	b.Do("start", b.config.User, "secret-"+b.config.User)
}

// must calls a method of the tab, or of the browser as long as there is none.
func (b *Browser) must(method string, params, result any) {
	b.lab.t.Helper()
	if params == nil {
		params = struct{}{}
	}
	if err := b.tools.call(b.session, method, params, result); err != nil {
		b.lab.t.Fatalf("browser %s: %v", b.config.User, err)
	}
}

// happened takes an event of the tab.
func (b *Browser) happened(method string, params json.RawMessage) {
	var e struct {
		Name, Payload, Type string
		Args                []struct {
			Value       any
			Description string
		}
		Entry            struct{ Level, Text, URL string }
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	_ = json.Unmarshal(params, &e) // of other events, nothing is wanted
	switch method {
	case "Runtime.bindingCalled":
		var told BrowserEvent
		if e.Name == "told" && json.Unmarshal([]byte(e.Payload), &told) == nil {
			b.note("page: %s %s", told.Event, told.Detail)
			b.mu.Lock()
			b.events = append(b.events, told)
			b.mu.Unlock()
		}
	case "Runtime.consoleAPICalled":
		words := make([]string, len(e.Args))
		for i, a := range e.Args {
			if words[i] = a.Description; a.Value != nil {
				words[i] = fmt.Sprint(a.Value)
			}
		}
		b.note("console %s: %s", e.Type, strings.Join(words, " "))
	case "Runtime.exceptionThrown":
		b.note("exception: %s %s", e.ExceptionDetails.Text, e.ExceptionDetails.Exception.Description)
	case "Log.entryAdded":
		b.note("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	}
}

// note adds to the browser's log.
func (b *Browser) note(format string, args ...any) {
	fmt.Fprintf(b.console, time.Now().Format("15:04:05.000 ")+format+"\n", args...)
}

// end ends the browser and all its processes, and fails the test if one is
// left.
func (b *Browser) end() {
	if b.Running() {
		if b.lab.t.Failed() {
			b.explain()
		}
		b.ending.Store(true)
		_ = b.tools.call("", "Browser.close", struct{}{}, nil) // it may end before it answers
		if _, err := b.Wait(5 * time.Second); err != nil {
			b.Stop()
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	left := b.processes()
	for len(left) > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
		left = b.processes()
	}
	for _, pid := range left {
		b.lab.t.Errorf("browser %s ended, but its process %d did not", b.config.User, pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	b.tools.close()
	b.console.Close()
}

// processes are those of the browser: it runs helpers of its own, not all in
// its process group, but all in the host's namespace.
func (b *Browser) processes() (pids []int) {
	out, _ := exec.Command("ip", "netns", "pids", b.Host.Name).Output() // fails for one that has just ended
	for _, word := range strings.Fields(string(out)) {
		exe, err := os.Readlink("/proc/" + word + "/exe")
		if pid, bad := strconv.Atoi(word); bad == nil && err == nil && strings.HasPrefix(exe, "/usr/lib/chromium/") {
			pids = append(pids, pid)
		}
	}
	return pids
}
