package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// Phones resume their TLS sessions with the new process, and with the one after it. The
// one before still ends the connection of a phone whose certificate is revoked, and no
// other.
func TestUpgradeCertificates(t *testing.T) {
	files := make(map[string]string)
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{
		Extra: "[sip]\ntls_client_cert = \"required\"\n",
		Before: func(e *peers.Edge) {
			for _, user := range []string{"1001", "1002"} {
				files[user], _ = e.Device(user)
			}
		},
	})
	host := o.Phone("phones")
	var all []talker
	for _, user := range []string{"1001", "1002"} {
		p := peers.NewPhoneWith(host, o.edge, user, files[user])
		if m := p.Register("secret-"+user, 600, ""); m.Status() != 200 {
			t.Fatalf("registration of %s answered %s", user, m.Start)
		}
		m := p.NewMedia(suite)
		all = append(all, talker{p, m, o.echo(p, m, 700)})
	}
	var sessions []*peers.Resumer
	resumes := func(when string, want bool) {
		t.Helper()
		for i, s := range sessions {
			if resumed, err := s.Knock(); err != nil || resumed != want {
				t.Errorf("%s, session %d: resumed %v, %v, want %v", when, i+1, resumed, err, want)
			}
		}
	}
	for _, old := range []bool{true, false} {
		sessions = append(sessions, peers.NewResumer(host, o.edge, files["1002"], old))
	}
	resumes("at first", false)
	for range 2 {
		o.edge.Upgrade()
		resumes("after an upgrade", true)
	}
	o.edge.Run("cert", "revoke", "1001")
	all[0].phone.Gone(15 * time.Second)
	all[0].media.Stop()
	o.speaks(all[1].media, 1100)
	o.change(all[1].call, all[1].media)
	o.bye(all[1].call, all[1].media)
}
