package sipproxy

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// contactForPBX is our Contact at the PBX: a token for the phone, at our plain
// address, and nothing that a driver for UDP could stumble over.
func contactForPBX(at *pool, token string) string {
	return fmt.Sprintf("<sip:%s@%s>", token, at.addr)
}

// contactForPhone is our Contact at a phone: by the name that the phone itself
// uses for us, so that it finds the connection it already has, and with the
// scheme that it uses: it may not take sip for sips (RFC 3261 section 12.1.1).
func (p *Proxy) contactForPhone(f *flow.Flow, scheme, host, user string) string {
	at := p.publicAddr(f)
	if !strings.EqualFold(host, p.cfg.Domain) {
		host = at.Addr().String()
	}
	if scheme != "sips" {
		scheme = "sip"
	}
	uri := sip.Uri{Scheme: scheme, User: user, Host: host, Port: int(at.Port())}
	transport := "tls"
	if f.Transport() == "WSS" { // a URI says ws for both of the Via's WS and WSS (RFC 7118 section 5.2)
		transport = "ws"
	}
	uri.UriParams.Add("transport", transport)
	return "<" + uri.String() + ">"
}

// randomCallToken stands for a phone that calls without being registered.
func randomCallToken() string { return "call-" + randomToken(8) }

// withoutTransport leaves out the parameters by which a URI says how it is
// reached.
func withoutTransport(params sip.HeaderParams) sip.HeaderParams {
	return slices.DeleteFunc(slices.Clone(params), func(kv sip.HeaderKV) bool { return isTransport(kv.K) })
}

func isTransport(param string) bool {
	switch strings.ToLower(param) {
	case "transport", "maddr", "ttl", "lr", "ob":
		return true
	}
	return false
}

// outward maps an address of the plain side to our domain, so that phones can
// call it back and learn nothing of the inside.
func (p *Proxy) outward(n flow.NameAddr) flow.NameAddr {
	u, err := parseURI(n.URI)
	if err != nil || !p.isInside(u.Host) {
		return n
	}
	headers := ""
	if _, after, ok := strings.Cut(n.URI, "?"); ok {
		headers = "?" + after
	}
	n.URI = p.outwardURI(u.Scheme, u.User, u.Host) + headers
	return n
}

// outwardURI is a user at a host of the plain side as phones may know it: at our
// domain, without port and parameters, and where it is one of our own tokens,
// by the name of the user whose phone that is.
func (p *Proxy) outwardURI(scheme, user, host string) string {
	if b := p.bindings.get(user); b != nil && sameHost(host, p.cfg.PlainAddr.Addr()) {
		return b.uri
	}
	if user != "" {
		user += "@"
	}
	return scheme + ":" + user + p.cfg.Domain
}

// outwardList does so for all the addresses of a header's value.
func (p *Proxy) outwardList(value string) string { return mapList(value, p.outward) }

// mapList maps the addresses of a header's value. One in which there is no
// reason to change any stays byte for byte.
func mapList(value string, mapped func(flow.NameAddr) flow.NameAddr) string {
	list, err := flow.ParseList(value)
	if err != nil {
		return value
	}
	changed := false
	texts := make([]string, len(list))
	for i, n := range list {
		to := mapped(n)
		changed = changed || to != n
		texts[i] = to.String()
	}
	if !changed {
		return value
	}
	return strings.Join(texts, ", ")
}

func sameHost(host string, addr netip.Addr) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip == addr
}

// redirects are the contacts of a redirection (3xx), as who asked may see them;
// other failures carry none.
func (p *Proxy) redirects(asked *transaction.Server, res *sip.Response) []string {
	if res.StatusCode >= 400 {
		return nil
	}
	list, err := flow.Addresses(res, "Contact")
	if err != nil {
		return nil
	}
	caller := asked.Conn().(*flow.Flow) // what Proxy.Receive gave it
	contacts := make([]string, len(list))
	for i, c := range list {
		if caller.Side() == flow.Plain {
			c = p.inward(c, caller.Remote())
		} else {
			c = p.outward(c)
		}
		contacts[i] = c.String()
	}
	return contacts
}

// inward maps an address at our domain to a PBX, where a phone that forwards its
// calls means it to be.
func (p *Proxy) inward(n flow.NameAddr, pbx netip.AddrPort) flow.NameAddr {
	u, err := parseURI(n.URI)
	if err != nil {
		return n
	}
	ours := p.isOurs(u.Host)
	if u = p.inwardURI(u); ours || p.isOurs(u.Host) {
		u.Host, u.Port = pbx.Addr().String(), int(pbx.Port())
	}
	n.URI = u.String()
	return n
}

// isOurs tells whether phones know us by a host.
func (p *Proxy) isOurs(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, p.cfg.Domain) || (err == nil && slices.Contains(p.cfg.PublicIPs, ip))
}

func userOf(uri string) string {
	u, err := parseURI(uri)
	if err != nil {
		return ""
	}
	return u.User
}

// account is the user whom a URI names, as the PBX reads it: without escapes.
// Policy and bindings go by it, or %31001 would be somebody else than 1001 here,
// and the same there. The user of a tel URI is its number.
func account(u sip.Uri) string {
	user := u.User
	if u.Scheme == "tel" {
		user, _, _ = strings.Cut(u.Raw(), ";")
	}
	if plain, err := url.PathUnescape(user); err == nil {
		return plain
	}
	return user
}

// accountOf is the account that a From or To is about; nothing if it can't be
// read. Where no user is, chan_sip takes the host for one.
func accountOf(uri string) string {
	u, err := parseURI(uri)
	if err != nil {
		return ""
	}
	if name := account(u); name != "" {
		return name
	}
	return u.Host
}

func hostOf(u sip.Uri) string { return u.Host }

// reasonOf is why a call failed, for its record.
func reasonOf(res *sip.Response) string {
	return fmt.Sprintf("%d %s", res.StatusCode, res.Reason)
}

func parseURI(s string) (sip.Uri, error) {
	u := uris.Get().(*sip.Uri) // the parser keeps none, but the compiler can't know
	defer uris.Put(u)
	*u = sip.Uri{}
	err := flow.ParseURI(s, u)
	return *u, err
}

// uris are for URIs while they are read.
var uris = sync.Pool{New: func() any { return new(sip.Uri) }}
