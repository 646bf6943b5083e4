package sipproxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// contactForPBX is our Contact at the PBX: a token for the phone, at our plain
// address, and nothing that a driver for UDP could stumble over.
func (p *Proxy) contactForPBX(token string) string {
	return fmt.Sprintf("<sip:%s@%s>", token, p.cfg.PlainAddr)
}

// contactForPhone is our Contact at a phone: by the name that the phone itself
// uses for us, so that it finds the connection it already has.
func (p *Proxy) contactForPhone(f *flow.Flow, host, user string) string {
	at := p.publicAddr(f)
	if !strings.EqualFold(host, p.cfg.Domain) {
		host = at.Addr().String()
	}
	uri := sip.Uri{Scheme: "sip", User: user, Host: host, Port: int(at.Port())}
	uri.UriParams.Add("transport", "tls")
	return "<" + uri.String() + ">"
}

// randomCallToken stands for a phone that calls without being registered.
func randomCallToken() string { return "call-" + randomToken(8) }

// inwardURI is a Request-URI as a PBX that knows only UDP can take it. User
// and host stay: the phone's digest is about them.
func inwardURI(u sip.Uri) sip.Uri {
	in := *u.Clone()
	if in.Scheme == "sips" {
		in.Scheme = "sip"
	}
	in.Headers = nil
	in.UriParams = slices.DeleteFunc(in.UriParams, func(kv sip.HeaderKV) bool {
		switch strings.ToLower(kv.K) {
		case "transport", "maddr", "ttl", "lr", "ob":
			return true
		}
		return false
	})
	return in
}

// outward maps an address of the plain side to our domain, so that phones can
// call it back and learn nothing of the inside.
func (p *Proxy) outward(n flow.NameAddr) flow.NameAddr {
	u, err := parseURI(n.URI)
	if err != nil || !p.isInside(u.Host) {
		return n
	}
	u.Host, u.Port, u.UriParams, u.Headers = p.cfg.Domain, 0, nil, nil
	n.URI = u.String()
	return n
}

func (p *Proxy) isInside(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && (ip == p.cfg.PlainAddr.Addr() || ip == p.cfg.PBX.Addr())
}

// outwardContacts are the contacts of a redirection (3xx), as the caller may
// see them; other failures carry none.
func (p *Proxy) outwardContacts(caller flow.Side, res *sip.Response) []string {
	if res.StatusCode >= 400 || caller == flow.Plain {
		return nil
	}
	list, err := flow.Addresses(res, "Contact")
	if err != nil {
		return nil
	}
	contacts := make([]string, len(list))
	for i, c := range list {
		contacts[i] = p.outward(c).String()
	}
	return contacts
}

func userOf(uri string) string {
	u, err := parseURI(uri)
	if err != nil {
		return ""
	}
	return u.User
}

func hostOf(u sip.Uri) string { return u.Host }

// reasonOf is why a call failed, for its record.
func reasonOf(res *sip.Response) string {
	return fmt.Sprintf("%d %s", res.StatusCode, res.Reason)
}

func parseURI(s string) (sip.Uri, error) {
	var u sip.Uri
	if err := sip.ParseUri(s, &u); err != nil {
		return u, fmt.Errorf("read URI %q: %w", s, err)
	}
	return u, nil
}
