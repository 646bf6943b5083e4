package sipproxy

import (
	"fmt"
	"slices"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// With Config.Path a PBX that keeps Paths (RFC 3327) is given the phone's own
// contact, and a Path by which to reach it: chan_pjsip with support_path. So its
// operator sees where each phone is. Nothing else changes: what leads to a phone is
// still its token, an HMAC, in the Path and in a parameter of the contact, by
// which several phones with one private address are told apart; the address of
// the contact is never looked at. By default the contact is ours, which works with
// every PBX, and stays the same when a phone moves.
//
// A Service-Route (RFC 3608) is the PBX's wish for what a phone sends later. The
// phone has no use for addresses of the inside: it is kept with the binding and
// written into that phone's new requests.

// deviceParam holds the token in a contact that is the phone's own.
const deviceParam = "sallyport"

// maxServiceRoutes bounds what is kept for one phone, and for one provider.
const maxServiceRoutes = 8

// contactOf is what the PBX gets for a phone's contact: of the phone's own, user,
// host and port, as its parameters say nothing to who can't reach it by them.
func (p *Proxy) contactOf(uri, token string) string {
	u, err := parseURI(uri)
	if err != nil || !p.cfg.Path {
		return contactForPBX(p.pool, token)
	}
	if u = p.inwardURI(u); u.Scheme != "sip" || u.Host == "" {
		return contactForPBX(p.pool, token)
	}
	at := sip.Uri{Scheme: "sip", User: u.User, Host: u.Host, Port: u.Port}
	at.UriParams.Add(deviceParam, token)
	return "<" + at.String() + ">"
}

// moved are the contacts that a REGISTER's devices had at the PBX before, and have
// no longer: they are removed by the same REGISTER.
func (p *Proxy) moved(reg *registration) (former []string) {
	if !p.cfg.Path {
		return nil
	}
	var now []string
	for _, c := range reg.contacts {
		now = append(now, p.contactOf(c.phone.URI, c.token))
	}
	for _, b := range p.bindings.of(reg.aor) {
		at := p.contactOf(b.contact, b.token)
		mine := slices.ContainsFunc(reg.contacts, func(c registrant) bool { return c.token == b.token })
		if mine && !slices.Contains(now, at) && !slices.Contains(former, at) {
			former = append(former, at)
		}
	}
	return former
}

// writePath has the PBX send what is for these contacts by us.
func (p *Proxy) writePath(reg *registration, req *sip.Request) {
	if !p.cfg.Path || len(reg.contacts) == 0 {
		return
	}
	req.AppendHeader(sip.NewHeader("Path", fmt.Sprintf("<sip:%s@%s;lr>", reg.contacts[0].token, p.cfg.PlainAddr)))
	setTags(req, "Supported", nil, []string{"path"}) // or chan_pjsip refuses the Path (420)
}

// tokenOfContact is the token in a contact at the PBX.
func tokenOfContact(u sip.Uri) string {
	if token, ok := u.UriParams.Get(deviceParam); ok {
		return token
	}
	return u.User
}

// addressee is the token that a request of the PBX is for: in its Request-URI, or
// in the Path that the PBX made a Route of. A PBX that routes by its own table may
// name the user instead.
func (p *Proxy) addressee(in *sip.Request) string {
	if token, ok := in.Recipient.UriParams.Get(deviceParam); ok {
		return token
	}
	if routes, err := flow.Addresses(in, "Route"); err == nil && len(routes) > 0 {
		if u, err := parseURI(routes[0].URI); err == nil && u.User != "" && sameHost(u.Host, p.cfg.PlainAddr.Addr()) {
			return u.User
		}
	}
	return in.Recipient.User
}

// serviceRoute reads the routes in the answer to a REGISTER.
func serviceRoute(res *sip.Response) []string {
	list, err := flow.Addresses(res, "Service-Route")
	if err != nil || len(list) > maxServiceRoutes {
		return nil
	}
	routes := make([]string, len(list))
	for i, r := range list {
		routes[i] = r.String()
	}
	return routes
}
