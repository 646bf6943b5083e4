package phone

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
)

// answers keeps the challenges that a phone was given, one for each realm of the
// server (401) and of the proxies before it (407; RFC 3261 section 22.3), and
// answers them. The phone's mutex guards it.
type answers struct {
	user, password string
	asked          uint64 // requests so far, each with what it took to get an answer
	of             []*challenge
}

// challenge is the last one of a realm.
type challenge struct {
	*digest.Challenge
	kind  int    // which of headers
	given uint64 // to which request
	count int    // how often its nonce was used
	spent bool   // it is not to be used again
}

// Where challenges stand, and their answers.
var headers = [2]struct{ ask, answer string }{
	{"WWW-Authenticate", "Authorization"}, {"Proxy-Authenticate", "Proxy-Authorization"},
}

const maxRealms = 8 // that a phone answers to

// begin numbers a request, however often it will be sent.
func (a *answers) begin() uint64 {
	a.asked++
	return a.asked
}

// learn takes the challenges of a 401 or 407 to a request: of each realm the first
// that is known (RFC 8760 section 2.4). One of a realm whose challenge to this very
// request was answered already means that the password is wrong, unless only the
// nonce was old.
func (a *answers) learn(r *sip.Response, request uint64) error {
	kind := 0
	if r.StatusCode == 407 {
		kind = 1
	}
	var learnt []*challenge
	for _, h := range r.GetHeaders(headers[kind].ask) {
		c, err := digest.ParseChallenge(h.Value())
		if err != nil || !digest.CanDigest(c) || slices.ContainsFunc(learnt, func(l *challenge) bool { return l.Realm == c.Realm }) {
			continue
		}
		learnt = append(learnt, &challenge{Challenge: c, kind: kind, given: request})
	}
	if len(learnt) == 0 {
		return ErrAuth
	}
	for _, l := range learnt {
		i := slices.IndexFunc(a.of, func(c *challenge) bool { return c.kind == kind && c.Realm == l.Realm })
		switch {
		case i < 0 && len(a.of) == maxRealms:
			return ErrAuth
		case i < 0:
			a.of = append(a.of, l)
		case a.of[i].given == request && !l.Stale:
			return ErrPassword
		default:
			a.of[i] = l
		}
	}
	return nil
}

// add gives a request the answers to all challenges that are known. One without
// qop was good for one request alone.
func (a *answers) add(d *message.Draft, method, uri string) error {
	for _, h := range headers {
		d.Drop(h.answer)
	}
	for _, c := range a.of {
		if c.spent {
			continue
		}
		c.count++
		cred, err := digest.Digest(c.Challenge, digest.Options{
			Method: method, URI: uri, Username: a.user, Password: a.password, Count: c.count,
			GetBody: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(d.Body())), nil }, // for auth-int
		})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrAuth, err)
		}
		d.Add(headers[c.kind].answer, cred.String())
		c.spent = len(c.QOP) == 0
	}
	return nil
}

// forget drops nonces: a new connection begins with nothing.
func (a *answers) forget() { a.of = nil }
