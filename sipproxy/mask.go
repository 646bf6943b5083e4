package sipproxy

import (
	"crypto/rand"
	"math/big"
	"regexp"
	"slices"
	"sync"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// Some PBXs tell who asks without a password which users there are: 404 for one
// that is not, 401 for one that is (chan_sip does without alwaysauthreject). A
// mask keeps that from phones: an unknown user is challenged as a known one is,
// in the words of the PBX's last challenge, and then refused as a wrong password.

// maxNonces bounds those remembered of a connection.
const maxNonces = 32

// mask answers for the PBX where its own answer tells too much.
type mask struct {
	off bool

	mu        sync.Mutex // guards what follows
	challenge challenge  // the PBX's last
	wrong     int        // the status that it answers a wrong password with
	byFlow    map[*flow.Flow]*nonces
}

// challenge is how the PBX asks for a password. Before it did, it is taken for a
// chan_sip of which nothing is configured.
type challenge struct {
	status       int
	reason       string
	header, text string
}

// nonces are those of challenges that a connection got lately.
type nonces struct{ real, forged []string }

func newMask(off bool) *mask {
	return &mask{
		off: off, wrong: sip.StatusForbidden, byFlow: make(map[*flow.Flow]*nonces),
		challenge: challenge{sip.StatusUnauthorized, "Unauthorized", "WWW-Authenticate", `Digest algorithm=MD5, realm="asterisk", nonce="00c0ffee"`},
	}
}

var nonceOf = regexp.MustCompile(`(?i)(\bnonce=")([^"]*)(")`)

// see takes an answer of the PBX to a phone, and returns what the phone may see.
func (m *mask) see(f *flow.Flow, in *sip.Request, res *sip.Response, cred credentials, registered bool) *sip.Response {
	if m.off {
		return res
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	had := m.of(f)
	if isChallenge(res.StatusCode) {
		m.learn(had, res, cred)
		return res
	}
	asks := in.Method == sip.REGISTER || in.Method == sip.INVITE || in.Method == sip.SUBSCRIBE || in.Method == sip.PUBLISH || in.Method == sip.MESSAGE
	switch {
	case !asks || registered || !isUnknown(res.StatusCode):
		return res
	case cred.user == "":
		return m.ask(had, res)
	case slices.Contains(had.real, cred.nonce):
		if res.StatusCode == sip.StatusForbidden {
			m.wrong = res.StatusCode
			return res
		}
		if in.Method == sip.REGISTER {
			return m.deny(had, res)
		}
		return res // there is the user, but not the number
	case slices.Contains(had.forged, cred.nonce):
		return m.deny(had, res)
	}
	return m.ask(had, res) // a nonce that nobody gave: a known user would be asked again
}

// of finds what a connection got. One that is gone is not remembered. m.mu is
// held.
func (m *mask) of(f *flow.Flow) *nonces {
	n := m.byFlow[f]
	if n == nil {
		n = &nonces{}
		if !closed(f) {
			m.byFlow[f] = n
		}
	}
	return n
}

func (m *mask) forget(f *flow.Flow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byFlow, f)
}

// learn notes how the PBX asks. m.mu is held.
func (m *mask) learn(had *nonces, res *sip.Response, cred credentials) {
	for _, name := range []string{"WWW-Authenticate", "Proxy-Authenticate"} {
		for _, h := range res.GetHeaders(name) {
			parts := nonceOf.FindStringSubmatch(h.Value())
			if parts == nil {
				continue
			}
			if slices.Contains(had.real, cred.nonce) && !isStale(res) {
				m.wrong = res.StatusCode
			}
			had.real = remember(had.real, parts[2])
			if !isStale(res) {
				m.challenge = challenge{res.StatusCode, res.Reason, name, h.Value()}
			}
		}
	}
}

func remember(list []string, nonce string) []string {
	if len(list) >= maxNonces {
		list = list[1:]
	}
	return append(list, nonce)
}

// ask challenges in the PBX's place. m.mu is held.
func (m *mask) ask(had *nonces, res *sip.Response) *sip.Response {
	c := m.challenge
	nonce := ""
	text := nonceOf.ReplaceAllStringFunc(c.text, func(s string) string {
		parts := nonceOf.FindStringSubmatch(s)
		nonce = alike(parts[2])
		return parts[1] + nonce + parts[3]
	})
	had.forged = remember(had.forged, nonce)
	out := instead(res, c.status, c.reason)
	out.AppendHeader(sip.NewHeader(c.header, text))
	return out
}

// deny refuses as the PBX does a wrong password. m.mu is held.
func (m *mask) deny(had *nonces, res *sip.Response) *sip.Response {
	if isChallenge(m.wrong) {
		return m.ask(had, res)
	}
	return instead(res, sip.StatusForbidden, "Forbidden")
}

// instead is an answer with another status.
func instead(res *sip.Response, status int, reason string) *sip.Response {
	out := sip.NewResponse(status, reason)
	for _, h := range res.Headers() {
		out.AppendHeader(h)
	}
	return out
}

// alike is a random text of the same kind as another: a digit for each digit
// and letter that is one in base 16, or else any of the same alphabet.
func alike(text string) string {
	const digits, hex = "0123456789", "0123456789abcdef"
	alphabet := digits
	for _, each := range []string{digits, hex, "0123456789ABCDEF", hex + "ghijklmnopqrstuvwxyz", hex + "ghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"} {
		alphabet = each
		if isOf(text, each) {
			break
		}
	}
	out := []byte(text)
	for i, c := range out {
		if isOf(string(c), alphabet) && !isOf(string(c), "") {
			n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet)))) // never fails (crypto/rand)
			out[i] = alphabet[n.Int64()]
		}
	}
	return string(out)
}

// isOf tells whether the letters and digits of a text are all of an alphabet.
func isOf(text, alphabet string) bool {
	for _, c := range text {
		letter := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if letter && !slices.Contains([]rune(alphabet), c) {
			return false
		}
	}
	return true
}
