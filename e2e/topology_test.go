package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// insideName is what the PBX of TestTopologyHidden calls itself beside its
// address.
const insideName = "asterisk.corp.lan"

// Nothing that leaves tells of the inside: neither as a phone reads it after
// decryption, nor on the wire. The run has each kind of message, and the same
// search finds all of it inside.
func TestTopologyHidden(t *testing.T) {
	eachPBXWith(t, peers.AsteriskConfig{
		Mailboxes: true, General: "sendrpid=pai\ntrustrpid=yes\nsubscribemwi=no", Endpoint: "trust_id_inbound=yes\ntrust_id_outbound=yes",
	}, peers.EdgeConfig{PBX: fmt.Sprintf("names = [%q]\n", insideName)}, (*office).hidesInside)
}

func (o *office) hidesInside() {
	t := o.t
	outside, inside := peers.StartCapture(o.Edge, "outside"), peers.StartCapture(o.Edge, "inside")
	anna, ben, cara := o.script("1001"), o.registered("1002"), o.registered("1003")
	if m := anna.Register("wrong", 600, ""); m.Status() != 401 && m.Status() != 403 {
		t.Fatalf("a wrong password was answered %s", m.Start)
	}
	if m := anna.Register("secret-1001", 600, ""); m.Status() != 200 {
		t.Fatalf("registration answered %s", m.Start)
	}
	for _, p := range []*peers.Phone{anna, ben, cara} {
		p.Told("NOTIFY", "an empty mailbox", func(m *peers.Message) bool { return strings.Contains(m.Body, "Messages-Waiting: no") })
	}
	for _, watch := range []struct{ user, event, accept string }{
		{"1002", "dialog", "application/dialog-info+xml"}, {"1002", "presence", "application/pidf+xml"}, {"1003", "message-summary", "application/simple-message-summary"},
	} {
		d, m := cara.Ask("SUBSCRIBE", "sip:"+watch.user+"@pbx.example.com", "", "Event: "+watch.event, "Accept: "+watch.accept, "Expires: 600")
		if m.Status() != 200 {
			t.Fatalf("SUBSCRIBE to %s was answered %s", watch.event, m.Start)
		}
		cara.Told("NOTIFY", "the state", func(m *peers.Message) bool { return m.Get("Call-Id") == d.ID() })
	}
	for _, ask := range []struct{ method, uri, event string }{
		{"SUBSCRIBE", "sip:9999@pbx.example.com", "dialog"}, {"SUBSCRIBE", "sip:1002@pbx.example.com", "conference"},
		{"PUBLISH", "sip:1003@pbx.example.com", "presence"}, {"OPTIONS", "sip:602@pbx.example.com", ""}, {"MESSAGE", "sip:9999@pbx.example.com", ""},
	} {
		headers := []string{"Accept: application/pidf+xml"}
		if ask.event != "" {
			headers = append(headers, "Event: "+ask.event)
		}
		_, m := cara.Ask(ask.method, ask.uri, "", headers...)
		t.Logf("%s of %s is answered %s", ask.method, ask.uri, m.Start)
	}
	for _, number := range []string{"603", "604", "9999", "641"} { // busy, refused, unknown, elsewhere
		media := anna.NewMedia(suite)
		if _, m := anna.Invite(number, media.Offer()); m.Status() < 300 {
			t.Fatalf("a call to %s is answered %s", number, m.Start)
		} else if number == "641" && m.URI("Contact") != "sip:1003@pbx.example.com" {
			t.Errorf("a call to %s is answered %s with Contact %s", number, m.Start, m.Get("Contact"))
		}
		media.Stop()
	}

	// A call to a phone carries the PBX's own Call-ID, and headers of its dialplan.
	// Ben, who was called, joins the caller to whom he calls himself, and names
	// that call.
	a, b, b2, c := anna.NewMedia(suite), ben.NewMedia(suite), ben.NewMedia(suite), cara.NewMedia(suite)
	called := peers.Meanwhile(o.t, func() *peers.Dialog { return o.call(anna, "6401002", a, 700) })
	first := o.answer(ben, b, 1300)
	called()
	a.Hears(1300, 10*time.Second)
	answered := peers.Meanwhile(o.t, func() *peers.Dialog { return o.answer(cara, c, 1900) })
	second := o.call(ben, "1003", b2, 1300)
	answered()
	b2.Hears(1900, 10*time.Second)
	if m := second.Request("REFER", "", "Refer-To: <sip:1001@pbx.example.com?Replaces="+replaces(first)+">", "Referred-By: <sip:1002@pbx.example.com>"); m.Status() != 202 {
		t.Fatalf("the transfer was answered %s", m.Start)
	}
	ben.Told("NOTIFY", "how the transfer went", func(m *peers.Message) bool { return strings.HasPrefix(m.Body, "SIP/2.0 200") })
	c.Forget()
	c.Hears(700, 10*time.Second)
	o.pbx.Must("channel request hangup all")
	cara.Told("BYE", "goodbye", func(*peers.Message) bool { return true })
	outside.Stop()
	inside.Stop()

	words := []string{peers.PBXAddr, peers.EdgeInside, "10.0.0.", insideName, "Asterisk PBX"}
	for _, word := range words {
		for _, p := range []*peers.Phone{anna, ben, cara} {
			if i := strings.Index(p.Heard(), word); i >= 0 {
				t.Errorf("phone %s was told %s: …%s…", p.User, word, p.Heard()[max(0, i-200):min(len(p.Heard()), i+100)])
			}
		}
		if outside.Contains(word) {
			t.Errorf("%s is to be read outside", word)
		}
		if !inside.Contains(word) {
			t.Errorf("%s is not found inside: the check is broken", word)
		}
	}
	const plainNet = "ip.addr == 10.0.0.0/24 || arp.src.proto_ipv4 == 10.0.0.0/24"
	if n := outside.Count(plainNet); n != 0 {
		t.Errorf("%d packets outside have addresses of the inside", n)
	}
	if inside.Count(plainNet) == 0 {
		t.Error("no packet inside has an address of the inside: the check is broken")
	}
}
