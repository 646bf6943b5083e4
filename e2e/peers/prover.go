package peers

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Prover is a run of `sallyport prove`.
type Prover struct {
	*Process
	lab *Lab
}

// Proof is what one ends with.
type Proof struct {
	Exit      int `json:"-"`
	Interface string
	From, To  time.Time
	Verdict   string
	Reasons   []string
	Packets   int
	Dropped   int
	Kinds     []ProofRow
	Leaks     []ProofLeak
	Text      string `json:"-"` // all of it, as it was printed
}

// ProofRow is a line of its table.
type ProofRow struct {
	Kind, Group, Direction   string
	Packets, Bytes, Verified int
}

// ProofLeak is what it found in clear.
type ProofLeak struct {
	Kind, Direction, Transport, First string
	Source, Destination               netip.AddrPort
	Packets                           int
}

// StartProver watches an interface of a host, and returns when nothing is missed any
// more.
func StartProver(e *Edge, h *Host, dev string, args ...string) *Prover {
	l := e.lab
	l.t.Helper()
	p := &Prover{lab: l}
	cmd := e.commandAt(h, append([]string{"prove", "-json", "-for", "0", "-interface", dev}, args...)...)
	p.Process = l.start("prove", cmd)
	p.WaitLog("watching "+dev, 10*time.Second)
	return p
}

// Proof ends the watch as Ctrl-C does, and returns what it proved.
func (p *Prover) Proof() Proof {
	p.lab.t.Helper()
	p.ending.Store(true)
	p.Signal(syscall.SIGINT)
	exit, err := p.Wait(30 * time.Second)
	if err != nil {
		p.lab.t.Fatal(err)
	}
	text, err := os.ReadFile(p.Log)
	if err != nil {
		p.lab.t.Fatal(err)
	}
	proof := Proof{Exit: exit, Text: string(text)}
	_, object, _ := bytes.Cut(text, []byte("\n")) // behind the line that says what is watched
	if err := json.Unmarshal(object, &proof); err != nil {
		p.lab.t.Fatalf("read what was proved: %v\n%s", err, text)
	}
	return proof
}

// Of sums up the packets of a kind, both ways, and those that were verified.
func (p Proof) Of(kind string) (packets, verified int) {
	for _, r := range p.Kinds {
		if r.Kind == kind {
			packets, verified = packets+r.Packets, verified+r.Verified
		}
	}
	return packets, verified
}

// Group sums up the packets of a group.
func (p Proof) Group(name string) (packets int) {
	for _, r := range p.Kinds {
		if r.Group == name {
			packets += r.Packets
		}
	}
	return packets
}

// SendUDP sends a datagram from any port of a host.
func SendUDP(t testing.TB, h *Host, to netip.AddrPort, p []byte) { send(t, h, "udp4", to, p) }

// SendTCP connects, and sends bytes and nothing else. It waits for the other end to
// hang up.
func SendTCP(t testing.TB, h *Host, to netip.AddrPort, p []byte) { send(t, h, "tcp4", to, p) }

func send(t testing.TB, h *Host, network string, to netip.AddrPort, p []byte) {
	t.Helper()
	err := h.Do(func() error {
		c, err := net.DialTimeout(network, to.String(), 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err = c.Write(p); err == nil && network == "tcp4" {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, _ = io.Copy(io.Discard, c)
		}
		return err
	})
	if err != nil {
		t.Fatalf("send to %s: %v", to, err)
	}
}

// SendSuper sends datagrams of a size in one packet, for the kernel to part (UDP_SEGMENT).
func SendSuper(t testing.TB, h *Host, to netip.AddrPort, p []byte, each int) {
	t.Helper()
	err := h.Do(func() error {
		c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, each) }); e != nil || err != nil {
			return errors.Join(e, err)
		}
		_, err = c.Write(p)
		return err
	})
	if err != nil {
		t.Fatalf("send a super-packet to %s: %v", to, err)
	}
}
