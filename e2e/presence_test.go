package e2e

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A phone watches another's state: it sees it ring, talk and hang up, in both
// ways of saying so, and learns no address of the inside by it.
func TestBlf(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		anna, ben, panel := o.registered("1001"), o.registered("1002"), o.registered("1003")
		watch := func(event, accept string) *peers.Dialog {
			d, m := panel.Ask("SUBSCRIBE", "sip:1002@pbx.example.com", "", "Event: "+event, "Accept: "+accept, "Expires: 600")
			if m.Status() != 200 {
				o.t.Fatalf("SUBSCRIBE was answered %s, Warning %q", m.Start, m.Get("Warning"))
			}
			return d
		}
		sees := func(d *peers.Dialog, state string) {
			o.t.Helper()
			m := panel.Told("NOTIFY", state, func(m *peers.Message) bool {
				return m.Get("Call-Id") == d.ID() && strings.Contains(m.Body, state)
			})
			if uri := strings.Fields(m.Start)[1]; uri != panel.Contact() {
				o.t.Errorf("NOTIFY came for %s, want the phone's Contact", uri)
			}
		}
		blf := watch("dialog", "application/dialog-info+xml")
		sees(blf, "<state>terminated</state>")

		a, b := anna.NewMedia(suite), ben.NewMedia(suite)
		called := peers.Meanwhile(o.t, func() *peers.Dialog { return o.call(anna, "1002", a, 700) })
		inv := ben.Expect("INVITE", 5*time.Second)
		ben.Answer(inv, 180, "Ringing", "")
		sees(blf, "<state>early</state>")
		ben.Answer(inv, 200, "OK", b.Accept(inv.Body))
		sees(blf, "<state>confirmed</state>")
		presence := watch("presence", "application/pidf+xml")
		sees(presence, "On the phone")
		ben.Expect("ACK", 5*time.Second)
		bye := ben.DialogOf(inv)
		called()
		if m := bye.Request("BYE", ""); m.Status() != 200 {
			o.t.Fatalf("BYE was answered %s", m.Start)
		}
		anna.Told("BYE", "goodbye", func(*peers.Message) bool { return true })
		left := map[string]string{blf.ID(): "<state>terminated</state>", presence.ID(): "Ready"} // in either order
		panel.Told("NOTIFY", "both ends", func(m *peers.Message) bool {
			if state := left[m.Get("Call-Id")]; state != "" && strings.Contains(m.Body, state) {
				delete(left, m.Get("Call-Id"))
			}
			return len(left) == 0
		})

		// Refreshed and ended, each inside its dialog.
		if m := blf.Request("SUBSCRIBE", "", "Event: dialog", "Accept: application/dialog-info+xml", "Expires: 300"); m.Status() != 200 || m.Get("Expires") != "300" {
			o.t.Fatalf("the refresh was answered %s, Expires %s", m.Start, m.Get("Expires"))
		}
		sees(blf, "<state>terminated</state>")
		if n := o.pbx.Subscriptions(); n != 2 {
			o.t.Fatalf("Asterisk knows of %d subscriptions, want 2", n)
		}
		for _, d := range []*peers.Dialog{blf, presence} {
			m := d.Request("SUBSCRIBE", "", "Event: "+map[bool]string{true: "dialog", false: "presence"}[d == blf], "Expires: 0")
			if m.Status() != 200 {
				o.t.Fatalf("the end was answered %s", m.Start)
			}
			panel.Told("NOTIFY", "the end", func(m *peers.Message) bool {
				return m.Get("Call-Id") == d.ID() && strings.HasPrefix(m.Get("Subscription-State"), "terminated")
			})
		}
		peers.Until(o.t, 5*time.Second, "Asterisk to have no subscription", func() bool { return o.pbx.Subscriptions() == 0 })
		for _, word := range []string{peers.PBXAddr, peers.EdgeInside} {
			if strings.Contains(panel.Heard(), word) {
				o.t.Errorf("the panel was told %s", word)
			}
		}
	})
}

// A phone is told of its mailbox, by a subscription or unasked. Once one has
// subscribed, the PBX says nothing to it unasked.
func TestMwi(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{Mailboxes: true}, func(o *office) {
		asks, waits, caller := o.registered("1001"), o.registered("1002"), o.registered("1003")
		for _, p := range []*peers.Phone{asks, waits, caller} {
			p.Told("NOTIFY", "no message", func(m *peers.Message) bool { return strings.Contains(m.Body, "Messages-Waiting: no") })
		}
		d, m := asks.Ask("SUBSCRIBE", "sip:1001@pbx.example.com", "", "Event: message-summary", "Accept: application/simple-message-summary", "Expires: 600")
		if m.Status() != 200 {
			o.t.Fatalf("SUBSCRIBE was answered %s, Warning %q", m.Start, m.Get("Warning"))
		}
		asks.Told("NOTIFY", "none", func(m *peers.Message) bool {
			return m.Get("Call-Id") == d.ID() && strings.Contains(m.Body, "Voice-Message: 0/0")
		})
		left := 0
		for i := range 2 {
			for _, p := range []*peers.Phone{asks, waits} {
				media := caller.NewMedia(suite)
				call := o.call(caller, "630"+p.User, media, 700)
				left++
				o.pbxSays("Recording the message", left)
				before := media.Sent()
				peers.Until(o.t, 10*time.Second, "two seconds of words", func() bool { return media.Sent() > before+100 })
				o.hangUp(call, media)
				m := p.Told("NOTIFY", "a message", func(m *peers.Message) bool {
					return strings.Contains(m.Body, "Messages-Waiting: yes") && strings.Contains(m.Body, fmt.Sprintf("Voice-Message: %d/0 ", i+1))
				})
				if own := m.Get("Call-Id") == d.ID(); own != (p == asks) {
					o.t.Errorf("phone %s was told in its subscription: %v", p.User, own)
				}
				if !strings.Contains(m.Body, "@pbx.example.com\r\n") {
					o.t.Errorf("phone %s was told\n%s", p.User, m.Body)
				}
			}
		}
	})
}

// Words of one phone to another, outside of calls and in one.
func TestMessage(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		anna, ben := o.registered("1001"), o.registered("1002")
		says := func(from, to *peers.Phone, words string) {
			o.t.Helper()
			if _, m := from.Ask("MESSAGE", "sip:"+to.User+"@pbx.example.com", words, "Content-Type: text/plain;charset=UTF-8"); m.Status() != 202 {
				o.t.Fatalf("MESSAGE was answered %s, Warning %q", m.Start, m.Get("Warning"))
			}
			m := to.Told("MESSAGE", words, func(m *peers.Message) bool { return m.Body == words })
			if m.URI("From") != "sip:"+from.User+"@pbx.example.com" {
				o.t.Errorf("it came from %s", m.Get("From"))
			}
		}
		says(anna, ben, "lunch at sip:10.0.0.5?")
		says(ben, anna, "ja, um zwölf")
		a, b := anna.NewMedia(suite), ben.NewMedia(suite)
		d := o.connect(anna, ben, a, b)
		if m := d.Request("MESSAGE", "now", "Content-Type: text/plain"); m.Status() != 202 && m.Status() != 200 {
			o.t.Fatalf("MESSAGE in the call was answered %s", m.Start)
		}
		ben.Told("MESSAGE", "now", func(m *peers.Message) bool { return strings.TrimSpace(m.Body) == "now" })
		o.bye(d, a)
		ben.Told("BYE", "goodbye", func(*peers.Message) bool { return true })
		o.idle()
	})
}

// Digits as named events in the media.
func TestDtmfRfc4733(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		phone := o.registered("1001")
		media := phone.NewMedia(suite)
		o.call(phone, "611", media, 700)
		media.Dial("159#")
		o.pbxSays("it was told 159", 1)
	})
}

// Digits as requests in the call, in both notations; and one of the PBX.
func TestDtmfInfo(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{General: "dtmfmode=info", Endpoint: "dtmf_mode=info"}, func(o *office) {
		phone := o.registered("1001")
		media := phone.NewMedia(suite)
		d := o.call(phone, "611", media, 700)
		for _, digit := range []string{"4", "0", "7", "2"} {
			kind, body := "application/dtmf-relay", "Signal="+digit+"\r\nDuration=160\r\n"
			if digit == "7" {
				kind, body = "application/dtmf", digit
			}
			if m := d.Request("INFO", body, "Content-Type: "+kind); m.Status() != 200 {
				o.t.Fatalf("INFO was answered %s", m.Start)
			}
		}
		o.pbxSays("it was told 4072", 1)
		phone.Told("BYE", "goodbye", func(*peers.Message) bool { return true })
		media = phone.NewMedia(suite)
		d = o.call(phone, "612", media, 700)
		phone.Told("MESSAGE", "hello", func(m *peers.Message) bool { return strings.Contains(m.Body, "hello from inside") })
		phone.Told("INFO", "7", func(m *peers.Message) bool { return strings.HasPrefix(m.Body, "Signal=7") })
		o.hangUp(d, media)
	})
}

// pbxSays waits until Asterisk's log says something so many times.
func (o *office) pbxSays(what string, times int) {
	o.t.Helper()
	peers.Until(o.t, 10*time.Second, "Asterisk to say "+what, func() bool {
		log, err := os.ReadFile(o.pbx.Log)
		return err == nil && strings.Count(string(log), what) >= times
	})
}

// A phone watches two others by one subscription (RFC 4662), which chan_pjsip has: it sees
// whose state is which, and learns no address of the inside by it.
func TestBlfList(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{Version: 22}, peers.EdgeConfig{})
	anna, panel := o.registered("1001"), o.registered("1003")
	d, m := panel.Ask("SUBSCRIBE", "sip:colleagues@pbx.example.com", "", "Event: dialog", "Supported: eventlist",
		"Accept: application/dialog-info+xml, application/rlmi+xml, multipart/related", "Expires: 600")
	if m.Status() != 200 {
		t.Fatalf("SUBSCRIBE was answered %s, Warning %q", m.Start, m.Get("Warning"))
	}
	sees := func(anna string) {
		t.Helper()
		m := panel.Told("NOTIFY", anna, func(m *peers.Message) bool {
			return m.Get("Call-Id") == d.ID() && told(t, m)["1001"] == anna && told(t, m)["1002"] == "terminated"
		})
		if strings.Contains(m.Body, peers.PBXAddr) || strings.Contains(m.Body, peers.EdgeInside) {
			t.Errorf("the list tells of the inside:\n%s", m.Body)
		}
	}
	sees("terminated")
	media := anna.NewMedia(suite)
	call := o.echo(anna, media, 700)
	sees("confirmed")
	o.bye(call, media)
	sees("terminated")
	o.idle()
}

// told is who is in which state by a NOTIFY of a list: its first part names whom each of
// the others is about.
func told(t *testing.T, m *peers.Message) map[string]string {
	t.Helper()
	_, params, err := mime.ParseMediaType(m.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(strings.NewReader(m.Body), params["boundary"])
	parts, states := make(map[string]string), make(map[string]string)
	for {
		p, err := r.NextPart()
		if err != nil {
			break
		}
		text, err := io.ReadAll(p)
		if err != nil {
			t.Fatalf("read a list's part: %v\n%s", err, m.Body)
		}
		parts[strings.Trim(p.Header.Get("Content-ID"), "<>")] = string(text)
	}
	for _, of := range regexp.MustCompile(`(?s)<resource uri="sips?:(\d+)@.*?cid="([^"]+)"`).FindAllStringSubmatch(parts[strings.Trim(params["start"], "<>")], -1) {
		if state := regexp.MustCompile(`<state>(\w+)</state>`).FindStringSubmatch(parts[of[2]]); state != nil {
			states[of[1]] = state[1]
		}
	}
	return states
}
