package phone

import (
	"fmt"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
)

// answers keeps the challenges that a phone was given, and answers them: one of
// the server (401), and one of a proxy before it (407). The phone's mutex guards
// it.
type answers struct {
	user, password string
	of             [2]challenge
}

// challenge is the last one, and how often its nonce was used.
type challenge struct {
	*digest.Challenge
	count int
}

// Where challenges stand, and their answers.
var headers = [2]struct{ ask, answer string }{
	{"WWW-Authenticate", "Authorization"}, {"Proxy-Authenticate", "Proxy-Authorization"},
}

// learn takes the challenge of a 401 or 407. fresh tells that the request
// carried the answer to a challenge that was given for this very request: then
// another one means that the password is wrong, unless only the nonce was old.
func (a *answers) learn(r *sip.Response, fresh bool) error {
	i := 0
	if r.StatusCode == 407 {
		i = 1
	}
	for _, h := range r.GetHeaders(headers[i].ask) { // RFC 8760 section 2.4: the first that is known
		c, err := digest.ParseChallenge(h.Value())
		if err != nil || !digest.CanDigest(c) {
			continue
		}
		if fresh && !c.Stale && a.of[i].Challenge != nil {
			return ErrPassword
		}
		a.of[i] = challenge{Challenge: c}
		return nil
	}
	return ErrAuth
}

// add gives a request the answers to all challenges that are known. One without
// qop was good for one request alone.
func (a *answers) add(d *message.Draft, method, uri string) error {
	for i := range a.of {
		c := &a.of[i]
		d.Drop(headers[i].answer)
		if c.Challenge == nil {
			continue
		}
		c.count++
		cred, err := digest.Digest(c.Challenge, digest.Options{Method: method, URI: uri, Username: a.user, Password: a.password, Count: c.count})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrAuth, err)
		}
		d.Add(headers[i].answer, cred.String())
		if len(c.QOP) == 0 {
			c.Challenge = nil
		}
	}
	return nil
}

// forget drops nonces: a new connection begins with nothing.
func (a *answers) forget() { a.of = [2]challenge{} }
