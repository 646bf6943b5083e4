package media

import (
	"fmt"
	"math"
	"time"
)

// Direction of a packet.
type Direction uint8

// The directions.
const (
	Inward  Direction = iota // from the phone to the PBX
	Outward                  // from the PBX to the phone
)

// Drop is why a packet went no further.
type Drop uint8

// The reasons.
const (
	DropMalformed  Drop = iota // not RTP or RTCP, cut short, or on the wrong socket
	DropOversize               // longer than a slot
	DropSTUN                   // no check of a call's phone that verifies (RFC 8445)
	DropDTLS                   // of no handshake that runs
	DropUnknown                // first byte of no protocol that belongs here (RFC 7983)
	DropNoStream               // no stream's key verifies it
	DropBudget                 // not tried: too many unknown packets at the time
	DropAuth                   // known source and SSRC, but the tag does not verify
	DropReplay                 // seen before, or too old to tell
	DropSSRCLimit              // its call has had as many SSRCs as one may
	DropStranger               // plain side: not from where the PBX said
	DropNotReady               // plain side: no key yet
	DropNotLatched             // plain side: the phone's address is not known yet
	DropNowhere                // secure side: the PBX wants no media
	DropSend                   // the kernel did not take it
	DropCrypto                 // could not be encrypted
	DropFeedback               // secure side: nothing but feedback that plain RTP has no profile for
	DropRepeated               // plain side: its sequence number was used, or is too old to tell
	DropSource                 // plain side: a report of nothing but sources that we announce another for
	DropSlow                   // a TCP connection takes nothing, and as much waits as may
	numDrops
)

var dropNames = [numDrops]string{
	"malformed", "oversize", "stun", "dtls", "unknown_protocol", "no_stream", "budget", "auth_failed", "replayed",
	"ssrc_limit", "plain_stranger", "not_ready", "not_latched", "nowhere_to_send", "send_failed", "encrypt_failed",
	"feedback", "plain_repeated", "plain_source", "tcp_slow",
}

// String is the reason as metrics show it.
func (d Drop) String() string {
	if d < numDrops {
		return dropNames[d]
	}
	return "unknown"
}

// Counts are packets and bytes of one direction, and what was dropped.
type Counts struct {
	RTP, RTCP uint64
	Bytes     uint64 // of plain RTP and RTCP, headers included
}

// counts is what a worker keeps, for itself and for each stream.
type counts struct {
	dir   [2]Counts
	drops [numDrops]uint64
}

func (c *Counts) any() bool { return c.RTP+c.RTCP > 0 }

func (c *counts) relayed(d Direction, kind uint8, n int) {
	k := &c.dir[d]
	if kind == kindRTCP {
		k.RTCP++
	} else {
		k.RTP++
	}
	k.Bytes += uint64(n)
}

func (c *counts) add(o *counts) {
	for d := range c.dir {
		c.dir[d].RTP += o.dir[d].RTP
		c.dir[d].RTCP += o.dir[d].RTCP
		c.dir[d].Bytes += o.dir[d].Bytes
	}
	for i := range c.drops {
		c.drops[i] += o.drops[i]
	}
}

func (c *counts) dropMap() map[string]uint64 {
	m := make(map[string]uint64, numDrops)
	for d, n := range c.drops {
		m[Drop(d).String()] = n
	}
	return m
}

// Stats is what the engine has counted, and holds now.
type Stats struct {
	Sessions   int // now
	Streams    int // now
	Sockets    int // now, of both sides
	Handshakes int // of DTLS now, with those that are done and not yet followed by media
	TCP        TCPStats
	Inward     Counts
	Outward    Counts
	Drops      map[string]uint64
}

// SessionStats is one session's part.
type SessionStats struct {
	Streams []StreamStats
}

// StreamStats is one stream's part.
type StreamStats struct {
	Inward, Outward Counts
	Keying          string            // SDES, DTLS, or DTLS over ICE; empty: no keys yet
	Suite           Suite             // zero: no keys yet
	Quality         [2]Quality        // by Direction
	Drops           map[string]uint64 // those above zero
	LastHeard       time.Time         // the phone's last authenticated packet; zero: never
	LastPlain       time.Time         // the PBX's last packet; zero: never
}

// Attrs are the figures that a call's record shows, as keys and values for
// log/slog. Losses and jitter are of the whole way, as far as it is known. Those
// of streams behind the first that was used have its number in their keys.
func (s SessionStats) Attrs() []any {
	var in, out, auth, replay uint64
	for _, st := range s.Streams {
		in += st.Inward.RTP
		out += st.Outward.RTP
		auth += st.Drops[DropAuth.String()]
		replay += st.Drops[DropReplay.String()]
	}
	attrs := []any{"rtp_from_phone", in, "rtp_to_phone", out}
	for _, st := range s.Streams {
		if st.Keying != "" {
			attrs = append(attrs, "keyed_by", st.Keying, "suite", st.Suite.String())
			break
		}
	}
	if auth > 0 {
		attrs = append(attrs, "auth_failed", auth)
	}
	if replay > 0 {
		attrs = append(attrs, "replayed", replay)
	}
	used := 0
	for _, st := range s.Streams {
		if !st.Inward.any() && !st.Outward.any() {
			continue
		}
		prefix := ""
		if used++; used > 1 {
			prefix = fmt.Sprintf("stream%d_", used)
		}
		attrs = append(attrs, st.qualityAttrs(prefix)...)
	}
	return attrs
}

func (s StreamStats) qualityAttrs(prefix string) (attrs []any) {
	for d, name := range [2]string{Inward: "from_phone", Outward: "to_phone"} {
		q := s.Quality[d]
		if q.Received == 0 {
			continue
		}
		attrs = append(attrs, prefix+"loss_"+name, fmt.Sprintf("%.1f%%", 100*q.WholeLoss()),
			prefix+"jitter_"+name, max(q.Jitter, q.FarJitter).Round(100*time.Microsecond), prefix+"mos_"+name, math.Round(10*q.MOS)/10)
	}
	if trip := s.Quality[Outward].FarTrip; trip > 0 {
		attrs = append(attrs, prefix+"round_trip_phone", trip.Round(100*time.Microsecond))
	}
	if trip := s.Quality[Inward].FarTrip; trip > 0 {
		attrs = append(attrs, prefix+"round_trip_pbx", trip.Round(100*time.Microsecond))
	}
	return attrs
}
