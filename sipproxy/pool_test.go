package sipproxy

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/locate"
)

// nowhere is a plain side without a socket.
type nowhere map[netip.AddrPort]*flow.Flow

func (n nowhere) Flow(to netip.AddrPort) *flow.Flow {
	if n[to] == nil {
		n[to] = new(flow.Flow)
	}
	return n[to]
}

func (n nowhere) Expect([]netip.Addr) {}

func poolOf(h health, servers ...locate.Server) *pool {
	l := newPool(netip.AddrPort{}, h, slog.New(slog.DiscardHandler))
	l.plain = nowhere{}
	l.set(servers)
	return l
}

func server(n byte, priority, weight int) locate.Server {
	return locate.Server{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 5060), Priority: priority, Weight: weight}
}

// Users are dealt to PBXs of one priority by weight, always alike; when one is
// gone its own users move, and no others.
func TestUsersShareByWeight(t *testing.T) {
	l := poolOf(health{}, server(1, 0, 30), server(2, 0, 10), server(3, 0, 0), server(4, 1, 100))
	const users = 20_000
	home := make([]*pbx, users)
	count := make(map[*pbx]int)
	name := func(i int) string { return fmt.Sprintf("%d@pbx.example.com", 1000+i) }
	for i := range users {
		home[i] = l.rank(name(i), nil)[0]
		count[home[i]]++
		if again := l.rank(name(i), nil)[0]; again != home[i] {
			t.Fatalf("user %d is dealt to %s and then to %s", i, home[i].Addr, again.Addr)
		}
	}
	all := l.all()
	if share := float64(count[all[0]]) / users; share < 0.73 || share > 0.77 {
		t.Errorf("the PBX with three quarters of the weight has %.3f of the users", share)
	}
	if count[all[2]] > users/1000 || count[all[3]] > 0 {
		t.Errorf("that without weight has %d users, that of the second priority %d", count[all[2]], count[all[3]])
	}
	all[0].checks.down = true
	moved := 0
	for i := range users {
		if now := l.rank(name(i), nil)[0]; now != home[i] {
			moved++
			if home[i] != all[0] {
				t.Fatalf("user %d moved from %s, which is up", i, home[i].Addr)
			}
		}
	}
	if moved != count[all[0]] {
		t.Errorf("%d users moved, of %d", moved, count[all[0]])
	}
	all[1].checks.down, all[2].checks.down = true, true
	if up := l.rank("1001@x", nil); len(up) != 1 || up[0] != all[3] {
		t.Error("the second priority does not stand in for the first")
	}
	all[3].checks.down = true
	if up := l.rank("1001@x", nil); len(up) != 0 {
		t.Errorf("%d are up", len(up))
	}
}

// A user's calls go to where he is registered, as long as that is up.
func TestHomeComesFirst(t *testing.T) {
	l := poolOf(health{}, server(1, 0, 1), server(2, 1, 1))
	all := l.all()
	if up := l.rank("1001@x", all[1].flow); up[0] != all[1] || up[1] != all[0] {
		t.Error("he is asked for elsewhere first")
	}
	all[1].checks.down = true
	if up := l.rank("1001@x", all[1].flow); len(up) != 1 || up[0] != all[0] {
		t.Error("he is not asked for at the other one")
	}
}

// One that owes an answer is asked last, until a check has told more.
func TestSuspectComesLast(t *testing.T) {
	l := poolOf(health{interval: time.Minute}, server(1, 0, 1), server(2, 1, 1))
	all := l.all()
	l.suspect(all[0])
	if up := l.rank("1001@x", all[0].flow); len(up) != 2 || up[0] != all[1] {
		t.Error("it is asked first")
	}
}

// A new list keeps what is known of those that stay.
func TestPoolChanges(t *testing.T) {
	l := poolOf(health{}, server(1, 0, 1), server(2, 1, 1))
	l.all()[0].checks.down = true
	if l.set([]locate.Server{server(1, 0, 1), server(2, 1, 1)}) {
		t.Error("the same list is another")
	}
	if !l.set([]locate.Server{server(3, 0, 1), server(1, 0, 1)}) {
		t.Error("another list is the same")
	}
	if all := l.all(); all[0].isDown() || !all[1].isDown() {
		t.Error("what was known of those that stay is lost")
	}
	if !l.set([]locate.Server{server(3, 0, 1)}) {
		t.Error("a shorter list is the same")
	}
}

// expecting is a plain side that remembers from where it takes something.
type expecting struct {
	nowhere
	addrs []netip.Addr
}

func (e *expecting) Expect(addrs []netip.Addr) { e.addrs = addrs }

// Calls at a PBX that has moved go on, however often its name is looked up again; but not
// without end.
func TestFormerPBXsAreHeard(t *testing.T) {
	plain := &expecting{nowhere: nowhere{}}
	l := newPool(netip.AddrPort{}, health{}, slog.New(slog.DiscardHandler))
	l.plain = plain
	hears := func(n byte) bool { return slices.Contains(plain.addrs, server(n, 0, 1).Addr.Addr()) }
	for _, n := range []byte{1, 2, 2, 3, 2} {
		l.set([]locate.Server{server(n, 0, 1)})
	}
	if !hears(1) || !hears(2) || !hears(3) || hears(4) || len(plain.addrs) != 3 {
		t.Errorf("heard are %v", plain.addrs)
	}
	for n := range byte(2 * maxFormer) {
		l.set([]locate.Server{server(100+n, 0, 1), server(2, 0, 1)})
	}
	if hears(1) || !hears(2) || !hears(100+2*maxFormer-1) || !hears(100+maxFormer) || len(plain.addrs) != 2+maxFormer {
		t.Errorf("after many moves %d are heard: %v", len(plain.addrs), plain.addrs)
	}
}

// Another priority or weight makes no PBX another, and what a check of before says counts.
func TestReweighedPBX(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(10 * time.Second)
		p.status = 0
		if p.pass(time.Minute, true) < 0 {
			t.Fatal("it is up")
		}
		reweighed := server(1, 3, 7)
		if !p.set([]locate.Server{reweighed}) {
			t.Error("another weight is the same list")
		}
		p.at = p.all()[0]
		if p.at.Server != reweighed || !p.at.isDown() {
			t.Errorf("it is %+v, down = %v", p.at.Server, p.at.isDown())
		}
		p.status = 200
		if p.pass(10*time.Second, false) < 0 {
			t.Error("it stays down")
		}
	})
}

// probe stands for a PBX that is checked. It runs in a bubble.
type probe struct {
	*pool
	at     *pbx
	status int // that it answers with; 0: it does not
	sent   int
}

func (p *probe) Abandon() {}

func newProbe(interval time.Duration) *probe {
	p := &probe{status: 200}
	p.pool = poolOf(health{interval, func(b *pbx, on func(*sip.Response, error)) (check, error) {
		p.sent++
		if status := p.status; status != 0 {
			time.AfterFunc(time.Millisecond, func() { on(sip.NewResponse(status, "Because"), nil) })
		}
		return p, nil
	}}, server(1, 0, 1))
	p.at = p.all()[0]
	return p
}

// pass lets time pass as Run does, and tells how long it took until the PBX was
// up or down, or -1.
func (p *probe) pass(d time.Duration, until bool) time.Duration {
	for began := time.Now(); time.Since(began) < d; time.Sleep(patience / 4) {
		p.watch(time.Now())
		if p.at.isDown() == until {
			return time.Since(began)
		}
	}
	return -1
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(10 * time.Second)
		if p.pass(time.Minute, true) >= 0 || p.sent < 5 || p.sent > 7 {
			t.Fatalf("after a minute of answers it is down = %v, and was asked %d times", p.at.isDown(), p.sent)
		}
		p.status = 0
		if took := p.pass(20*time.Second, true); took < 0 || took > 13*time.Second {
			t.Fatalf("down after %s", took)
		}
		p.status = 404 // nobody is called sallyport there: it answers all the same
		if took := p.pass(10*time.Second, false); took < time.Second || took > 4*time.Second {
			t.Fatalf("up again after %s", took)
		}
		p.status = 503
		if p.pass(20*time.Second, true) < 0 {
			t.Fatal("a PBX that shuts down is up")
		}
		p.status = 200
		if p.pass(10*time.Second, false) < 0 {
			t.Fatal("it stays down")
		}
		p.pass(11*time.Second, true)

		p.status = 0 // a request that has no answer makes it quick
		p.suspect(p.at)
		if took := p.pass(10*time.Second, true); took < 0 || took > 2*time.Second {
			t.Fatalf("once suspect, down after %s", took)
		}
	})
}

// One that takes no OPTIONS, and else speaks, is there. One check that is lost
// means nothing.
func TestHealthByOtherWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(10 * time.Second)
		p.status = 0
		for range 120 {
			if p.hear(p.at.flow, time.Now()); p.pass(500*time.Millisecond, true) >= 0 {
				t.Fatal("a PBX that speaks is down")
			}
		}
		p.status = 200
		p.pass(15*time.Second, true)
		p.status = 0
		for sent := p.sent; p.sent == sent; {
			p.pass(patience/4, true)
		}
		p.status = 200
		if p.pass(20*time.Second, true) >= 0 {
			t.Fatal("one lost check made it down")
		}
	})
}

func TestNoChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(0)
		p.status = 0
		p.suspect(p.at)
		if p.pass(time.Minute, true) >= 0 || p.sent > 0 {
			t.Fatalf("it was asked %d times, and is down = %v", p.sent, p.at.isDown())
		}
	})
}
