package peers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v5/packetio"
)

// DTLS is how a phone's Media is keyed by DTLS-SRTP (RFC 5763, RFC 5764), with
// RTP and RTCP on one port. What is set before Offer or Accept shows in them.
type DTLS struct {
	Proto    string          // of its offers
	Setup    string          // active, passive or actpass; an answer to actpass is active if it says the last
	Hash     string          // of the fingerprint
	Above    bool            // fingerprint and setup stand above the m-lines
	Profiles []string        // the suites that it knows, best first
	Cert     tls.Certificate // what it proves to have
	Named    tls.Certificate // what its descriptions name; the same unless a test says otherwise
	Lose     int             // handshake datagrams lost on the way, the first ones of each direction
	Delay    time.Duration   // of each handshake datagram on its way: the network's, which is wide
	ICE      *ICE            // nil: it does none

	m       *Media
	said    string        // the setup of the last description
	shaken  string        // what the last handshake was for
	current *association  // of that
	done    chan struct{} // closed when the last handshake has ended; nil: none began
	err     error         // how it ended
	keys    [2]Key        // what came out: the phone's and the edge's
	lost    [2]int        // datagrams lost so far, from and to the phone
}

// NewDTLS makes media that are keyed by DTLS. Their suite is known when the
// handshake is done.
func (p *Phone) NewDTLS() *Media {
	p.t.Helper()
	m := p.NewMedia(profileNames[0])
	m.Mux = true
	m.DTLS = &DTLS{m: m, Proto: "UDP/TLS/RTP/SAVPF", Setup: "actpass", Hash: "sha-256", Profiles: profileNames}
	m.DTLS.NewCertificate()
	return m
}

// NewCertificate makes another one, for the next description and handshake.
func (d *DTLS) NewCertificate() {
	d.m.p.t.Helper()
	d.Cert = d.m.p.MediaCertificate(false)
	d.Named = d.Cert
}

// profileNames are the suites that DTLS has a name for and phones know, best
// first.
var profileNames = []string{"AEAD_AES_256_GCM", "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"}

// offer describes the media as an offer.
func (d *DTLS) offer() string {
	d.said = d.Setup
	return d.describe(d.Proto)
}

// accept describes them as the answer to an offer.
func (d *DTLS) accept(offer string) string {
	theirs := attribute(offer, "setup")
	switch {
	case theirs == "actpass" && d.Setup == "actpass" || theirs == "passive":
		d.said = "active"
	case theirs == "actpass":
		d.said = d.Setup
	default:
		d.said = "passive"
	}
	_, line, _ := strings.Cut(offer, "m=audio ")
	return d.describe(strings.Fields(line)[1])
}

func (d *DTLS) describe(proto string) string {
	keys := fmt.Sprintf("a=fingerprint:%s\r\na=setup:%s\r\n", mediaFingerprint(d.Hash, d.Named.Certificate[0]), d.said)
	above, lines := "", ""
	if d.Above {
		above = keys
	} else {
		lines = keys
	}
	if d.ICE != nil {
		lines += d.ICE.describe(d.m.Addr())
	}
	return d.m.describe(proto, above, lines)
}

// attribute is the value of the first a=name: line; empty if there is none.
func attribute(sdp, name string) string {
	_, after, _ := strings.Cut(sdp, "\r\na="+name+":")
	value, _, _ := strings.Cut(after, "\r\n")
	return value
}

// apply takes the edge's description into use: it begins a handshake, unless
// one for the same two certificates was begun before.
func (d *DTLS) apply(remote string) {
	m := d.m
	m.p.t.Helper()
	to, _, _ := readRemote(remote)
	theirs := attribute(remote, "fingerprint")
	setup := attribute(remote, "setup")
	if theirs == "" || setup == "" {
		m.p.t.Fatalf("the edge did not choose DTLS:\n%s", remote)
	}
	active := d.said == "active" || setup == "passive"
	m.mu.Lock()
	defer m.mu.Unlock()
	m.to = to
	m.header.SSRC, m.header.PayloadType = m.SSRC, m.Payload
	var ready <-chan struct{}
	if d.ICE != nil {
		ready = d.ICE.start(attribute(remote, "ice-ufrag"), attribute(remote, "ice-pwd"))
	}
	if what := theirs + mediaFingerprint("sha-256", d.Cert.Certificate[0]); what != d.shaken {
		d.shaken, d.done = what, make(chan struct{})
		if d.current != nil {
			d.current.in.Close()
		}
		d.current = &association{d: d, in: packetio.NewBuffer()}
		go d.shake(d.current, active, theirs, ready, d.done) // ends with the handshake and then with Stop
	}
}

// shake does one handshake, and then answers what the edge repeats of it.
func (d *DTLS) shake(a *association, active bool, theirs string, ready <-chan struct{}, done chan struct{}) {
	conn, err := d.handshake(a, active, theirs, ready)
	d.err = err
	close(done)
	if err != nil {
		return
	}
	defer conn.Close()
	for buf := make([]byte, 2048); ; {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

func (d *DTLS) handshake(a *association, active bool, theirs string, ready <-chan struct{}) (*dtls.Conn, error) {
	if ready != nil { // nothing but checks before a path is nominated (RFC 8445 section 12)
		select {
		case <-ready:
		case <-d.m.stop:
			return nil, net.ErrClosed
		}
	}
	conn, err := d.conn(a, active)
	if err != nil {
		return nil, fmt.Errorf("begin DTLS: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second) // longer than the edge waits
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("shake hands by DTLS: %w", err)
	}
	return conn, d.key(conn, active, theirs)
}

func (d *DTLS) conn(a *association, active bool) (*dtls.Conn, error) {
	known := make([]dtls.SRTPProtectionProfile, len(d.Profiles))
	for i, name := range d.Profiles {
		known[i] = dtls.SRTPProtectionProfile(profiles[name].profile)
	}
	options := []dtls.Option{
		dtls.WithCertificates(d.Cert), dtls.WithInsecureSkipVerify(true), dtls.WithSRTPProtectionProfiles(known...),
		dtls.WithFlightInterval(200 * time.Millisecond), dtls.WithDisableRetransmitBackoff(true), // lost flights cost a test little time
	}
	if active {
		list := make([]dtls.ClientOption, len(options))
		for i, o := range options {
			list[i] = o
		}
		return dtls.ClientWithOptions(a, a.RemoteAddr(), list...)
	}
	list := []dtls.ServerOption{dtls.WithClientAuth(dtls.RequireAnyClientCert)}
	for _, o := range options {
		list = append(list, o)
	}
	return dtls.ServerWithOptions(a, a.RemoteAddr(), list...)
}

// key puts the keys of a handshake in force (RFC 5764 section 4.2).
func (d *DTLS) key(conn *dtls.Conn, active bool, theirs string) error {
	state, ok := conn.ConnectionState()
	profile, agreed := conn.SelectedSRTPProtectionProfile()
	if !ok || !agreed || len(state.PeerCertificates) == 0 {
		return errors.New("the handshake ended without a profile or a certificate")
	}
	hash, _, _ := strings.Cut(theirs, " ")
	if got := mediaFingerprint(hash, state.PeerCertificates[0]); got != theirs {
		return fmt.Errorf("the edge's certificate is %s, its description says %s", got, theirs)
	}
	suite := ""
	for name, info := range profiles {
		if info.profile == srtp.ProtectionProfile(profile) {
			suite = name
		}
	}
	k, s := profiles[suite].key, profiles[suite].salt
	b, err := state.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*k+2*s)
	if err != nil {
		return fmt.Errorf("derive SRTP keys: %w", err)
	}
	ours := append(append([]byte{}, b[:k]...), b[2*k:2*k+s]...)
	edges := append(append([]byte{}, b[k:2*k]...), b[2*k+s:]...)
	if !active {
		ours, edges = edges, ours
	}
	d.keys = [2]Key{{Suite: suite, KeySalt: ours, Seals: true}, {Suite: suite, KeySalt: edges}}
	return nil
}

// Shaken waits for the end of the handshake, and tells how it was.
func (m *Media) Shaken(timeout time.Duration) error {
	m.p.t.Helper()
	select {
	case <-m.DTLS.done:
		return m.DTLS.err
	case <-time.After(timeout):
		return fmt.Errorf("no end of the DTLS handshake in %s", timeout)
	}
}

// Keyed waits until the handshake is done, and uses its keys. It returns the
// suite that was agreed on.
func (m *Media) Keyed(timeout time.Duration) string {
	m.p.t.Helper()
	if err := m.Shaken(timeout); err != nil {
		m.p.t.Fatalf("phone %s: %v", m.p.User, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Suite = m.DTLS.keys[0].Suite
	if err := m.keyLocked(m.Stack, m.DTLS.keys[0], m.DTLS.keys[1]); err != nil {
		m.p.t.Fatal(err)
	}
	return m.Suite
}

// Lost counts the handshake datagrams that were lost from and to the phone.
func (m *Media) Lost() (from, to int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.DTLS.lost[0], m.DTLS.lost[1]
}

// association is one handshake's net.PacketConn on the phone's RTP port.
type association struct {
	d  *DTLS
	in *packetio.Buffer
}

// loses tells whether the network loses a datagram. Media.mu is held.
func (d *DTLS) loses(direction int) bool {
	if d.lost[direction] >= d.Lose {
		return false
	}
	d.lost[direction]++
	return true
}

// takeLocked takes a datagram that came.
func (d *DTLS) takeLocked(p []byte) {
	if a := d.current; a != nil && !d.loses(1) {
		p = slices.Clone(p)
		time.AfterFunc(d.Delay, func() { _, _ = a.in.Write(p, nil) }) // a full buffer loses it
	}
}

// ReadFrom reads what came.
func (a *association) ReadFrom(p []byte) (int, net.Addr, error) {
	n, _, err := a.in.Read(p, nil)
	return n, a.RemoteAddr(), err
}

// WriteTo sends to where the edge's description says.
func (a *association) WriteTo(p []byte, _ net.Addr) (int, error) {
	m := a.d.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if !a.d.loses(0) {
		late := slices.Clone(p)
		time.AfterFunc(a.d.Delay, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			_, _ = m.conn.WriteToUDPAddrPort(late, m.to)
		})
	}
	return len(p), nil
}

// Close ends the handshake.
func (a *association) Close() error { return a.in.Close() }

// LocalAddr is of no use to it.
func (a *association) LocalAddr() net.Addr { return &net.UDPAddr{} }

// RemoteAddr is any one, always the same: there is one edge.
func (a *association) RemoteAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(EdgeOutside + ":10000"))
}

// SetDeadline is SetReadDeadline: writing never waits.
func (a *association) SetDeadline(t time.Time) error { return a.in.SetReadDeadline(t) }

// SetReadDeadline ends reads that wait beyond t.
func (a *association) SetReadDeadline(t time.Time) error { return a.in.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writing never waits.
func (a *association) SetWriteDeadline(time.Time) error { return nil }
