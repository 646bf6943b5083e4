package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// The certificate is replaced in the middle of a call, as certbot does: new
// connections get the new one, and the call neither ends nor misses a beat. A
// certificate without its key is refused, and the log says what is wrong.
func TestCertReload(t *testing.T) {
	ca := peers.NewIssuer(t)
	first := ca.Issue()
	ca.UseCert(first)
	ca.UseKey(first)
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{
		CAFile: ca.CAFile(),
		Extra:  fmt.Sprintf("[tls]\ncert = %q\nkey = %q\n", ca.Cert(), ca.Key()),
	})
	other := o.Phone("other")
	if got := o.edge.Serial(other); got != first {
		t.Fatalf("the edge begins with serial %d, want %d", got, first)
	}
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)

	second := ca.Issue()
	ca.UseCert(second)
	ca.UseKey(second)
	o.serves(other, second)
	o.speaks(media, 900)
	o.change(d, media) // and by its old connection
	o.speaks(media, 1100)
	baresip := o.phone("1002", 1300) // checks the certificate by itself
	baresip.Dial("600")
	baresip.Event("CALL_ESTABLISHED", 10*time.Second)
	baresip.Hears(1300, 10*time.Second)
	baresip.Hangup()
	baresip.Event("CALL_CLOSED", 5*time.Second)

	third := ca.Issue()
	ca.UseCert(third) // its key does not follow
	peers.Until(t, 15*time.Second, "the refusal to be counted", func() bool {
		return o.edge.Metric(`sallyport_certificate_reloads_total{result="refused"}`) == 1
	})
	for _, words := range []string{"certificate refused; the one in force stays", "tls.cert: the key does not belong to the certificate: " + ca.Cert() + " and " + ca.Key()} {
		if !strings.Contains(o.edgeLog(), words) {
			t.Errorf("the log does not say %q", words)
		}
	}
	if got := o.edge.Serial(other); got != second {
		t.Errorf("after a broken pair the edge serves serial %d, want %d still", got, second)
	}
	o.speaks(media, 1500)

	ca.UseKey(third)
	o.edge.Signal(syscall.SIGHUP)
	o.serves(other, third)
	peers.Until(t, 5*time.Second, "the log to say what SIGHUP leaves out", func() bool {
		return strings.Contains(o.edgeLog(), "its changes need a restart")
	})
	o.speaks(media, 700)
	o.hangUp(d, media)
	if left := o.edge.Metric("sallyport_certificate_expiry_seconds"); left < 80*24*3600 || left > 93*24*3600 {
		t.Errorf("the certificate of three months expires in %v seconds", left)
	}
	key, err := os.ReadFile(ca.Key())
	if err != nil {
		t.Fatal(err)
	}
	if secret := strings.Split(string(key), "\n")[1]; strings.Contains(o.edgeLog(), secret) {
		t.Error("the private key is in the log")
	}
}

// A broken pair is refused, whatever is broken about it, with words that say what; the
// old one is served on, and a call goes on as if nothing were.
func TestBrokenPairRefused(t *testing.T) {
	ca := peers.NewIssuer(t)
	first, second := ca.Pair("pbx.example.com", false), ca.Pair("pbx.example.com", false)
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{
		CAFile: ca.CAFile(), Extra: fmt.Sprintf("[tls]\ncert = %q\nkey = %q\n", first.Cert, first.Key),
	})
	other := o.Phone("other")
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)
	read := func(file string) string {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	certs, keys := []string{read(first.Cert), read(second.Cert)}, []string{read(first.Key), read(second.Key)}
	put := func(cert, key string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(first.Cert, []byte(cert), 0o644), os.WriteFile(first.Key, []byte(key), 0o600)); err != nil {
			t.Fatal(err)
		}
		o.edge.Signal(syscall.SIGHUP)
	}
	connections := o.edge.Metric("sallyport_flows_accepted_total")
	tone := 900.0
	for i, broken := range []struct{ name, cert, key, says string }{
		{"another's key", certs[0], keys[1], "tls.cert: the key does not belong to the certificate: " + first.Cert + " and " + first.Key},
		{"half a certificate", certs[1][:len(certs[1])/2], keys[1], "tls.cert: read " + first.Cert + ": holds no certificate"},
		{"half a key", certs[1], keys[1][:len(keys[1])/2], "tls.key: " + first.Key + " holds no unencrypted private key in PEM"},
		{"an empty file", "", keys[1], "tls.cert: read " + first.Cert + ": holds no certificate"},
	} {
		before := o.edge.Metric(`sallyport_certificate_reloads_total{result="refused"}`)
		put(broken.cert, broken.key)
		peers.Until(t, 15*time.Second, "the refusal of "+broken.name, func() bool {
			return o.edge.Metric(`sallyport_certificate_reloads_total{result="refused"}`) > before
		})
		lines := strings.Split(o.edgeLog(), "\n")
		if !slices.ContainsFunc(lines, func(line string) bool {
			return strings.Contains(line, `"level":"ERROR","msg":"certificate refused; the one in force stays","reason":"`+broken.says)
		}) {
			t.Errorf("%s: the log does not say, as an error, %q", broken.name, broken.says)
		}
		if got := o.edge.Serial(other); got != first.Serial {
			t.Errorf("%s: the edge serves serial %d, want %d still", broken.name, got, first.Serial)
		}
		o.speaks(media, tone+200*float64(i))
	}
	o.change(d, media) // by the connection that it began on
	if opened := o.edge.Metric("sallyport_flows_accepted_total") - connections; opened != 4 {
		t.Errorf("%v connections were opened meanwhile, want the 4 that looked at the certificate", opened)
	}
	put(certs[1], keys[1]) // the control
	o.serves(other, second.Serial)
	o.speaks(media, 700)
	o.hangUp(d, media)
}

// serves waits until new connections get a certificate.
func (o *office) serves(from *peers.Host, serial int64) {
	o.t.Helper()
	peers.Until(o.t, 15*time.Second, fmt.Sprintf("serial %d at new connections", serial), func() bool { return o.edge.Serial(from) == serial })
}

// says waits until the edge's log does.
func (o *office) says(words string) {
	o.t.Helper()
	peers.Until(o.t, 60*time.Second, fmt.Sprintf("the log to say %q", words), func() bool { return strings.Contains(o.edgeLog(), words) })
}

func (o *office) edgeLog() string {
	o.t.Helper()
	log, err := os.ReadFile(o.edge.Log)
	if err != nil {
		o.t.Fatal(err)
	}
	return string(log)
}
