package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// spoofed refuses who says that it is somebody else: a user has the credentials, or
// is registered over the connection. The PBX may find out who calls by one of the
// two, and tell the called the other. Who does not say who it is hides nothing that
// it could pretend (RFC 3323 section 4.1.1.3).
func (p *Policy) spoofed(e Event) (Verdict, bool) {
	switch {
	case p.cfg.OtherCallers, e.Login == "", e.Inside, e.Method == "REGISTER":
		return Verdict{}, false
	case strings.EqualFold(e.User, e.Login), strings.EqualFold(e.User, loginUser(e.Login)), e.User == "anonymous", p.watch.isProven(e.Flow, name(e.User)):
		return Verdict{}, false
	case p.Trusts(e.Source, e.Flow), p.isTrusted(e.Login):
		return Verdict{}, false
	}
	return Verdict{Reason: fmt.Sprintf("user %s calls as %s, who is not registered on the connection", e.Login, e.User), Say: "the caller is somebody else"}, true
}

// loginUser is a username without the realm that some write behind it.
func loginUser(login string) string {
	for i, c := range login {
		if c == '@' {
			return login[:i]
		}
	}
	return login
}

// Trusts tells whether who is behind a connection may say who somebody is: by its
// source, or as one of the users that have authenticated over it.
func (p *Policy) Trusts(source netip.Addr, flow uint64) bool {
	if p.trusted.Contains(plain(source)) {
		return true
	}
	return len(p.cfg.TrustedUsers) > 0 && p.watch.isAnyOf(flow, p.isTrusted)
}

func (p *Policy) isTrusted(user string) bool { return Group{Users: p.cfg.TrustedUsers}.has(user) }

// isProven tells whether a user has authenticated over a connection.
func (w *watch) isProven(flow uint64, user string) bool {
	return w.isAnyOf(flow, func(each string) bool { return each == user })
}

// isAnyOf tells whether a user who has authenticated over a connection is like that.
func (w *watch) isAnyOf(flow uint64, is func(string) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.flows[flow]
	if v == nil {
		return false
	}
	for user := range v.proven {
		if is(user) {
			return true
		}
	}
	return false
}
