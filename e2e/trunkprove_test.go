package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// Of all that crosses between two branches in their calls each packet is accounted for,
// at both edges, with its tag verified under a live call's key; also while keys change.
// A call in clear beside them is found at once.
func TestProveClean(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newTrunks(t, "rekey_packets = 1000\n")
	edges := map[*peers.Site]*peers.Edge{s.Foo: s.atFoo, s.Bar: s.atBar}
	seen, provers := make(map[*peers.Site]*peers.Capture), make(map[*peers.Site]*peers.Prover)
	for site, e := range edges {
		seen[site], provers[site] = peers.StartCapture(site.Edge, "outside"), peers.StartProver(e, site.Edge, "outside")
	}
	s.talk()
	l := s.connect(s.foo, s.bar, 700, 1300)
	s.atFoo.WaitLog(`"msg":"keys replaced"`, 40*time.Second)
	hear(l.out, l.in)
	s.hangUp(l)
	s.idle()
	for site, prover := range provers {
		proof := prover.Proof()
		seen[site].Stop()
		isClean(t, proof, seen[site], site.Public)
		for _, kind := range []string{"tls", "srtp"} {
			if n, _ := proof.Of(kind); n == 0 {
				t.Errorf("at %s nothing of %s was seen:\n%s", site.Name, kind, proof.Text)
			}
		}
	}

	prover := peers.StartProver(s.atFoo, s.Foo.Edge, "outside")
	callee := peers.StartPlainSIPp(s.Bar.Edge, scenario(t, "answer.xml"), "", 7777, "-rtp_echo", "-m", "1")
	caller := peers.StartPlainSIPp(s.Foo.Edge, scenario(t, "plain.xml"), s.Bar.Public.String()+":7777", 8888, "-m", "1", "-timeout", "20s", "-timeout_error")
	if r := caller.Result(30 * time.Second); r.Successful != 1 {
		t.Fatalf("the plain call failed: %+v\n%s", r, caller.Complaint())
	}
	callee.Stop()
	proof := prover.Proof()
	if n, _ := leaks(proof, "rtp", s.Foo.Edge, s.Bar.Edge); proof.Exit != 1 || n < 20 {
		t.Errorf("of a call in clear %d packets are listed, and prove ends with status %d:\n%s", n, proof.Exit, proof.Text)
	}
}
