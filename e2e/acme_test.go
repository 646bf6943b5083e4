package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// acmeOffice is an office whose edge gets its certificate from pebble. Extra is
// the rest of its configuration, [tls] first.
func acmeOffice(t *testing.T, c peers.PebbleConfig, tls, extra string) (*office, *peers.Pebble) {
	t.Helper()
	l := peers.NewLab(t)
	ca := peers.NewPebble(l, c)
	ca.Start(peers.EdgeOutside)
	o := &office{Lab: l, t: t, pbx: peers.StartAsterisk(l, peers.AsteriskConfig{})}
	o.edge = peers.StartEdge(l, peers.EdgeConfig{CAFile: ca.Root(), Extra: "[tls]\n" + ca.Settings() + tls + extra})
	return o, ca
}

// fetched waits until the edge has got so many certificates since its start.
func (o *office) fetched(n float64) {
	o.t.Helper()
	peers.Until(o.t, 90*time.Second, fmt.Sprintf("%v certificates from the CA", n), func() bool {
		return o.edge.Metric(`sallyport_acme_orders_total{result="fetched"}`) >= n
	})
}

// secrets checks that neither a key of the state folder is in the log nor one of
// its files is open to others.
func (o *office) secrets() {
	o.t.Helper()
	files, _ := filepath.Glob(filepath.Join(o.edge.State, "tls", "acme-*"))
	if len(files) != 2 {
		o.t.Fatalf("kept are %q, want the certificate and the account", files)
	}
	log := o.edgeLog()
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			o.t.Errorf("%s has mode %v, want 0600 (%v)", file, info.Mode(), err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			o.t.Fatal(err)
		}
		text := string(data)
		if filepath.Ext(file) == ".json" {
			var account struct{ Key string }
			if err := json.Unmarshal(data, &account); err != nil {
				o.t.Fatal(err)
			}
			text = account.Key
		}
		_, key, found := strings.Cut(text, "-----BEGIN PRIVATE KEY-----\n")
		if !found {
			o.t.Fatalf("%s holds no key", file)
		}
		for line := range strings.Lines(key) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----END") && strings.Contains(log, line) {
				o.t.Errorf("a line of the key in %s is in the log", file)
			}
		}
	}
}

// The edge gets its certificate from a CA by each kind of challenge, phones that
// trust that CA connect, others don't, and a restart asks for no other.
func TestAcmeIssue(t *testing.T) {
	for _, tc := range []struct{ name, tls, extra string }{
		{"TLS-ALPN-01", "", "[sip]\nwss_listen = \":443\"\n"},
		{"HTTP-01", "acme_http = \":80\"\nacme_key = \"rsa\"\nacme_email = \"ops@example.com\"\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, ca := acmeOffice(t, peers.PebbleConfig{}, tc.tls, tc.extra)
			o.fetched(1)
			baresip := o.phone("1001", 700) // checks the certificate by itself
			baresip.Dial("600")
			baresip.Event("CALL_ESTABLISHED", 10*time.Second)
			baresip.Hears(700, 10*time.Second)

			other := o.Phone("other")
			serial := o.edge.Serial(other)
			for _, wrong := range []struct{ ca, name, says string }{
				{ca.OwnRoot(), "pbx.example.com", "unknown authority"},
				{ca.Root(), "other.example.com", "not other.example.com"},
			} {
				if _, err := o.edge.Shows(other, wrong.ca, wrong.name); err == nil || !strings.Contains(err.Error(), wrong.says) {
					t.Errorf("who asks for %s gets %v, want an error with %q", wrong.name, err, wrong.says)
				}
			}
			if log, _ := os.ReadFile(ca.Log); strings.Contains(string(log), "other.example.com") {
				t.Error("the CA was asked for a name because somebody else asked for it")
			}
			if err := other.Do(func() error { _, err := net.Dial("tcp", peers.EdgeOutside+":80"); return err }); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("port 80 is open when no challenge is: %v", err)
			}
			o.secrets()
			baresip.Hangup()
			baresip.Event("CALL_CLOSED", 5*time.Second)
			o.idle()

			o.edge.Stop()
			o.edge.Start()
			if got := o.edge.Serial(other); got != serial {
				t.Errorf("after a restart the edge serves serial %x, want the %x it had", got, serial)
			}
			if n := o.edge.Metric(`sallyport_acme_orders_total{result="fetched"}`); n != 0 {
				t.Errorf("after a restart it fetched %v certificates, want none", n)
			}
		})
	}
}

// Where DNS leads elsewhere there is no certificate: the CA does look. The edge
// says so, and serves the self-signed one.
func TestAcmeNotOurs(t *testing.T) {
	l := peers.NewLab(t)
	ca := peers.NewPebble(l, peers.PebbleConfig{})
	elsewhere := l.Phone("elsewhere")
	ca.Start(elsewhere.Addr.String())
	o := &office{Lab: l, t: t}
	o.edge = peers.StartEdge(l, peers.EdgeConfig{Extra: "[tls]\n" + ca.Settings() + "acme_http = \":80\"\n"})
	peers.Until(t, 60*time.Second, "the CA's refusal", func() bool { return o.edge.Metric(`sallyport_acme_orders_total{result="failed"}`) == 1 })
	for _, words := range []string{"edge.domain: the CA could not see that pbx.example.com is this edge", "phones meanwhile get the self-signed one"} {
		if !strings.Contains(o.edgeLog(), words) {
			t.Errorf("the log does not say %q", words)
		}
	}
	if _, err := o.edge.Shows(elsewhere, o.edge.CAFile(), "pbx.example.com"); err != nil {
		t.Errorf("the self-signed certificate is not served: %v", err)
	}
	if _, err := o.edge.Shows(elsewhere, ca.Root(), "pbx.example.com"); err == nil {
		t.Error("the CA gave a certificate for a name that leads elsewhere")
	}
}
