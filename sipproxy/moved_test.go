package sipproxy

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// registersAs registers 1001 by a contact with these parameters.
func (b *bench) registersAs(p *phone, params string) {
	b.t.Helper()
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg-"+randomToken(4), 1, "", contact+params, "Expires: 600"))
	reg := b.atPBX("REGISTER")
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
	p.next("200")
}

// leaves closes a registered phone's connection, and waits until the edge knows.
func (b *bench) leaves(p *phone) {
	b.t.Helper()
	at := p.conn.LocalAddr().(*net.TCPAddr).AddrPort()
	b.proxy.bindings.mu.Lock()
	var left *flow.Flow
	for f := range b.proxy.bindings.byFlow {
		if f.Remote() == at {
			left = f
		}
	}
	b.proxy.bindings.mu.Unlock()
	p.conn.Close()
	select {
	case <-left.Done():
	case <-time.After(3 * time.Second):
		b.t.Fatal("the end of a connection was not noticed")
	}
}

// A phone that said which device it is, and registers by another connection, is spoken
// to by that in its calls and subscriptions: nobody knows yet whether the one of before
// is dead. If it is not, what the phone says there counts, and nobody else is heard.
func TestNetworkOfAPhoneIsGone(t *testing.T) {
	for name, params := range map[string]string{"instance": desk, "outbound": desk + ";reg-id=1"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p, again, stranger := b.phone(), b.phone(), b.phone()
			b.registersAs(p, params)
			inv := b.callOut(p, "c1")
			sub, _ := b.watch(p, "s1", 600)
			b.registersAs(again, params)

			b.fromPBX(b.inDialog("INFO", inv, 5, ""))
			again.send(reply(again.next("INFO"), 200, "", ""))
			b.atPBX("200")
			b.fromPBX(b.inside(sub, "NOTIFY", "pbx", 102, "", "Event: dialog", "Subscription-State: active"))
			again.send(reply(again.next("NOTIFY"), 200, "", ""))
			b.atPBX("200")

			for i, from := range []*phone{p, again, p} {
				from.send(from.request("INFO", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 10+i, ""))
				b.fromPBX(reply(b.atPBX("INFO"), 200, "", ""))
				from.next("200")
				from.send(from.request("SUBSCRIBE", "sip:1002@pbx.example.com", to1002+";tag=pbx", "s1", 10+i, "", contact, "Event: dialog", "Expires: 600"))
				b.fromPBX(reply(b.atPBX("SUBSCRIBE"), 200, "", "", "Expires: 600"))
				from.next("200")
			}
			stranger.send(stranger.request("INFO", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 20, ""))
			stranger.next("481")
			stranger.send(stranger.request("SUBSCRIBE", "sip:1002@pbx.example.com", to1002+";tag=pbx", "s1", 20, "", contact, "Event: dialog", "Expires: 0"))
			stranger.next("481")

			b.fromPBX(b.inDialog("BYE", inv, 6, ""))
			again.send(reply(again.next("BYE"), 200, "", ""))
			b.atPBX("200")
			b.noCallLeft()
		})
	}
}

// A BYE that was lost with a connection is sent again by the one by which the phone has
// registered meanwhile.
func TestPhoneOwedBye(t *testing.T) {
	for _, params := range []string{desk, ""} {
		b := newBench(t)
		p, again := b.phone(), b.phone()
		b.registersAs(p, params)
		inv := b.callOut(p, "c1")
		b.fromPBX(b.inDialog("BYE", inv, 6, ""))
		lost := p.next("BYE")
		b.registersAs(again, params)
		p.conn.Close()
		bye := again.next("BYE")
		if bye.h.Get("Cseq") != "6 BYE" || bye.h.Get("Via") == lost.h.Get("Via") {
			t.Errorf("the phone got %v", bye.h)
		}
		again.send(reply(bye, 200, "", ""))
		b.atPBX("200")
		b.noCallLeft()
	}
}

// A connection that is registered beside another keeps its calls. So does a phone that
// did not say which device it is: another at home may have the same contact.
func TestCallStaysWithItsConnection(t *testing.T) {
	for name, params := range map[string][2]string{"two connections": {desk + ";reg-id=1", desk + ";reg-id=2"}, "one contact": {}, "another device": {desk, strings.Replace(desk, "desk", "car", 1)}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p, other := b.phone(), b.phone()
			b.registersAs(p, params[0])
			inv := b.callOut(p, "c1")
			b.registersAs(other, params[1])
			b.fromPBX(b.inDialog("BYE", inv, 6, ""))
			p.send(reply(p.next("BYE"), 200, "", ""))
			b.atPBX("200")
			b.noCallLeft()
		})
	}
}
