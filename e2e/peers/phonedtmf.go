package peers

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/pion/rtp"
)

// digitLength is how long a phone holds a key, in packets.
const digitLength = 6

// Dial sends digits as named events (RFC 4733 section 2.5): the first packet of
// each marked, and the end said three times.
func (m *Media) Dial(digits string) {
	m.p.t.Helper()
	m.Silence(true)
	defer m.Silence(false)
	for _, digit := range digits {
		event := strings.IndexRune("0123456789*#ABCD", digit)
		if event < 0 {
			m.p.t.Fatalf("no event is named %c", digit)
		}
		for i := 1; i <= digitLength+2; i++ {
			m.Send(m.event(byte(event), i))
			time.Sleep(20 * time.Millisecond)
		}
		m.mu.Lock()
		m.header.Timestamp += (digitLength + 2) * 160
		m.mu.Unlock()
	}
}

// event is one packet of an event: all of one event have its beginning as their
// time.
func (m *Media) event(event byte, n int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.header
	h.PayloadType, h.Marker = 101, n == 1
	m.header.SequenceNumber++
	payload := []byte{event, 10, 0, 0}
	if n >= digitLength {
		payload[1] |= 0x80
	}
	binary.BigEndian.PutUint16(payload[2:], uint16(160*min(n, digitLength)))
	plain, err := (&rtp.Packet{Header: h, Payload: payload}).Marshal()
	if err != nil {
		return nil
	}
	sealed, err := m.seal.guard(plain)
	if err != nil {
		return nil
	}
	return sealed
}
