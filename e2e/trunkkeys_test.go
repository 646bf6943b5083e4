package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// The keys of a call that lasts are replaced, in both directions, by each edge: not a
// packet is lost or of another sound, neither PBX hears of it, and what the enemy kept
// under the keys of before is worth nothing.
func TestTrunkRekey(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newTrunks(t, "rekey_packets = 1000\n")
	insides := []*peers.Capture{peers.StartCapture(s.Foo.Edge, "inside"), peers.StartCapture(s.Bar.Edge, "inside")}
	e := s.enemy(s.foo, s.bar)
	e.in.Forget()
	e.out.Forget()
	came, sent := [2]int{e.in.Came(), e.out.Came()}, [2]int{e.out.Sent(), e.in.Sent()}
	s.atFoo.WaitLog(`"msg":"keys replaced"`, 40*time.Second)
	s.atBar.WaitLog(`"msg":"keys replaced by the far end"`, 5*time.Second)
	peers.Until(t, 20*time.Second, "both ends to be heard under new keys", func() bool {
		return len(e.in.Samples()) > 1250*160 && len(e.out.Samples()) > 1250*160
	})
	for i, m := range []*peers.Media{e.in, e.out} {
		s.only(fmt.Sprintf("end %d", i), m, []float64{900, 1500}[i])
	}
	e.in.Silence(true)
	e.out.Silence(true)
	peers.Until(t, 5*time.Second, fmt.Sprintf("all packets to come, since %v had come of %v", came, sent), func() bool {
		return e.in.Came()-came[0] >= e.out.Sent()-sent[0] && e.out.Came()-came[1] >= e.in.Sent()-sent[1]
	})
	e.in.Silence(false)
	e.out.Silence(false)
	if in, out := e.replays(); in != 0 || out != 0 {
		t.Errorf("of what is sent again %d packets are heard by the callee, and %d by the caller", in, out)
	}
	s.hangUp(e.link)
	s.idle()
	for i, inside := range insides {
		inside.Stop()
		invites := inside.Fields(`sip.Method == "INVITE" && sip.to.tag`, []string{"sip.CSeq.seq"})
		if len(invites) > 0 {
			t.Errorf("PBX %d sees re-INVITEs: %v", i, invites)
		}
	}
}

// Two edges without a CA know each other by one line that is pasted, one of them behind
// a NAT. Without it, or with a line that was not for it, there is no trunk.
func TestTrunkPair(t *testing.T) {
	s := &trunks{branches: &branches{Sites: peers.NewSites(t, peers.SitesConfig{NAT: true}), t: t}}
	s.atFoo, s.atBar = s.Foo.StartEdge(peers.EdgeConfig{}), s.Bar.StartEdge(peers.EdgeConfig{})
	printed := s.atBar.Run("trunk", "pair", "foo", "-address", netip.AddrPortFrom(s.Bar.Public, 5061).String())
	line := regexp.MustCompile(`(?m)^sallyport (trunk join \S+)$`).FindStringSubmatch(printed)
	if line == nil {
		t.Fatalf("no line to paste in\n%s", printed)
	}
	stanza := regexp.MustCompile(`(?s)\[\[trunk\]\].*`)
	configure := func(e *peers.Edge, printed string) {
		e.Configure("\n" + stanza.FindString(printed))
		e.Stop()
	}
	configure(s.atBar, printed)
	s.atBar.Start()
	configure(s.atFoo, s.atFoo.Run(strings.Fields(line[1])...))
	s.atFoo.Start()
	s.up(s.atFoo, s.Bar, 1)
	s.up(s.atBar, s.Foo, 1)
	capture := s.Net.Capture("pair")
	s.start(func(own, _ *peers.Site) netip.AddrPort { return netip.AddrPortFrom(own.Inside, 5071) })
	s.atFoo.HasPBX()
	s.atBar.HasPBX()
	s.talk()
	s.idle()
	nothingInClear(t, capture, peers.Spoken(700), peers.Spoken(1300))

	s.atBar.Run("trunk", "pair", "foo", "-address", "203.0.113.1:5061") // and the line goes to nobody
	s.up(s.atBar, s.Foo, 0)
	s.up(s.atFoo, s.Bar, 0)
	s.atFoo.WaitLog(`sallyport trunk pair bar`, 10*time.Second)
	token := strings.Fields(line[1])[2]
	for _, e := range []*peers.Edge{s.atFoo, s.atBar} {
		if e.Logged(token[len(token)-20:]) {
			t.Error("the line is in a log")
		}
	}
}

// Who has not the right certificate is no trunk, whoever dials: of another name, of
// another CA. The edge says which it is, and calls are refused.
func TestTrunkWrongCertificate(t *testing.T) {
	s := newTrunks(t)
	good, others := s.ca.Pair(s.Bar.Domain, false), peers.NewIssuer(t)
	for _, c := range []struct {
		what, told string
		shown      peers.Pair
	}{
		{"another name", "is for .*eve.example.com.* and not for bar.example.com", s.ca.Pair("eve.example.com", false)},
		{"a wildcard", `is for ..\*\.example\.com`, s.ca.Pair("*.example.com", false)},
		{"another CA", "leads to none of", others.Pair(s.Bar.Domain, false)},
	} {
		t.Run(c.what, func(t *testing.T) {
			s.t = t
			s.atBar.Stop()
			s.up(s.atFoo, s.Bar, 0)
			s.ca.Become(s.certB, c.shown)
			capture := s.Net.Capture("wrong")
			s.atBar.Start()
			s.atFoo.WaitLog(c.told, 20*time.Second)                                                                      // who dials
			if _, m := s.bar.phone.Invite("9"+s.foo.phone.User, s.bar.phone.NewPlainMedia().Offer()); m.Status() < 400 { // who is dialled
				t.Errorf("a call by a trunk that is none was answered %s", m.Start)
			}
			if up := s.atFoo.Metric(`sallyport_trunk_up{trunk="bar"}`); up != 0 {
				t.Error("the trunk is up")
			}
			s.refusedCall()
			nothingInClear(t, capture)
		})
	}
	s.t = t
	s.atBar.Stop()
	s.ca.Become(s.certB, good)
	s.atBar.Start()
	s.up(s.atFoo, s.Bar, 1)
	s.reach()
	s.talk() // or all of it would show nothing
}
