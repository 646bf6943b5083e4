package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
)

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		exit int
		says string
	}{
		{"help", exitOK, "sallyload COMMAND"},
		{"help call", exitOK, "-callee"},
		{"help answer", exitOK, "-password"},
		{"help fax", exitUsage, `there is no command "fax"`},
		{"help help", exitOK, "sallyload COMMAND"},
		{"", exitUsage, "sallyload COMMAND"},
		{"fax", exitUsage, `there is no command "fax"`},
		{"call", exitUsage, "--target"},
		{"call --target 127.0.0.1:1 --phones 1", exitUsage, "it takes two"},
		{"call --target 127.0.0.1:1 --media wax", exitUsage, "--media wax"},
		{"mix --target 127.0.0.1:1 --mix call=x", exitUsage, "no weight"},
		{"mix --target 127.0.0.1:1 --mix ,", exitUsage, "--mix"},
		{"mix --target 127.0.0.1:1 --mix=", exitUsage, "--mix"},
		{"register --target 127.0.0.1:1 --key key.pem", exitUsage, "--cert"},
		{"register --target 127.0.0.1:1 --ca /nowhere", exitUsage, "--ca"},
		{"register --target 127.0.0.1:1 --pin 12", exitUsage, "--pin"},
		{"register --target 127.0.0.1:1 --arrivals odd", exitUsage, "poisson or even"},
		{"storm --target 127.0.0.1:1 --retry-max 1h --retry 1s --nonsense", exitUsage, "nonsense"},
		{"register --target 127.0.0.1:1 --phones 1 --duration 100ms --json /nowhere/load.json", exitUsage, "--json"},
		{"register --target 127.0.0.1:1 --phones 1 --duration 100ms --plot /nowhere/load.svg", exitUsage, "--plot"},
		{"register --target tls:127.0.0.1:1", exitUsage, "read target"},
		{"register --target https://pbx.example.com/", exitUsage, "read target"},
		{"register --target sip:alice@pbx.example.com", exitUsage, "read target"},
		{"register --target 127.0.0.1:99999", exitUsage, "read target"},
		{"answer --listen tcp:1", exitUsage, "--listen"},
		{"answer --codecs opus", exitUsage, "--codecs"},
		{"call --target 127.0.0.1:1 --codecs opus", exitUsage, "PCMU, PCMA"},
		{"answer --help", exitOK, "-password"},
	} {
		var out, errs bytes.Buffer
		if exit := run(strings.Fields(c.args), &out, &errs); exit != c.exit || !strings.Contains(out.String()+errs.String(), c.says) {
			t.Errorf("sallyload %s ends with %d, and says %q %q; want %d and %q", c.args, exit, out.String(), errs.String(), c.exit, c.says)
		}
	}
}

// An address of IPv6 stands in brackets in URIs, and without them in a certificate.
func TestConnection(t *testing.T) {
	for _, c := range []struct{ args, domain, name, addr string }{
		{"--target [2001:db8::1]", "[2001:db8::1]", "2001:db8::1", "[2001:db8::1]:5061"},
		{"--target wss://pbx.example.com/ws", "pbx.example.com", "pbx.example.com", "pbx.example.com:443"},
		{"--target 192.0.2.1:5062 --domain pbx.example.com:5070", "pbx.example.com:5070", "pbx.example.com", "192.0.2.1:5062"},
		{"--target 192.0.2.1 --domain a.example --server-name b.example", "a.example", "b.example", "192.0.2.1:5061"},
	} {
		o := newOptions(commands()[0])
		if err := o.parse(strings.Fields(c.args)); err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		if p := o.plan; p.Domain != c.domain || p.Connect.Name != c.name || p.Connect.TLS.ServerName != c.name || p.Connect.Addr != c.addr {
			t.Errorf("%s: the domain is %s, the name %s, the address %s", c.args, p.Domain, p.Connect.Name, p.Connect.Addr)
		}
	}
}

// A disk that is full for the report leaves the drawing, and is told.
func TestNoRoom(t *testing.T) {
	drawn := filepath.Join(t.TempDir(), "load.svg")
	var out, errs bytes.Buffer
	args := strings.Fields("register --target 127.0.0.1:1 --phones 1 --duration 100ms --json /dev/full --plot " + drawn)
	if exit := run(args, &out, &errs); exit != exitFailed || !strings.Contains(errs.String(), "/dev/full") {
		t.Errorf("it ended with %d: %s", exit, errs.String())
	}
	if b, err := os.ReadFile(drawn); err != nil || !strings.HasSuffix(strings.TrimSpace(string(b)), "</svg>") {
		t.Errorf("the drawing: %v, %d bytes", err, len(b))
	}
}

// A server that is not there is told in the report, its drawing and the status; the
// password is in none of them.
func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	name, drawn := filepath.Join(dir, "load.json"), filepath.Join(dir, "load.svg")
	var out, errs bytes.Buffer
	args := strings.Fields("register --target 127.0.0.1:1 --phones 2 --rate 20 --duration 200ms --password hush --json " + name + " --plot " + drawn)
	if exit := run(args, &out, &errs); exit != exitFailed {
		t.Errorf("it ended with %d: %s", exit, errs.String())
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var r measure.Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	c := r.Operations["register"]
	if r.Passed || c == nil || c.Done > 0 || c.Failed != c.Due || c.Causes["connect: connection refused"] != c.Due {
		t.Errorf("the report has %+v", c)
	}
	svg, err := os.ReadFile(drawn)
	if err != nil || !strings.HasPrefix(string(svg), "<svg") {
		t.Errorf("the drawing: %v", err)
	}
	if strings.Contains(string(b)+string(svg)+out.String()+errs.String(), "hush") {
		t.Error("the password was told")
	}
}
