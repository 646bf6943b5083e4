package sipproxy

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// ownPrefix begins the names of headers that are ours to set.
const ownPrefix = "x-sallyport-"

// markSource puts into a phone's request where it came from, for the PBX's
// dialplan to read, if there is a header for it. Whoever else sets that header is
// not believed, and the PBX's own ends here.
func (p *Proxy) markSource(f *flow.Flow, m sip.Message) {
	name := p.cfg.SourceHeader
	if name == "" {
		return
	}
	removeAll(m, name)
	if _, request := m.(*sip.Request); request && f.Side() == flow.Secure {
		m.AppendHeader(sip.NewHeader(name, sourceOf(f)))
	}
}

// removeAll removes a header, in whatever case it is written, as often as it is
// there. The library's own way to do so asks for the name letter by letter.
func removeAll(m sip.Message, name string) {
	type headers interface {
		Headers() []sip.Header
		RemoveHeader(string) bool
	}
	hs := m.(headers)
	if flow.First(m, name) == nil {
		return
	}
	for _, h := range slices.Clone(hs.Headers()) {
		if strings.EqualFold(h.Name(), name) {
			hs.RemoveHeader(h.Name())
		}
	}
}

// sourceOf is where a message came from, as its packets show it, how it was protected,
// and whose certificate was shown.
func sourceOf(f *flow.Flow) string {
	s := fmt.Sprintf("%s;transport=%s", f.Remote(), f.Transport())
	state := f.TLS()
	if state == nil {
		return s
	}
	s += ";tls=" + strings.TrimPrefix(tls.VersionName(state.Version), "TLS ")
	switch trunk := f.Trunk(); {
	case trunk != nil:
		s += fmt.Sprintf(`;trunk="%s"`, trunk.Name())
	case f.Users() != nil: // then it is verified
		s += fmt.Sprintf(`;client="%s"`, clientName(state))
	}
	return s
}

// clientName is what the certificate of a client calls it. The CA vouches for the
// name, not for its letters.
func clientName(state *tls.ConnectionState) string {
	cert := state.PeerCertificates[0]
	name := cert.Subject.CommonName
	if len(cert.DNSNames) > 0 {
		name = cert.DNSNames[0]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\;,<>%`, r) {
			return '_'
		}
		return r
	}, name)
}

// isHeaderName tells whether a header may be called that, and means nothing else.
func isHeaderName(s string) bool {
	return len(s) > 2 && strings.EqualFold(s[:2], "X-") &&
		strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}
