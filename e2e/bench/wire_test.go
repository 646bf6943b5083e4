package bench

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/e2e/peers"
)

// traffic is what crossed an interface, both ways.
type traffic struct{ packets, bytes int } // bytes from the IP header on

func (t traffic) since(before traffic) traffic {
	return traffic{t.packets - before.packets, t.bytes - before.bytes}
}

// crossed reads the counters of the wire.
func (b *bench) crossed() (t traffic) {
	if b.wire == nil {
		return t
	}
	b.t.Helper()
	var text []byte
	err := b.wire.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/dev")
		return err
	})
	if err != nil {
		b.t.Fatalf("read the counters of %s: %v", b.wire.Dev, err)
	}
	for line := range strings.Lines(string(text)) {
		name, counters, _ := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(counters) // received bytes, packets, six others; sent likewise
		if name != b.wire.Dev || len(f) < 16 {
			continue
		}
		for _, i := range []int{0, 8} {
			bytes, _ := strconv.Atoi(f[i])
			packets, _ := strconv.Atoi(f[i+1])
			t.packets += packets
			t.bytes += bytes - packets*etherLen
		}
		return t
	}
	b.t.Fatalf("read the counters of %s: %q", b.wire.Dev, text)
	return t
}

// watch opens the wire at both ends: each shows what arrives there.
type watch [ways]*tap

func openWatch(ends [ways]*peers.Host) (w watch, err error) {
	for i, h := range ends {
		if w[i], err = openTap(h); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w watch) close() {
	for _, t := range w {
		t.close()
	}
}

// seen counts the packets of the media that arrived, by their length from the IP header on,
// and whatever else did.
type seen struct {
	media  map[int]int
	others int
}

// read takes what the kernel has kept since openWatch.
func (w watch) read(isMedia func(port int, datagram []byte) bool) (seen, error) {
	s := seen{media: make(map[int]int)}
	for _, t := range w {
		for n := t.receive(); n > 0; n = t.receive() {
			for i := range n {
				s.add(t.frame(i), isMedia)
			}
		}
		if n, err := t.drops(); err != nil || n > 0 {
			return s, fmt.Errorf("watch the wire: %d packets were missed: %w", n, err)
		}
	}
	return s, nil
}

func (s *seen) add(frame []byte, isMedia func(port int, datagram []byte) bool) {
	if len(frame) > rtpAt && frame[etherLen] == 0x45 && frame[etherLen+9] == 17 &&
		isMedia(int(binary.BigEndian.Uint16(frame[etherLen+ipLen+2:])), frame[rtpAt:]) {
		s.media[int(binary.BigEndian.Uint16(frame[etherLen+2:]))]++
		return
	}
	s.others++
}

// match holds what was seen against what the paper says of n packets. Some may
// have been lost on their way to the wire, and little else may be there.
func (s seen) match(f framing, n int) error {
	if got := s.media[f.bytes()]; len(s.media) != 1 || got > n || got < n/2 {
		return fmt.Errorf("%s is %d bytes a packet on paper; on the wire, of %d packets, by their length: %v", f.Name, f.bytes(), n, s.media)
	}
	if s.others > n/100 {
		return fmt.Errorf("%s: besides %d packets of media, %d others crossed the wire", f.Name, n, s.others)
	}
	return nil
}

// one is the only length that was seen.
func (s seen) one() int { return slices.Collect(maps.Keys(s.media))[0] }

func isRTP(_ int, p []byte) bool { return p[0]>>6 == 2 && len(p) > rtpLen && p[1]&0x7f == 0 }

// isTransport tells WireGuard's packets with content from its handshakes.
func isTransport(port int, p []byte) bool { return port == peers.WireGuardPort && p[0] == 4 }
