package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// An Asterisk that serves one domain alone, which phones know by another name, and
// is told where they call from.
func TestPbxDomain(t *testing.T) {
	for _, c := range []struct {
		name string
		pbx  peers.AsteriskConfig
	}{
		{"chan_sip", peers.AsteriskConfig{General: "autodomain=no\ndomain=" + insideName + "\nallowexternaldomains=no\nfromdomain=" + insideName}},
		{"chan_pjsip", peers.AsteriskConfig{Version: 22, Endpoint: "from_domain=" + insideName}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOfficeWith(t, c.pbx, peers.EdgeConfig{PBX: fmt.Sprintf("domain = %q\nsource_header = \"X-Sallyport-Source\"\n", insideName)})
			anna := o.registered("1001")
			if c.name == "chan_sip" { // the control: another domain is not served
				if _, m := anna.Invite("sip:600@elsewhere.example", anna.NewMedia(suite).Offer()); m.Status() < 400 {
					t.Errorf("a call within another domain is answered %s", m.Start)
				}
			}
			media := anna.NewMedia(suite)
			d := o.echo(anna, media, 700)
			media.Hears(700, 10*time.Second)
			o.hangUp(d, media)

			spoofed := []string{"X-Sallyport-Source: 10.0.0.99:5060;transport=UDP", "x-sallyport-SOURCE: 10.0.0.98"}
			if _, m := anna.Invite("614", anna.NewMedia(suite).Offer(), spoofed...); m.Status() != 486 {
				t.Fatalf("the call was answered %s", m.Start)
			}
			o.pbxSays("called from "+anna.Local()+";transport=TLS;tls=1.3 and .", 1)

			o.pbx.Originate("1001", "602")
			inv := anna.Expect("INVITE", 5*time.Second)
			if from := inv.URI("From"); !strings.HasSuffix(from, "@pbx.example.com") {
				t.Errorf("the phone is called by %s", from)
			}
			media = anna.NewMedia(suite)
			anna.Answer(inv, 200, "OK", media.Accept(inv.Body))
			anna.Expect("ACK", 5*time.Second)
			media.Start(onlySuite(inv.Body, media.Suite), 700)
			media.Hears(1004, 10*time.Second)
			o.pbx.Must("channel request hangup all")
			anna.Answer(anna.Expect("BYE", 5*time.Second), 200, "OK", "")
			o.idle()
			if strings.Contains(anna.Heard(), insideName) {
				t.Errorf("the phone was told %s", insideName)
			}
		})
	}
}
