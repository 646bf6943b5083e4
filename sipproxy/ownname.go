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
			n, _ := flow.Address(in, header)              // checked by package flow
			if isHidden(n) && in.Method != sip.REGISTER { // it is by its certificate or its credentials
				continue
			}
			if user := p.nameOf(n); !slices.Contains(users, user) {
				return p.anothers(users, "%s is %q", header, user)
			}
		}
	}
	cred, r := credentialsOf(in)
	if r != nil {
		return r
	}
	if user := cred.user; user != "" && !slices.Contains(users, user) && !slices.Contains(users, strings.TrimSuffix(user, "@"+p.cfg.Domain)) {
		return p.anothers(users, "the credentials are for %q", user)
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
