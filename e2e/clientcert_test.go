package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// refusals is how many client certificates were refused for a reason.
func (o *office) refusals(reason string) float64 {
	return o.edge.Metrics()[fmt.Sprintf("sallyport_client_certificates_refused_total{reason=%q}", reason)]
}

// Phones must show a certificate of the device CA. The right one registers and
// calls; every other is refused, and the log says why; who has one is nobody else;
// and one that is revoked ends its phone's connection and any session.
func TestClientCertificate(t *testing.T) {
	files := make(map[string]string)
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{
		Extra: "[sip]\ntls_client_cert = \"required\"\nwss_listen = \":" + peers.WSSPort + "\"\n",
		Before: func(e *peers.Edge) {
			for _, user := range []string{"1001", "1002", "1003"} {
				files[user], _ = e.Device(user)
			}
		},
	})
	host := o.Phone("phone")
	phone := peers.NewPhoneWith(host, o.edge, "1001", files["1001"])
	if m := phone.Register("secret-1001", 600, ""); m.Status() != 200 {
		t.Fatalf("with its certificate: registration answered %s", m.Start)
	}
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)
	o.hangUp(d, media)
	baresip := peers.StartBaresip(o.Phone("1003"), peers.BaresipConfig{User: "1003", CAFile: o.edge.CAFile(), CertFile: files["1003"], ToneHz: 900, AutoAnswer: true})
	baresip.Dial("600")
	baresip.Event("CALL_ESTABLISHED", 10*time.Second)
	baresip.Hears(900, 10*time.Second)
	baresip.Hangup()
	baresip.Event("CALL_CLOSED", 5*time.Second)
	web := peers.NewWebPhone(o.Phone("web"), o.edge, "1004") // nobody asks there
	if m := web.Register("secret-1004", 600, ""); m.Status() != 200 {
		t.Fatalf("by WebSocket: registration answered %s", m.Start)
	}

	o.edge.Run("cert", "revoke", "1003")
	o.says("1 revoked")
	for _, tc := range []struct{ name, file, reason, says string }{
		{"none", "", "none", "no client certificate: the listener asks for one"},
		{"another CA's", peers.NewIssuer(t).Client("1001", time.Now().AddDate(0, 0, 1)), "unknown_ca", "unknown CA: the phone's certificate was not issued by one of tls.client_ca"},
		{"expired", o.edge.DeviceCA().Client("1001", time.Now().Add(-time.Hour)), "expired", "expired: the phone's certificate is over"},
		{"revoked", files["1003"], "revoked", "is revoked since"},
	} {
		for _, old := range []bool{true, false} {
			before := o.refusals(tc.reason)
			if _, err := peers.NewResumer(host, o.edge, tc.file, old).Knock(); err == nil {
				t.Errorf("%s, TLS 1.2 %v: it gets in", tc.name, old)
			}
			peers.Until(t, 5*time.Second, fmt.Sprintf("a refusal for %s, TLS 1.2 %v", tc.reason, old), func() bool { return o.refusals(tc.reason) > before })
		}
		o.says(tc.says)
	}
	for _, line := range strings.Split(o.edgeLog(), "\n") {
		if strings.Contains(line, "TLS handshake failed") && !strings.Contains(line, `"ja4":"t1`) {
			t.Errorf("no fingerprint in %s", line)
		}
	}
	for _, old := range []bool{true, false} { // the control
		if _, err := peers.NewResumer(host, o.edge, files["1001"], old).Knock(); err != nil {
			t.Errorf("the right one, TLS 1.2 %v: %v", old, err)
		}
	}

	thief := peers.NewPhoneWith(host, o.edge, "1001", files["1002"]) // knows the password
	if m := thief.Register("secret-1001", 600, ""); m.Status() != 403 || !strings.Contains(m.Get("Warning"), "the client's certificate is for 1002") {
		t.Errorf("another's certificate: registration answered %s, Warning %q", m.Start, m.Get("Warning"))
	}
	if _, m := thief.Ask("MESSAGE", "sip:600@pbx.example.com", "hello", "Content-Type: text/plain"); m.Status() != 403 {
		t.Errorf("another's certificate: MESSAGE answered %s", m.Start)
	}
	o.says(`From is \"1001\", and the client's certificate is for 1002`)
	if n := o.refusals("other_user"); n != 2 {
		t.Errorf("%v requests in another's name were counted, want 2", n)
	}
	thief.User = "1002"
	if m := thief.Register("secret-1002", 600, ""); m.Status() != 200 {
		t.Errorf("in its own name: registration answered %s", m.Start)
	}
	o.revokedLater(host, phone, files)
}

// revokedLater revokes what is in use: its phone's connection ends, and no session
// is resumed; others stay, and theirs are.
func (o *office) revokedLater(host *peers.Host, phone *peers.Phone, files map[string]string) {
	t := o.t
	t.Helper()
	type session struct {
		of *peers.Resumer
		ok bool
	}
	var sessions []session
	for user, ok := range map[string]bool{"1001": false, "1002": true} {
		for _, old := range []bool{true, false} {
			r := peers.NewResumer(host, o.edge, files[user], old)
			for n := range 2 {
				if resumed, err := r.Knock(); err != nil || resumed != (n == 1) {
					t.Fatalf("connection %d of %s: resumed %v, %v", n+1, user, resumed, err)
				}
			}
			sessions = append(sessions, session{r, ok})
		}
	}
	stays := peers.NewPhoneWith(host, o.edge, "1002", files["1002"])
	o.edge.Run("cert", "revoke", "1001")
	phone.Gone(15 * time.Second)
	for _, s := range sessions {
		resumed, err := s.of.Knock()
		if s.ok && (err != nil || !resumed) {
			t.Errorf("a session of who is not revoked: resumed %v, %v", resumed, err)
		}
		if !s.ok && err == nil {
			t.Error("a session is resumed though its certificate is revoked")
		}
	}
	if m := stays.Register("secret-1002", 600, ""); m.Status() != 200 {
		t.Errorf("who is not revoked: registration answered %s", m.Start)
	}
	list := o.edge.State + "/tls/device-ca.crl"
	if err := os.WriteFile(list, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.says("client CA or revocation list refused; those in force stay")
	for _, s := range sessions {
		if _, err := s.of.Knock(); (err == nil) != s.ok {
			t.Errorf("with a broken list: %v, want it taken: %v", err, s.ok)
		}
	}
}
