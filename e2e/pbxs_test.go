package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// pair is an office with two PBXs that know the same users. The edge deals the
// users to both.
type pair struct {
	*office
	other *peers.Asterisk
}

func newPair(o *office, c peers.AsteriskConfig) *pair {
	o.t.Helper()
	p := &pair{office: o}
	c.On = o.SecondPBX()
	p.other = peers.StartAsterisk(o.Lab, c)
	o.edge = peers.StartEdge(o.Lab, peers.EdgeConfig{
		PBXs:  fmt.Sprintf(`["%s priority=1", "%s priority=1"]`, peers.PBXAddr, peers.SecondPBXAddr),
		Extra: "[sip]\nrefresh_interval = \"1h\"\n",
	})
	return p
}

// at registers two users of each PBX: those of the lab's own first.
func (p *pair) at() (own, others []*peers.Phone) {
	p.t.Helper()
	for user := 1001; len(own) < 2 || len(others) < 2; user++ {
		if user > 1020 {
			p.t.Fatal("of twenty users not two are at each PBX")
		}
		phone := p.registered(strconv.Itoa(user))
		switch {
		case p.pbx.Contact(phone.User) != "":
			own = append(own, phone)
		case p.other.Contact(phone.User) != "":
			others = append(others, phone)
		default:
			p.t.Fatalf("user %d is registered nowhere", user)
		}
	}
	return own, others
}

// up waits until the edge takes a PBX for up, or down.
func (o *office) up(addr string, up float64) {
	o.t.Helper()
	peers.Until(o.t, 20*time.Second, fmt.Sprintf("the edge to see %s as %v", addr, up), func() bool {
		return o.edge.Metric(fmt.Sprintf(`sallyport_pbx_up{pbx="%s:5060"}`, addr)) == up
	})
}

// passed is when an INVITE passed the edge next, one way, by its own clock: what a busy
// machine does to the others is not the edge's.
func (o *office) passed(after time.Time, way string) time.Time {
	o.t.Helper()
	line := regexp.MustCompile(`"time":"([^"]+)","level":"DEBUG","msg":"sip",` + way + `[^{]*"start":"INVITE `)
	for _, m := range line.FindAllStringSubmatch(o.edgeLog(), -1) {
		if at, err := time.Parse(time.RFC3339Nano, m[1]); err == nil && at.After(after) {
			return at
		}
	}
	o.t.Fatalf("no INVITE passed: %s", way)
	return time.Time{}
}

// One of two PBXs is killed: the next call of its users is taken by the other in
// under two seconds, as are their registrations, and calls there notice nothing.
// When it is back its users are.
func TestPbxFailover(t *testing.T) {
	for _, version := range []int{16, 22} {
		t.Run(fmt.Sprintf("Asterisk %d", version), func(t *testing.T) {
			t.Parallel()
			c := peers.AsteriskConfig{Version: version}
			l := peers.NewLab(t)
			p := newPair(&office{Lab: l, t: t, pbx: peers.StartAsterisk(l, c)}, c)
			p.failsOver()
		})
	}
}

func (p *pair) failsOver() {
	t := p.t
	own, others := p.at()
	anna, cara, ben, dora := own[0], own[1], others[0], others[1]
	lost, kept := anna.NewMedia(suite), ben.NewMedia(suite)
	gone := p.echo(anna, lost, 700)
	lost.Hears(700, 10*time.Second)
	stays := p.echo(ben, kept, 900)
	kept.Hears(900, 10*time.Second)
	if n := p.pbx.Channels(); n != 1 {
		t.Fatalf("the PBX that is to be killed has %d channels", n)
	}

	p.pbx.Kill()
	begun := time.Now()
	media := cara.NewMedia(suite)
	next := p.echo(cara, media, 1100)
	took := p.passed(begun, `"side":"plain","dir":"out","peer":"`+peers.SecondPBXAddr).Sub(p.passed(begun, `"side":"secure","dir":"in"`))
	if t.Logf("the next call came to the other PBX after %s", took); took > 2*time.Second {
		t.Errorf("the next call came to the other PBX after %s", took)
	}
	media.Hears(1100, 10*time.Second)
	p.speaks(kept, 1300)
	p.up(peers.PBXAddr, 0)
	if m := gone.Request("BYE", ""); m.Status() != 200 { // with nobody there to take it
		t.Errorf("BYE of the call that is lost was answered %s", m.Start)
	}
	lost.Stop()
	p.bye(next, media)

	p.reregister(cara, p.other)
	called := cara.NewMedia(suite)
	a := dora.NewMedia(suite)
	d := p.connect(dora, cara, a, called)
	hear(a, called)
	p.bye(d, a)
	p.hungUp(cara, called)
	p.speaks(kept, 1500)
	p.bye(stays, kept)

	p.pbx.Start()
	p.up(peers.PBXAddr, 1)
	p.reregister(cara, p.pbx)
	media = cara.NewMedia(suite)
	d = p.echo(cara, media, 700)
	media.Hears(700, 10*time.Second)
	if n := p.pbx.Channels(); n != 1 {
		t.Errorf("the PBX that is back has %d channels", n)
	}
	p.bye(d, media)

	// One that hangs and wakes up again has no call that it was asked for meanwhile.
	p.pbx.Signal(syscall.SIGSTOP)
	media = cara.NewMedia(suite)
	d = p.echo(cara, media, 1100)
	media.Hears(1100, 10*time.Second)
	p.pbx.Signal(syscall.SIGCONT)
	p.up(peers.PBXAddr, 1)
	p.bye(d, media)
	p.idle()
	peers.Until(t, 10*time.Second, "the other PBX to have no channel", func() bool { return p.other.Channels() == 0 })
}

func (p *pair) reregister(phone *peers.Phone, at *peers.Asterisk) {
	p.t.Helper()
	if m := phone.Register("secret-"+phone.User, 600, ""); m.Status() != 200 {
		p.t.Fatalf("registering again was answered %s", m.Start)
	}
	if at.Contact(phone.User) == "" {
		p.t.Fatalf("%s is not registered where it should be", phone.User)
	}
}

// Without a PBX callers are told at once, and when to come again; with it back all
// is well again.
func TestPbxDown(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		anna := o.registered("1001")
		media := anna.NewMedia(suite)
		d := o.echo(anna, media, 700)
		media.Hears(700, 10*time.Second)
		o.pbx.Kill()
		o.up(peers.PBXAddr, 0)
		begun := time.Now()
		_, m := anna.Invite("600", anna.NewMedia(suite).Offer())
		o.refusedFor(m, begun)
		begun = time.Now()
		o.refusedFor(anna.Register("secret-1001", 600, ""), begun)
		if m := d.Request("BYE", ""); m.Status() != 200 {
			o.t.Errorf("BYE was answered %s", m.Start)
		}
		media.Stop()
		o.pbx.Start()
		o.up(peers.PBXAddr, 1)
		if m := anna.Register("secret-1001", 600, ""); m.Status() != 200 {
			o.t.Fatalf("registering again was answered %s", m.Start)
		}
		media = anna.NewMedia(suite)
		d = o.echo(anna, media, 900)
		media.Hears(900, 10*time.Second)
		o.hangUp(d, media)
	})
}

// refusedFor checks an answer of an edge that has no PBX. None waits for one: a
// transaction's timeout is half a minute.
func (o *office) refusedFor(m *peers.Message, begun time.Time) {
	o.t.Helper()
	if m.Status() != 503 || m.Get("Retry-After") == "" || time.Since(begun) > 5*time.Second {
		o.t.Errorf("without a PBX the answer is %s, Retry-After %q, after %s", m.Start, m.Get("Retry-After"), time.Since(begun))
	}
}
