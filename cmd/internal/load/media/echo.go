package media

import (
	"net/netip"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// Echo sends sound back in clear, as that of another source each: some take their own
// for a loop (RFC 3550 section 8.2). It reports whenever it is reported to, at the pace
// of who does (section 6.3), and so needs no clock of its own. What it knows of who
// speaks it forgets with its goodbye, or when nothing came for a while. The zero value
// is ready, and may be used by several goroutines.
type Echo struct {
	mu    sync.Mutex // guards what follows
	of    map[speaker]*echoed
	swept time.Time
}

// speaker is whose sound it is.
type speaker struct {
	at   netip.Addr
	ssrc uint32
}

// echoed is what came of a speaker, and went back.
type echoed struct {
	received received
	control  control
	begun    time.Time
	at       time.Time // when the last packet came
	stamp    uint32    // its
	octets   int
}

const (
	maxEchoed = 100_000         // speakers that are known
	forgotten = 2 * time.Minute // after the last packet
)

// other is the source that an echo is.
func other(ssrc uint32) uint32 { return ssrc ^ 0x55<<24 }

// Sound takes a packet that came, and makes it the one that goes back.
func (e *Echo) Sound(p []byte, from netip.AddrPort) {
	var h rtp.Header
	n, err := h.Unmarshal(p)
	p[8] ^= 0x55 // see other
	if err != nil {
		return
	}
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	who := speaker{from.Addr(), h.SSRC}
	s := e.of[who]
	if s == nil {
		if s = e.meet(who, now); s == nil {
			return
		}
	}
	s.received.take(&h, now, s.begun)
	s.at, s.stamp, s.octets = now, h.Timestamp, s.octets+len(p)-n
}

// meet remembers a speaker, if there is room. e.mu is held.
func (e *Echo) meet(who speaker, now time.Time) *echoed {
	if e.of == nil {
		e.of = make(map[speaker]*echoed)
	}
	if now.Sub(e.swept) > forgotten {
		for who, s := range e.of {
			if now.Sub(s.at) > forgotten {
				delete(e.of, who)
			}
		}
		e.swept = now
	}
	if len(e.of) == maxEchoed {
		return nil
	}
	s := &echoed{begun: now}
	e.of[who] = s
	return s
}

// Report answers a packet of RTCP, borrowed; nil: there is nothing to be told.
func (e *Echo) Report(p []byte, from netip.AddrPort) []byte {
	all, err := rtcp.Unmarshal(p)
	if err != nil {
		return nil
	}
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	var to *echoed
	var ssrc uint32
	for _, one := range all {
		switch r := one.(type) {
		case *rtcp.SenderReport:
			if ssrc, to = r.SSRC, e.of[speaker{from.Addr(), r.SSRC}]; to != nil {
				to.control.theirs.stamp, to.control.theirs.at = uint32(r.NTPTime>>16), now
			}
		case *rtcp.ReceiverReport:
			ssrc, to = r.SSRC, e.of[speaker{from.Addr(), r.SSRC}]
		case *rtcp.Goodbye:
			for _, gone := range r.Sources {
				delete(e.of, speaker{from.Addr(), gone})
			}
			return nil
		}
	}
	if to == nil {
		return nil
	}
	b, err := to.control.compound(&rtcp.SenderReport{
		SSRC: other(ssrc), NTPTime: ntp(now), RTPTime: to.stamp + uint32(now.Sub(to.at)*sound.Rate/time.Second),
		PacketCount: uint32(to.received.packets), OctetCount: uint32(to.octets), Reports: to.control.reception(&to.received, now),
	}, false)
	if err != nil {
		return nil // never: it is as it should be
	}
	return b
}

// Describe answers a plain offer, as an echo at an address does that knows some codecs.
// Reports come there too if they may (RFC 5761), else to the next port.
func Describe(offer string, at netip.AddrPort, known []string) (string, error) {
	d, err := parse(offer)
	if err != nil {
		return "", err
	}
	ours, err := readCodecs(known)
	if err != nil {
		return "", err
	}
	codec, err := d.choose(ours)
	if err != nil {
		return "", err
	}
	w := written{at: at, version: 1, proto: d.proto, direction: mirrored[d.wants], codecs: []sound.Codec{codec}, offer: d}
	if d.mux {
		w.lines = []string{"rtcp-mux"}
	}
	return w.write(), nil
}
