package sipproxy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// inwardURI is a URI as the PBX shall read it: legible, and a user who has an account
// at the edge by his extension.
func (p *Proxy) inwardURI(u sip.Uri) sip.Uri {
	in := p.legibleURI(u)
	if extension, ok := p.extensionOf(u); ok {
		in.User = extension
	}
	return in
}

// legibleURI is a URI as a PBX that knows only UDP can take it. The user stays, and
// the host, unless it is us and the PBX has another name for that: what a digest is
// about is written in it once more, and stays as the phone wrote it. A telephone
// number is a user of our domain (RFC 3261 section 19.1.6), but without parameters
// in the user part: to chan_sip they belong to the extension, which none then is.
func (p *Proxy) legibleURI(u sip.Uri) sip.Uri {
	in := u
	in.UriParams, in.Headers = slices.Clone(u.UriParams), slices.Clone(u.Headers)
	switch in.Scheme {
	case "sips":
		in.Scheme = "sip"
	case "tel":
		number, ok := flow.TelNumber(in.Raw())
		if !ok {
			return in // validation lets no such Request-URI through
		}
		in = sip.Uri{Scheme: "sip", User: number, Host: p.cfg.Domain}
		in.UriParams.Add("user", "phone")
	}
	in.Headers = nil
	in.UriParams = withoutTransport(in.UriParams)
	if p.isOurs(in.Host) { // the port is that of TLS
		in.Host, in.Port = cmp.Or(p.cfg.PBXDomain, in.Host), 0
	}
	return in
}

// calledAs is the host by which a phone called.
func (p *Proxy) calledAs(u sip.Uri) string {
	if u.Scheme == "tel" {
		return p.cfg.Domain
	}
	return u.Host
}

// inwardParty writes an address that a phone gave, of its own or another's, for
// the PBX.
func (p *Proxy) inwardParty(n flow.NameAddr) flow.NameAddr {
	legible := p.legibleParty(n)
	u, err := parseURI(n.URI)
	if err != nil {
		return legible
	}
	extension, ok := p.extensionOf(u)
	if !ok {
		return legible
	}
	uri, headers, found := strings.Cut(legible.URI, "?")
	if u, err = parseURI(uri); err != nil {
		return legible
	}
	u.User = extension
	if legible.URI = u.String(); found {
		legible.URI += "?" + headers
	}
	return legible
}

// legibleParty is an address of the same user as the PBX can take it. One that
// there is no reason to change stays byte for byte.
func (p *Proxy) legibleParty(n flow.NameAddr) flow.NameAddr {
	uri, headers, found := strings.Cut(n.URI, "?")
	u, err := parseURI(uri)
	if err != nil || u.Scheme == "sip" && len(withoutTransport(u.UriParams)) == len(u.UriParams) &&
		(!p.isOurs(u.Host) || u.Port == 0 && p.cfg.PBXDomain == "") {
		return n
	}
	u = p.legibleURI(u)
	n.URI = u.String()
	if found {
		n.URI += "?" + headers
	}
	return n
}

// inwardParties does so for all the addresses of a header's value.
func (p *Proxy) inwardParties(value string) string { return mapList(value, p.inwardParty) }
