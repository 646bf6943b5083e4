package e2e

import (
	"fmt"
	"io"
	"math"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

const (
	webFlows = `sallyport_flows{socket="203.0.113.7:` + peers.WSSPort + `"}`
	// webDevice is what a web phone says of itself in its Contact (RFC 5626).
	webDevice = ";+sip.ice;reg-id=1;+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\""
)

func newWebOffice(t *testing.T, more string) *office {
	t.Helper()
	return newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Extra: peers.WSS + more})
}

// webPhone connects one by secure WebSocket and registers it.
func (o *office) webPhone(user string) *peers.Phone {
	o.t.Helper()
	p := peers.NewWebPhone(o.Phone(user), o.edge, user)
	o.registerWeb(p)
	return p
}

func (o *office) registerWeb(p *peers.Phone) {
	o.t.Helper()
	m := p.Register("secret-"+p.User, 600, webDevice)
	if m.Status() != 200 || m.URI("Contact") != p.Contact() {
		o.t.Fatalf("registration answered %s with Contact %q, want the phone's own, %q", m.Start, m.Get("Contact"), p.Contact())
	}
}

// A web phone registers, calls and is called, and keeps its one contact when
// its connection breaks and when its page is loaded again. What it writes for
// its own address never gets inside, and nothing is to be read outside.
func TestWssRegisterAndCall(t *testing.T) {
	o := newWebOffice(t, "")
	inside, outside := peers.StartCapture(o.Edge, "inside"), peers.StartCapture(o.Edge, "outside")
	phone := o.webPhone("1001")
	contact := o.pbx.Contact("1001")
	if !regexp.MustCompile(`^sip:[a-z2-7]{16}@10\.0\.0\.1:5060$`).MatchString(contact) {
		t.Fatalf("Asterisk's contact for 1001 is %q, want a token at the edge's plain address", contact)
	}
	for _, suite := range []string{suite, "AEAD_AES_128_GCM"} {
		media := phone.NewMedia(suite)
		d := o.call(phone, "602", media, 700)
		media.Hears(1004, 10*time.Second)
		o.hangUp(d, media)
	}
	media := phone.NewMedia(suite)
	d := o.call(phone, "610", media, 700)
	media.Hears(1004, 10*time.Second)
	o.hangUp(d, media)
	o.pbxHeard(700)
	o.answersCall(phone)

	phone.Reset()
	phone.Connect(o.edge)
	o.registerWeb(phone)
	o.answersCall(phone)
	phone.Connect(o.edge) // the old page's connection is still open
	o.registerWeb(phone)
	o.answersCall(phone)
	if after := o.pbx.Contact("1001"); after != contact {
		t.Errorf("Asterisk's contact was %q and is %q: want the same", contact, after)
	}
	if n := o.edge.Metric("sallyport_bindings"); n != 1 {
		t.Errorf("the edge has %v bindings, want 1", n)
	}
	if n := o.edge.Metric(webFlows); n != 2 {
		t.Errorf("the edge counts %v connections, want the new page's and the old one's", n)
	}

	inside.Stop()
	outside.Stop()
	for _, word := range []string{peers.InvalidHost, "SIP/2.0/WSS", "transport=ws", "a=crypto"} {
		if inside.Contains(word) {
			t.Errorf("%q is to be read inside", word)
		}
	}
	for _, word := range []string{"SIP/2.0", peers.InvalidHost, "inline:", "Digest "} {
		if outside.Contains(word) {
			t.Errorf("%q is to be read outside", word)
		}
	}
	if !inside.Contains("SIP/2.0") || !inside.Contains("Digest ") { // the control
		t.Error("no SIP is found inside: the check is broken")
	}
}

// A phone over TLS and one over WebSocket call each other.
func TestWssToPhone(t *testing.T) {
	o := newWebOffice(t, "")
	web, desk := o.webPhone("1001"), o.phone("1002", 1300)
	media := web.NewMedia(suite)
	d := o.call(web, "1002", media, 700)
	media.Hears(1300, 10*time.Second)
	desk.Hears(700, 10*time.Second)
	o.hangUp(d, media)
	desk.Event("CALL_CLOSED", 5*time.Second)
}

// SIPp's WebSocket client calls with SRTP, on a connection for each call.
func TestWssSipp(t *testing.T) {
	o := newWebOffice(t, "")
	run := peers.StartSIPpWSS(o.Phone("sipp"), scenario(t, "echo.xml"), "-r", "10", "-m", "30", "-timeout", "40s", "-timeout_error",
		peers.SIPpNotes)
	if r := run.Result(60 * time.Second); (r.Exit != 0 && r.Exit != peers.SIPpSoundDiffers) || r.Successful != 30 || r.Failed != 0 {
		t.Fatalf("SIPp exit %d: %d calls succeeded, %d failed; want 30 and 0", r.Exit, r.Successful, r.Failed)
	}
	if good, bad := run.Verified(); good < 30*90 || bad > 0 {
		t.Errorf("SIPp verified %d SRTP packets and refused %d; want two seconds of each call, and none", good, bad)
	}
	if n := o.edge.Metric(strings.Replace(webFlows, "flows{", "flows_accepted_total{", 1)); n < 30 {
		t.Errorf("the edge accepted %v WebSockets, want one for each call", n)
	}
	o.idle()
}

// Five hundred clients that stop half-way keep nobody out, wherever they stop.
func TestSlowWss(t *testing.T) {
	o := newWebOffice(t, "")
	honest := o.Phone("honest")
	for _, stop := range []peers.Stop{peers.AfterTCP, peers.AfterTLS, peers.InUpgrade, peers.AfterUpgrade} {
		t.Run(stop.String(), func(t *testing.T) {
			host, longer := o.Phone(fmt.Sprintf("slow%d", stop)), time.Duration(0)
			for range 3 { // what another process of the machine's costs passes; an attack's effect does not
				if longer = o.longer(honest, host, stop); longer <= 100*time.Millisecond {
					return
				}
			}
			t.Errorf("a registration takes %s longer among 500 silent clients", longer)
		})
	}
	t.Run("control", func(t *testing.T) { oneStopsAll(t, o, honest) })
}

// longer is what a registration takes longer among silent clients than before and after
// them.
func (o *office) longer(honest, host *peers.Host, stop peers.Stop) time.Duration {
	o.t.Helper()
	before := o.registerTimes(honest)
	end := peers.Silent(host, o.edge, 500, stop)
	there := o.gathered(webFlows, 500)
	among := median(o.registerTimes(honest))
	end()
	if there < 500 { // they live ten seconds, and the machine took as long to make them
		o.t.Logf("only %v of 500 silent clients were there together", there)
		return math.MaxInt64
	}
	without := median(append(before, o.registerTimes(honest)...))
	o.t.Logf("a registration takes %s among 500 silent clients, %s without (medians)", among, without)
	return among - without
}

// oneStopsAll is the control of slow clients: a server that one silent client stops.
// The measure must tell.
func oneStopsAll(t *testing.T, o *office, honest *peers.Host) {
	addr := upgradesInTurn(t, o.Edge)
	connect := func() net.Conn {
		var c net.Conn
		if err := honest.Do(func() (err error) { c, err = net.DialTimeout("tcp", addr, 5*time.Second); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ask := func() time.Duration {
		began := time.Now()
		c := connect()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write([]byte("x"))
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	without := ask()
	connect() // and is silent
	if with := ask(); with-without < 100*time.Millisecond {
		t.Fatalf("one silent client costs a server that reads in its accept loop only %s: the measure is broken", with-without)
	}
}

// registerTimes is the times of registrations over new WebSockets,
// from the TCP handshake to the 200.
func (o *office) registerTimes(h *peers.Host) []time.Duration {
	o.t.Helper()
	var took []time.Duration
	for range 9 {
		began := time.Now()
		p := peers.NewWebPhone(h, o.edge, "1001")
		o.registerWeb(p)
		took = append(took, time.Since(began))
		p.Close()
	}
	return took
}

// upgradesInTurn is a server that reads from a connection in its accept loop,
// with a second's patience.
func upgradesInTurn(t *testing.T, h *peers.Host) string {
	t.Helper()
	addr := net.JoinHostPort(peers.EdgeOutside, "9443")
	var ln net.Listener
	if err := h.Do(func() (err error) { ln, err = net.Listen("tcp", addr); return err }); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends when the listener is closed; waited for below
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = c.Read(make([]byte, 1))
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return addr
}

// Pages of the listed origins alone get in; who is no browser does too.
func TestWssOrigin(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		status map[string]int
	}{
		"default": {"", map[string]int{
			"": 101, "https://pbx.example.com": 101, "https://pbx.example.com:" + peers.WSSPort: 101,
			"http://pbx.example.com": 403, "https://evil.example": 403, "https://pbx.example.com.evil.example": 403, "null": 403,
		}},
		"listed": {"wss_origins = [\"https://phones.example.net:8000\", \"other.example.net\"]\n", map[string]int{
			"": 101, "https://phones.example.net:8000": 101, "https://other.example.net": 101,
			"https://phones.example.net": 403, "https://pbx.example.com": 403,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newWebOffice(t, c.config)
			page := o.Phone("page")
			for origin, want := range c.status {
				if got := peers.UpgradeFrom(page, o.edge, origin); got != want {
					t.Errorf("a page of %q is answered %d, want %d", origin, got, want)
				}
			}
			refused := 0.0
			for _, status := range c.status {
				if status == 403 {
					refused++
				}
			}
			if n := o.edge.Metric(strings.Replace(strings.TrimSuffix(webFlows, "}"), "sallyport_flows{", "sallyport_flow_events_total{event=\"refused_upgrade\",", 1)); n != refused {
				t.Errorf("the edge counts %v refused, want %v", n, refused)
			}
		})
	}
}
