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

// outwardCallID is a Call-ID of the plain side as phones know it.
func (p *Proxy) outwardCallID(id string) string {
	local, host, ok := cutLast(id, "@")
	if !ok || !p.isInside(hostWithoutPort(host)) {
		return id
	}
	tag := p.sealMAC("tag", host)[:sealTag]
	stream := p.sealMAC("stream", string(tag))
	if len(host) > len(stream) {
		return local + "@" + p.cfg.Domain // no address is as long: a name, and nobody finds the way back
	}
	sealed := make([]byte, len(host))
	subtle.XORBytes(sealed, []byte(host), stream)
	return local + "@" + tokenEncoding.EncodeToString(append(tag, sealed...))
}

// inwardCallID is a Call-ID as a phone wrote it, as the plain side knows it.
func (p *Proxy) inwardCallID(id string) string {
	local, seal, ok := cutLast(id, "@")
	if !ok {
		return id
	}
	b, err := tokenEncoding.DecodeString(seal)
	if err != nil || len(b) <= sealTag || len(b) > sealTag+sha512.Size {
		return id
	}
	host := make([]byte, len(b)-sealTag)
	subtle.XORBytes(host, b[sealTag:], p.sealMAC("stream", string(b[:sealTag])))
	if !hmac.Equal(b[:sealTag], p.sealMAC("tag", string(host))[:sealTag]) {
		return id
	}
	return local + "@" + string(host)
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
		return p.inwardCallID(m.CallID().Value())
	}
	return m.CallID().Value()
}

// callIDFor writes a Call-ID of the plain side for a side.
func (p *Proxy) callIDFor(to flow.Side, id string) string {
	if to == flow.Secure {
		return p.outwardCallID(id)
	}
	return id
}

// namesCalls are the headers that begin with a Call-ID (RFC 3891, 4538, 3911),
// or are a list of them (RFC 3261 section 20.21).
var namesCalls = map[string]bool{"replaces": true, "target-dialog": true, "join": true, "in-reply-to": true}

// callsFor maps the Call-IDs in such a header.
func (p *Proxy) callsFor(to flow.Side, value string) string {
	list := strings.Split(value, ",")
	for i, each := range list {
		id, params, found := strings.Cut(each, ";")
		if id = p.mapCallID(to, strings.TrimSpace(id)); found {
			id += ";" + params
		}
		list[i] = id
	}
	return strings.Join(list, ", ")
}

// mapCallID maps a Call-ID that came from the other side for this one.
func (p *Proxy) mapCallID(to flow.Side, id string) string {
	if to == flow.Secure {
		return p.outwardCallID(id)
	}
	return p.inwardCallID(id)
}

// namedCall finds the Call-ID of a Replaces that is inside of a URI.
var namedCall = regexp.MustCompile(`(?i)([?&](?:Replaces|Join|Target-Dialog)=)([^&;>]*?)(%3B|[&;>]|$)`)

// callInURI maps the Call-ID of a call that a URI says to replace. What has no
// reason to change stays byte for byte.
func (p *Proxy) callInURI(to flow.Side, uri string) string {
	return namedCall.ReplaceAllStringFunc(uri, func(s string) string {
		parts := namedCall.FindStringSubmatch(s)
		id, err := url.PathUnescape(parts[2])
		if err != nil {
			return s
		}
		mapped := p.mapCallID(to, id)
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
