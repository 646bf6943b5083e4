package sipproxy

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strings"
)

// This file is a session description that comes with something else in one body
// (RFC 5621): a phone that calls for help says where it is (RFC 6442), and a gateway
// what the telephone network told it. The description is taken out, as if it were
// alone. What is beside it goes on to the PBX alone, in a body written anew.

const (
	maxParts      = 4   // beside a description
	maxPartHeader = 256 // bytes
)

// part is one of them, with the headers that tell what it is for.
type part struct {
	body
	disposition string // empty: not said
	id          string // by which a header of the message names it; or empty
}

// described takes the description out of a multipart body. One in which there is
// none, or more than one, or what cannot be read to its end, stays as it is, and is
// refused like any other that is no description.
func (b body) described() body {
	var found body
	whole := b.eachPart("multipart/mixed", func(p part) bool {
		switch {
		case p.isSDP() && len(found.bytes) > 0, len(found.beside) == maxParts:
			return false
		case p.isSDP():
			found.kind, found.bytes = p.kind, p.bytes
		default:
			found.beside = append(found.beside, p)
		}
		return true
	})
	if !whole || len(found.bytes) == 0 {
		return b
	}
	return found
}

// eachPart reads the parts of a body of that type, one after another, and tells whether
// all could be read and were taken.
func (b body) eachPart(kind string, take func(part) bool) bool {
	if b.mediaType() != kind || b.encoded {
		return false
	}
	_, params, err := mime.ParseMediaType(b.kind)
	if err != nil || params["boundary"] == "" {
		return false
	}
	for r := multipart.NewReader(bytes.NewReader(b.bytes), params["boundary"]); ; {
		each, err := r.NextRawPart()
		if err != nil {
			return err == io.EOF
		}
		if p, ok := readPart(each); !ok || !take(p) {
			return false
		}
	}
}

// readPart reads one part. It is not ok if it could hide a description, or be read in
// another way than it is here.
func readPart(from *multipart.Part) (p part, ok bool) {
	for name, values := range from.Header {
		value := strings.TrimSpace(values[0])
		if len(values) > 1 || len(value) > maxPartHeader || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
			return p, false
		}
		switch name {
		case "Content-Type":
			p.kind = value
		case "Content-Disposition":
			p.disposition = value
		case "Content-Id":
			p.id = value
		case "Content-Transfer-Encoding":
			if value = strings.ToLower(value); value != "binary" && value != "8bit" && value != "7bit" {
				return p, false
			}
		case "Content-Encoding":
			return p, false
		}
	}
	var err error
	p.bytes, err = io.ReadAll(from)
	kind := p.mediaType()
	return p, err == nil && kind != "" && !strings.HasPrefix(kind, "multipart/")
}

// besides are the types of what is beside a description.
func (b body) besides() (kinds []string) {
	for _, p := range b.beside {
		kinds = append(kinds, p.mediaType())
	}
	return kinds
}

// joined is a body with what is beside it.
func (b body) joined() body { return joined("multipart/mixed", append([]part{{body: b}}, b.beside...)) }

// joined writes parts into one body. What its type says begins with kind.
func joined(kind string, parts []part) body {
	var text bytes.Buffer
	w := multipart.NewWriter(&text) // with a random boundary
	for _, p := range parts {
		h := textproto.MIMEHeader{"Content-Type": {p.kind}}
		if p.disposition != "" {
			h.Set("Content-Disposition", p.disposition)
		}
		if p.id != "" {
			h["Content-ID"] = []string{p.id} // as RFC 2045 writes it, for who reads names letter by letter
		}
		to, _ := w.CreatePart(h) // a Buffer takes all
		_, _ = to.Write(p.bytes)
	}
	_ = w.Close()
	return body{kind: kind + ";boundary=" + w.Boundary(), bytes: text.Bytes()} // without a space, for chan_sip
}
