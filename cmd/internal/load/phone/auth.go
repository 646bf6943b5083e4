package phone

import (
	"crypto/md5" //nolint:gosec // most servers ask for it
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
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

	cnonce string // of all its answers
	a1     string // of its session (RFC 7616 section 3.4.2); empty: of each answer
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
		c, err := a.read(h.Value())
		if err != nil || slices.ContainsFunc(learnt, func(l *challenge) bool { return l.Realm == c.Realm }) {
			continue
		}
		c.kind, c.given = kind, request
		learnt = append(learnt, c)
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

// hashes are those of sessions (RFC 7616 section 3.4.2, RFC 8760 section 2.2).
var hashes = map[string]func() hash.Hash{"MD5": md5.New, "SHA-256": sha256.New, "SHA-512-256": sha512.New512_256}

const session = "-SESS" // at the end of an algorithm

// read reads a challenge that can be answered. Of one for a session the user's hash is
// made once, with the first nonces of both ends.
func (a *answers) read(text string) (*challenge, error) {
	d, err := digest.ParseChallenge(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuth, err)
	}
	c := &challenge{Challenge: d, cnonce: rand.Text()}
	plain := *d
	name, ok := strings.CutSuffix(strings.ToUpper(d.Algorithm), session)
	if ok {
		plain.Algorithm = name
	}
	if !digest.CanDigest(&plain) || ok && (hashes[name] == nil || len(d.QOP) == 0) { // without qop no cnonce is told
		return nil, ErrAuth
	}
	if ok {
		h := hashes[name]()
		sum := func(text string) string {
			h.Reset()
			_, _ = io.WriteString(h, text) // never fails (hash)
			return hex.EncodeToString(h.Sum(nil))
		}
		c.a1 = sum(sum(a.user+":"+d.Realm+":"+a.password) + ":" + d.Nonce + ":" + c.cnonce)
	}
	return c, nil
}

// answer answers a challenge for a request.
func (a *answers) answer(c *challenge, o digest.Options) (string, error) {
	o.Username, o.Password, o.Count, o.Cnonce, o.A1 = a.user, a.password, c.count, c.cnonce, c.a1
	asked := *c.Challenge
	if c.a1 != "" {
		asked.Algorithm = asked.Algorithm[:len(asked.Algorithm)-len(session)]
	}
	cred, err := digest.Digest(&asked, o)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrAuth, err)
	}
	cred.Algorithm = c.Algorithm // as it was asked for
	return cred.String(), nil
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
		answer, err := a.answer(c, digest.Options{
			Method: method, URI: uri,
			GetBody: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(d.Body())), nil }, // for auth-int
		})
		if err != nil {
			return err
		}
		d.Add(headers[c.kind].answer, answer)
		c.spent = len(c.QOP) == 0
	}
	return nil
}

// forget drops nonces: a new connection begins with nothing.
func (a *answers) forget() { a.of = nil }
