package peers

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
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

// The browsers that there are.
const (
	Chromium = "Chromium"
	Firefox  = "Firefox"
)

// BrowserConfig is one browser.
type BrowserConfig struct {
	User       string
	Program    string  // Chromium if empty
	Stack      string  // JsSIP if empty
	ToneHz     float64 // what its microphone hears
	Page       string  // the origin of its page; PageOrigin if empty, not that of Own
	Distrust   bool    // it has no reason to trust the edge's certificate
	NoRegister bool
}

// Browser is a headless browser with one tab, in which a page has a phone.
type Browser struct {
	*Process
	lab     *Lab
	Host    *Host
	config  BrowserConfig
	program browserProgram
	tab     tab
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
	c.Program = cmp.Or(c.Program, Chromium)
	program := browsers[c.Program]
	if _, err := os.Stat(program.path); err != nil {
		l.t.Fatalf("find %s: %v; run make peers", c.Program, err)
	}
	c.Stack, c.Page = cmp.Or(c.Stack, JsSIP), cmp.Or(c.Page, PageOrigin)
	b := &Browser{lab: l, Host: h, config: c, program: program}
	if c.Stack == Own {
		b.config.Page = "https://pbx.example.com:" + WSSPort + "/phone"
	} else {
		servePage(h, c)
	}
	dir, err := os.MkdirTemp(l.Dir, "browser-"+c.User+"-")
	if err != nil {
		l.t.Fatal(err)
	}
	b.tab = program.start(b, e, dir)
	l.t.Cleanup(b.end)
	b.open()
	if !c.NoRegister {
		b.Register()
	}
	return b
}

// tab is the one tab of a browser, by whatever protocol it is driven.
type tab interface {
	// open opens a page, in which a script runs before the page's own.
	open(page, script string) error
	reload() error
	// evaluate waits for the string that an expression promises.
	evaluate(expression string) (string, error)
	quit()  // asks the browser to end
	close() // is for when it has
}

// browserProgram is what a browser is on this machine.
type browserProgram struct {
	path, folder string
	start        func(b *Browser, e *Edge, dir string) tab // with its files in dir
}

var browsers = map[string]browserProgram{
	Chromium: {"/usr/bin/chromium", "/usr/lib/chromium/", startChromium},
	Firefox:  {"/usr/lib/firefox-esr/firefox-esr", "/usr/lib/firefox-esr/", startFirefox},
}

// command is one that runs the browser, with its files in dir.
func (b *Browser) command(dir string, args ...string) *exec.Cmd {
	cmd := b.Host.Command(b.program.path, args...)
	cmd.Env = b.env(dir)
	return cmd
}

// run starts the browser.
func (b *Browser) run(cmd *exec.Cmd) {
	b.lab.t.Helper()
	b.Process = b.lab.start("browser-"+b.config.User, cmd)
	var err error
	if b.console, err = os.OpenFile(b.Log, os.O_APPEND|os.O_WRONLY, 0); err != nil {
		b.lab.t.Fatal(err)
	}
}

// env keeps what a program of the browser's writes in dir, and the machine's
// services away from it.
func (b *Browser) env(dir string) []string {
	return append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir, "XDG_RUNTIME_DIR="+dir, "DBUS_SESSION_BUS_ADDRESS=disabled:", "DBUS_SYSTEM_BUS_ADDRESS=disabled:")
}

// open opens the page in a tab.
func (b *Browser) open() {
	b.lab.t.Helper()
	script := ""
	if b.config.Stack == Own {
		script = ownAdapter()
	}
	if err := b.tab.open(b.config.Page, script); err != nil {
		b.lab.t.Fatalf("browser %s: %v", b.config.User, err)
	}
	b.Event("loaded", 60*time.Second)
}

// Reload loads the page again, as its user would; the phone that was in it is
// gone.
func (b *Browser) Reload() {
	b.lab.t.Helper()
	if err := b.tab.reload(); err != nil {
		b.lab.t.Fatalf("browser %s: %v", b.config.User, err)
	}
	b.Event("loaded", 60*time.Second)
}

// Register starts the page's phone, and returns when it is registered.
func (b *Browser) Register() {
	b.lab.t.Helper()
	b.Start()
	b.Event("registered", 30*time.Second)
}

// Start starts the page's phone.
func (b *Browser) Start() {
	b.lab.t.Helper()
	b.Do("start", b.config.User, "secret-"+b.config.User)
}

// told takes an event of the page.
func (b *Browser) told(text string) {
	var e BrowserEvent
	if json.Unmarshal([]byte(text), &e) != nil {
		return
	}
	b.note("page: %s %s", e.Event, e.Detail)
	b.mu.Lock()
	b.events = append(b.events, e)
	b.mu.Unlock()
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
		b.tab.quit()
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
	b.tab.close()
	b.console.Close()
}

// processes are those of the browser: it runs helpers of its own, not all in
// its process group, but all in the host's namespace.
func (b *Browser) processes() (pids []int) {
	out, _ := exec.Command("ip", "netns", "pids", b.Host.Name).Output() // fails for one that has just ended
	for _, word := range strings.Fields(string(out)) {
		exe, err := os.Readlink("/proc/" + word + "/exe")
		if pid, bad := strconv.Atoi(word); bad == nil && err == nil && strings.HasPrefix(exe, b.program.folder) {
			pids = append(pids, pid)
		}
	}
	return pids
}
