package tlsconf

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"
)

// A session ticket is opened by whoever has the key that sealed it, and with it, in
// TLS 1.2, every connection that resumed by it: so keys live for a day and not, as
// crypto/tls has it, for a week. They are in memory alone, and go from one process to the
// next. All listeners share them, and they outlive a change of certificates.
const (
	ticketRotation = 8 * time.Hour // of the key that seals
	ticketKeys     = 3             // that open: a ticket is good for 16 to 24 hours
)

// tickets is the keys in use, the one that seals first. The Source's lock guards it.
type tickets struct {
	keys [][32]byte
	made time.Time // the first of them
}

// rotate makes another key when the first one's time is over, and forgets those
// that have opened long enough.
func (t *tickets) rotate(now time.Time) (changed bool) {
	age := now.Sub(t.made)
	if len(t.keys) > 0 && age >= 0 && age < ticketRotation {
		return false
	}
	if age >= ticketKeys*ticketRotation || age < 0 { // the machine slept, or its clock was set
		clear(t.keys)
		t.keys = nil
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	next := append([][32]byte{key}, t.keys...)
	if len(next) > ticketKeys {
		next = next[:ticketKeys]
	}
	clear(t.keys) // SetSessionTicketKeys has copied what it uses
	t.keys, t.made = next, now
	return true
}

// marshal is the keys, and when the first of them was made.
func (t *tickets) marshal() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(t.made.UnixNano()))
	for _, key := range t.keys {
		b = append(b, key[:]...)
	}
	return b
}

func (t *tickets) unmarshal(b []byte) error {
	const head, key = 8, 32
	n := (len(b) - head) / key
	if n < 1 || n > ticketKeys || len(b) != head+n*key {
		return fmt.Errorf("read keys of session tickets: %d bytes are none", len(b))
	}
	t.made = time.Unix(0, int64(binary.BigEndian.Uint64(b)))
	t.keys = make([][key]byte, n)
	for i := range t.keys {
		copy(t.keys[i][:], b[head+i*key:])
	}
	return nil
}

// Tickets is the keys of session tickets, for a process after this one. They are secret:
// who has them reads what phones of TLS 1.2 say.
func (s *Source) Tickets() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tickets.marshal()
}

// TakeTickets takes the keys of a process before this one, whose phones then resume their
// sessions: a full handshake of each would be many at once.
func (s *Source) TakeTickets(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.tickets.unmarshal(b); err != nil {
		return err
	}
	s.tickets.rotate(time.Now())
	s.rebuild()
	return nil
}

// audience tells the configurations of listeners apart.
type audience struct {
	demand tls.ClientAuthType
	trunks bool
}

// ServerConfig returns a configuration for a listener without trunks. Each call gives a
// new one, which the caller owns; all follow what the Source has in force.
func (s *Source) ServerConfig(demand Demand) *tls.Config {
	return s.config(audience{demand: demand.auth()})
}

func (s *Source) config(of audience) *tls.Config {
	return &tls.Config{
		MinVersion: s.cfg.Profile.minVersion(),
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if s.renewer != nil {
				if c, err := s.renewer.challenges.answer(hello); c != nil || err != nil {
					return c, err
				}
			}
			return (*s.serving.Load())[of], nil
		},
	}
}

// rebuild makes the configurations of all handshakes that begin from now on. The
// caller holds the lock.
func (s *Source) rebuild() {
	serving := make(map[audience]*tls.Config)
	for _, d := range []Demand{Off, Optional, Required} {
		for _, trunks := range []bool{false, true} {
			of := audience{d.auth(), trunks}
			serving[of] = s.serverConfig(of)
		}
	}
	s.serving.Store(&serving)
}

func (s *Source) serverConfig(of audience) *tls.Config {
	c := &tls.Config{
		MinVersion:   s.cfg.Profile.minVersion(),
		MaxVersion:   tls.VersionTLS13,
		CipherSuites: s.cfg.Profile.suites(),
		// NextProtos stays empty on purpose: phones offer no protocol, "sip" or
		// "sip/2", and a list of ours would turn the others away (RFC 7301
		// section 3.2). The SIP reader refuses whatever is not SIP.
		GetCertificate: s.certificate,
	}
	switch {
	case of.trunks:
		s.demandOfTrunks(c, of)
	case of.demand != tls.NoClientCert:
		c.ClientAuth, c.VerifyConnection = of.demand, s.verifyClient
		c.ClientCAs = x509.NewCertPool() // of nobody: without a pool, crypto/tls would take the system's roots
		if a := s.clients.Load(); a != nil {
			c.ClientCAs = a.pool
		}
	}
	if len(s.tickets.keys) > 0 {
		c.SetSessionTicketKeys(s.tickets.keys)
	}
	return c
}

// demandOfTrunks has everybody asked for a certificate, phones as well: who is who shows
// by it. crypto/tls can verify by one set of CAs alone, so it is we who do.
func (s *Source) demandOfTrunks(c *tls.Config, of audience) {
	c.ClientAuth = tls.RequestClientCert
	if of.demand == tls.RequireAndVerifyClientCert {
		c.ClientAuth = tls.RequireAnyClientCert
	}
	asked := of.demand != tls.NoClientCert
	c.VerifyConnection = func(state tls.ConnectionState) error { return s.verifyShown(asked, &state, time.Now()) }
	// The CAs named to a client are a hint (RFC 8446 section 4.2.4), by which it may
	// keep its certificate to itself. One that we know by another way than a CA
	// must not, so there is none then.
	hint := x509.NewCertPool()
	for _, p := range s.trunks() {
		if p.issuers == nil {
			return
		}
		for _, cert := range p.issuers.anchors {
			hint.AddCert(cert)
		}
	}
	if a := s.clients.Load(); asked && a != nil {
		for _, cert := range a.anchors {
			hint.AddCert(cert)
		}
	}
	c.ClientCAs = hint
}
