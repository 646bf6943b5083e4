package sipproxy

import (
	"path"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// Inbound is what phones may send to the PBX. What only speaks of who somebody is,
// or steers a PBX, is for those to say whom policy trusts (RFC 3325 section 5): a
// phone must not tell the PBX who it is except by its digest.
type Inbound struct {
	Headers []string // that end here unless the phone is trusted; a * stands for any letters
	Methods []string // that go on, or "*" for all; others get 405
	Bodies  []string // media types that go on; a * stands for any letters, but /
	// OwnCaller has From name the user of the credentials.
	OwnCaller bool
}

// DefaultInbound lets all through that phones need.
func DefaultInbound() Inbound {
	return Inbound{
		Headers: []string{
			"P-Asserted-Identity", "P-Asserted-Service", "P-Charging-Vector", "P-Charging-Function-Addresses", "P-Access-Network-Info",
			"Remote-Party-ID", "Diversion", "History-Info", "X-*",
		},
		Methods: append(strings.Split(methods, ", "), "REGISTER"),
		Bodies:  []string{"application/*", "text/*", "message/*"},
	}
}

// strip takes from a phone's message the headers that it may not set.
func (p *Proxy) strip(f *flow.Flow, m sip.Message) {
	if f.Side() == flow.Plain || p.trunkOf(f) != nil || p.judgeBy.Trusts(f.Remote().Addr(), f.ID()) {
		return
	}
	for {
		headers := m.(interface{ Headers() []sip.Header }).Headers()
		i := slices.IndexFunc(headers, func(h sip.Header) bool { return p.ends.like(h.Name()) })
		if i < 0 {
			return
		}
		removeAll(m, headers[i].Name())
	}
}

// patterns are what names may be like, whatever their case.
type patterns []pattern

// pattern is one of them. Most are a name, or how one begins.
type pattern struct {
	text  string // in lower case
	begin string // for a text that is this and a *
	plain bool   // nothing in it stands for anything else
}

func newPatterns(list []string) (all patterns) {
	for _, text := range list {
		p := pattern{text: strings.ToLower(text), plain: !strings.ContainsAny(text, `*?[\`)}
		if begin, ok := strings.CutSuffix(p.text, "*"); ok && begin != "" && !strings.ContainsAny(begin, `*?[\`) {
			p.begin = begin
		}
		all = append(all, p)
	}
	return all
}

// like tells whether a name is like one of them.
func (all patterns) like(name string) bool {
	return slices.ContainsFunc(all, func(p pattern) bool {
		switch {
		case p.plain:
			return strings.EqualFold(p.text, name)
		case p.begin != "" && (len(name) < len(p.begin) || !strings.EqualFold(p.begin, name[:len(p.begin)])):
			return false
		}
		ok, err := path.Match(p.text, strings.ToLower(name))
		return ok && err == nil
	})
}

// takes tells whether a method goes on.
func (i Inbound) takes(method string) bool {
	return slices.Contains(i.Methods, method) || slices.Contains(i.Methods, "*")
}

// accepts tells why a phone's request does not go on for what it is, or nil.
func (p *Proxy) accepts(in *sip.Request) *refusal {
	if !p.cfg.Inbound.takes(string(in.Method)) {
		return refuse(sip.StatusMethodNotAllowed, "Method Not Allowed", "%s does not go on to the PBX", in.Method).
			with("Allow", strings.Join(p.cfg.Inbound.Methods, ", "))
	}
	if in.Method == sip.REGISTER { // its body is of no use to anybody, and is left out
		return nil
	}
	b := bodyOf(in)
	kinds := b.besides()
	if bodyRefused(b) == nil {
		kinds = append(kinds, b.mediaType())
	}
	for _, kind := range kinds {
		if kind != "" && !p.bodies.like(kind) {
			return refuse(sip.StatusUnsupportedMediaType, "Unsupported Media Type", "a body of type %s does not go on to the PBX", kind).
				with("Accept", strings.Join(p.cfg.Inbound.Bodies, ", "))
		}
	}
	return nil
}

// inOwnCall is the sender of a phone's request as the PBX shall read it: with
// OwnCaller, the user of the credentials, and without another's name, unless it is
// one who is registered on the connection.
func (p *Proxy) inOwnCall(f *flow.Flow, in *sip.Request, from flow.NameAddr) flow.NameAddr {
	cred, r := credentialsOf(in)
	if !p.cfg.Inbound.OwnCaller || f.Side() == flow.Plain || r != nil || cred.user == "" ||
		p.bindingOf(f, party(in)) != nil || p.judgeBy.Trusts(f.Remote().Addr(), f.ID()) {
		return from
	}
	u, err := parseURI(from.URI)
	user, _, _ := strings.Cut(cred.user, "@")
	if said, _ := flow.Address(in, "From"); err != nil || account(u) == user || accountOf(said.URI) == user {
		return from
	}
	u.User, u.Password = user, ""
	from.URI, from.Display = u.String(), ""
	return from
}

// vital are the headers that requests need here and at the PBX (RFC 3261 section 8.1.1),
// those of a body, and those that say who asks.
var vital = []string{
	"Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Contact", "Content-Type", "Content-Length", "Authorization", "Proxy-Authorization",
}

// faults are those of the patterns.
func (i Inbound) faults(fault func(bad bool, format string, args ...any)) {
	for key, list := range map[string][]string{"headers": i.Headers, "bodies": i.Bodies} {
		for _, pattern := range list {
			_, err := path.Match(pattern, "x")
			fault(err != nil || pattern == "", "policy.%s: %q is no pattern; write it like \"X-*\"", key, pattern)
		}
	}
	ends, bodies := newPatterns(i.Headers), newPatterns(i.Bodies)
	lost := slices.DeleteFunc(slices.Clone(vital), func(name string) bool { return !ends.like(name) })
	fault(len(lost) > 0, "policy.headers: without %s there are no calls; take out what stands for it", strings.Join(lost, ", "))
	_, err := path.Match(strings.Join(i.Bodies, ""), "")
	fault(err == nil && !bodies.like("application/sdp"), "policy.bodies: without application/sdp there are no calls; add it, or application/*")
	for _, m := range []string{"INVITE", "ACK", "BYE", "CANCEL"} {
		fault(!i.takes(m), "policy.methods: without %s there are no calls; add it", m)
	}
}
