package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A browser in a network that lets no UDP through calls by ICE-TCP (RFC 6544):
// tones both ways.
func TestIceTcpOnly(t *testing.T) { eachStack(t, (*office).callsByTCP) }

func (o *office) callsByTCP(b *peers.Browser) {
	o.t.Helper()
	o.dial(b, "602") // the control: with UDP, that is what it uses
	b.Hears(1004, 10*time.Second)
	if local, remote := b.Pair(); local.Protocol != "udp" || remote.Protocol != "udp" {
		o.t.Fatalf("the browser speaks %s to %s, want UDP", local.Protocol, remote.Protocol)
	}
	o.quit(b)

	b.Host.BlockUDP()
	outside, prover := peers.StartCapture(o.Edge, "outside"), peers.StartProver(o.edge, o.Edge, "outside")
	o.dial(b, "610")
	b.Hears(1004, 10*time.Second)
	if local, remote := b.Pair(); local.Protocol != "tcp" || remote.Protocol != "tcp" {
		o.t.Errorf("the browser speaks %s to %s, want TCP", local.Protocol, remote.Protocol)
	}
	o.pbxHeard(700)
	o.quit(b)
	outside.Stop()
	if proof := prover.Proof(); proof.Exit != 0 {
		o.t.Errorf("prove ended with status %d\n%s", proof.Exit, proof.Text)
	} else if packets, verified := proof.Of("media_tcp"); packets < 50 || verified != packets {
		o.t.Errorf("of %d packets of media by TCP %d were verified\n%s", packets, verified, proof.Text)
	}
	if n := outside.Count(fmt.Sprintf("udp && (ip.src == %s || ipv6.src == %s)", b.Host.Addr, b.Host.Addr6)); n != 0 {
		o.t.Errorf("%d UDP packets of the browser came through: the case shows nothing", n)
	}
	if b.Host.BlockedUDP() == 0 {
		o.t.Error("the browser sent no UDP that was blocked: the case shows nothing")
	}
}
