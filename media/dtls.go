package media

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/transport/v5/packetio"
)

const (
	// setupLimit is how long a phone has for ICE and DTLS together, and how
	// long a handshake may take.
	setupLimit = 20 * time.Second
	// flightInterval is when the first lost flight is sent again; it doubles
	// (RFC 6347 section 4.2.4.1, where a second is for those who may wait).
	flightInterval = 250 * time.Millisecond
	// datagrams bounds what waits to be read by one handshake: the longest
	// flight, with a certificate chain, is some ten.
	datagrams = 32
)

// association is one DTLS handshake (RFC 5764 section 3), on a goroutine of its
// own: begun by the worker, ended by stop or its time limit, waited for when
// the worker ends. When the handshake is done it goes on to answer what the
// phone repeats, until the worker has heard SRTP under its keys; from there on
// nothing that looks like DTLS reaches anybody.
type association struct {
	worker    *worker
	transport *transport // nil for one whose certificate has to say whose it is
	kind      uint8
	role      Role
	suites    []Suite
	cert      *certificate
	from      netip.AddrPort // of one without ICE
	sock      *secureSocket
	in        *packetio.Buffer
	began     int64
	alert     atomic.Uint32 // what the phone said in clear, unauthenticated: a hint for the log
	mute      atomic.Bool   // says nothing more
	hello     uint64        // of one without ICE that a phone began: see helloOf
	near      bool          // the worker's, of one without ICE: a phone was expected from its host
	proven    bool          // the worker's: its source has answered a HelloVerifyRequest
	done      *secret       // the worker's: what came out; nil before
}

// secret is what a handshake agreed on.
type secret struct {
	rx, tx Key
	peer   []byte // the phone's certificate, DER
}

// run is the association's goroutine.
func (a *association) run() {
	defer a.worker.dtls.running.Done()
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	conn, err := a.conn()
	if err == nil {
		defer func() { // without a close_notify, which would end the phone's media
			a.mute.Store(true)
			_ = conn.Close()
		}()
		err = conn.HandshakeContext(ctx)
	}
	var s *secret
	if err == nil {
		s, err = a.secret(conn)
	}
	a.worker.post(func() { a.worker.shook(a, s, err) })
	if err != nil {
		return
	}
	for buf := make([]byte, 2048); err == nil; { // what it reads is of no use to anybody
		_, err = conn.Read(buf)
	}
}

func (a *association) conn() (*dtls.Conn, error) {
	var profiles []dtls.SRTPProtectionProfile
	for _, s := range a.suites {
		if s.DTLS() {
			profiles = append(profiles, dtls.SRTPProtectionProfile(s.info().profile))
		}
	}
	// What counts is the certificate's fingerprint, which the worker compares
	// before any key is used (RFC 5763 section 5).
	options := []dtls.Option{
		dtls.WithCertificates(a.cert.tls), dtls.WithInsecureSkipVerify(true), dtls.WithSRTPProtectionProfiles(profiles...),
		dtls.WithExtendedMasterSecret(dtls.RequestExtendedMasterSecret), dtls.WithFlightInterval(flightInterval),
	}
	if a.role == Active {
		// A phone may ask for one of a CA that it names, as Linphone does of itself. The one
		// whose fingerprint we have told is none of those, and the only one it can take.
		list := []dtls.ClientOption{dtls.WithGetClientCertificate(func(*dtls.CertificateRequestInfo) (*tls.Certificate, error) { return &a.cert.tls, nil })}
		for _, o := range options {
			list = append(list, o)
		}
		return dtls.ClientWithOptions(a, a.RemoteAddr(), list...)
	}
	list := make([]dtls.ServerOption, len(options), len(options)+1)
	for i, o := range options {
		list[i] = o
	}
	return dtls.ServerWithOptions(a, a.RemoteAddr(), append(list, dtls.WithClientAuth(dtls.RequireAnyClientCert))...)
}

// secret reads the keys of a handshake (RFC 5764 section 4.2).
func (a *association) secret(conn *dtls.Conn) (*secret, error) {
	state, ok := conn.ConnectionState()
	profile, agreed := conn.SelectedSRTPProtectionProfile()
	if !ok || !agreed || len(state.PeerCertificates) == 0 {
		return nil, errors.New("it ended without an SRTP profile or a certificate")
	}
	suite, ok := suiteOf(uint16(profile))
	if !ok {
		return nil, fmt.Errorf("SRTP profile %#04x is not known", uint16(profile))
	}
	k, n := suite.KeyLen(), suite.SaltLen()
	b, err := state.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*k+2*n)
	if err != nil {
		return nil, fmt.Errorf("derive SRTP keys: %w", err)
	}
	client := Key{Suite: suite, KeySalt: append(append([]byte{}, b[:k]...), b[2*k:2*k+n]...)}
	server := Key{Suite: suite, KeySalt: append(append([]byte{}, b[k:2*k]...), b[2*k+n:]...)}
	s := &secret{rx: client, tx: server, peer: state.PeerCertificates[0]}
	if a.role == Active {
		s.rx, s.tx = server, client
	}
	return s, nil
}

// feed gives a datagram to the handshake, which copies it.
func (a *association) feed(p []byte) bool {
	_, err := a.in.Write(p, nil)
	return err == nil
}

// stop ends the association, soon.
func (a *association) stop() {
	a.mute.Store(true)
	_ = a.in.Close()
}

// What follows makes it the net.PacketConn that pion/dtls reads and writes.

// ReadFrom reads what feed was given.
func (a *association) ReadFrom(p []byte) (int, net.Addr, error) {
	n, _, err := a.in.Read(p, nil)
	if errors.Is(err, io.ErrShortBuffer) {
		err = nil // no longer record is valid
	}
	return n, a.RemoteAddr(), err
}

// WriteTo sends by the worker, to where the phone is then.
func (a *association) WriteTo(p []byte, _ net.Addr) (int, error) {
	if !a.mute.Load() {
		b := append([]byte{}, p...)
		a.worker.post(func() { a.worker.sendDTLS(a, b) })
	}
	return len(p), nil
}

// Close is stop.
func (a *association) Close() error { return a.in.Close() }

// LocalAddr is nobody's business.
func (a *association) LocalAddr() net.Addr { return a.RemoteAddr() }

// RemoteAddr is where the handshake began.
func (a *association) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(a.from) }

// SetDeadline is SetReadDeadline: writing never waits.
func (a *association) SetDeadline(t time.Time) error { return a.in.SetReadDeadline(t) }

// SetReadDeadline ends reads that wait beyond t.
func (a *association) SetReadDeadline(t time.Time) error { return a.in.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writing never waits.
func (a *association) SetWriteDeadline(time.Time) error { return nil }

// DTLS record and handshake types (RFC 6347 section 4.1, RFC 5246 section 7.4).
const (
	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordApplication      = 23
	recordHeader           = 13

	helloRequest       = 0
	clientHello        = 1
	serverHello        = 2
	helloVerifyRequest = 3
)

// admissible tells whether a handshake may see a datagram. In clear it takes
// nothing but handshake messages of the other end, and the change of cipher: an
// alert in clear could be anybody's, and would end it. What is encrypted it
// verifies itself.
func (a *association) admissible(p []byte) bool {
	for len(p) > 0 {
		if len(p) < recordHeader || p[1] != 0xfe {
			return false
		}
		n := recordHeader + int(p[11])<<8 + int(p[12])
		if n > len(p) || n == recordHeader {
			return false
		}
		encrypted := p[3] != 0 || p[4] != 0
		body := p[recordHeader:n]
		switch kind := p[0]; {
		case encrypted && kind >= recordChangeCipherSpec && kind <= recordApplication:
		case kind == recordHandshake && a.expects(body[0]):
		case kind == recordChangeCipherSpec && len(body) == 1 && body[0] == 1:
		case kind == recordAlert && len(body) == 2:
			a.alert.Store(uint32(body[1]))
			return false
		default:
			return false
		}
		p = p[n:]
	}
	return true
}

// expects tells whether the other end may send a handshake message.
func (a *association) expects(message byte) bool {
	if a.role == Active {
		return message != clientHello
	}
	return message != helloRequest && message != serverHello && message != helloVerifyRequest
}

// isClientHello tells whether a datagram begins a handshake: with the first
// message of one, so that none is begun that cannot end.
func isClientHello(p []byte) bool {
	return helloOf(p) != 0 && p[recordHeader+4] == 0 && p[recordHeader+5] == 0
}

// helloOf tells a handshake's ClientHellos, which have one random (RFC 6347
// section 4.2.1), from those of others: by the end of it, as some begin it with
// the time. It is 0 for what is no ClientHello, or not the first part of one.
func helloOf(p []byte) uint64 {
	const offset, end = recordHeader + 6, recordHeader + 12 + 2 + 32 // of a message's header, its version and random
	if len(p) < end || p[0] != recordHandshake || p[1] != 0xfe || p[3] != 0 || p[4] != 0 || p[recordHeader] != clientHello ||
		p[offset] != 0 || p[offset+1] != 0 || p[offset+2] != 0 {
		return 0
	}
	return binary.BigEndian.Uint64(p[end-8:]) | 1
}

// isServerHello tells whether a flight of ours is the one that only a source
// gets that has shown its cookie.
func isServerHello(p []byte) bool {
	return len(p) > recordHeader && p[0] == recordHandshake && p[recordHeader] == serverHello
}
