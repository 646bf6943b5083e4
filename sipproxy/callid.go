package sipproxy

import (
	"crypto/hmac"
	"crypto/sha512"
	"crypto/subtle"
	"net/url"
	"regexp"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// A PBX writes its address behind the @ of the Call-IDs that it makes. Phones
// are shown a seal in its place: the address encrypted under a key that only we
// have, always the same for one address, so that nothing must be remembered and
// a Call-ID that a phone names (in Replaces, after a restart) is still known
// inside. The rest of a Call-ID, and any other's, stay as they are.

// sealTag is how many bytes of a seal tell ours from any other host.
const sealTag = 8

// crossCallID is a Call-ID of one side as the other knows it: an address of the
// plain side is sealed, and a seal is opened. It is one rule for both ways, so
// that what crossed comes back as it was: a phone at home may well have the
// address that the PBX has at the office, and knows its calls by that.
func (p *Proxy) crossCallID(id string) string {
	local, host, ok := cutLast(id, "@")
	switch {
	case !ok:
		return id
	case p.isInside(hostWithoutPort(host)):
		return local + "@" + p.seal(host)
	}
	if opened, ok := p.unseal(host); ok {
		return local + "@" + opened
	}
	return id
}

func (p *Proxy) seal(host string) string {
	tag := p.sealMAC("tag", host)[:sealTag]
	stream := p.sealMAC("stream", string(tag))
	if len(host) > len(stream) {
		return p.cfg.Domain // no address is as long: a name, and nobody finds the way back
	}
	sealed := make([]byte, len(host))
	subtle.XORBytes(sealed, []byte(host), stream)
	return tokenEncoding.EncodeToString(append(tag, sealed...))
}

// unseal opens what seal made of an address of the plain side, letter by letter:
// base32 has more than one spelling of some bytes.
func (p *Proxy) unseal(seal string) (host string, ok bool) {
	b, err := tokenEncoding.DecodeString(seal)
	if err != nil || len(b) <= sealTag || len(b) > sealTag+sha512.Size {
		return "", false
	}
	opened := make([]byte, len(b)-sealTag)
	subtle.XORBytes(opened, b[sealTag:], p.sealMAC("stream", string(b[:sealTag])))
	host = string(opened)
	return host, hmac.Equal([]byte(p.seal(host)), []byte(seal)) && p.isInside(hostWithoutPort(host))
}

func (p *Proxy) sealMAC(purpose, text string) []byte {
	mac := hmac.New(sha512.New, p.cfg.Secret)
	mac.Write([]byte("call-id " + purpose + "\x00" + text))
	return mac.Sum(nil)
}

// callID is the Call-ID of a message that came from a side, as the plain side
// knows it.
func (p *Proxy) callID(from flow.Side, m sip.Message) string {
	if from == flow.Secure {
		return p.crossCallID(m.CallID().Value())
	}
	return m.CallID().Value()
}

// namesCalls are the headers that begin with a Call-ID (RFC 3891, 4538, 3911),
// or are a list of them (RFC 3261 section 20.21).
var namesCalls = map[string]bool{"replaces": true, "target-dialog": true, "join": true, "in-reply-to": true}

// crossCalls maps the Call-IDs in such a header.
func (p *Proxy) crossCalls(value string) string {
	list := strings.Split(value, ",")
	for i, each := range list {
		id, params, found := strings.Cut(each, ";")
		if id = p.crossCallID(strings.TrimSpace(id)); found {
			id += ";" + params
		}
		list[i] = id
	}
	return strings.Join(list, ", ")
}

// namedCall finds the Call-ID of a Replaces that is inside of a URI.
var namedCall = regexp.MustCompile(`(?i)([?&](?:Replaces|Join|Target-Dialog)=)([^&;>]*?)(%3B|[&;>]|$)`)

// callInURI maps the Call-ID of a call that a URI says to replace. What has no
// reason to change stays byte for byte.
func (p *Proxy) callInURI(uri string) string {
	if !strings.Contains(uri, "=") {
		return uri
	}
	return namedCall.ReplaceAllStringFunc(uri, func(s string) string {
		parts := namedCall.FindStringSubmatch(s)
		id, err := url.PathUnescape(parts[2])
		if err != nil {
			return s
		}
		mapped := p.crossCallID(id)
		if mapped == id {
			return s
		}
		return parts[1] + url.QueryEscape(mapped) + parts[3]
	})
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// hostWithoutPort is a host as it stands behind an @.
func hostWithoutPort(s string) string {
	if strings.HasPrefix(s, "[") {
		host, _, _ := strings.Cut(s, "]")
		return host + "]"
	}
	if strings.Count(s, ":") == 1 {
		host, _, _ := strings.Cut(s, ":")
		return host
	}
	return s
}
