package peers

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The addresses of every Lab. Namespaces keep them apart from the machine's.
const (
	EdgeOutside  = "203.0.113.7"
	EdgeOutside6 = "2001:db8:0:1::7"
	EdgeInside   = "10.0.0.1"
	EdgeInside6  = "fd00:0:0:1::1"
	PBXAddr      = "10.0.0.5"
	PBXAddr6     = "fd00:0:0:1::5"

	SecondPBXAddr = "10.0.1.5"
)

// Lab is a network of its own: phones on the outside segment, the edge, and
// the PBX on the inside segment. The edge forwards no packets between them.
type Lab struct {
	t      testing.TB
	name   string
	Dir    string // for files and logs of the test
	Edge   *Host
	PBX    *Host
	router *Host // the outside segment's switch
	phones int
	mu     sync.Mutex // guards logs
	logs   []*Process
	edges  []*Edge

	captures atomic.Int32 // so far: each has a file of its own
}

// Host is one namespace.
type Host struct {
	lab   *Lab
	Name  string // of the namespace
	Addr  netip.Addr
	Addr6 netip.Addr
	Dev   string // its interface
	port  string // of the outside segment's switch, that it is at
}

var labs atomic.Int32

// NewLab makes the network. It needs root.
func NewLab(t testing.TB) *Lab {
	t.Helper()
	l := newLab(t)
	l.router = l.host("out", netip.Addr{}, "br0")
	l.ip(l.router, "link add br0 type bridge", "link set br0 up")
	l.Edge = l.host("edge", netip.MustParseAddr(EdgeOutside), "outside")
	l.join(l.Edge, "203.0.113.7/24", "2001:db8:0:1::7/64")
	l.PBX = l.host("pbx", netip.MustParseAddr(PBXAddr), "inside")
	l.cable(l.Edge, l.PBX, "inside")
	for _, side := range []struct {
		h      *Host
		v4, v6 string
	}{{l.Edge, "10.0.0.1/24", "fd00:0:0:1::1/64"}, {l.PBX, "10.0.0.5/24", "fd00:0:0:1::5/64"}} {
		l.ip(side.h, "addr add "+side.v4+" dev inside", "addr add "+side.v6+" dev inside nodad", "link set inside up")
	}
	return l
}

// newLab makes a lab without a network.
func newLab(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the end-to-end tests make network namespaces: run them as root")
	}
	sweep()
	l := &Lab{t: t, name: fmt.Sprintf("sp%d-%d", os.Getpid(), labs.Add(1)), Dir: t.TempDir()}
	standing.add(l)
	t.Cleanup(l.tearDown)
	return l
}

// cable connects two hosts by devices of one name.
func (l *Lab) cable(a, b *Host, dev string) {
	l.t.Helper()
	run(l.t, "ip", "link", "add", dev, "netns", a.Name, "type", "veth", "peer", "name", dev, "netns", b.Name)
}

// SecondPBX adds a host of the inside, beside the PBX's and on a network of its own.
func (l *Lab) SecondPBX() *Host {
	l.t.Helper()
	h := l.host("pbx2", netip.MustParseAddr(SecondPBXAddr), "inside")
	run(l.t, "ip", "link", "add", "inside2", "netns", l.Edge.Name, "type", "veth", "peer", "name", "inside", "netns", h.Name)
	l.ip(l.Edge, "addr add 10.0.1.1/24 dev inside2", "link set inside2 up")
	l.ip(h, "addr add "+SecondPBXAddr+"/24 dev inside", "link set inside up", "route add default via 10.0.1.1")
	return h
}

// Within has what fails fail a subtest of the lab's own test, until that ends.
func (l *Lab) Within(t testing.TB) {
	outer := l.t
	l.t = t
	t.Cleanup(func() { l.t = outer })
}

// Phone adds a host to the outside segment.
func (l *Lab) Phone(name string) *Host {
	l.t.Helper()
	l.phones++
	n := 10 + l.phones
	h := l.host(name, netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}), "outside")
	h.Addr6 = netip.MustParseAddr(fmt.Sprintf("2001:db8:0:1::%d", n))
	l.join(h, h.Addr.String()+"/24", h.Addr6.String()+"/64")
	return h
}

// host makes a namespace with its loopback up.
func (l *Lab) host(name string, addr netip.Addr, dev string) *Host {
	l.t.Helper()
	h := &Host{lab: l, Name: l.name + "-" + name, Addr: addr, Dev: dev}
	run(l.t, "ip", "netns", "add", h.Name)
	l.ip(h, "link set lo up")
	return h
}

// join plugs a host into the outside segment.
func (l *Lab) join(h *Host, v4, v6 string) {
	l.t.Helper()
	port := "p" + strconv.Itoa(l.phones)
	h.port = port
	run(l.t, "ip", "link", "add", "outside", "netns", h.Name, "type", "veth", "peer", "name", port, "netns", l.router.Name)
	l.ip(l.router, "link set "+port+" master br0", "link set "+port+" up")
	l.ip(h, "addr add "+v4+" dev outside", "addr add "+v6+" dev outside nodad", "link set outside up", "route add default dev outside")
}

// Port is the switch of the outside segment, and its interface that all packets of a
// host pass.
func (h *Host) Port() (*Host, string) { return h.lab.router, h.port }

func (l *Lab) ip(h *Host, commands ...string) {
	l.t.Helper()
	for _, c := range commands {
		run(l.t, "ip", append([]string{"-n", h.Name}, strings.Fields(c)...)...)
	}
}

// faultLine is what an edge says of a panic that it survived.
const faultLine = "a message met a fault of sallyport itself"

func (l *Lab) tearDown() {
	all := l.processes()
	for i := len(all) - 1; i >= 0; i-- {
		all[i].Stop()
	}
	for _, p := range all {
		if b, _ := os.ReadFile(p.Log); bytes.Contains(b, []byte(faultLine)) {
			l.t.Errorf("%s met a fault of its own", p.Name)
		}
	}
	if l.t.Failed() {
		l.report()
	}
	l.removeNamespaces()
	standing.remove(l)
}

func (l *Lab) processes() []*Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.logs)
}

func (l *Lab) removeNamespaces() {
	for _, name := range namespaces() {
		if strings.HasPrefix(name, l.name+"-") {
			remove(name)
		}
	}
}

// report prints what is needed to see what went wrong.
func (l *Lab) report() {
	for _, e := range l.edges {
		if b, err := os.ReadFile(e.Log); err == nil {
			l.t.Logf("SIP as the edge on %s saw it:\n%s", e.host.Name, Ladder(b))
		}
	}
	for _, p := range l.processes() {
		b, err := os.ReadFile(p.Log)
		if err != nil {
			l.t.Logf("log of %s: %v", p.Name, err)
			continue
		}
		l.t.Logf("log of %s:\n%s", p.Name, tail(string(b), 200))
	}
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("… %d lines before", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}

// sweep removes namespaces that a killed test left behind.
func sweep() {
	for _, name := range namespaces() {
		pidText, _, ok := strings.Cut(strings.TrimPrefix(name, "sp"), "-")
		pid, err := strconv.Atoi(pidText)
		if !ok || err != nil || !strings.HasPrefix(name, "sp") {
			continue
		}
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			remove(name)
		}
	}
}

func namespaces() []string {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = filepath.Base(e.Name())
	}
	return names
}

func remove(namespace string) {
	_ = exec.Command("ip", "netns", "del", namespace).Run()
	_ = os.RemoveAll(etcOf(namespace))
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("run %s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// Until waits for a condition, and fails the test with what was awaited if it
// does not hold in time.
func Until(t testing.TB, timeout time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", timeout, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Meanwhile begins what a test does beside what follows. What is returned waits for its
// end and returns what it did; if it has ended the test, so does that. It has ended
// before the test does, in any case.
func Meanwhile[T any](t testing.TB, do func() T) (wait func() T) {
	done := make(chan struct{})
	var result T
	ended := false
	go func() { // ends with what is done; waited for by the test's end
		defer close(done)
		result = do()
		ended = true
	}()
	t.Cleanup(func() { <-done })
	return func() T {
		t.Helper()
		<-done
		if !ended {
			t.FailNow()
		}
		return result
	}
}
