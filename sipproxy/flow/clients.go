package flow

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
)

// Clients knows the certificates that phones and trunks show. The tls.Config has
// verified them by then.
type Clients interface {
	// Users are those that a connection's certificate may speak for; nil: none was shown.
	Users(*tls.ConnectionState) []string
	// Trunk is the name of the trunk whose certificate it is; empty: it is no trunk's.
	Trunk(*tls.ConnectionState) string
	// Withdrawn tells why a certificate that was taken no longer is.
	Withdrawn(*tls.ConnectionState) error
}

// Know gives who knows the certificates of clients. It is called before Run.
func (l *Listener) Know(clients Clients) { l.clients = clients }

// Accept has connections that show the certificate of one of these become its flows.
// It is called before Run; whose a certificate is, those whom Know gave tell.
func (l *Listener) Accept(trunks ...*Trunk) {
	l.trunks = make(map[string]*Trunk)
	for _, t := range trunks {
		l.trunks[t.Name()] = t
	}
}

// Recheck closes the connections whose certificate is not good any longer.
func (l *Listener) Recheck() {
	l.mu.Lock()
	var shown []*conn
	for c := range l.conns {
		if c.state != nil {
			shown = append(shown, c)
		}
	}
	l.mu.Unlock()
	for _, c := range shown {
		_ = l.recheck(c)
	}
}

// recheck closes a connection whose certificate is not good any longer, and tells
// why.
func (l *Listener) recheck(c *conn) error {
	withdrawn := l.clients.Withdrawn
	if c.trunk != nil && c.trunk.cfg.Withdrawn != nil {
		withdrawn = c.trunk.cfg.Withdrawn
	}
	err := withdrawn(c.state)
	if err != nil {
		l.log.Info("connection closed", "peer", c.remote.String(), "reason", err)
		l.refusedClient(refusedWord(err))
		c.end(err)
	}
	return err
}

// knows notes what a connection's certificate says. The second look is for one
// that was withdrawn between the handshake and the first, when Recheck did not find
// the connection.
func (l *Listener) knows(c *conn) error {
	state := c.tls.ConnectionState()
	if l.clients == nil || len(state.PeerCertificates) == 0 {
		return nil
	}
	users, trunk := l.clients.Users(&state), l.trunks[l.clients.Trunk(&state)]
	l.mu.Lock()
	c.state, c.users, c.trunk = &state, users, trunk
	l.mu.Unlock()
	return l.recheck(c)
}

// refusedWord is why a client's certificate was refused, in a word; empty if a
// handshake failed for another reason.
func refusedWord(err error) string {
	var told interface{ Refused() string }
	var unverified *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &told):
		return told.Refused()
	case strings.Contains(err.Error(), "client didn't provide a certificate"):
		return "none"
	case !errors.As(err, &unverified):
		return ""
	case errors.As(err, &unknown):
		return "unknown_ca"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "expired"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "usage"
	}
	return "invalid"
}

// whyRefused says so in an operator's words.
func whyRefused(word string, err error) string {
	switch word {
	case "none":
		return "no client certificate: the listener asks for one, and the phone has none, or none of a CA it was shown"
	case "unknown_ca":
		return "unknown CA: the phone's certificate was not issued by one of tls.client_ca"
	case "expired":
		return "expired: the phone's certificate is over, or not valid yet: issue another, and see the clocks"
	case "usage":
		return "the phone's certificate was not issued for client authentication"
	case "invalid":
		return "the phone's certificate does not hold"
	}
	return err.Error() // in words of the one who refused
}

func (l *Listener) refusedClient(word string) {
	l.counters.mu.Lock()
	defer l.counters.mu.Unlock()
	if l.refusedClients == nil {
		l.refusedClients = make(map[string]uint64)
	}
	l.refusedClients[word]++
}
