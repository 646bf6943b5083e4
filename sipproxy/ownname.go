package sipproxy

import (
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// inOwnName refuses what a phone says in the name of another user than its
// certificate's. What is inside a call or a subscription is the connection's own,
// and its From is what the PBX called the phone, perhaps: there the credentials
// alone are looked at.
func (p *Proxy) inOwnName(f *flow.Flow, in *sip.Request) *refusal {
	users := f.Users()
	if users == nil {
		return nil
	}
	if !p.ongoing(f, in) {
		for _, header := range []string{"From", "To"} {
			if header == "To" && in.Method != sip.REGISTER {
				continue
			}
			n, _ := flow.Address(in, header) // checked by package flow
			if user := accountOf(p.legibleParty(n).URI); !slices.Contains(users, user) {
				return p.anothers(users, "%s is %q", header, user)
			}
		}
	}
	for _, header := range []string{"Authorization", "Proxy-Authorization"} {
		for _, h := range in.GetHeaders(header) {
			user, ok := digestUser(h.Value())
			if !ok {
				return p.anothers(users, "%s names no user, or more than one", header)
			}
			if !slices.Contains(users, user) && !slices.Contains(users, strings.TrimSuffix(user, "@"+p.cfg.Domain)) {
				return p.anothers(users, "%s is for %q", header, user)
			}
		}
	}
	return nil
}

func (p *Proxy) anothers(users []string, format string, args ...any) *refusal {
	p.counters.otherUsers.Add(1)
	args = append(args, strings.Join(users, ", "))
	return refuse(sip.StatusForbidden, "Forbidden", format+", and the client's certificate is for %s", args...)
}

// ongoing tells whether a request belongs to a call or a subscription of its flow.
func (p *Proxy) ongoing(f *flow.Flow, in *sip.Request) bool {
	if flow.Tag(in, "To") == "" || in.Method == sip.CANCEL || in.Method == sip.REGISTER {
		return false
	}
	if p.find(f, in) != nil {
		return true
	}
	s, _ := p.findSubscription(f, in)
	return s != nil
}

// digestUser is the username of digest credentials (RFC 7616 section 3.4). Readers
// differ in where a parameter ends: the word may be there once, wherever that is.
func digestUser(credentials string) (string, bool) {
	scheme, rest, _ := strings.Cut(credentials, " ")
	const word = "username"
	lower := strings.ToLower(rest)
	at := strings.Index(lower, word)
	if !strings.EqualFold(scheme, "Digest") || at < 0 || strings.Count(lower, word) > 1 {
		return "", false
	}
	if before := strings.TrimRight(rest[:at], " \t"); before != "" && !strings.HasSuffix(before, ",") {
		return "", false
	}
	value, ok := strings.CutPrefix(strings.TrimLeft(rest[at+len(word):], " \t"), "=")
	if !ok { // username*, too: no PBX here reads it, and some might
		return "", false
	}
	value, ok = strings.CutPrefix(strings.TrimLeft(value, " \t"), `"`)
	value, _, closed := strings.Cut(value, `"`)
	if !ok || !closed || strings.Contains(value, `\`) {
		return "", false
	}
	return value, true
}
