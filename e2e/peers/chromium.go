package peers

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// chromium is a tab of Chromium, driven by the DevTools protocol over a pair of
// pipes.
type chromium struct {
	*devtools
	b       *Browser
	w       *os.File
	session string // of the tab
}

// chromiumFlags make a browser that a test can drive: its microphone is a file,
// nobody is asked for permission, and it calls nobody by itself.
var chromiumFlags = []string{
	"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
	"--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--disable-audio-output", "--autoplay-policy=no-user-gesture-required",
	"--disable-features=WebRtcHideLocalIpsWithMdns,OptimizationHints,MediaRouter", "--host-resolver-rules=MAP pbx.example.com " + EdgeOutside,
	"--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync",
	"--disable-default-apps", "--disable-extensions", "--disable-breakpad", "--disable-crash-reporter", "--enable-logging=stderr", "--log-level=2",
}

// startChromium runs it with its files in dir.
func startChromium(b *Browser, e *Edge, dir string) tab {
	t := b.lab.t
	t.Helper()
	tone := filepath.Join(dir, "tone.wav")
	if err := WriteWAV(tone, Sine(b.config.ToneHz, 60)); err != nil { // looped
		t.Fatal(err)
	}
	args := append([]string{"--user-data-dir=" + filepath.Join(dir, "profile"), "--use-file-for-fake-audio-capture=" + tone}, chromiumFlags...)
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
	cmd := b.command(dir, append(args, "about:blank")...)
	cmd.ExtraFiles = []*os.File{itsIn, itsOut} // its 3 and 4
	b.run(cmd)
	itsIn.Close()
	itsOut.Close()
	c := &chromium{b: b, w: toBrowser}
	// Each message is ended by a zero byte.
	r := bufio.NewReader(fromBrowser)
	c.devtools = newDevtools(func() ([]byte, error) {
		text, err := r.ReadBytes(0)
		if err != nil {
			fromBrowser.Close()
			return nil, err
		}
		return text[:len(text)-1], nil
	}, func(text []byte) error {
		_, err := toBrowser.Write(append(text, 0))
		return err
	}, c.happened)
	return c
}

// keyHash is the hash of the edge's public key, by which Chromium is told to
// trust a certificate.
func (e *Edge) keyHash() string {
	e.lab.t.Helper()
	sum := sha256.Sum256(e.certificate().RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// open implements tab.
func (c *chromium) open(page, script string) error {
	var target struct{ TargetID string }
	if err := c.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target); err != nil {
		return err
	}
	var attached struct{ SessionID string }
	if err := c.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached); err != nil {
		return err
	}
	c.session = attached.SessionID
	for _, ask := range []struct {
		method string
		params any
	}{
		{"Runtime.enable", nil},
		{"Log.enable", nil},
		{"Page.enable", nil},
		{"Runtime.addBinding", map[string]any{"name": "told"}},
		{"Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": script}},
		{"Page.navigate", map[string]any{"url": page}},
	} {
		if err := c.call(c.session, ask.method, ask.params, nil); err != nil {
			return err
		}
	}
	return nil
}

// reload implements tab.
func (c *chromium) reload() error { return c.call(c.session, "Page.reload", nil, nil) }

// evaluate implements tab.
func (c *chromium) evaluate(expression string) (string, error) {
	var out struct {
		Result           struct{ Value string }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := c.call(c.session, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &out)
	if err == nil && out.ExceptionDetails != nil {
		err = errors.New(out.ExceptionDetails.Text + " " + out.ExceptionDetails.Exception.Description)
	}
	return out.Result.Value, err
}

// quit implements tab.
func (c *chromium) quit() { _ = c.call("", "Browser.close", nil, nil) } // it may end before it answers

// close implements tab.
func (c *chromium) close() {
	<-c.closed
	c.w.Close()
}

// happened takes an event of the tab.
func (c *chromium) happened(method string, params json.RawMessage) {
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
		if e.Name == "told" {
			c.b.told(e.Payload)
		}
	case "Runtime.consoleAPICalled":
		words := make([]string, len(e.Args))
		for i, a := range e.Args {
			if words[i] = a.Description; a.Value != nil {
				words[i] = fmt.Sprint(a.Value)
			}
		}
		c.b.note("console %s: %s", e.Type, strings.Join(words, " "))
	case "Runtime.exceptionThrown":
		c.b.note("exception: %s %s", e.ExceptionDetails.Text, e.ExceptionDetails.Exception.Description)
	case "Log.entryAdded":
		c.b.note("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	}
}
