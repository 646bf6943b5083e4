package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A PBX that keeps Paths shows the phones' own contacts, and reaches each by its
// Path: one behind an address that does not lead to it, and one that has none.
func TestPath(t *testing.T) {
	for _, version := range []int{16, 22} {
		t.Run(fmt.Sprintf("Asterisk %d", version), func(t *testing.T) {
			o := newOfficeWith(t, peers.AsteriskConfig{PJSIP: true, Version: version, Endpoint: "rewrite_contact=no", AOR: "qualify_frequency=1"},
				peers.EdgeConfig{PBX: "path = true\n", Extra: "[sip]\nwss_listen = \":8443\"\n"})
			desk := o.registered("1001")
			page := peers.NewWebPhone(o.Phone("page"), o.edge, "1002")
			if m := page.Register("secret-1002", 600, `;+sip.instance="<urn:uuid:page>"`); m.Status() != 200 {
				t.Fatalf("registration answered %s", m.Start)
			}
			for _, p := range []*peers.Phone{desk, page} {
				own, _, _ := strings.Cut(p.Contact(), ";")
				if at := o.pbx.Contact(p.User); !strings.HasPrefix(at, own+";sally") { // its console cuts what is long
					t.Errorf("Asterisk's contact for %s is %q, want %s", p.User, at, own)
				}
				p.Told("OPTIONS", "anything", func(*peers.Message) bool { return true })
			}
			a, b := desk.NewMedia(suite), page.NewMedia(suite)
			called := peers.Meanwhile(o.t, func() *peers.Dialog { return o.call(desk, page.User, a, 700) })
			var inv *peers.Message
			for inv = page.Next(5 * time.Second); inv.Method() != "INVITE"; inv = page.Next(5 * time.Second) {
				page.Answer(inv, 200, "OK", "")
			}
			if uri := strings.Fields(inv.Start)[1]; uri != page.Contact() || inv.Get("Route") != "" {
				t.Errorf("the page is called at %s by Route %q", uri, inv.Get("Route"))
			}
			page.Answer(inv, 200, "OK", b.Accept(inv.Body))
			b.Start(onlySuite(inv.Body, b.Suite), 1300)
			called()
			hear(a, b)
			o.pbx.Must("channel request hangup all")
			page.Told("BYE", "goodbye", func(*peers.Message) bool { return true })
			desk.Told("BYE", "goodbye", func(*peers.Message) bool { return true })
			a.Stop()
			b.Stop()
			o.idle()

			page.Close() // it is loaded again, and calls itself something else
			page.Connect(o.edge)
			if m := page.Register("secret-1002", 600, `;+sip.instance="<urn:uuid:page>"`); m.Status() != 200 {
				t.Fatalf("registering again was answered %s", m.Start)
			}
			own, _, _ := strings.Cut(page.Contact(), ";")
			if at := o.pbx.Contact("1002"); o.pbx.Registered() != 2 || !strings.HasPrefix(at, own+";") {
				t.Errorf("Asterisk has %d contacts, and %q for who was loaded again", o.pbx.Registered(), at)
			}
			page.Told("OPTIONS", "anything", func(*peers.Message) bool { return true })
		})
	}
}
