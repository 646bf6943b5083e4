package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	return acmeOfficeIn(peers.NewLab(t), t, c, tls, extra)
}

func acmeOfficeIn(l *peers.Lab, t *testing.T, c peers.PebbleConfig, tls, extra string) (*office, *peers.Pebble) {
	t.Helper()
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
			for _, words := range []string{"by ACME    https://", "issuer     CN=Pebble Intermediate", "names      pbx.example.com"} {
				if shown := o.edge.Run("cert", "show"); !strings.Contains(shown, words) {
					t.Errorf("cert show does not say %q:\n%s", words, shown)
				}
			}

			o.edge.Run("cert", "renew")
			o.fetched(2)
			former := serial
			if serial = o.edge.Serial(other); serial == former {
				t.Errorf("after cert renew the edge still serves serial %x", serial)
			}
			baresip.Forget()
			baresip.Hears(700, 10*time.Second)
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
	o.says("edge.domain: the CA could not see that pbx.example.com is this edge")
	o.says("phones meanwhile get the self-signed one")
	if _, err := o.edge.Shows(elsewhere, o.edge.CAFile(), "pbx.example.com"); err != nil {
		t.Errorf("the self-signed certificate is not served: %v", err)
	}
	if _, err := o.edge.Shows(elsewhere, ca.Root(), "pbx.example.com"); err == nil {
		t.Error("the CA gave a certificate for a name that leads elsewhere")
	}
}

// A web server has port 80, and serves the answers from its folder; and the CA
// wants an account that its customer has with it, and gives nothing without.
func TestAcmeWebroot(t *testing.T) {
	const key = "c2FsbHlwb3J0LXNhbGx5cG9ydC1zYWxseXBvcnQtc2FsbHlwb3J0"
	dir := t.TempDir()
	l := peers.NewLab(t)
	var web net.Listener
	err := l.Edge.Do(func() (err error) {
		web, err = net.Listen("tcp", peers.EdgeOutside+":80")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { // ends with the listener; waited for below
		defer close(served)
		_ = http.Serve(web, http.FileServer(http.Dir(dir)))
	}()
	defer func() { web.Close(); <-served }()
	binding := filepath.Join(t.TempDir(), "eab.key")
	if err := os.WriteFile(binding, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := fmt.Sprintf("acme_webroot = %q\nacme_eab_kid = \"kid-1\"\nacme_eab_file = %q\n", dir, binding)
	o, ca := acmeOfficeIn(l, t, peers.PebbleConfig{EABKey: key}, settings, "")
	o.fetched(1)
	o.edge.Serial(o.Phone("other"))
	o.secrets()
	if strings.Contains(o.edgeLog(), key) {
		t.Error("the key of the binding is in the log")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".well-known", "acme-challenge", "*")); err != nil || len(left) > 0 {
		t.Errorf("answers are left in the folder: %q, %v", left, err)
	}
	o.edge.Stop()

	without := peers.StartEdge(l, peers.EdgeConfig{State: "without", Extra: "[tls]\n" + ca.Settings() + fmt.Sprintf("acme_webroot = %q\n", dir)})
	peers.Until(t, 30*time.Second, "the CA's refusal", func() bool { return without.Metric(`sallyport_acme_orders_total{result="failed"}`) == 1 })
	without.WaitLog("tls.acme_eab_kid: the CA wants an account that you have with it", 5*time.Second)
}

// Certificates of seconds are renewed three times while twenty calls go on: no
// connection is closed, no packet is lost, and each renewal is what new
// connections get.
func TestAcmeRenewUnderCalls(t *testing.T) {
	o, _ := acmeOffice(t, peers.PebbleConfig{Lifetime: 24 * time.Second}, "acme_http = \":80\"\n", "")
	o.fetched(1)
	type talk struct {
		phone *peers.Phone
		media *peers.Media
		d     *peers.Dialog
		lag   int // packets that are on their way at the least
	}
	var talks []*talk
	host := o.Phone("phones")
	for i := range 20 {
		c := &talk{phone: peers.NewPhone(host, o.edge, fmt.Sprint(1001+i))}
		if m := c.phone.Register("secret-"+c.phone.User, 600, ""); m.Status() != 200 {
			t.Fatalf("registration answered %s", m.Start)
		}
		c.media = c.phone.NewMedia(suite)
		c.d = o.echo(c.phone, c.media, 700)
		talks = append(talks, c)
	}
	lag := func(m *peers.Media) int {
		got, _, _ := m.Counts()
		return m.Sent() - got
	}
	for _, c := range talks {
		c.media.Hears(700, 10*time.Second)
		c.lag = lag(c.media)
		for deadline := time.Now().Add(200 * time.Millisecond); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			c.lag = min(c.lag, lag(c.media))
		}
	}
	other := o.Phone("other")
	before := o.edge.Metric("sallyport_flows_accepted_total")
	fetched := func() float64 { return o.edge.Metric(`sallyport_acme_orders_total{result="fetched"}`) }
	looked := 0
	look := func() int64 { looked++; return o.edge.Serial(other) }
	begun, serial := fetched(), look()
	for now := fetched(); now != begun; now = fetched() { // it was renewed meanwhile
		begun, serial = now, look()
	}
	seen := map[int64]bool{serial: true}
	for n := range 3 {
		o.fetched(begun + float64(n) + 1)
		serial := look()
		if seen[serial] {
			t.Fatalf("after renewal %d new connections get serial %x again", n+1, serial)
		}
		seen[serial] = true
	}
	for i, c := range talks {
		peers.Until(t, 10*time.Second, fmt.Sprintf("all packets of call %d to come back", i), func() bool { return lag(c.media) <= c.lag })
		o.speaks(c.media, 900)
		o.change(c.d, c.media) // by the connection of the first certificate
	}
	if opened := o.edge.Metric("sallyport_flows_accepted_total") - before; opened != float64(looked) {
		t.Errorf("%v connections were opened meanwhile, want the %d that looked at the certificate", opened, looked)
	}
	for _, c := range talks {
		o.bye(c.d, c.media)
	}
	o.idle()
	o.secrets()
}

// A CA that is down stops nothing: not the first start, not an edge whose
// certificate is due, nor one whose certificate has expired. When it is back, even
// with nothing of what it knew, the edge gets its certificate.
func TestAcmeDown(t *testing.T) {
	l := peers.NewLab(t)
	ca := peers.NewPebble(l, peers.PebbleConfig{Lifetime: 30 * time.Second})
	o := &office{Lab: l, t: t, pbx: peers.StartAsterisk(l, peers.AsteriskConfig{})}
	o.edge = peers.StartEdge(l, peers.EdgeConfig{Extra: "[tls]\n" + ca.Settings() + "acme_http = \":80\"\n"})
	o.says("no certificate from the CA; serving a self-signed one until there is")
	o.says("no certificate from the CA; phones meanwhile get the self-signed one, which they must be given as their CA file")
	o.says("tls.acme_ca: the CA is not reached")
	phone := o.registered("1001") // trusts the self-signed one
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)

	ca.Start(peers.EdgeOutside)
	o.fetched(1) // by itself
	if n := o.edge.Metric("sallyport_acme_failures_in_a_row"); n != 0 {
		t.Errorf("after it was fetched %v attempts failed in a row, want 0", n)
	}
	o.edge.Trust(ca.Root())
	other := o.Phone("other")
	o.edge.Serial(other)
	o.speaks(media, 900)

	ca.Stop()
	root := filepath.Join(t.TempDir(), "former-root.pem")
	if err := os.Rename(ca.Root(), root); err != nil {
		t.Fatal(err)
	}
	o.edge.Trust(root)
	o.says("no certificate from the CA; the one in force goes on")
	begun := o.edge.Metric(`sallyport_acme_orders_total{result="fetched"}`)
	serial := o.edge.Serial(other)
	peers.Until(t, 60*time.Second, "the certificate to expire", func() bool {
		_, err := o.edge.Shows(other, root, "pbx.example.com")
		return err != nil && strings.Contains(err.Error(), "expired")
	})
	o.edge.Signal(syscall.SIGHUP) // it tries at once, and fails
	o.says("no certificate from the CA; the one in force has expired")
	if left := o.edge.Metric("sallyport_certificate_expiry_seconds"); left >= 0 {
		t.Errorf("the expired certificate expires in %v seconds", left)
	}
	o.speaks(media, 1100)
	o.change(d, media)

	ca.Start(peers.EdgeOutside)
	o.edge.Signal(syscall.SIGHUP)
	o.says("the CA does not know the account kept here; making another")
	o.fetched(begun + 1)
	o.edge.Trust(ca.Root())
	if got := o.edge.Serial(other); got == serial {
		t.Errorf("new connections still get the expired serial %x", got)
	}
	o.speaks(media, 700)
	o.hangUp(d, media)
	o.secrets()
}

// The CA reaches neither port, as DNS leads elsewhere: a program answers it in DNS.
// One that fails is told with what it said, and tried again.
func TestAcmeDnsHook(t *testing.T) {
	l := peers.NewLab(t)
	ca := peers.NewPebble(l, peers.PebbleConfig{})
	ca.Start(l.Phone("elsewhere").Addr.String())
	hook, broken := filepath.Join(l.Dir, "dns-hook"), filepath.Join(l.Dir, "broken")
	script := fmt.Sprintf(`#!/bin/bash
set -eu
[ "$#" = 3 ] || { echo "arguments: $*"; exit 2; }
[ ! -e %q ] || { echo "the name server is away"; exit 3; }
case $1 in
add) path=/set-txt body="{\"host\":\"$2.\",\"value\":\"$3\"}" ;;
remove) path=/clear-txt body="{\"host\":\"$2.\"}" ;;
esac
exec 3<>/dev/tcp/%s
printf 'POST %%s HTTP/1.0\r\nContent-Length: %%d\r\n\r\n%%s' "$path" "${#body}" "$body" >&3
read -r _ status _ <&3
[ "$status" = 200 ]
echo "$1 $2" >>%q
`, broken, strings.Replace(ca.DNSControl(), ":", "/", 1), filepath.Join(l.Dir, "calls"))
	if err := errors.Join(os.WriteFile(broken, nil, 0o600), os.WriteFile(hook, []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	o := &office{Lab: l, t: t}
	o.edge = peers.StartEdge(l, peers.EdgeConfig{CAFile: ca.Root(), Extra: "[tls]\n" + ca.Settings() + fmt.Sprintf("acme_dns_hook = %q\n[sip]\nwss_listen = \":443\"\n", hook)})
	o.says(`tls.acme_dns_hook: run ` + hook + ` add: exit status 3; it said \"the name server is away\"`)
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	o.edge.Signal(syscall.SIGHUP)
	o.fetched(1)
	o.edge.Serial(o.Phone("other"))
	calls, err := os.ReadFile(filepath.Join(l.Dir, "calls"))
	if want := "add _acme-challenge.pbx.example.com\nremove _acme-challenge.pbx.example.com\n"; err != nil || string(calls) != want {
		t.Errorf("the program was called %q (%v), want %q", calls, err, want)
	}
	o.secrets()
}
