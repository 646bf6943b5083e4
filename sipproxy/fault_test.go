package sipproxy

import (
	"errors"
	"os"
	"testing"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// A message that meets a fault of ours ends the connection that it came by, or is lost if
// it is the PBX's; no other call hears of it, and no lock is left held.
func TestFaultEndsItsConnection(t *testing.T) {
	b := newBench(t)
	struck, other := b.phone(), b.phone()
	first := b.callOut(struck, "c1")
	c := b.proxy.calls.list()[0]
	b.callOut(other, "c2")
	media := c.media
	set := func(n *negotiation) {
		c.mu.Lock() // or it is held still
		defer c.mu.Unlock()
		c.media = n
	}
	set(nil) // no message can do so; but there must be a fault
	struck.send(struck.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, secureSDP, contact))
	_ = struck.conn.SetReadDeadline(soon())
	if m, err := readText(struck.r); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is not closed: %v, %v", m, err)
	}
	b.fromPBX(b.inDialog("INVITE", first, 7, plainSDP))
	for b.proxy.Stats().Faults < 2 {
		other.send(other.request("OPTIONS", "sip:602@pbx.example.com", to602+";tag=pbx", "c2", other.n, "", contact))
		b.fromPBX(reply(b.atPBX("OPTIONS"), 200, "pbx", ""))
		other.next("200")
	}
	set(media)
	b.faults = 2
	for _, d := range c.dialogs {
		if d.leg(flow.Secure).flow.Err() == nil {
			t.Error("the connection is not closed")
		}
	}
	b.callOut(b.phone(), "c3")
}
