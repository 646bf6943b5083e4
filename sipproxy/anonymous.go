package sipproxy

import (
	"net/url"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// A phone may hide who it is from whom it calls, by a From that names anonymous (RFC
// 3323 section 4.1.1.3). That is for the called: here its request is of who sends it. His
// password is asked for, and rules are for him, as if he had named himself. The request goes
// where he is registered, and its call is his when he moves; so is a gateway's, in whose From
// is somebody else, and that of a phone whose From is written here.

// nobody is the user in such a From.
const nobody = "anonymous"

// isHidden tells whether an address names nobody on purpose.
func isHidden(n flow.NameAddr) bool {
	_, rest, _ := strings.Cut(n.URI, ":")
	may := len(rest) > len(nobody) && strings.EqualFold(rest[:len(nobody)], nobody) || strings.Contains(rest, "%")
	return may && strings.EqualFold(accountOf(n.URI), nobody)
}

// sender is the address of who sends a request: whom it says it is of or, where that is
// nobody, whose credentials or certificate it has, or who alone is registered over the
// connection. Of several none is guessed.
func (p *Proxy) sender(f *flow.Flow, in *sip.Request) flow.NameAddr {
	said := party(in)
	if in.Method == sip.REGISTER || !isHidden(said) {
		return said
	}
	cred, _ := credentialsOf(in) // what is wrong with them, admit tells
	name := loginOf(cred)
	if users := f.Users(); name == "" && len(users) == 1 {
		name = users[0]
	} else if name == "" && users != nil {
		return said
	}
	b := p.behind(f, name)
	switch {
	case b != nil && (name == "" || name == p.nameOf(b.address())):
		return b.address()
	case b != nil && !p.identity.concerns(name) && !p.identity.concerns(p.nameOf(b.address())): // to the PBX he has another name in credentials
		return b.address()
	case name != "":
		return flow.NameAddr{URI: "sip:" + strings.ReplaceAll(url.PathEscape(name), ":", "%3A") + "@" + p.cfg.Domain}
	}
	return said
}

// hidesAccount tells whether who sends a request remains unknown, and may be one whose
// password is asked for here.
func (p *Proxy) hidesAccount(f *flow.Flow, in *sip.Request) bool {
	return isHidden(p.sender(f, in)) && slices.ContainsFunc(p.bindings.by(f), func(b *binding) bool {
		return p.identity.concerns(p.nameOf(b.address()))
	})
}

// loginOf is the user of credentials, without the realm that some write behind it.
func loginOf(cred credentials) string {
	user, _, _ := strings.Cut(cred.user, "@")
	return user
}

// behind is the binding over a flow of the user who has that name or, if none has, of
// the only one who is registered over it; or nil.
func (p *Proxy) behind(f *flow.Flow, name string) (only *binding) {
	several := false
	for _, b := range p.bindings.by(f) {
		if p.nameOf(b.address()) == name {
			return b
		}
		several = several || only != nil && only.aor != b.aor
		only = b
	}
	if several {
		return nil
	}
	return only
}

// speaker finds the registration of a phone's request, or nil, and for whom a PBX is
// chosen and its challenges answered, as aorKey writes it; nothing: for who is in From.
// In a name that is not in From nobody is logged in but who has proved with the request
// itself that it is his.
func (p *Proxy) speaker(f *flow.Flow, in *sip.Request) (b *binding, by string) {
	cred, _ := credentialsOf(in)
	who := p.sender(f, in)
	if b = p.bindingOf(f, who); b == nil && (p.cfg.Inbound.OwnCaller || p.judgeBy.Trusts(f.Remote().Addr(), f.ID())) {
		if b = p.behind(f, loginOf(cred)); b != nil {
			by = b.aor
		}
	}
	proved := false
	if isHidden(party(in)) && !isHidden(who) {
		by, _ = aorKey(p.inwardParty(who).URI)
		proved = cred.user != "" || f.Users() != nil
	}
	if !proved && p.ownerOf(flow.NameAddr{URI: "sip:" + by}) != nil {
		by = ""
	}
	return b, by
}
