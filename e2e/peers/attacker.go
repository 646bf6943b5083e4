package peers

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Attacker is a host of the outside segment that writes any source address
// into its packets.
type Attacker struct {
	*Host
	fd      int
	capture *Capture
}

// StartAttacker adds one, and records what reaches it.
func StartAttacker(l *Lab) *Attacker {
	l.t.Helper()
	a := &Attacker{Host: l.Phone("attacker")}
	err := a.Do(func() (err error) {
		a.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		l.t.Fatalf("open raw socket: %v", err)
	}
	l.t.Cleanup(func() { _ = unix.Close(a.fd) })
	a.capture = StartCapture(a.Host, "outside")
	return a
}

// Send sends one UDP packet as if it came from another address.
func (a *Attacker) Send(from, to netip.AddrPort, payload []byte) {
	b := make([]byte, 28, 28+len(payload))
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP // the kernel fills in length and checksum
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	_ = unix.Sendto(a.fd, append(b, payload...), 0, &unix.SockaddrInet4{Addr: dst})
}

// Spray sends what next makes, some thousand times a second, until stop is
// called or the test ends; that returns how many were sent.
func (a *Attacker) Spray(next func(i int) (from, to netip.AddrPort, payload []byte)) (stop func() int) {
	quit, done := make(chan struct{}), make(chan int)
	go func() { // ends with stop, which waits
		for i := 0; ; i++ {
			select {
			case <-quit:
				done <- i
				return
			default:
			}
			a.Send(next(i))
			if i%8 == 7 {
				time.Sleep(2 * time.Millisecond)
			}
		}
	}()
	stop = sync.OnceValue(func() int { close(quit); return <-done })
	a.lab.t.Cleanup(func() { stop() })
	return stop
}

// Got stops the recording, and counts the UDP packets that the edge sent here.
func (a *Attacker) Got() int {
	a.lab.t.Helper()
	a.capture.Stop()
	return a.capture.Count(fmt.Sprintf("udp && ip.src == %s && ip.dst == %s", EdgeOutside, a.Addr))
}

// Handshake connects by TLS, once, and tells whether that was done. It stays in
// the namespace of its caller.
func Handshake(address string) bool {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake() == nil
}
