package digest

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/icholy/digest"
)

// Lifetime is how long a nonce is taken.
const Lifetime = 10 * time.Minute

// maxNonces bounds those remembered, about 200 bytes each.
const maxNonces = 1 << 16

// Secret is what is known of a user's password: A1 by both algorithms, in
// hexadecimal; MD5 may be empty. The zero Secret is nobody's.
type Secret struct{ SHA256, MD5 string }

// Outcome is what credentials are worth.
type Outcome uint8

// The outcomes.
const (
	Wrong Outcome = iota
	Stale         // a nonce that is no longer taken: to be asked for again
	Right
)

// Verifier challenges and checks. Its methods may be called from any goroutine.
type Verifier struct {
	realm string
	key   atomic.Pointer[[sha256.Size]byte]
	now   func() time.Time

	mu     sync.Mutex // guards what follows
	counts map[string]*list.Element
	order  *list.List // of *used, oldest first
}

type used struct {
	nonce string
	count int // the highest; -1: none more
}

// New returns a Verifier for a realm.
func New(realm string) *Verifier {
	v := &Verifier{realm: realm, now: time.Now, counts: make(map[string]*list.Element), order: list.New()}
	v.rekey()
	return v
}

// rekey makes all nonces stale.
func (v *Verifier) rekey() {
	var key [sha256.Size]byte
	rand.Read(key[:]) // never fails (crypto/rand)
	v.key.Store(&key)
}

// Challenges are the values of WWW-Authenticate or Proxy-Authenticate headers, the
// best first (RFC 8760 section 2.3): by SHA-256, and by MD5 for phones that know no
// better.
func (v *Verifier) Challenges(stale bool) []string {
	nonce := v.nonce()
	more := ""
	if stale {
		more = ", stale=true"
	}
	var out []string
	for _, algorithm := range []string{"SHA-256", "MD5"} {
		out = append(out, fmt.Sprintf(`Digest realm="%s", nonce="%s", algorithm=%s, qop="auth"%s`, v.realm, nonce, algorithm, more))
	}
	return out
}

// nonce is the time, something random, and a tag over both.
func (v *Verifier) nonce() string {
	b := make([]byte, 16, 32)
	binary.BigEndian.PutUint64(b, uint64(v.now().Unix()))
	rand.Read(b[8:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(append(b, v.tag(b)...))
}

func (v *Verifier) tag(b []byte) []byte {
	mac := hmac.New(sha256.New, v.key.Load()[:])
	mac.Write(b)
	return mac.Sum(nil)[:16]
}

// Check tells what the credentials of a request are worth against a user's secret.
// It takes as long for a user that there is not.
func (v *Verifier) Check(method, header string, of Secret) (name string, o Outcome) {
	c, err := digest.ParseCredentials(header)
	if err != nil || c.Realm != v.realm || c.Userhash {
		return "", Wrong
	}
	if !v.matches(method, c, of) {
		if !v.isFresh(c.Nonce) { // what it answers, nobody can say any more
			return c.Username, Stale
		}
		return c.Username, Wrong
	}
	if !v.isFresh(c.Nonce) || !v.count(c) {
		return c.Username, Stale
	}
	return c.Username, Right
}

// matches compares the response with what it must be.
func (v *Verifier) matches(method string, c *digest.Credentials, of Secret) bool {
	a1, known := of.MD5, of.MD5 != ""
	if strings.EqualFold(c.Algorithm, "SHA-256") {
		a1, known = of.SHA256, of.SHA256 != ""
	}
	if !known {
		a1 = strings.Repeat("0", 2*sha256.Size) // nobody's
	}
	challenge := &digest.Challenge{Realm: c.Realm, Nonce: c.Nonce, Algorithm: c.Algorithm, Opaque: c.Opaque}
	if c.QOP != "" {
		challenge.QOP = []string{"auth"}
	}
	want, err := digest.Digest(challenge, digest.Options{Method: method, URI: c.URI, Username: c.Username, A1: a1, Cnonce: c.Cnonce, Count: c.Nc})
	if err != nil || c.QOP != "" && (c.QOP != "auth" || c.Cnonce == "" || c.Nc < 1) {
		return false
	}
	got, _ := hex.DecodeString(c.Response)
	must, _ := hex.DecodeString(want.Response)
	return subtle.ConstantTimeCompare(got, must) == 1 && known
}

// isFresh tells whether a nonce is ours and young.
func (v *Verifier) isFresh(nonce string) bool {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != 32 || !hmac.Equal(b[16:], v.tag(b[:16])) {
		return false
	}
	age := v.now().Sub(time.Unix(int64(binary.BigEndian.Uint64(b)), 0))
	return age >= -time.Second && age < Lifetime
}

// count takes a nonce's count, once.
func (v *Verifier) count(c *digest.Credentials) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := v.counts[c.Nonce]
	if at == nil {
		at = v.order.PushBack(&used{nonce: c.Nonce})
		v.counts[c.Nonce] = at
		v.forget()
	}
	u := at.Value.(*used)
	switch {
	case c.QOP == "" && u.count == 0:
		u.count = -1
	case c.QOP != "" && u.count >= 0 && c.Nc > u.count:
		u.count = c.Nc
	default:
		return false
	}
	return true
}

// forget drops what is too old to be taken, and the oldest of too many. A nonce that
// is forgotten while it is fresh could be used again: it is made stale instead, by
// the key.
func (v *Verifier) forget() {
	for v.order.Len() > 0 {
		u := v.order.Front().Value.(*used)
		if v.isFresh(u.nonce) {
			break
		}
		v.drop(u)
	}
	if v.order.Len() > maxNonces {
		v.rekey()
		v.order.Init()
		v.counts = make(map[string]*list.Element)
	}
}

func (v *Verifier) drop(u *used) {
	v.order.Remove(v.counts[u.nonce])
	delete(v.counts, u.nonce)
}
