package sipproxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// outside is a request of the PBX in no dialog.
func (b *bench) outside(method, uri, callID string, more ...string) string {
	return text("", append([]string{
		method + " " + uri + " SIP/2.0", fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bK%s", b.pbx.LocalAddr(), randomToken(6)), "Max-Forwards: 70",
		"From: <sip:1002@127.0.0.1>;tag=pbx", "To: <" + uri + ">", "Call-ID: " + callID, "CSeq: 102 " + method, "Contact: <sip:1002@127.0.0.1:5060>",
	}, more...)...)
}

// Of what the PBX says, that is for the process before which no transaction, dialog,
// subscription or phone here has to do with.
func TestIsForeign(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	at := func(user string) string { return fmt.Sprintf("sip:%s@%s", user, b.plain) }
	elsewhere := strings.Repeat("a", len(token)) // as another process would have made it

	p.send(p.request("INVITE", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>", "c1", 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	ringing := reply(inv, 180, "pbx", "", "Contact: <sip:602@127.0.0.1:5060>")
	b.fromPBX(ringing)
	p.next("180")
	sub, _ := b.watch(p, "s1", 600)
	b.fromPBX(b.outside("INVITE", at(token), "c2")) // rings at the phone
	p.next("INVITE")
	early := "c3" // a subscription that nobody has answered
	p.send(p.request("SUBSCRIBE", "sip:1003@pbx.example.com", "<sip:1003@pbx.example.com>", early, 1, "", contact, "Event: dialog", "Expires: 600"))
	unanswered := b.atPBX("SUBSCRIBE")

	other := func(s, callID string) string {
		return strings.ReplaceAll(s, "Call-ID: "+callID, "Call-ID: other-"+callID)
	}
	within := b.inside(inv, "BYE", "pbx", 103, "")
	told := b.inside(sub, "NOTIFY", "pbx", 102, "", "Event: dialog", "Subscription-State: active")
	asked := b.outside("INVITE", at(token), "c4")
	for name, c := range map[string]struct {
		text    string
		foreign bool
	}{
		"an answer to a request of ours":                   {ringing, false},
		"an answer to none":                                {strings.Replace(ringing, "z9hG4bK", "z9hG4bKx", 1), true},
		"a request in a call":                              {within, false},
		"one in no call":                                   {other(within, "c1"), true},
		"one in a call of another tag":                     {strings.Replace(within, "tag=pbx", "tag=other", 1), true},
		"the ACK of a 2xx in no call":                      {other(b.inside(inv, "ACK", "pbx", 102, ""), "c1"), true},
		"a NOTIFY of a subscription":                       {told, false},
		"one of none, for a phone that is here":            {other(told, "s1"), false},
		"one of none, for a phone that has not come":       {other(strings.ReplaceAll(told, token, elsewhere), "s1"), true},
		"one of a transfer":                                {other(strings.Replace(told, "Event: dialog", "Event: Refer;id=93809824", 1), "s1"), true},
		"one before the answer to the SUBSCRIBE":           {b.inside(unanswered, "NOTIFY", "new", 102, "", "Event: dialog", "Subscription-State: active"), false},
		"a call for a phone":                               {asked, false},
		"one for a phone that has not come here":           {b.outside("INVITE", at(elsewhere), "c5"), true},
		"a question for a phone that has not come here":    {b.outside("OPTIONS", at(elsewhere), "c6"), true},
		"a question for us":                                {b.outside("OPTIONS", "sip:"+b.plain.String(), "c7"), false},
		"the CANCEL of a call that rings nowhere":          {b.outside("CANCEL", at(token), "c8"), true},
		"the ACK of a refusal that is none of ours":        {other(b.outside("ACK", at(elsewhere), "c9"), "c9"), true},
		"a subscriber's request in no subscription of his": {other(b.inside(sub, "SUBSCRIBE", "pbx", 103, "", "Event: dialog"), "s1"), true},
	} {
		m, err := sip.ParseMessage([]byte(c.text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		from := b.proxy.pool.plain.Flow(netip.MustParseAddrPort(b.pbx.LocalAddr().String()))
		if got := b.proxy.IsForeign(from, m); got != c.foreign {
			t.Errorf("%s: foreign is %v", name, got)
		}
		if b.proxy.IsForeign(b.phoneFlow(token), m) {
			t.Errorf("%s: what a phone says is for another process", name)
		}
	}
	p.conn.Close()
	until(t, "the phone's connection to be gone", func() bool { return closed(b.phoneFlow(token)) })
	gone, err := sip.ParseMessage([]byte(other(told, "s1")))
	if err != nil {
		t.Fatal(err)
	}
	if !b.proxy.IsForeign(b.proxy.pool.plain.Flow(netip.MustParseAddrPort(b.pbx.LocalAddr().String())), gone) {
		t.Error("a NOTIFY of none, for a phone whose connection here is gone: foreign is false")
	}
}

// What the process before has begun with is not sent on again, though the phone is here by
// now; for as long as the PBX repeats it.
func TestUnansweredIsForeign(t *testing.T) {
	before, b := newBench(t), newBench(t)
	asked := make(map[*bench]string)
	for _, each := range []*bench{before, b} {
		p := each.phone()
		asked[each] = each.outside("MESSAGE", fmt.Sprintf("sip:%s@%s", each.register(p), each.plain), "m1")
	}
	before.fromPBX(asked[before])
	var names []string
	until(t, "something to wait for its answer", func() bool {
		names = before.proxy.Unanswered()
		return len(names) > 0
	})
	at := strings.Index(asked[before], "branch=") + len("branch=")
	branch, _, _ := strings.Cut(asked[before][at:], "\r\n")
	if len(names) != 1 || names[0] != branch+" 102" {
		t.Fatalf("%q wait for their answer", names)
	}
	m, err := sip.ParseMessage([]byte(asked[b]))
	if err != nil {
		t.Fatal(err)
	}
	name := transaction.Name(m.(*sip.Request))
	from := b.proxy.pool.plain.Flow(netip.MustParseAddrPort(b.pbx.LocalAddr().String()))
	foreign := func(when string, want bool) {
		t.Helper()
		if got := b.proxy.IsForeign(from, m); got != want {
			t.Errorf("%s: foreign is %v", when, got)
		}
	}
	foreign("nobody has begun with it", false)
	b.proxy.Leave(name + "1")
	foreign("somebody has with another", false)
	b.proxy.Leave(name)
	foreign("somebody has", true)
	b.proxy.left.until = time.Now().Add(-time.Second)
	foreign("it is not repeated any more", false)
}

// What is for a trunk is for the process before while that alone may have a connection.
func TestTrunkIsForeign(t *testing.T) {
	b, at := newTrunkBench(t, nil)
	bar := b.proxy.trunks["bar"]
	from := bar.pool.plain.Flow(netip.MustParseAddrPort(b.pbx.LocalAddr().String()))
	foreign := func(want bool) {
		t.Helper()
		for _, method := range []string{"INVITE", "OPTIONS"} {
			m, err := sip.ParseMessage([]byte(b.fromBranch(at, method, "200", "c1", 1, "", "")))
			if err != nil {
				t.Fatal(err)
			}
			if got := b.proxy.IsForeign(from, m); got != want {
				t.Errorf("%s: foreign is %v", method, got)
			}
		}
	}
	far := b.trunk()
	foreign(false)
	b.far.ln.Close()
	far.conn.Close()
	until(t, "the trunk to be down", func() bool { return !bar.far.State().Up })
	foreign(true)
}

// phoneFlow is the connection of a phone that has registered.
func (b *bench) phoneFlow(token string) *flow.Flow {
	return b.proxy.bindings.get(token).flow
}

// What is under way on a connection keeps it from being closed.
func TestIsIdle(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	f := b.phoneFlow(b.register(p))
	idle := func(what string, want bool) {
		t.Helper()
		until(t, fmt.Sprintf("idle to be %v: %s", want, what), func() bool { return b.proxy.isIdle(f) == want && b.proxy.Idle()(f) == want })
	}
	idle("registered", true)
	p.send(p.request("OPTIONS", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>", "o1", 1, ""))
	asked := b.atPBX("OPTIONS")
	idle("a request waits for its answer", false)
	b.fromPBX(reply(asked, 200, "pbx", ""))
	p.next("200")
	idle("it has it", true)
	p.send(p.request("INVITE", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>", "c1", 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	idle("a call rings", false)
	b.fromPBX(reply(inv, 486, "pbx", ""))
	p.next("486")
	idle("it was refused, and the phone may ask again", false)
	b.noCallLeft()
}

// A PBX that was down when another process followed is asked until it is back: the phones
// that are left here speak to it. After that it is asked no more.
func TestDownPBXComesBack(t *testing.T) {
	b := newBenchWith(t, media.Defaults().Silence, func(c *Config) { c.CheckInterval = time.Second })
	p, at := b.phone(), b.proxy.pool.all()[0]
	at.mu.Lock()
	at.checks.down = true
	at.mu.Unlock()
	b.proxy.Yield()
	for range upAfter {
		b.fromPBX(reply(b.atPBX("OPTIONS"), 200, "pbx", ""))
	}
	until(t, "the PBX to be up", func() bool { return !at.isDown() })
	b.register(p)
	if m, err := b.heard(time.Now().Add(2 * time.Second)); err == nil {
		t.Errorf("it is asked on: %s", m.start)
	}
}

// However many calls there are, to look at all connections goes through them once.
func TestIdleOfMany(t *testing.T) {
	b := newBench(t)
	const many = 4000
	flows := make([]*flow.Flow, many)
	for i := range flows {
		flows[i] = new(flow.Flow)
		c := &call{caller: flow.Secure, callerAt: &leg{flow: flows[i]}, calleeAt: &leg{}}
		b.proxy.calls.add(c)
		defer b.proxy.calls.remove(c)
	}
	if n := testing.AllocsPerRun(1, func() {
		idle := b.proxy.Idle()
		for i, f := range flows {
			if idle(f) {
				t.Fatalf("connection %d, which has a call, is idle", i)
			}
		}
	}); n > 3*many {
		t.Errorf("%v allocations for %d calls", n, many)
	}
}

// A trunk's far end is told when another process follows, on each connection; and an edge
// that is told so keeps the connection for what is there.
func TestTrunkTakesLeave(t *testing.T) {
	b, _ := newTrunkBench(t, nil)
	far := b.trunk()
	first := b.proxy.trunks["bar"].far.Flow()
	b.proxy.Yield()
	told := far.next("OPTIONS")
	if said := told.h.Get(flowHeader); said != flowLeaving || told.uri() != "sip:bar.example.com" {
		t.Errorf("%s says %q", told.start, said)
	}
	far.send(reply(told, 200, "bar", ""))

	far.send(far.request("OPTIONS", "sip:pbx.example.com", "<sip:pbx.example.com>", "o1", 1, "")) // as any
	far.next("200")
	if b.proxy.trunks["bar"].far.Flow() != first {
		t.Error("the connection is spared before its far end has asked for it")
	}
	far.send(far.request("OPTIONS", "sip:pbx.example.com", "<sip:pbx.example.com>", "o2", 1, "", flowHeader+": "+flowLeaving))
	far.next("200")
	b.trunk() // dialled in its place
	until(t, "new calls to spare the connection", func() bool { return b.proxy.trunks["bar"].far.Flow() != first })
	if first.Err() != nil {
		t.Errorf("the connection was closed: %v", first.Err())
	}
}
