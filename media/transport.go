package media

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Role is which end of a DTLS handshake we are (RFC 4145 section 4).
type Role uint8

// The roles.
const (
	Passive Role = iota // the phone begins
	Active              // we begin
)

// Credentials are the user fragment and the password of one end of ICE
// (RFC 8445 section 5.3). They do not print.
type Credentials struct{ Ufrag, Pwd string }

// Format keeps passwords out of logs and errors, whatever the verb.
func (c Credentials) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%s (password not shown)", c.Ufrag)
}

// Transport is what streams of a session share on the secure side when their
// keys come by DTLS-SRTP (RFC 5764): each has its own, or those that are
// bundled (RFC 8843) have one. We are ICE-lite (RFC 8445 section 2.5). Its
// methods may be called from any goroutine.
type Transport struct {
	session *Session
	t       *transport // the worker's
}

// TransportParams is what phone and edge agreed on for a transport.
type TransportParams struct {
	Role         Role
	Fingerprints []Fingerprint // of the phone's certificate; one must match
	Suites       []Suite       // that we take, best first; those of DTLS count
	ICE          bool          // the phone does ICE; it implies RTCPMux
	RTCPMux      bool
	// Hint and RTCPHint are where a phone without ICE may be found, as in
	// SecureParams.
	Hint, RTCPHint netip.AddrPort
}

// AddTransport makes a transport that waits for the phone. Its signalling comes
// from host, and it may use any of the suites, the best of which is first. One
// of them must be one of DTLS. Errors wrap ErrClosed, ErrSuite or ErrTooManyStreams.
func (s *Session) AddTransport(host netip.Addr, suites []Suite) (*Transport, error) {
	if !slices.ContainsFunc(suites, Suite.DTLS) {
		return nil, ErrSuite
	}
	cert, err := s.engine.certs.current(time.Now())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if len(s.transports) >= maxStreams {
		return nil, ErrTooManyStreams
	}
	t := newTransport(s, cert)
	t.params.Suites = slices.Clone(suites)
	t.parts[kindRTP].hint = canonical(netip.AddrPortFrom(host, 0))
	s.worker.do(func() { err = s.worker.admit(t) })
	if err != nil {
		return nil, err
	}
	s.transports = append(s.transports, t)
	return &Transport{session: s, t: t}, nil
}

// Fingerprint is that of our certificate.
func (t *Transport) Fingerprint() Fingerprint { return t.t.cert.fingerprint }

// Credentials are ours.
func (t *Transport) Credentials() (c Credentials) {
	t.session.worker.do(func() { c = t.t.creds[len(t.t.creds)-1] })
	return c
}

// RestartICE makes new credentials of ours (RFC 8445 section 9). The path in
// use stays until the phone nominates one under the new ones.
func (t *Transport) RestartICE() (c Credentials) {
	t.session.worker.do(func() { c = t.session.worker.restart(t.t) })
	return c
}

// Start says what the phone's description says. It may be called again: other
// fingerprints, or another role, begin a new handshake, and the keys in use stay
// until it is done. Of another role alone it need not come. Errors wrap ErrClosed.
func (t *Transport) Start(p TransportParams) error {
	s := t.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	p.Fingerprints, p.Suites = slices.Clone(p.Fingerprints), slices.Clone(p.Suites)
	p.Hint, p.RTCPHint = canonical(p.Hint), canonical(p.RTCPHint)
	p.RTCPMux = p.RTCPMux || p.ICE
	s.worker.do(func() { s.worker.start(t.t, p) })
	return nil
}

// Close lets a transport go. Streams that are on it have no keys from then on.
// All go with their session.
func (t *Transport) Close() {
	s := t.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.transports = slices.DeleteFunc(s.transports, func(o *transport) bool { return o == t.t })
		s.worker.do(func() {
			s.worker.remember(nil, []*transport{t.t})
			s.worker.dismiss(t.t)
		})
	}
}

// transport is a Transport as its worker knows it. It belongs to the worker.
type transport struct {
	session *Session
	cert    *certificate
	streams []*stream
	parts   [numKinds]part  // RTCP's is used without rtcp-mux
	said    bool            // params are the phone's
	params  TransportParams // zero until then
	began   int64           // when they came
	creds   []Credentials   // ours, the newest last; those before it until the phone has nominated under it
	paths   []*path         // where valid checks came from
	conns   []*secureSocket // that began with a check of its phone
	byTCP   bool            // the path chosen last is a connection, or was: phones close theirs before they hang up
	parted  int64           // when the last valid check came by a path that is gone; 0: none is
	chosen  *path           // of paths: what the phone nominated
	settled int64           // when it nominated first, under its newest credentials; 0: never
	renews  bool            // it goes on to check when it is settled, as RFC 7675 has it
	cause   string          // what went wrong last
	told    int64           // when failure was told last; 0: never
	tried   transactions
}

// part is the transport of RTP, and with rtcp-mux of RTCP, or that of RTCP
// alone: the components of ICE (RFC 8445 section 4) and the DTLS associations
// of RFC 5764 section 3.
type part struct {
	prot protection
	peer []byte         // the certificate that its keys come from, DER; nil: none yet
	anew bool           // its roles are others since: a new handshake may come (RFC 8842 section 3.1), or none, as some keep what they have
	dtls *association   // the handshake; nil before, and when its keys are in use
	from netip.AddrPort // where its handshake came from, without ICE
	hint netip.AddrPort
}

func newTransport(s *Session, cert *certificate) *transport {
	return &transport{session: s, cert: cert, creds: []Credentials{newCredentials(s.worker.index)}}
}

// uses tells whether packets of a kind have a part of their own.
func (t *transport) uses(kind uint8) bool { return kind == kindRTP || t.said && !t.params.RTCPMux }

// carries tells whether the transport's streams are told apart by what their
// packets say, as they come by one path under one key.
func (t *transport) carries(st *stream, ssrc uint32, kind, payload uint8) bool {
	if t == nil || len(t.streams) < 2 {
		return true
	}
	if kind == kindRTP { // RFC 8843 section 9.2: payload types are of one m-line each
		return st.figures.has(payload)
	}
	for _, o := range t.streams {
		if o.sends(ssrc) {
			return o == st
		}
	}
	return st == t.streams[0] // who only receives reports by an SSRC that nothing tells of
}
