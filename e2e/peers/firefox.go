package peers

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// firefox is a tab of Firefox, driven by WebDriver BiDi over a WebSocket in the
// browser's own namespace.
type firefox struct {
	*devtools
	b       *Browser
	conn    net.Conn
	context string // the tab
}

// firefoxPort is where it is driven: every browser has a namespace of its own.
const firefoxPort = "9222"

// firefoxPrefs make a browser that a test can drive: its microphone is a tone,
// nobody is asked for permission, all names are the edge's, and what it would ask
// of its maker by itself it does not ask.
var firefoxPrefs = map[string]any{
	"media.navigator.streams.fake":                      true,
	"media.navigator.permission.disabled":               true,
	"media.autoplay.default":                            0, // all may play
	"media.peerconnection.ice.obfuscate_host_addresses": false,
	"network.dns.forceResolve":                          EdgeOutside,
	"services.settings.server":                          "data:,#remote-settings-dummy/v1",
	"media.gmp-manager.updateEnabled":                   false,
}

// startFirefox runs it with its files in dir.
func startFirefox(b *Browser, e *Edge, dir string) tab {
	t := b.lab.t
	t.Helper()
	profile := filepath.Join(dir, "profile")
	if err := os.Mkdir(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	var prefs strings.Builder
	pref := func(name string, value any) {
		text, _ := json.Marshal(value)
		fmt.Fprintf(&prefs, "user_pref(%q, %s);\n", name, text)
	}
	for name, value := range firefoxPrefs {
		pref(name, value)
	}
	pref("media.navigator.audio.fake_frequency", int(b.config.ToneHz))
	files := map[string]string{"user.js": prefs.String()}
	if !b.config.Distrust {
		files["cert_override.txt"] = e.override()
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(profile, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := b.command(dir, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", firefoxPort, "about:blank")
	cmd.Env = append(cmd.Env, "PULSE_SERVER="+startSound(b, dir), "MOZ_REMOTE_SETTINGS_DEVTOOLS=1") // or it takes no services.settings.server
	b.run(cmd)
	b.WaitLog("WebDriver BiDi listening", 30*time.Second)
	conn := b.Host.dial("127.0.0.1:" + firefoxPort)
	ws, _, err := upgrade(conn, "GET /session HTTP/1.1\r\nHost: 127.0.0.1:"+firefoxPort+"\r\n"+connectionUpgrade, "")
	if err != nil {
		t.Fatalf("drive Firefox: %v", err)
	}
	_ = conn.SetDeadline(time.Time{})
	f := &firefox{b: b, conn: ws}
	messages := json.NewDecoder(ws)
	f.devtools = newDevtools(func() (text []byte, err error) {
		var m json.RawMessage
		err = messages.Decode(&m)
		return m, err
	}, func(text []byte) error {
		_, err := ws.Write(text)
		return err
	}, f.happened)
	return f
}

// startSound runs a sound server for a browser, without which Firefox lets no
// page listen to anything: what is played goes nowhere, at the pace of a clock.
// It returns where the server is.
func startSound(b *Browser, dir string) string {
	t := b.lab.t
	t.Helper()
	server := filepath.Join(dir, "sound")
	cmd := b.Host.Command("/usr/bin/pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--realtime=no", "--high-priority=no",
		"--disable-shm", "--log-level=info", "--load=module-null-sink", "--load=module-native-protocol-unix auth-anonymous=1 socket="+server)
	cmd.Env = b.env(dir)
	b.lab.start("sound-"+b.config.User, cmd).WaitLog("Daemon startup complete", 10*time.Second)
	return "unix:" + server
}

// override lets Firefox trust the edge's certificate where its WebSockets are:
// a line of a file that Firefox keeps for what its user trusts.
func (e *Edge) override() string {
	e.lab.t.Helper()
	sum := sha256.Sum256(e.certificate().Raw)
	const sha256OID = "OID.2.16.840.1.101.3.4.2.1"
	return fmt.Sprintf("pbx.example.com:%s:\t%s\t%s\t\n", WSSPort, sha256OID, strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":"))
}

// open implements tab.
func (f *firefox) open(page, script string) error {
	if err := f.call("", "session.new", map[string]any{"capabilities": map[string]any{}}, nil); err != nil {
		return err
	}
	if err := f.call("", "session.subscribe", map[string]any{"events": []string{"script.message", "log.entryAdded"}}, nil); err != nil {
		return err
	}
	var tree struct{ Contexts []struct{ Context string } }
	if err := f.call("", "browsingContext.getTree", nil, &tree); err != nil {
		return err
	}
	if len(tree.Contexts) != 1 {
		return fmt.Errorf("it has %d tabs, want one", len(tree.Contexts))
	}
	f.context = tree.Contexts[0].Context
	// The script is a function's body: what it declares is not yet the page's.
	if script != "" {
		script += "\nwindow.tested = tested;"
	}
	if err := f.call("", "script.addPreloadScript", map[string]any{
		"functionDeclaration": "(channel) => { if (location.protocol === 'about:') return;\nwindow.told = channel;\n" + script + "\n}",
		"arguments":           []any{map[string]any{"type": "channel", "value": map[string]any{"channel": "told"}}},
	}, nil); err != nil {
		return err
	}
	return f.call("", "browsingContext.navigate", map[string]any{"context": f.context, "url": page}, nil)
}

// reload implements tab.
func (f *firefox) reload() error {
	return f.call("", "browsingContext.reload", map[string]any{"context": f.context}, nil)
}

// evaluate implements tab.
func (f *firefox) evaluate(expression string) (string, error) {
	var out struct {
		Result           struct{ Value string }
		ExceptionDetails *struct{ Text string }
	}
	err := f.call("", "script.evaluate", map[string]any{"expression": expression, "target": map[string]any{"context": f.context}, "awaitPromise": true}, &out)
	if err == nil && out.ExceptionDetails != nil {
		err = errors.New(out.ExceptionDetails.Text)
	}
	return out.Result.Value, err
}

// quit implements tab.
func (f *firefox) quit() { _ = f.call("", "browser.close", nil, nil) } // it may end before it answers

// close implements tab.
func (f *firefox) close() {
	f.conn.Close()
	<-f.closed
}

// happened takes an event of the tab.
func (f *firefox) happened(method string, params json.RawMessage) {
	var e struct {
		Channel           string
		Data              struct{ Value string }
		Level, Text, Type string
	}
	_ = json.Unmarshal(params, &e) // of other events, nothing is wanted
	switch method {
	case "script.message":
		if e.Channel == "told" {
			f.b.told(e.Data.Value)
		}
	case "log.entryAdded":
		f.b.note("%s %s: %s", e.Type, e.Level, e.Text)
	}
}
