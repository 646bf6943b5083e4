package bench

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

var pbxMedia = netip.AddrPortFrom(netip.MustParseAddr(peers.PBXAddr), 30000)

// sipPlan is how much of signalling is measured.
type sipPlan struct {
	rounds int
	lines  int           // phones that register and call
	window time.Duration // of each load
	paced  time.Duration // of calls at half load: for a percentile
	fresh  int           // new connections at a time
	storm  int           // phones that come at once
	idle   int           // connections that say nothing
	settle time.Duration // before memory is read
}

func sipPlans(quick bool) sipPlan {
	if quick {
		return sipPlan{rounds: 1, lines: 16, window: time.Second, paced: 1500 * time.Millisecond, fresh: 8, storm: 200, idle: 200, settle: time.Second}
	}
	rounds, err := strconv.Atoi(os.Getenv("BENCH_ROUNDS"))
	if err != nil {
		rounds = 3
	}
	return sipPlan{rounds: rounds, lines: 64, window: 3 * time.Second, paced: 6 * time.Second, fresh: 16, storm: 5000, idle: 2000, settle: 10 * time.Second}
}

// proxy is what is measured: a running one.
type proxy interface {
	Running() bool
	FamilyBusy() (time.Duration, error)
	FamilyMemory() (int, error)
	Kill()
}

// sipBench is one run.
type sipBench struct {
	t      *testing.T
	plan   sipPlan
	lab    *peers.Lab
	phones *peers.Host
	dialer *peers.Dialer
	tls    *tls.Config
	cert   string
	key    string
	report *sipReport
	users  int // that there were
}

// sipSystem is one of those compared.
type sipSystem struct {
	name  string
	start func(*sipBench) proxy
}

var sipSystems = []sipSystem{
	{edgeName, (*sipBench).sallyport},
	{"Kamailio", func(b *sipBench) proxy { return b.kamailio(children) }},
	{"Kamailio, 1 reader", func(b *sipBench) proxy { return b.kamailio(1) }},
}

// edgeName is the one of them that must not fail.
const edgeName = "sallyport"

// openEdge lets the load in, which comes from one address and as fast as it can.
const openEdge = `[sip]
wss_listen = ":` + peers.WSSPort + `"
max_requests_in_all = 262144
[policy]
max_connections_per_address = 0
new_connections_per_second = 0
[log]
level = "warn"
`

func (b *sipBench) sallyport() proxy {
	return peers.StartEdge(b.lab, peers.EdgeConfig{PBX: peers.Unchecked, Extra: openEdge})
}

// children are as many processes of each kind as people have for two cores. But with more than
// one that reads TLS, Kamailio 5.6 crashes on OpenSSL 3, which Debian 12 has
// (github.com/kamailio/kamailio/issues/3791): so it is also measured with one.
const children = 4

func (b *sipBench) kamailio(readers int) proxy {
	return peers.StartKamailio(b.lab, peers.KamailioConfig{Children: children, Readers: readers, Shared: 2048, CertFile: b.cert, KeyFile: b.key, WebSocket: true})
}

func TestSIP(t *testing.T) {
	b := &sipBench{t: t, plan: sipPlans(os.Getenv("BENCH_QUICK") != ""), lab: peers.NewLab(t), report: newSIPReport()}
	b.phones = b.lab.Phone("phones")
	b.dialer = b.phones.Dialer()
	r, err := startResponder(b.lab, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	b.phones.Run(t, "ip", "route", "add", "10.0.0.0/24", "via", peers.EdgeOutside) // for who asks the PBX itself
	b.lab.PBX.Run(t, "ip", "route", "add", "203.0.113.0/24", "via", peers.EdgeInside)

	edge := peers.StartEdge(b.lab, peers.EdgeConfig{PBX: peers.Unchecked, Extra: openEdge}) // makes the certificate that both have
	b.cert = edge.CAFile()
	b.key = filepath.Join(filepath.Dir(b.cert), "self-signed.key")
	b.tls = peers.PhoneTrust(b.lab, b.cert)
	edge.Kill()

	for range b.plan.rounds {
		b.round()
	}
	b.report.write(t)
}

// round measures everything once, of one system after the other.
func (b *sipBench) round() {
	calls := make(map[string]float64)
	for _, sys := range sipSystems {
		b.with(sys, "registrations and calls", func(p proxy) { calls[sys.name] = b.established(sys.name, p) })
	}
	half := calls[edgeName] / 2
	for _, n := range calls {
		if n > 0 {
			half = min(half, n/2)
		}
	}
	if half > 0 {
		b.direct(half)
		for _, sys := range sipSystems {
			b.with(sys, "calls at half load", func(p proxy) { b.halfLoad(sys.name, p, half) })
		}
	}
	for _, sys := range sipSystems {
		b.with(sys, "new connections", func(p proxy) { b.fresh(sys.name, p) })
	}
	for _, sys := range sipSystems {
		b.with(sys, "storm", func(p proxy) { b.storm(sys.name) })
	}
	for _, transport := range []string{"TLS", "WSS"} {
		for _, sys := range sipSystems {
			b.with(sys, "idle "+transport, func(p proxy) { b.idle(sys.name, p, transport) })
		}
	}
}

// with runs a system for one measurement, and notes if it did not survive that.
func (b *sipBench) with(sys sipSystem, what string, measure func(proxy)) {
	p := sys.start(b)
	time.Sleep(300 * time.Millisecond) // not to wait for a condition: it is to be idle
	measure(p)
	if k, is := p.(*peers.Kamailio); is {
		if said := k.Crash(); said != "" {
			b.report.crash(b.t, sys.name, what+": "+said)
		}
	} else if !p.Running() {
		b.t.Errorf("%s ended in: %s", sys.name, what)
	}
	p.Kill()
}

var (
	outsideTLS = netip.MustParseAddrPort(peers.EdgeOutside + ":5061")
	outsideWSS = netip.MustParseAddrPort(peers.EdgeOutside + ":" + peers.WSSPort)
	pbxUDP     = netip.MustParseAddrPort(peers.PBXAddr + ":5060")
)

// connect brings a phone.
func (b *sipBench) connect(transport, user string) (*line, error) {
	var conn net.Conn
	var err error
	switch transport {
	case "UDP":
		conn, err = b.dialer.Dial("udp", pbxUDP)
	case "TLS":
		conn, err = b.dialer.TLS(outsideTLS, b.tls)
	default:
		var secured *tls.Conn
		if secured, err = b.dialer.TLS(outsideWSS, b.tls); err == nil {
			conn, err = b.dialer.WebSocket(secured)
		}
	}
	if err != nil {
		return nil, err
	}
	return newLine(conn, transport, user), nil
}

// phonesOn brings n phones that are registered.
func (b *sipBench) phonesOn(transport string, n int) ([]*line, error) {
	lines, first := make([]*line, n), b.names(n)
	return lines, few(n, 16, func(i int) (err error) {
		if lines[i], err = b.connect(transport, user(first+i)); err == nil {
			err = lines[i].register()
		}
		return err
	})
}

// names gives n users that there were not before.
func (b *sipBench) names(n int) int {
	b.users += n
	return b.users - n
}

func user(n int) string { return strconv.Itoa(100000 + n) }

func hangUp(lines []*line) {
	for _, l := range lines {
		if l != nil {
			l.conn.Close()
		}
	}
}

// cost has a load run, and returns the processor time that the proxy used for each.
func (b *sipBench) cost(p proxy, load func() tally) (tally, float64) {
	before, err := p.FamilyBusy()
	t := load()
	after, err2 := p.FamilyBusy()
	if err != nil || err2 != nil || t.done == 0 {
		return t, 0
	}
	return t, (after - before).Seconds() * 1e6 / float64(t.done)
}

// established measures registrations and calls over connections that there are, and
// returns the calls a second.
func (b *sipBench) established(name string, p proxy) float64 {
	lines, err := b.phonesOn("TLS", b.plan.lines)
	defer hangUp(lines)
	if err != nil {
		b.report.fault(b.t, name, "connect phones", 1, err)
		return 0
	}
	for _, what := range []struct {
		rate, cpu string
		op        func(l *line) (time.Duration, error)
	}{
		{registrations, cpuRegistration, func(l *line) (time.Duration, error) { return 0, l.register() }},
		{calls, cpuCall, (*line).call},
	} {
		op := func(i int) (time.Duration, error) { return what.op(lines[i]) }
		crowd(len(lines), b.plan.window/6, op) // to be warm
		t, cpu := b.cost(p, func() tally { return crowd(len(lines), b.plan.window, op) })
		if b.report.fault(b.t, name, what.rate, t.failed, t.first); t.failed > 0 {
			return 0
		}
		b.report.add(b.t, name, what.rate, t.rate())
		b.report.add(b.t, name, what.cpu, cpu)
		if what.rate == calls {
			return t.rate()
		}
	}
	return 0
}

// halfLoad measures how long a call's setup takes.
func (b *sipBench) halfLoad(name string, p proxy, rate float64) {
	lines, err := b.phonesOn("TLS", b.plan.lines)
	defer hangUp(lines)
	if err != nil {
		b.report.fault(b.t, name, "connect phones", 1, err)
		return
	}
	t, cpu := b.cost(p, func() tally { return b.setups(lines, rate) })
	if b.report.setup(b.t, name, t, rate); t.failed == 0 {
		b.report.add(b.t, name, cpuHalf, cpu)
	}
}

func (b *sipBench) setups(lines []*line, rate float64) tally {
	return paced(len(lines), rate, b.plan.paced, func(i int) (time.Duration, error) { return lines[i].call() })
}

// direct measures the same without a proxy.
func (b *sipBench) direct(rate float64) {
	b.lab.Edge.Run(b.t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	defer b.lab.Edge.Run(b.t, "sysctl", "-qw", "net.ipv4.ip_forward=0")
	lines := make([]*line, b.plan.lines)
	defer hangUp(lines)
	for i := range lines {
		var err error
		if lines[i], err = b.connect("UDP", user(b.names(1))); err != nil {
			b.t.Fatal(err)
		}
	}
	b.report.setup(b.t, nobody, b.setups(lines, rate), rate)
}

// fresh measures connections that are made, register, and are closed.
func (b *sipBench) fresh(name string, p proxy) {
	first := b.names(b.plan.fresh)
	t, cpu := b.cost(p, func() tally {
		return crowd(b.plan.fresh, b.plan.window, func(i int) (time.Duration, error) { return 0, b.come(user(first + i)) })
	})
	b.report.fault(b.t, name, connectionsMade, t.failed, t.first)
	if t.failed == 0 {
		b.report.add(b.t, name, connectionsMade, t.rate())
		b.report.add(b.t, name, cpuConnection, cpu)
	}
}

func (b *sipBench) come(user string) error {
	l, err := b.connect("TLS", user)
	if err != nil {
		return err
	}
	defer l.conn.Close()
	return l.register()
}

// storm has all phones come at once.
func (b *sipBench) storm(name string) {
	lines, first := make([]*line, b.plan.storm), b.names(b.plan.storm)
	defer hangUp(lines)
	t := storm(len(lines), func(i int) (err error) {
		if lines[i], err = b.connect("TLS", user(first+i)); err == nil {
			err = lines[i].register()
		}
		return err
	})
	b.report.fault(b.t, name, stormTime, t.failed, t.first)
	b.report.add(b.t, name, stormFailed, float64(t.failed))
	if t.failed == 0 {
		b.report.add(b.t, name, stormTime, t.took.Seconds())
	}
}

// idle measures what connections hold whose phones have registered.
func (b *sipBench) idle(name string, p proxy, transport string) {
	warm, err := b.phonesOn(transport, 20)
	defer hangUp(warm)
	if err != nil {
		b.report.fault(b.t, name, "idle "+transport, 1, err)
		return
	}
	time.Sleep(b.plan.settle)
	before, err := p.FamilyMemory()
	if err != nil {
		b.t.Fatal(err)
	}
	lines, err := b.phonesOn(transport, b.plan.idle)
	defer hangUp(lines)
	if err != nil {
		b.report.fault(b.t, name, "idle "+transport, 1, err)
		return
	}
	time.Sleep(b.plan.settle)
	after, err := p.FamilyMemory()
	if err != nil {
		b.t.Fatal(err)
	}
	b.report.add(b.t, name, fmt.Sprintf("idle_%s_bytes", transport), float64(after-before)/float64(len(lines)))
}
