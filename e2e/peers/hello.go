package peers

import (
	"context"
	"crypto/rand"
	"net"
	"time"

	"github.com/pion/dtls/v3"
)

// DTLS record and message types (RFC 6347 section 4.1, RFC 5246 section 7.4).
const (
	RecordChangeCipherSpec = 20
	RecordAlert            = 21
	RecordHandshake        = 22
	RecordApplication      = 23
)

// Record is a DTLS record of an epoch and sequence number (RFC 6347 section
// 4.1) whose header says a length of its own: that of the body, plus more.
func Record(kind byte, epoch uint16, seq uint32, body []byte, more int) []byte {
	n := len(body) + more
	head := []byte{
		kind, 0xfe, 0xfd, byte(epoch >> 8), byte(epoch), 0, 0, byte(seq >> 24), byte(seq >> 16), byte(seq >> 8), byte(seq), byte(n >> 8), byte(n),
	}
	return append(head, body...)
}

// ClientHellos makes a first flight for DTLS-SRTP as phones send it, each time
// with another random.
func (a *Attacker) ClientHellos() func() []byte {
	a.lab.t.Helper()
	hello, err := firstFlight()
	if err != nil {
		a.lab.t.Fatalf("record a ClientHello: %v", err)
	}
	return func() []byte {
		const at = 13 + 12 + 2 // record, message, version (RFC 6347 section 4.2)
		fresh := append([]byte{}, hello...)
		_, _ = rand.Read(fresh[at : at+32])
		return fresh
	}
}

// firstFlight is what pion sends first, to a socket that does not answer.
func firstFlight() ([]byte, error) {
	loopback := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	far, err := net.ListenUDP("udp", loopback)
	if err != nil {
		return nil, err
	}
	defer far.Close()
	near, err := net.ListenUDP("udp", loopback)
	if err != nil {
		return nil, err
	}
	defer near.Close()
	conn, err := dtls.ClientWithOptions(near, far.LocalAddr(), dtls.WithInsecureSkipVerify(true),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends by cancel; waited for below
		defer close(done)
		_ = conn.HandshakeContext(ctx)
	}()
	buf := make([]byte, 2048)
	_ = far.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := far.Read(buf)
	cancel()
	<-done
	return buf[:n], err
}
