package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// branches are two sites whose PBXs know each other.
type branches struct {
	*peers.Sites
	t        *testing.T
	foo, bar *branch
}

// branch is a site with its PBX, and a phone that is registered there.
type branch struct {
	*peers.Site
	pbx   *peers.Asterisk
	phone *peers.Phone
}

// newPlainBranches are two PBXs that speak with each other in clear.
func newPlainBranches(t *testing.T) *branches {
	t.Helper()
	b := &branches{Sites: peers.NewSites(t, peers.SitesConfig{}), t: t}
	b.Foo.Forward()
	b.Bar.Forward()
	b.start(func(_, other *peers.Site) netip.AddrPort { return netip.AddrPortFrom(other.PBX.Addr, 5060) })
	return b
}

// start runs the PBXs, each of which knows the other by an address.
func (b *branches) start(at func(own, other *peers.Site) netip.AddrPort) {
	b.t.Helper()
	one := func(s, other *peers.Site) *branch {
		own := &branch{Site: s, pbx: s.StartAsterisk(other, at(s, other), peers.AsteriskConfig{}), phone: s.Phone(s.Digit+"001", 5070)}
		if m := own.phone.Register("secret-"+own.phone.User, 600, ""); m.Status() != 200 {
			b.t.Fatalf("registration at %s was answered %s", s.Name, m.Start)
		}
		return own
	}
	b.foo, b.bar = one(b.Foo, b.Bar), one(b.Bar, b.Foo)
	b.reach()
}

// reach waits until each PBX has had an answer of the other. One that had none
// asks again after ten seconds, or when it is told to.
func (b *branches) reach() {
	b.t.Helper()
	for _, s := range []struct{ own, other *branch }{{b.foo, b.bar}, {b.bar, b.foo}} {
		if s.own.pbx.Misses(s.other.Name) {
			s.own.pbx.Qualify(s.other.Name)
		}
		peers.Until(b.t, 20*time.Second, s.own.Name+"'s PBX to reach "+s.other.Name, func() bool { return s.own.pbx.Reaches(s.other.Name) })
	}
}

// idle waits until nobody has a call.
func (b *branches) idle() {
	b.t.Helper()
	peers.Until(b.t, 10*time.Second, "the PBXs to have no channel", func() bool {
		return b.foo.pbx.Channels() == 0 && b.bar.pbx.Channels() == 0
	})
}

// link is a call between the phones of two branches.
type link struct {
	from, to       *branch
	caller, callee *peers.Dialog
	out, in        *peers.Media // the caller's, and the callee's
}

// connect has the phone of one branch call that of the other, and each say a tone.
func (b *branches) connect(from, to *branch, hz, back float64) *link {
	b.t.Helper()
	l := &link{from: from, to: to, out: from.phone.NewPlainMedia(), in: to.phone.NewPlainMedia()}
	l.caller = from.phone.Call(to.phone.User, l.out.Offer())
	inv := to.phone.Expect("INVITE", 10*time.Second)
	if !strings.Contains(inv.Get("From"), from.phone.User) {
		b.t.Fatalf("%s rings for %s", to.phone.User, inv.Get("From"))
	}
	to.phone.Answer(inv, 200, "OK", l.in.Accept(inv.Body))
	m := l.caller.Await("INVITE", 200)
	l.caller.Ack(m, "")
	to.phone.Expect("ACK", 10*time.Second)
	l.callee = to.phone.DialogOf(inv)
	l.in.Start(inv.Body, back)
	l.out.Start(m.Body, hz)
	return l
}

// hangUp ends the call from the caller.
func (b *branches) hangUp(l *link) {
	b.t.Helper()
	l.caller.Ask("BYE", "")
	l.to.phone.Answer(l.to.phone.Expect("BYE", 10*time.Second), 200, "OK", "")
	l.caller.Await("BYE", 200)
	l.out.Stop()
	l.in.Stop()
}

// talk proves calls each way: by the phones of the branches, and by the PBXs
// themselves.
func (b *branches) talk() {
	b.t.Helper()
	for _, ends := range [][2]*branch{{b.foo, b.bar}, {b.bar, b.foo}} {
		from, to := ends[0], ends[1]
		here, there := from.Digit+"320", to.Digit+"350" // 540 Hz and 750 Hz
		from.pbx.Originate(to.Name+"/"+there, here)
		l := b.connect(from, to, 700, 1300)
		l.in.Hears(700, 10*time.Second)
		l.out.Hears(1300, 10*time.Second)
		b.hangUp(l)
		from.pbx.Hears("heard-"+here, 750)
		to.pbx.Hears("heard-"+there, 540)
		from.pbx.Must("channel request hangup all")
		b.idle()
	}
}

// toneOf is what one end of call n says: none that another says.
func toneOf(n, end int) float64 { return float64(300 + 30*n + 15*end) }

// hundred makes calls one after the other, half of them each way, and has all at once say
// their own tones. Every packet that comes must be of the call's own tone.
func (b *branches) hundred(calls int) {
	b.t.Helper()
	links := make([]*link, calls)
	for i := range links {
		from, to := b.foo, b.bar
		if i%2 == 1 {
			from, to = to, from
		}
		links[i] = b.connect(from, to, toneOf(i, 0), toneOf(i, 1))
	}
	if n := b.foo.pbx.Channels(); n != 2*calls {
		b.t.Errorf("foo's PBX has %d channels for %d calls", n, calls)
	}
	ends := make([]*peers.Media, 0, 2*calls)
	for _, l := range links {
		ends = append(ends, l.in, l.out) // which hear what the end of the same number says
	}
	for _, m := range ends {
		m.Forget()
	}
	const enough = 100 // packets of each: two seconds
	peers.Until(b.t, 30*time.Second, "every call to be heard", func() bool {
		return !slices.ContainsFunc(ends, func(m *peers.Media) bool { return len(m.Samples()) < enough*160 })
	})
	for i, m := range ends {
		b.only(fmt.Sprintf("end %d of call %d", i%2, i/2), m, toneOf(i/2, i%2))
	}
	for _, l := range links {
		b.hangUp(l)
	}
	b.idle()
}

// only checks that what was heard is one tone, and no packet of it another.
func (b *branches) only(who string, m *peers.Media, hz float64) {
	b.t.Helper()
	if wrong := foreign(m, hz); wrong > 0 {
		b.t.Errorf("%s: %d of %d packets are not of its %v Hz, but of %v", who, wrong, len(m.Samples())/160, hz, peers.Pitches(m.Samples()))
	}
}

// The laboratory of trunks, with nothing between two PBXs and an enemy's
// network. What he can do here he must not with edges between: that is the
// control of all that is said of trunks.
func TestSites(t *testing.T) {
	b := newPlainBranches(t)
	capture := b.Net.Capture("plain")
	b.talk()
	capture.Stop()
	said := capture.Clear(peers.Spoken(700), peers.Spoken(1300))
	for _, want := range []string{`"SIP/2.0" is said by ` + b.foo.PBX.Addr.String(), `"m=audio" is said`, "neither DTLS nor SRTP", "does not look like chance", fmt.Sprintf("%.8x…", peers.Spoken(700)), fmt.Sprintf("%.8x…", peers.Spoken(1300))} {
		if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("in clear is not found: %s, but %q", want, said)
		}
	}

	e := b.enemy(b.foo, b.bar)
	if in, out := e.replays(); in == 0 || out == 0 {
		t.Errorf("of what is sent again %d packets are heard at bar, and %d at foo", in, out)
	}
	if in, out := e.forges(); in == 0 || out == 0 {
		t.Errorf("of what is forged %d packets are heard at bar, and %d at foo", in, out)
	}
	e.cuts()
	b.hangUp(e.link)
	b.idle()
	b.Net.Send(invitation(netip.AddrPortFrom(b.bar.PBX.Addr, 5060), netip.AddrPortFrom(b.foo.PBX.Addr, 5060), "1001"))
	b.foo.rings("a call in the name of bar's PBX")
	b.hundred(100)
	id := regexp.MustCompile(`Call-ID: (\w{10})`).FindSubmatch(e.kept[slices.IndexFunc(e.kept, peers.Carries([]byte("INVITE ")))].Payload())
	peers.Until(t, time.Minute, "bar's PBX to forget the first call", func() bool { return !strings.Contains(b.bar.pbx.Must("sip show channels"), string(id[1])) })
	b.Net.Send(e.kept...)
	b.bar.rings("a call that is sent again")
	b.idle()
	if n := b.Net.Dropped(); n != 0 {
		t.Errorf("the network lost %d packets by itself, of %d", n, b.Net.Carried())
	}
}

// rings refuses a call that must have come to the branch's phone.
func (b *branch) rings(what string) {
	inv := b.phone.Await(what, func(m *peers.Message) bool { return m.Status() == 0 && m.Method() == "INVITE" })
	b.phone.Answer(inv, 486, "Busy Here", "")
	b.phone.Await("the end of "+what, func(m *peers.Message) bool { return m.Status() == 0 && m.Method() == "ACK" })
}
