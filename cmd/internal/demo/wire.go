package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/sallyport/sallyport/cmd/internal/sound"
)

const (
	maxWireBytes   = 1 << 20 // kept of each direction
	maxWirePackets = 4096
)

// Wire is the network between the phone and the edge, as an eavesdropper sees
// it: it forwards, and keeps what crosses. Being a relay and not a capture it
// needs no privileges.
type Wire struct {
	edge net.Listener
	to   netip.AddrPort
	done sync.WaitGroup // every goroutine

	mu      sync.Mutex // guards what follows
	open    []io.Closer
	streams []*bytes.Buffer // one for each direction of each connection
	packets [][]byte
}

// OpenWire listens on loopback and forwards TCP to the edge; Close ends it.
func OpenWire(edge netip.AddrPort) (*Wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the wire: %w", err)
	}
	w := &Wire{edge: l, to: edge, open: []io.Closer{l}}
	w.done.Go(w.accept) // ends when Close closes the listener
	return w, nil
}

// Addr is where a phone connects to reach the edge through the wire.
func (w *Wire) Addr() netip.AddrPort { return w.edge.Addr().(*net.TCPAddr).AddrPort() }

// Close cuts the wire and waits for its goroutines.
func (w *Wire) Close() {
	w.mu.Lock()
	for _, c := range w.open {
		c.Close()
	}
	w.open = nil
	w.mu.Unlock()
	w.done.Wait()
}

func (w *Wire) accept() {
	for {
		phone, err := w.edge.Accept()
		if err != nil {
			return
		}
		edge, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(w.to))
		if err != nil {
			phone.Close()
			continue
		}
		w.mu.Lock()
		w.open = append(w.open, phone, edge)
		out, in := new(bytes.Buffer), new(bytes.Buffer)
		w.streams = append(w.streams, out, in)
		w.mu.Unlock()
		// Each ends when either end of the connection does.
		w.done.Go(func() { w.stream(edge, phone, out) })
		w.done.Go(func() { w.stream(phone, edge, in) })
	}
}

func (w *Wire) stream(to, from net.Conn, kept *bytes.Buffer) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		kept.Write(buf[:min(n, maxWireBytes-kept.Len())])
		w.mu.Unlock()
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// Media makes a way to the edge's media port for one call, and returns where the
// phone sends to take it.
func (w *Wire) Media(edge netip.AddrPort) (netip.AddrPort, error) {
	phone, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("open the wire for media: %w", err)
	}
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(edge))
	if err != nil {
		phone.Close()
		return netip.AddrPort{}, fmt.Errorf("open the wire to %s: %w", edge, err)
	}
	w.mu.Lock()
	w.open = append(w.open, phone, out)
	w.mu.Unlock()
	callers := make(chan netip.AddrPort, 1) // the phone's address, once known
	// Both end when Close closes the sockets.
	w.done.Go(func() {
		w.datagrams(phone, func(from netip.AddrPort, packet []byte) {
			select {
			case callers <- from:
			default:
			}
			_, _ = out.Write(packet)
		})
	})
	w.done.Go(func() {
		var caller netip.AddrPort
		w.datagrams(out, func(_ netip.AddrPort, packet []byte) {
			select {
			case caller = <-callers:
			default:
			}
			if caller.IsValid() {
				_, _ = phone.WriteToUDPAddrPort(packet, caller)
			}
		})
	})
	return phone.LocalAddr().(*net.UDPAddr).AddrPort(), nil
}

func (w *Wire) datagrams(from *net.UDPConn, forward func(netip.AddrPort, []byte)) {
	buf := make([]byte, 2048)
	for {
		n, addr, err := from.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier packet
		}
		w.mu.Lock()
		if len(w.packets) < maxWirePackets {
			w.packets = append(w.packets, bytes.Clone(buf[:n]))
		}
		w.mu.Unlock()
		forward(addr, buf[:n])
	}
}

// Outside is what an eavesdropper makes of the wire.
type Outside struct {
	Records int      // TLS records
	Other   int      // bytes on the connections that were no TLS
	Packets int      // media packets
	Words   []string // what could be read, of the words that SIP and SDP are made of
	Tone    float64  // the most that one frequency stands out in any packet, taken for PCMU without a key
}

// Sealed reports whether something crossed and nothing of it could be read.
func (o Outside) Sealed() bool {
	return o.Records > 0 && o.Packets > 0 && o.Other == 0 && len(o.Words) == 0 && o.Tone < noise
}

// noise is the most that one frequency of an encrypted packet may stand out by.
// In 20 ms of random bytes taken for PCMU it is a tenth, rarely a quarter; of a
// tone it is nearly all. Each packet is judged by itself, so that a few in plain
// text don't drown among the others.
const noise = 0.5

// Outside reports what crossed so far.
func (w *Wire) Outside() Outside {
	w.mu.Lock()
	defer w.mu.Unlock()
	var o Outside
	var all []byte
	for _, s := range w.streams {
		records, other := tlsRecords(s.Bytes())
		o.Records, o.Other = o.Records+records, o.Other+other
		all = append(all, s.Bytes()...)
	}
	for _, p := range w.packets {
		all = append(all, p...)
		if payload, ok := rtpPayload(p); ok {
			o.Packets++
			o.Tone = max(o.Tone, sound.Tonality(payload[:min(len(payload), sound.FrameSamples)]))
		}
	}
	for _, word := range []string{"SIP/2.0", "INVITE", "REGISTER", "Call-ID", "sip:", "m=audio", "a=crypto", "inline:"} {
		if bytes.Contains(all, []byte(word)) {
			o.Words = append(o.Words, word)
		}
	}
	return o
}

// tlsRecords counts the whole records a stream begins with (RFC 8446 section
// 5.1), and the bytes from the first on that is none.
func tlsRecords(stream []byte) (records, other int) {
	const header, maxRecord = 5, 16384 + 2048
	for len(stream) >= header {
		size := int(stream[3])<<8 | int(stream[4])
		if stream[0] < 20 || stream[0] > 24 || stream[1] != 3 || size > maxRecord {
			return records, len(stream)
		}
		if len(stream) < header+size {
			return records, 0 // still on its way, or past what is kept
		}
		stream = stream[header+size:]
		records++
	}
	return records, 0
}
