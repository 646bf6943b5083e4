package sipproxy

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/sallyport/sallyport/sipproxy/locate"
)

// insideHosts are the names and addresses of the plain side, which phones must
// not learn.
type insideHosts struct {
	addrs []netip.Addr
	names []string       // in lower case
	text  *regexp.Regexp // finds them in a text, each with its port
	words []string       // that one of them has in lower case
	lower bool           // and may have in upper case too
}

// newInsideHosts are those of the configuration and of the PBXs, and what was
// known before: a call may tell of a PBX that has moved since.
func newInsideHosts(c Config, pbxs []locate.Server, before *insideHosts) *insideHosts {
	h := &insideHosts{addrs: []netip.Addr{c.PlainAddr.Addr()}}
	for _, t := range c.Trunks {
		if t.own() {
			h.addrs = append(h.addrs, t.Listen.Addr())
		}
	}
	for _, each := range pbxs {
		h.addrs = append(h.addrs, each.Addr.Addr())
	}
	if before != nil {
		h.addrs = append(h.addrs, before.addrs[:min(len(before.addrs), maxFormer)]...)
	}
	for _, each := range c.Inside {
		if ip, err := netip.ParseAddr(strings.Trim(each, "[]")); err == nil {
			h.addrs = append(h.addrs, ip)
		} else {
			h.names = append(h.names, strings.ToLower(each))
		}
	}
	if c.PBXDomain != "" && !strings.EqualFold(c.PBXDomain, c.Domain) {
		h.names = append(h.names, strings.ToLower(c.PBXDomain))
	}
	slices.SortFunc(h.addrs, netip.Addr.Compare)
	h.addrs = slices.Compact(h.addrs)
	for _, ip := range h.addrs {
		h.words, h.lower = append(h.words, ip.String()), h.lower || !ip.Is4()
	}
	h.words, h.lower = append(h.words, h.names...), h.lower || len(h.names) > 0
	var spelled []string
	for _, ip := range h.addrs {
		spelled = append(spelled, anyCase(ip.String()))
	}
	for _, name := range h.names {
		if strings.Contains(name, ".") { // without, it may be any word: only in a URI it is sure to be a host
			spelled = append(spelled, anyCase(name))
		}
	}
	whole := `(?:` + strings.Join(spelled, "|") + `)` // with both brackets or none: one of them is another thing's
	h.text = regexp.MustCompile(`(^|[^a-zA-Z0-9.])(?:` + whole + `|\[` + whole + `\])(?::[0-9]+)?(\.?$|\.?[^a-zA-Z0-9.])`)
	return h
}

// anyCase is an expression for a host in upper and lower case. What ignores case would
// take an ſ for an s, which is none in a host (RFC 4343 section 3).
func anyCase(host string) string {
	var b strings.Builder
	for _, c := range host {
		if upper, lower := unicode.ToUpper(c), unicode.ToLower(c); upper != lower && c < unicode.MaxASCII {
			b.WriteString("[" + string(upper) + string(lower) + "]")
			continue
		}
		b.WriteString(regexp.QuoteMeta(string(c)))
	}
	return b.String()
}

// has tells whether a host is one of them.
func (h *insideHosts) has(host string) bool {
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return slices.Contains(h.addrs, ip)
	}
	return slices.Contains(h.names, strings.ToLower(host))
}

// isIn tells whether the IPv6 address of a URI has one of them in it, as [::ffff:10.0.0.5]
// has: with another name in the place of that it would be no host any longer.
func (h *insideHosts) isIn(host string) bool {
	return strings.HasPrefix(host, "[") && h.text.MatchString(host)
}

// maybeIn tells quickly of most texts that none of them is in it.
func (h *insideHosts) maybeIn(text string) bool {
	if strings.IndexByte(text, '[') >= 0 { // IPv6 has more than one spelling
		return true
	}
	if h.lower {
		text = strings.ToLower(text)
	}
	return slices.ContainsFunc(h.words, func(word string) bool { return strings.Contains(text, word) })
}

// replace puts another name in their place.
func (h *insideHosts) replace(text []byte, by string) []byte {
	for range 2 { // what stands between two of them belongs to one match alone
		text = h.text.ReplaceAll(text, []byte("${1}"+by+"${2}"))
	}
	return text
}

func (p *Proxy) isInside(host string) bool { return p.inside.Load().has(host) }
