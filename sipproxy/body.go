package sipproxy

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// body is a message body with its type; empty if it has no bytes.
type body struct {
	kind    string
	bytes   []byte
	encoded bool   // by a Content-Encoding
	beside  []part // what else a multipart body has that this one was in
	all     []part // of a list, its parts
}

func bodyOf(m sip.Message) body {
	if len(m.Body()) == 0 {
		return body{}
	}
	b := body{bytes: m.Body()}
	if h := m.GetHeaders("Content-Type"); len(h) > 0 {
		b.kind = h[0].Value()
	}
	if h := m.GetHeaders("Content-Encoding"); len(h) > 0 {
		b.encoded = !strings.EqualFold(h[0].Value(), "identity")
	}
	return b.described()
}

func (b body) isSDP() bool { return b.mediaType() == "application/sdp" }

// mediaType is the type without its parameters, or nothing if there is no body.
func (b body) mediaType() string {
	if len(b.bytes) == 0 {
		return ""
	}
	kind, _, _ := strings.Cut(b.kind, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

func appendBody(m sip.Message, b body) {
	if len(b.beside) > 0 {
		b = b.joined()
	}
	if len(b.bytes) > 0 {
		m.AppendHeader(sip.NewHeader("Content-Type", b.kind))
	}
	m.SetBody(b.bytes) // writes Content-Length too
}

// bodyRefused keeps SDP, and what may hide it, from crossing outside of a
// call's offer and answer: it would name addresses and keys of one side to
// the other. Nor does state that cannot be read for addresses.
func bodyRefused(b body) *refusal {
	kind := b.mediaType()
	if b.isSDP() || strings.HasPrefix(kind, "multipart/") && len(b.all) == 0 || b.encoded && (isState(kind) || kind == "message/sipfrag") {
		return refuse(sip.StatusUnsupportedMediaType, "Unsupported Media Type", "a body of type %s is not forwarded here", kind)
	}
	return nil
}

// withoutSDP is the body of an answer outside of calls. An OPTIONS answered
// with SDP would show addresses, and nobody reads it.
func withoutSDP(res *sip.Response) body {
	b := bodyOf(res)
	if bodyRefused(b) != nil {
		return body{}
	}
	return b
}

// carried is a body as it may reach a side. Session descriptions were written
// anew before; what tells of other dialogs, or of who there is, is read for
// addresses; and the words of a MESSAGE are left alone.
func (p *Proxy) carried(b body, to flow.Side) body {
	switch kind := b.mediaType(); {
	case len(b.all) > 0:
		return p.relisted(b, to)
	case b.encoded || b.isSDP():
	case kind == "message/sipfrag":
		if b.bytes = statusOf(b.bytes); to == flow.Secure {
			b.bytes = p.outwardText(b.bytes)
		}
	case to == flow.Secure && isState(kind):
		b.bytes = p.outwardText(b.bytes)
	case isState(kind):
		b.bytes = p.inwardText(b.bytes)
	}
	b.beside = slices.Clone(b.beside)
	for i := range b.beside {
		b.beside[i].body = p.carried(b.beside[i].body, to)
	}
	return b
}

// isState tells the bodies of events: dialog-info, pidf, xpidf, watcherinfo and
// their like, and how many messages wait (RFC 4235, 3863, 3858, 3842).
func isState(kind string) bool {
	return strings.HasSuffix(kind, "+xml") || strings.HasSuffix(kind, "/xml") || kind == "application/simple-message-summary"
}

// statusOf is the first line of a sipfrag, which is all that a transfer's
// NOTIFY must have (RFC 3515 section 2.4.5). The headers after it would name
// routes and addresses of the other side.
func statusOf(frag []byte) []byte {
	line, _, _ := bytes.Cut(frag, []byte("\n"))
	return fmt.Appendf(nil, "%s\r\n", bytes.TrimRight(line, "\r"))
}

// xmlCallID finds the Call-ID of a dialog (RFC 4235 section 4.1.1).
var xmlCallID = regexp.MustCompile(`(\bcall-id\s*=\s*)("[^"]*"|'[^']*')`)

// inwardText writes the addresses in a text as inwardParty does, and opens the
// Call-IDs of its dialogs.
func (p *Proxy) inwardText(text []byte) []byte {
	text = p.crossXMLCallIDs(text)
	return replaceURIs(text, func(u textURI) string {
		kept := strings.Builder{}
		for _, param := range strings.Split(u.params, ";") {
			if name, _, _ := strings.Cut(param, "="); name != "" && !isTransport(name) {
				kept.WriteString(";" + param)
			}
		}
		host, port := u.host, u.port
		if p.isOurs(host) {
			host, port = cmp.Or(p.cfg.PBXDomain, host), ""
		}
		return "sip:" + u.user + host + port + kept.String()
	})
}

// crossXMLCallIDs maps the Call-IDs of dialogs in a text.
func (p *Proxy) crossXMLCallIDs(text []byte) []byte {
	return xmlCallID.ReplaceAllFunc(text, func(attr []byte) []byte {
		parts := xmlCallID.FindSubmatch(attr)
		quote, id := parts[2][:1], string(parts[2][1:len(parts[2])-1])
		return slices.Concat(parts[1], quote, []byte(p.crossCallID(id)), quote)
	})
}

// outwardText maps the addresses of the plain side in a text, as outward does,
// the Call-IDs of its dialogs, and what names it otherwise.
func (p *Proxy) outwardText(text []byte) []byte {
	inside := p.inside.Load()
	if !inside.maybeIn(string(text)) {
		return text
	}
	text = p.crossXMLCallIDs(text)
	text = replaceURIs(text, func(u textURI) string {
		if !inside.has(u.host) && !inside.isIn(u.host) {
			return u.String()
		}
		return p.outwardURI(u.scheme, strings.TrimSuffix(u.user, "@"), u.host)
	})
	return inside.replace(text, p.cfg.Domain)
}

// outwardWords does so with what is no body: a header's value, the words of an answer.
func (p *Proxy) outwardWords(words string) string {
	if !p.inside.Load().maybeIn(words) {
		return words
	}
	return string(p.outwardText([]byte(words)))
}
