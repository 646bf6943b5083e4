package media

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/transport/v5/packetio"
)

// handshake is DTLS's for one pair of certificates, and its net.PacketConn. Its
// goroutine begins when there is a path, and ends with the keys; pion's own go on
// to answer what is repeated, until close.
type handshake struct {
	session *Session
	theirs  string // fingerprints, with commas, in upper case
	in      *packetio.Buffer
	cancel  context.CancelFunc
	ended   chan struct{}
	conn    *dtls.Conn // once ended
}

// handshakeTime is how long a handshake may take, its path included.
const handshakeTime = 30 * time.Second

// secure takes a description of DTLS: it begins ICE, and a handshake unless there
// is one with this certificate. s.mu is held.
func (s *Session) secure(d *description, active bool) error {
	if len(d.prints) == 0 || d.setup == "" {
		return ErrUnkeyed
	}
	theirs := strings.ToUpper(strings.Join(d.prints, ","))
	if s.conn == nil { // it is only described
		return nil
	}
	if d.ufrag != "" {
		s.ice.start(d, s.state.offerer || d.lite)
	}
	switch again := s.state.early && !s.state.closed; {
	case s.dtls == nil:
	case again && (s.dtls.theirs != theirs || s.state.err != nil):
		s.abandon()
	case s.dtls.theirs == theirs:
		return nil
	default:
		return errors.New("it changes its certificate in the call")
	}
	ready := s.ice.ready
	if d.ufrag == "" { // a desk phone's or trunk's DTLS, without ICE
		ready = nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	h := &handshake{session: s, theirs: theirs, in: packetio.NewBuffer(), cancel: cancel, ended: make(chan struct{})}
	s.dtls = h
	go func() { // ends with the handshake; close waits for it
		defer close(h.ended)
		if err := h.run(ctx, active, ready); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.dtls == h {
				s.state.err = err
			}
		}
	}()
	return nil
}

// abandon ends a handshake with one who rang, where another answered, or that was begun
// too early. s.mu is held.
func (s *Session) abandon() {
	s.done.Go(s.dtls.close) // ends with the handshake, which is cancelled; Close waits for it
	s.dtls, s.state.err, s.keys = nil, nil, keys{}
	if !s.ice.nominated {
		s.ice.ready = make(chan struct{})
	}
}

func (h *handshake) run(ctx context.Context, active bool, ready <-chan struct{}) error {
	if ready != nil { // nothing but checks before there is a path (RFC 8445 section 12)
		select {
		case <-ready:
		case <-ctx.Done():
			return ErrPath
		}
	}
	var err error
	if h.conn, err = h.begin(active); err != nil {
		return err
	}
	if err := h.conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	return h.keys(active)
}

// profiles are the SRTP profiles of DTLS, best first, as SDES names them (RFC 5764
// section 4.1.2, RFC 7714 section 14.2).
var profiles = []struct {
	profile dtls.SRTPProtectionProfile
	suite   string
}{
	{dtls.SRTP_AEAD_AES_128_GCM, "AEAD_AES_128_GCM"},
	{dtls.SRTP_AES128_CM_HMAC_SHA1_80, "AES_CM_128_HMAC_SHA1_80"},
	{dtls.SRTP_AEAD_AES_256_GCM, "AEAD_AES_256_GCM"},
	{dtls.SRTP_AES128_CM_HMAC_SHA1_32, "AES_CM_128_HMAC_SHA1_32"},
}

// flight is how long the first answer may take before a flight is sent again, and
// twice that from there on (RFC 6347 section 4.2.4.1 has a second; browsers take
// less, and so does this: what one lost packet costs is heard).
const flight = 200 * time.Millisecond

func (h *handshake) begin(active bool) (*dtls.Conn, error) {
	all := make([]dtls.SRTPProtectionProfile, 0, len(profiles))
	for _, p := range profiles {
		all = append(all, p.profile)
	}
	if active {
		return dtls.ClientWithOptions(h, h.RemoteAddr(), dtls.WithCertificates(h.session.engine.cert), dtls.WithFlightInterval(flight),
			dtls.WithInsecureSkipVerify(true), dtls.WithSRTPProtectionProfiles(all...)) // the fingerprint is compared before any key is used
	}
	return dtls.ServerWithOptions(h, h.RemoteAddr(), dtls.WithCertificates(h.session.engine.cert), dtls.WithFlightInterval(flight),
		dtls.WithInsecureSkipVerify(true), dtls.WithSRTPProtectionProfiles(all...), dtls.WithClientAuth(dtls.RequireAnyClientCert))
}

// keys puts what came out in force (RFC 5764 section 4.2).
func (h *handshake) keys(active bool) error {
	state, ok := h.conn.ConnectionState()
	profile, agreed := h.conn.SelectedSRTPProtectionProfile()
	if !ok || !agreed || len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: no SRTP profile was agreed on", ErrHandshake)
	}
	if !matches(h.theirs, state.PeerCertificates[0]) {
		return ErrFingerprint
	}
	name := ""
	for _, p := range profiles {
		if p.profile == profile {
			name = p.suite
		}
	}
	k, salt := suites[name].key, suites[name].salt
	b, err := state.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*k+2*salt)
	if err != nil {
		return fmt.Errorf("derive keys: %w", err)
	}
	client := crypto{suite: name, key: append(append([]byte(nil), b[:k]...), b[2*k:2*k+salt]...)}
	server := crypto{suite: name, key: append(append([]byte(nil), b[k:2*k]...), b[2*k+salt:]...)}
	h.session.mu.Lock()
	defer h.session.mu.Unlock()
	if h.session.dtls != h { // another one took its place
		return nil
	}
	if active {
		return h.session.keys.force(client, server, true)
	}
	return h.session.keys.force(server, client, true)
}

// close ends the handshake and what it left.
func (h *handshake) close() {
	h.cancel()
	<-h.ended
	if h.conn != nil {
		_ = h.conn.Close() // tells the other end, as far as it listens
	}
	h.in.Close()
}

// ReadFrom reads what came.
func (h *handshake) ReadFrom(p []byte) (int, net.Addr, error) {
	n, _, err := h.in.Read(p, nil)
	return n, h.RemoteAddr(), err
}

// WriteTo sends to where the session does.
func (h *handshake) WriteTo(p []byte, _ net.Addr) (int, error) {
	h.session.mu.Lock()
	to := h.session.to
	h.session.mu.Unlock()
	return h.session.conn.WriteToUDPAddrPort(p, to)
}

// Close ends reads.
func (h *handshake) Close() error { return h.in.Close() }

// LocalAddr is of no use to DTLS.
func (h *handshake) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(h.session.at) }

// RemoteAddr is always the same: there is one other end, wherever it is.
func (h *handshake) RemoteAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), 1))
}

// SetDeadline is SetReadDeadline: writing never waits.
func (h *handshake) SetDeadline(t time.Time) error { return h.in.SetReadDeadline(t) }

// SetReadDeadline ends reads that wait beyond t.
func (h *handshake) SetReadDeadline(t time.Time) error { return h.in.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writing never waits.
func (h *handshake) SetWriteDeadline(time.Time) error { return nil }
