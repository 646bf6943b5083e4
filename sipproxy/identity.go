package sipproxy

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/digest"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/users"
)

// A phone may be somebody else outside than inside: with an account of the edge's
// own it logs in here, by a name and a secret that are worth nothing to the PBX. The
// name becomes the account's extension on the way in, wherever a phone writes it,
// and its own extension the name on the way out; the PBX's challenges are answered
// here (login.go). What is inside a call or a subscription is the connection's own,
// and is not challenged.

// identity is how phones prove who they are at the edge.
type identity struct {
	accounts *users.Store // nil: all is between the phone and the PBX
	verifier *digest.Verifier
	required bool           // who has no account does not get in
	refused  *regexp.Regexp // names that need one; nil: none do
}

func newIdentity(c Config) identity {
	return identity{accounts: c.Accounts, verifier: digest.New(c.Domain), required: c.AccountsRequired, refused: c.AccountsFor}
}

// isOn tells whether the edge asks anybody who he is.
func (i identity) isOn() bool { return i.accounts != nil || i.required || i.refused != nil }

// concerns tells whether the edge itself asks for a user's password. An extension
// that is an account's is no way in.
func (i identity) concerns(user string) bool {
	book := i.accounts.Book()
	return i.required || book.Named(user) != nil || book.Owner(user) != nil || i.refused != nil && i.refused.MatchString(user)
}

// identify lets a request pass that its sender's account is for, or that is none of
// ours to ask about. Who there is not is asked and refused as who there is.
func (p *Proxy) identify(f *flow.Flow, in *sip.Request) *refusal {
	if !p.identity.isOn() || in.Method == sip.CANCEL || p.ongoing(f, in) {
		return nil
	}
	user := p.claimed(f, in)
	if !p.identity.concerns(user) && !p.hidesAccount(f, in) {
		return nil
	}
	a := p.identity.accounts.Book().Named(user)
	if a != nil && f.Users() != nil { // by his certificate; inOwnName sees to it that it is his
		return nil
	}
	var of digest.Secret
	if a != nil {
		of = digest.Secret{SHA256: a.SHA256, MD5: a.MD5}
	}
	what, stale := policy.Challenged, false
	for _, header := range p.ownCredentials(in) {
		switch name, outcome := p.identity.verifier.Check(string(in.Method), header, of); {
		case outcome == digest.Right && name == user:
			return nil
		case outcome == digest.Stale:
			stale = true
		default:
			what = policy.Failed
		}
	}
	return p.unidentified(f, in, user, what, stale)
}

// unidentified asks for credentials, or refuses those that are wrong.
func (p *Proxy) unidentified(f *flow.Flow, in *sip.Request, user string, what policy.What, stale bool) *refusal {
	r := &refusal{status: sip.StatusForbidden, reason: "Forbidden", warn: 399, text: "user name or password is wrong"}
	if what == policy.Challenged {
		r = &refusal{status: sip.StatusUnauthorized, reason: "Unauthorized", routine: true}
		header := "WWW-Authenticate"
		if in.Method != sip.REGISTER { // to phones we are a proxy
			r.status, r.reason, header = sip.StatusProxyAuthRequired, "Proxy Authentication Required", "Proxy-Authenticate"
		}
		for _, challenge := range p.identity.verifier.Challenges(stale) {
			r = r.with(header, challenge)
		}
	}
	if stale && what == policy.Challenged { // says nothing against the sender
		return r
	}
	v := p.judgeBy.Observe(policy.Outcome{What: what, Source: f.Remote().Addr(), Flow: f.ID(), User: user, Login: user, Device: device(in)})
	if !v.Allowed {
		r.verdict = &v
	}
	return r
}

// ownCredentials are those of a request that answer a challenge of ours.
func (p *Proxy) ownCredentials(in *sip.Request) (list []string) {
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		for _, h := range in.GetHeaders(name) {
			d, _ := readDigest(h.Value())
			if realm, _ := d.param("realm"); realm == p.cfg.Domain {
				list = append(list, d.plainly())
			}
		}
	}
	return list
}

// accountIn is the account that a request of a phone is of, or nil.
func (p *Proxy) accountIn(f *flow.Flow, in *sip.Request) *users.Account {
	if book := p.identity.accounts.Book(); book != nil {
		return book.Named(p.claimed(f, in))
	}
	return nil
}

// ownerOf is the account that the PBX knows by an address, or nil.
func (p *Proxy) ownerOf(n flow.NameAddr) *users.Account {
	if book := p.identity.accounts.Book(); book != nil {
		return book.Owner(accountOf(n.URI))
	}
	return nil
}

// extensionOf is what the PBX calls a user at our domain, if he has an account.
func (p *Proxy) extensionOf(u sip.Uri) (string, bool) {
	book := p.identity.accounts.Book()
	if book == nil || !p.isOurs(u.Host) {
		return "", false
	}
	if a := book.Named(account(u)); a != nil {
		return a.Extension, true
	}
	return "", false
}

// withoutOurs takes from a request to the PBX what was for us alone.
func (p *Proxy) withoutOurs(req, in *sip.Request) {
	book := p.identity.accounts.Book()
	if book == nil {
		return
	}
	said := party(in)
	if cred, _ := credentialsOf(in); book.Named(p.nameOf(said)) != nil || isHidden(said) && book.Named(loginOf(cred)) != nil {
		removeAll(req, "Authorization")
		removeAll(req, "Proxy-Authorization")
	}
}

// countOn has what a PRACK says of its INVITE count as the one who gets it does.
func countOn(req *sip.Request, shift uint32) {
	h := req.GetHeader("RAck")
	if shift == 0 || h == nil { // RFC 3262 section 7.2
		return
	}
	if f := strings.Fields(h.Value()); len(f) == 3 {
		if n, err := strconv.ParseUint(f[1], 10, 32); err == nil {
			req.ReplaceHeader(sip.NewHeader("RAck", fmt.Sprintf("%s %d %s", f[0], uint32(n)+shift, f[2])))
		}
	}
}

// ownWords are the headers that may name the one they are for.
var ownWords = []string{"P-Asserted-Identity", "P-Called-Party-ID", "P-Associated-URI", "Diversion", "History-Info", "Refer-To", "Referred-By", "Remote-Party-ID"}

// inOwnWords has a message to the phone of an account call it by its name, not by its
// extension, and returns its body so.
func (p *Proxy) inOwnWords(m sip.Message, name string, text []byte) []byte {
	book := p.identity.accounts.Book()
	if book == nil {
		return text
	}
	a := book.Named(name)
	if a == nil || a.Name == a.Extension {
		return text
	}
	for _, header := range ownWords {
		list := m.GetHeaders(header)
		if len(list) == 0 {
			continue
		}
		removeAll(m, header)
		for _, h := range list {
			m.AppendHeader(sip.NewHeader(h.Name(), renamed(h.Value(), a.Extension, a.Name)))
		}
	}
	if bytes.IndexByte(text, '@') < 0 {
		return text
	}
	return []byte(renamed(string(text), a.Extension, a.Name))
}

// renamed puts one user in another's place, in all sip and sips URIs of a text.
func renamed(text, from, to string) string {
	var b strings.Builder
	kept := 0
	for i := 0; i < len(text); i++ {
		user := i - len(from)
		if text[i] != '@' || user < kept || !strings.EqualFold(text[user:i], from) || !endsWithScheme(text[:user]) {
			continue
		}
		b.WriteString(text[kept:user])
		b.WriteString(to)
		kept = i
	}
	if kept == 0 {
		return text
	}
	b.WriteString(text[kept:])
	return b.String()
}

// endsWithScheme tells whether a text ends with sip: or sips:, and these with no word
// before them.
func endsWithScheme(text string) bool {
	for _, scheme := range []string{"sip:", "sips:"} {
		at := len(text) - len(scheme)
		if at >= 0 && strings.EqualFold(text[at:], scheme) {
			return at == 0 || !isWordChar(text[at-1])
		}
	}
	return false
}

func isWordChar(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
