package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

func TestRegister(t *testing.T) {
	o := newOffice(t)
	phone := o.phone("1001", 700)
	contact := o.pbx.Contact("1001")
	if !regexp.MustCompile(`^sip:[a-z2-7]{16}@10\.0\.0\.1:5060$`).MatchString(contact) {
		t.Fatalf("Asterisk's contact for 1001 is %q, want a token at the edge's plain address", contact)
	}
	if n := o.edge.Metric("sallyport_bindings"); n != 1 {
		t.Fatalf("the edge has %v bindings, want 1", n)
	}
	phone.Stop() // it unregisters
	peers.Until(t, 5*time.Second, "the binding to go", func() bool { return o.edge.Metric("sallyport_bindings") == 0 })
	if contact := o.pbx.Contact("1001"); contact != "" {
		t.Fatalf("Asterisk still has contact %q", contact)
	}
}

func TestRegisterWrongPassword(t *testing.T) {
	o := newOffice(t)
	phone := o.script("1001")
	if m := phone.Register("wrong", 600, ""); m.Status() != 401 && m.Status() != 403 {
		t.Fatalf("a wrong password was answered %s", m.Start)
	}
	if n := o.edge.Metric("sallyport_bindings"); n != 0 {
		t.Fatalf("the edge has %v bindings, want none", n)
	}
	if contact := o.pbx.Contact("1001"); contact != "" {
		t.Fatalf("Asterisk has contact %q", contact)
	}
	if m := phone.Register("secret-1001", 600, ""); m.Status() != 200 { // the control
		t.Fatalf("the right password was answered %s", m.Start)
	}
	if n := o.edge.Metric("sallyport_bindings"); n != 1 {
		t.Fatalf("the edge has %v bindings, want 1", n)
	}
}

func TestUnregister(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	if m := phone.Register("secret-1001", 0, ""); m.Status() != 200 || m.Get("Contact") != "" {
		t.Fatalf("unregistering was answered %s with Contact %q", m.Start, m.Get("Contact"))
	}
	if n := o.edge.Metric("sallyport_bindings"); n != 0 {
		t.Fatalf("the edge has %v bindings, want none", n)
	}
	if contact := o.pbx.Contact("1001"); contact != "" {
		t.Fatalf("Asterisk still has contact %q", contact)
	}
}

// Asterisk sees one refresh of many, and none of them is answered to anybody
// else; what a phone says that is new, it learns at once.
func TestRefreshThrottle(t *testing.T) {
	eachPBXWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Extra: "[sip]\nrefresh_interval = \"1h\"\n"}, func(o *office) {
		inside := peers.StartCapture(o.Edge, "inside")
		phone := o.script("1001")
		refresh := func(password string) {
			o.t.Helper()
			m := phone.Register(password, 60, "")
			if m.Status() != 200 || m.Get("Contact") != "<"+phone.Contact()+">;expires=60" {
				o.t.Fatalf("REGISTER was answered %s with Contact %s, want 200 for a minute", m.Start, m.Get("Contact"))
			}
		}
		refresh("secret-1001")
		if kept := o.pbx.Keeps("1001"); kept < 58*time.Minute {
			o.t.Errorf("Asterisk keeps the contact for %s, want an hour", kept)
		}
		for range 10 {
			refresh("not needed")
		}
		if n := o.edge.Metric("sallyport_refreshes_spared_total"); n != 10 {
			o.t.Errorf("%v refreshes were spared, want 10", n)
		}
		o.answersCall(phone)

		phone.Reset() // by another connection it has to prove itself again
		phone.Connect(o.edge)
		if m := phone.Register("wrong", 60, ""); m.Status() != 401 && m.Status() != 403 {
			o.t.Fatalf("a wrong password by another connection is answered %s", m.Start)
		}
		refresh("secret-1001")
		refresh("not needed")
		if m := phone.Register("secret-1001", 0, ""); m.Status() != 200 || o.pbx.Contact("1001") != "" {
			o.t.Errorf("unregistering was answered %s, and Asterisk has contact %q", m.Start, o.pbx.Contact("1001"))
		}
		inside.Stop()
		if n := inside.Requests(`sip.Method == "REGISTER"`); n != 8 { // four, each challenged first
			o.t.Errorf("Asterisk saw %d REGISTERs, want 8", n)
		}
	})
}

// The answer to a registration shows the phone its own contact, never ours.
func TestRegisterAnswer(t *testing.T) {
	o := newOffice(t)
	phone := o.script("1001")
	m := phone.Register("secret-1001", 600, "")
	if m.Status() != 200 || m.URI("Contact") != phone.Contact() || !strings.Contains(m.Get("Contact"), "expires=") {
		t.Fatalf("answered %s with Contact %q, want the phone's own, %q", m.Start, m.Get("Contact"), phone.Contact())
	}
}

func TestReconnect(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	before := o.pbx.Contact("1001")
	for range 3 {
		phone.Reset()
		phone.Connect(o.edge)
		if m := phone.Register("secret-1001", 600, ""); m.Status() != 200 {
			t.Fatalf("registering again was answered %s", m.Start)
		}
	}
	if after := o.pbx.Contact("1001"); after != before {
		t.Fatalf("Asterisk's contact was %q and is %q: want the same", before, after)
	}
	if n := o.edge.Metric("sallyport_bindings"); n != 1 {
		t.Fatalf("the edge has %v bindings, want 1", n)
	}
	o.answersCall(phone)
}

// answersCall lets Asterisk call a phone, which answers and hears the tone.
func (o *office) answersCall(phone *peers.Phone) {
	o.t.Helper()
	o.pbx.Originate(phone.User, "602")
	inv := phone.Expect("INVITE", 5*time.Second)
	media := phone.NewMedia("AES_CM_128_HMAC_SHA1_80")
	phone.Answer(inv, 180, "Ringing", "")
	phone.Answer(inv, 200, "OK", media.Accept(inv.Body))
	phone.Expect("ACK", 5*time.Second)
	media.Start(onlySuite(inv.Body, media.Suite), 700)
	media.Hears(1004, 10*time.Second)
	o.pbx.Must("channel request hangup all")
	bye := phone.Expect("BYE", 5*time.Second)
	phone.Answer(bye, 200, "OK", "")
	o.idle()
}

// onlySuite is a description with the crypto line of one suite alone.
func onlySuite(sdp, suite string) string {
	var kept []string
	for _, line := range strings.Split(sdp, "\r\n") {
		if !strings.HasPrefix(line, "a=crypto:") || strings.Contains(line, " "+suite+" ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\r\n")
}

// A phone whose connection is gone is unreachable at once, so that voicemail
// picks up.
func TestDeadFlow(t *testing.T) {
	o := newOffice(t)
	caller := o.registered("1002")
	phone := o.registered("1001")
	phone.Reset()
	peers.Until(t, 5*time.Second, "the edge to notice", func() bool { return o.edge.Metric(`sallyport_flows{socket="203.0.113.7:5061"}`) == 1 })
	begun := time.Now()
	_, m := caller.Invite("1001", caller.NewMedia("AES_CM_128_HMAC_SHA1_80").Offer())
	took := time.Since(begun)
	// Asterisk says 480 as 480, or as its own cause for "subscriber absent".
	if m.Status() < 480 || m.Status() >= 500 && m.Status() != 503 || took > 10*time.Second {
		t.Fatalf("calling a dead phone was answered %s after %s, want a refusal at once, and not what no answer brings after 30 s", m.Start, took)
	}
	if n := o.edge.Metric(`sallyport_requests_refused_total{status="480"}`); n != 1 {
		t.Fatalf("the edge answered the PBX 480 %v times, want once", n)
	}
	o.idle()
}
