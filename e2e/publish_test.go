package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A phone publishes a device's state (RFC 3903), and another that watches it is
// told: body and Event got through. The publication is known by its entity tag
// when it is refreshed, changed and removed. chan_sip takes none of phones.
func TestPublish(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		desk, panel := o.registered("1001"), o.registered("1002")
		publish := func(state, event string, headers ...string) *peers.Message {
			body := ""
			if state != "" {
				body = fmt.Sprintf(`{"type":"devicestate","device":"Custom:desk","state":%q,"cachable":1,"eid":"02:00:00:00:00:01"}`, state)
				headers = append(headers, "Content-Type: application/json")
			}
			_, m := desk.Ask("PUBLISH", "sip:devices@pbx.example.com", body, append(headers, "Event: "+event)...)
			return m
		}
		if m := publish("INUSE", "presence", "Expires: 600"); m.Status() != 489 { // neither knows that one
			o.t.Errorf("presence is answered %s", m.Start)
		}
		if o.pbx.Version != 22 {
			return
		}
		watch, m := panel.Ask("SUBSCRIBE", "sip:650@pbx.example.com", "", "Event: dialog", "Accept: application/dialog-info+xml", "Expires: 600")
		if m.Status() != 200 {
			o.t.Fatalf("SUBSCRIBE is answered %s", m.Start)
		}
		sees := func(state string) {
			o.t.Helper()
			panel.Told("NOTIFY", state, func(m *peers.Message) bool {
				return m.Get("Call-Id") == watch.ID() && strings.Contains(m.Body, "<state>"+state+"</state>")
			})
		}
		tag := ""
		published := func(m *peers.Message, expires string) {
			o.t.Helper()
			if m.Status() != 200 || m.Get("Sip-Etag") == "" || m.Get("Expires") != expires {
				o.t.Fatalf("PUBLISH is answered %s, SIP-ETag %q, Expires %q", m.Start, m.Get("Sip-Etag"), m.Get("Expires"))
			}
			tag = m.Get("Sip-Etag")
		}
		published(publish("INUSE", "asterisk-devicestate", "Expires: 600"), "600")
		sees("confirmed")
		published(publish("", "asterisk-devicestate", "Expires: 300", "SIP-If-Match: "+tag), "300")
		published(publish("NOT_INUSE", "asterisk-devicestate", "Expires: 300", "SIP-If-Match: "+tag), "300")
		sees("terminated")
		if m := publish("", "asterisk-devicestate", "Expires: 300", "SIP-If-Match: 4711"); m.Status() != 412 {
			o.t.Errorf("an unknown entity tag is answered %s", m.Start)
		}
		if m := publish("", "asterisk-devicestate", "Expires: 0", "SIP-If-Match: "+tag); m.Status() != 200 {
			o.t.Errorf("the end is answered %s", m.Start)
		}
		if m := publish("", "asterisk-devicestate", "Expires: 300", "SIP-If-Match: "+tag); m.Status() != 412 {
			o.t.Errorf("a refresh after the end is answered %s", m.Start)
		}
	})
}
