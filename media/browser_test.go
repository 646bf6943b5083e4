package media

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v3"
	"github.com/pion/transport/v5/packetio"
)

// browser is the far end of a secure leg that does DTLS-SRTP, and ICE if it is
// told to: by pion's hands on one socket, and on a connection if it dials one.
type browser struct {
	t    testing.TB
	conn *net.UDPConn
	tcp  net.Conn // what it sends by, instead of conn; nil: by conn
	to   netip.AddrPort
	cert *certificate
	cas  *x509.CertPool // that it names to who begins the handshake; nil: none
	ssrc uint32
	seq  uint16

	checks, media *packetio.Buffer // what came, by protocol
	shakes        atomic.Pointer[packetio.Buffer]
	open, seal    *srtp.Context
	suite         Suite
}

func newBrowser(t testing.TB, to netip.AddrPort) *browser {
	t.Helper()
	cert, err := newCertificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, conn: udp(t), to: to, cert: cert, ssrc: 0xb0000000 | uint32(to.Port()), seq: 500,
		checks: packetio.NewBuffer(), media: packetio.NewBuffer()}
	b.shakes.Store(packetio.NewBuffer())
	done := make(chan struct{})
	go func() { // ends when the socket is closed
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, err := b.conn.Read(buf)
			if err != nil {
				return
			}
			b.sort(buf[:n])
		}
	}()
	t.Cleanup(func() {
		b.conn.Close()
		<-done
		b.shakes.Load().Close()
	})
	return b
}

// sort keeps a packet for who waits for its protocol.
func (b *browser) sort(p []byte) {
	to := map[protocol]*packetio.Buffer{protoSTUN: b.checks, protoDTLS: b.shakes.Load(), protoRTP: b.media}[demux(p)]
	if to != nil {
		_, _ = to.Write(p, nil)
	}
}

// send sends by what it uses.
func (b *browser) send(p []byte) {
	b.t.Helper()
	if b.tcp == nil {
		write(b.t, b.conn, b.to, p)
		return
	}
	if _, err := b.tcp.Write(framed(p)); err != nil {
		b.t.Fatal(err)
	}
}

// port is that of what it uses.
func (b *browser) port() int {
	if b.tcp == nil {
		return int(at(b.conn).Port())
	}
	return b.tcp.LocalAddr().(*net.TCPAddr).Port
}

// shaker makes one DTLS association of it a net.PacketConn.
type shaker struct {
	*browser
	in *packetio.Buffer
}

func (b *browser) shaker() shaker { return shaker{b, b.shakes.Load()} }

func (s shaker) ReadFrom(p []byte) (int, net.Addr, error) {
	n, _, err := s.in.Read(p, nil)
	return n, net.UDPAddrFromAddrPort(s.to), err
}

func (s shaker) SetDeadline(t time.Time) error     { return s.in.SetReadDeadline(t) }
func (s shaker) SetReadDeadline(t time.Time) error { return s.in.SetReadDeadline(t) }

func (b *browser) WriteTo(p []byte, _ net.Addr) (int, error) {
	if b.tcp != nil {
		return b.tcp.Write(framed(p))
	}
	return b.conn.WriteToUDPAddrPort(p, b.to)
}
func (b *browser) Close() error                       { return nil }
func (b *browser) LocalAddr() net.Addr                { return b.conn.LocalAddr() }
func (b *browser) SetWriteDeadline(_ time.Time) error { return nil }

// check makes a connectivity check.
func (b *browser) check(to Credentials, attributes ...stun.Setter) *stun.Message {
	b.t.Helper()
	all := []stun.Setter{stun.BindingRequest, stun.TransactionID, stun.NewUsername(to.Ufrag + ":them"), prio(100)}
	all = append(append(all, attributes...), stun.NewShortTermIntegrity(to.Pwd), stun.Fingerprint)
	m, err := stun.Build(all...)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

type prio uint32

func (p prio) AddTo(m *stun.Message) error {
	m.Add(stun.AttrPriority, binary.BigEndian.AppendUint32(nil, uint32(p)))
	return nil
}

type flagged stun.AttrType

func (f flagged) AddTo(m *stun.Message) error {
	m.Add(stun.AttrType(f), nil)
	return nil
}

const useCandidate = flagged(stun.AttrUseCandidate)

// nominate checks the path with USE-CANDIDATE, and wants its answer.
func (b *browser) nominate(to Credentials) {
	b.t.Helper()
	m := b.check(to, useCandidate)
	b.send(m.Raw)
	answer := b.answer()
	if answer == nil || answer.Type != bindingSuccess || answer.TransactionID != m.TransactionID {
		b.t.Fatalf("the check was answered by %v", answer)
	}
	var seen stun.XORMappedAddress
	if err := seen.GetFrom(answer); err != nil || seen.Port != b.port() {
		b.t.Fatalf("mapped address %s (%v), want port %d", seen, err, b.port())
	}
	if err := stun.NewShortTermIntegrity(to.Pwd).Check(answer); err != nil {
		b.t.Fatal(err)
	}
	if err := stun.Fingerprint.Check(answer); err != nil {
		b.t.Fatal(err)
	}
}

// answer is the next STUN message, or nil.
func (b *browser) answer() *stun.Message {
	buf := make([]byte, 2048)
	_ = b.checks.SetReadDeadline(time.Now().Add(longest))
	n, _, err := b.checks.Read(buf, nil)
	if err != nil {
		return nil
	}
	m := &stun.Message{Raw: buf[:n]}
	if err := m.Decode(); err != nil {
		b.t.Fatal(err)
	}
	return m
}

// handshake does DTLS-SRTP in a role, and wants a certificate.
func (b *browser) handshake(role Role, suites []Suite, want Fingerprint) error {
	var profiles []dtls.SRTPProtectionProfile
	for _, s := range suites {
		if s.DTLS() {
			profiles = append(profiles, dtls.SRTPProtectionProfile(s.info().profile))
		}
	}
	var conn *dtls.Conn
	var err error
	via, to := b.shaker(), net.UDPAddrFromAddrPort(b.to)
	if role == Active {
		conn, err = dtls.ClientWithOptions(via, to, dtls.WithCertificates(b.cert.tls), dtls.WithInsecureSkipVerify(true), dtls.WithSRTPProtectionProfiles(profiles...))
	} else {
		conn, err = dtls.ServerWithOptions(via, to, dtls.WithCertificates(b.cert.tls), dtls.WithInsecureSkipVerify(true),
			dtls.WithSRTPProtectionProfiles(profiles...), dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithClientCAs(b.cas))
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	b.shakes.Store(packetio.NewBuffer()) // the next one's, which this one must not read
	b.t.Cleanup(func() { via.in.Close() })
	state, _ := conn.ConnectionState()
	if got := fingerprint(want.Hash, state.PeerCertificates[0]); got != want {
		b.t.Errorf("the edge's certificate is %v, its description said %v", got, want)
	}
	profile, _ := conn.SelectedSRTPProtectionProfile()
	b.suite, _ = suiteOf(uint16(profile))
	config := srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	if err := config.ExtractSessionKeysFromDTLS(&state, role == Active); err != nil {
		return err
	}
	if b.seal, err = srtp.CreateContext(config.Keys.LocalMasterKey, config.Keys.LocalMasterSalt, config.Profile); err != nil {
		return err
	}
	b.open, err = srtp.CreateContext(config.Keys.RemoteMasterKey, config.Keys.RemoteMasterSalt, config.Profile)
	return err
}

// says sends a payload as SRTP.
func (b *browser) says(payloadType byte, payload string) {
	b.t.Helper()
	b.seq++
	p := rtpPacket(b.ssrc+uint32(payloadType), b.seq, payload)
	p[1] = payloadType
	out, err := b.seal.EncryptRTP(nil, p, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.send(out)
}

// hears wants a payload as SRTP.
func (b *browser) hears(payload string) {
	b.t.Helper()
	buf := make([]byte, 2048)
	_ = b.media.SetReadDeadline(time.Now().Add(longest))
	n, _, err := b.media.Read(buf, nil)
	if err != nil {
		b.t.Fatalf("the browser got nothing, want %q", payload)
	}
	out, err := b.open.DecryptRTP(nil, buf[:n], nil)
	if err != nil || string(out[12:]) != payload {
		b.t.Fatalf("the browser got %q (%v), want %q", out, err, payload)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
