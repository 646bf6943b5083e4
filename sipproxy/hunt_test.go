package sipproxy

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/locate"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// spare is a second PBX that a test plays.
type spare struct {
	*bench
	main *net.UDPConn
}

// newSpareBench is a bench with two PBXs: the bench's own is the first.
func newSpareBench(t *testing.T, change func(*Config)) *spare {
	t.Helper()
	second, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.Close() })
	s := &spare{bench: newBenchWith(t, media.Defaults().Silence, func(c *Config) {
		c.PBXs = append(c.PBXs, locate.Server{Addr: second.LocalAddr().(*net.UDPAddr).AddrPort(), Priority: 1, Weight: 1})
		if change != nil {
			change(c)
		}
	})}
	s.main = s.pbx
	s.pbx = second
	return s
}

// first lets f play the first PBX; the second is played otherwise.
func (s *spare) first(f func()) {
	second := s.pbx
	s.pbx = s.main
	f()
	s.pbx = second
}

// down takes a PBX for down, as one that says nothing, or up again.
func (s *spare) down(at int, down bool) {
	b := s.proxy.pool.all()[at]
	b.mu.Lock()
	defer b.mu.Unlock()
	b.checks.down, b.checks.mute = down, down
}

func (s *spare) quiet() {
	s.t.Helper()
	if m, err := s.heard(time.Now().Add(200 * time.Millisecond)); err == nil {
		s.t.Fatalf("the PBX got %s", m.start)
	}
}

func invitation(p *phone, id string) string {
	return p.request("INVITE", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>", id, 1, secureSDP, contact)
}

// A PBX that says nothing gives way to the next, and is not left with a call if it
// wakes up.
func TestFailover(t *testing.T) {
	s := newSpareBench(t, nil)
	p := s.phone()
	p.send(invitation(p, "f1"))
	var lost, inv *message
	s.first(func() { lost = s.atPBX("INVITE") })
	inv = s.atPBX("INVITE")
	if inv.h.Get("Via") == lost.h.Get("Via") || inv.h.Get("Call-Id") != lost.h.Get("Call-Id") || inv.body != lost.body {
		t.Error("the second PBX is not asked the same in a transaction of its own")
	}
	s.fromPBX(reply(inv, 200, "second", plainSDP, "Contact: <sip:602@127.0.0.1:5099>"))
	ok := p.next("200")
	p.send(p.request("ACK", strings.Trim(ok.h.Get("Contact"), "<>"), ok.h.Get("To"), "f1", 1, ""))
	s.atPBX("ACK")

	s.first(func() {
		s.fromPBX(reply(lost, 180, "first", ""))
		s.atPBX("CANCEL")
		s.fromPBX(reply(lost, 200, "first", plainSDP, "Contact: <sip:602@127.0.0.1:5098>"))
		if ack := s.atPBX("ACK"); !strings.Contains(ack.h.Get("To"), "tag=first") {
			t.Errorf("the PBX that came too late got an ACK to %s", ack.h.Get("To"))
		}
		if bye := s.atPBX("BYE"); bye.uri() != "sip:602@127.0.0.1:5098" {
			t.Errorf("it got a BYE to %s", bye.uri())
		}
	})
	if calls := s.proxy.Stats().Calls; calls != 1 {
		t.Fatalf("%d calls are left", calls)
	}
	p.send(p.request("BYE", strings.Trim(ok.h.Get("Contact"), "<>"), ok.h.Get("To"), "f1", 2, ""))
	s.fromPBX(reply(s.atPBX("BYE"), 200, "", ""))
	p.next("200")
	s.noCallLeft()
}

// 503 of one is not the last word; 503 of all is.
func TestBusyPBX(t *testing.T) {
	s := newSpareBench(t, nil)
	p := s.phone()
	for _, status := range []int{486, 503} {
		id := "busy" + string(rune('0'+status%10))
		p.send(invitation(p, id))
		s.first(func() {
			s.fromPBX(reply(s.atPBX("INVITE"), 503, "a", "", "Retry-After: 5"))
			s.atPBX("ACK")
		})
		s.fromPBX(reply(s.atPBX("INVITE"), status, "b", ""))
		if m := p.next(map[int]string{486: "486", 503: "503"}[status]); !strings.Contains(m.h.Get("To"), "tag=b") {
			t.Errorf("the phone got %s of %s", m.start, m.h.Get("To"))
		}
		p.send(p.request("ACK", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>;tag=b", id, 1, ""))
	}
	s.noCallLeft()
}

// A caller who gives up is not called back by another PBX.
func TestCancelledHunt(t *testing.T) {
	s := newSpareBench(t, nil)
	p := s.phone()
	req := invitation(p, "c1")
	p.send(req)
	var lost *message
	s.first(func() { lost = s.atPBX("INVITE") })
	p.send(strings.Replace(strings.Replace(req[:strings.Index(req, "Content-Type")], "INVITE sip", "CANCEL sip", 1), "1 INVITE", "1 CANCEL", 1) + "Content-Length: 0\r\n\r\n")
	p.next("200")
	time.Sleep(patience + 200*time.Millisecond)
	s.quiet()
	s.first(func() {
		s.fromPBX(reply(lost, 100, "", ""))
		s.atPBX("CANCEL")
		s.fromPBX(reply(lost, 487, "x", ""))
	})
	p.next("487")
	s.noCallLeft()

	// After the second was asked, it is the second that is told.
	p = s.phone()
	req = invitation(p, "c2")
	p.send(req)
	inv := s.atPBX("INVITE")
	s.fromPBX(reply(inv, 180, "x", ""))
	p.next("180")
	p.send(strings.Replace(strings.Replace(req[:strings.Index(req, "Content-Type")], "INVITE sip", "CANCEL sip", 1), "1 INVITE", "1 CANCEL", 1) + "Content-Length: 0\r\n\r\n")
	s.atPBX("CANCEL")
	s.fromPBX(reply(inv, 487, "x", ""))
	p.next("487")
	s.noCallLeft()
}

// With no PBX up everybody is told at once, and when to come again. What is inside
// a dialog with one that is down ends; that a phone hung up is told it all the same.
func TestNoPBX(t *testing.T) {
	s := newSpareBench(t, nil)
	p := s.phone()
	s.down(0, true)
	p.send(invitation(p, "n0"))
	inv := s.atPBX("INVITE")
	s.fromPBX(reply(inv, 200, "x", plainSDP, "Contact: <sip:602@127.0.0.1:5099>"))
	ok := p.next("200")
	target := strings.Trim(ok.h.Get("Contact"), "<>")
	p.send(p.request("ACK", target, ok.h.Get("To"), "n0", 1, ""))
	p.send(p.request("SUBSCRIBE", "sip:1002@pbx.example.com", "<sip:1002@pbx.example.com>", "watch", 1, "", contact, "Event: dialog", "Expires: 600"))
	s.fromPBX(reply(s.atPBX("SUBSCRIBE"), 200, "w", "", "Contact: <sip:1002@127.0.0.1:5099>", "Expires: 600"))
	watched := p.next("200")

	s.down(1, true)
	for _, method := range []string{"INVITE", "REGISTER", "OPTIONS", "SUBSCRIBE", "MESSAGE"} {
		uri, lines, sdp := "sip:602@pbx.example.com", []string{contact}, ""
		switch method {
		case "INVITE":
			sdp = secureSDP
		case "REGISTER":
			uri = "sip:pbx.example.com"
		case "SUBSCRIBE":
			lines = append(lines, "Event: dialog")
		}
		p.send(p.request(method, uri, "<sip:1001@pbx.example.com>", "n"+method, 1, sdp, lines...))
		if m := p.next("503"); m.h.Get("Retry-After") == "" || m.method() != method {
			t.Errorf("%s: Retry-After %q", m.start, m.h.Get("Retry-After"))
		}
		if method == "INVITE" {
			p.send(p.request("ACK", uri, "<sip:1001@pbx.example.com>;tag=x", "nINVITE", 1, ""))
		}
	}
	p.send(p.request("SUBSCRIBE", strings.Trim(watched.h.Get("Contact"), "<>"), watched.h.Get("To"), "watch", 2, "", contact, "Event: dialog", "Expires: 600"))
	p.next("481") // and the phone subscribes anew
	p.send(p.request("BYE", target, ok.h.Get("To"), "n0", 2, ""))
	p.next("200")
	s.fromPBX(reply(s.atPBX("BYE"), 200, "", ""))
	s.noCallLeft()
}

// A PBX that shuts down when its calls are over says so by 503: it gets nothing new, and
// what is inside of its calls.
func TestClosingPBX(t *testing.T) {
	s := newSpareBench(t, nil)
	p := s.phone()
	s.down(0, true)
	p.send(invitation(p, "s0"))
	s.fromPBX(reply(s.atPBX("INVITE"), 200, "x", plainSDP, "Contact: <sip:602@127.0.0.1:5099>"))
	ok := p.next("200")
	target := strings.Trim(ok.h.Get("Contact"), "<>")
	p.send(p.request("ACK", target, ok.h.Get("To"), "s0", 1, ""))
	s.atPBX("ACK")

	l := s.proxy.pool
	for b := l.all()[1]; !b.isDown(); {
		b.mu.Lock()
		b.checks.under, b.checks.started = new(probe), time.Now()
		b.mu.Unlock()
		l.checked(b, sip.NewResponse(503, "Shutting down"), nil)
	}
	p.send(invitation(p, "s1"))
	p.next("503")
	p.send(p.request("ACK", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>;tag=x", "s1", 1, ""))
	s.quiet()
	p.send(p.request("INVITE", target, ok.h.Get("To"), "s0", 2, secureSDP, contact))
	s.fromPBX(reply(s.atPBX("INVITE"), 200, "x", plainSDP, "Contact: <sip:602@127.0.0.1:5099>"))
	p.next("200")
	p.send(p.request("ACK", target, ok.h.Get("To"), "s0", 2, ""))
	s.atPBX("ACK")
	p.send(p.request("BYE", target, ok.h.Get("To"), "s0", 3, ""))
	s.fromPBX(reply(s.atPBX("BYE"), 200, "", ""))
	p.next("200")
	s.noCallLeft()
}

// A registration moves with its refreshes: away from a PBX that is down, and back.
// What unregisters goes where the contact is.
func TestRegistrationFollows(t *testing.T) {
	s := newSpareBench(t, func(c *Config) { c.RefreshInterval = time.Hour })
	p := s.phone()
	cseq := 0
	register := func(expires string) {
		cseq++
		p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", cseq, "", contact, "Expires: "+expires))
	}
	granted := func() string {
		req := s.atPBX("REGISTER")
		s.fromPBX(reply(req, 200, "r", "", "Contact: "+strings.Split(req.h.Get("Contact"), ";")[0]+";expires=3600"))
		return p.next("200").h.Get("Contact")
	}
	s.first(func() {
		register("3600")
		if contact := granted(); !strings.HasSuffix(contact, "expires=120") {
			t.Errorf("with two PBXs the phone is granted %s: it would be long without calls", contact)
		}
		register("3600")
		p.next("200")
		s.quiet() // spared
	})
	s.down(0, true)
	register("3600")
	granted() // at the second
	p.send(invitation(p, "r1"))
	s.fromPBX(reply(s.atPBX("INVITE"), 486, "x", ""))
	p.next("486")
	p.send(p.request("ACK", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>;tag=x", "r1", 1, ""))
	s.atPBX("ACK")

	s.down(0, false)
	p.send(invitation(p, "r2")) // he is still known there alone
	s.fromPBX(reply(s.atPBX("INVITE"), 486, "x", ""))
	p.next("486")
	s.first(func() {
		register("3600")
		granted()
		s.down(0, true)
		s.down(0, false)
		register("0")
		s.fromPBX(reply(s.atPBX("REGISTER"), 200, "r", ""))
		p.next("200")
	})
}

// While a PBX does not answer its name is looked up again; one that answers stays.
func TestRelocate(t *testing.T) {
	asked := make(chan struct{}, 8)
	elsewhere := locate.Server{Addr: netip.MustParseAddrPort("127.0.0.9:5060"), Weight: 1}
	s := newSpareBench(t, func(c *Config) {
		c.Locate = func(context.Context) ([]locate.Server, error) {
			asked <- struct{}{}
			return []locate.Server{elsewhere}, nil
		}
	})
	select {
	case <-asked:
		t.Fatal("a name was looked up while every PBX answers")
	case <-time.After(2 * patience):
	}
	s.down(0, true)
	select {
	case <-asked:
	case <-time.After(time.Until(soon())):
		t.Fatal("nothing was looked up")
	}
	until(t, "the new address to be taken", func() bool { return s.proxy.pool.all()[0].Server == elsewhere })
	for _, host := range []string{"127.0.0.1", "127.0.0.9"} {
		if !s.proxy.isInside(host) {
			t.Errorf("%s is shown to phones", host)
		}
	}
}

// A call that rang until timer C is over: it is cancelled, the caller is told that
// nobody answered, and no other PBX rings it once more.
func TestRangOut(t *testing.T) {
	s := newSpareBench(t, nil)
	quick := transaction.DefaultTimers()
	quick.C = 500 * time.Millisecond
	s.proxy.tx = transaction.NewLayer(quick, transaction.DefaultLimits())
	p := s.phone()
	p.send(invitation(p, "c1"))
	s.first(func() {
		inv := s.atPBX("INVITE")
		s.fromPBX(reply(inv, 180, "first", "", "Contact: <sip:602@127.0.0.1:5099>"))
		s.fromPBX(reply(s.atPBX("CANCEL"), 200, "first", ""))
		s.fromPBX(reply(inv, 487, "first", ""))
		s.atPBX("ACK")
	})
	p.next("180")
	if m := p.next("408"); !strings.Contains(m.h.Get("Warning"), "nobody answered") {
		t.Errorf("the phone is told %q", m.h.Get("Warning"))
	}
	s.quiet()
	s.noCallLeft()
}
