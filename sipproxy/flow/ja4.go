package flow

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// maxHello bounds what is kept of a handshake for a fingerprint: a ClientHello with
// a post-quantum key is some 2,000 bytes.
const maxHello = 16 << 10

// ja4 is the fingerprint of a client by its ClientHello (JA4, by FoxIO): phones of a
// model and firmware share one, whatever they ask for. It takes the first bytes of a
// connection, which are unauthenticated; empty if they hold no whole hello.
func ja4(stream []byte) string {
	h, ok := readHello(stream)
	if !ok {
		return ""
	}
	server := "i"
	if slices.Contains(h.extensions, extServerName) {
		server = "d"
	}
	ciphers, hashed := hex4(h.ciphers), []uint16{}
	for _, e := range h.extensions {
		if e != extServerName && e != extALPN {
			hashed = append(hashed, e)
		}
	}
	extensions := hex4(hashed)
	slices.Sort(ciphers)
	slices.Sort(extensions)
	last := strings.Join(extensions, ",")
	if len(h.signatures) > 0 {
		last += "_" + strings.Join(hex4(h.signatures), ",")
	}
	if len(extensions) == 0 {
		last = ""
	}
	return fmt.Sprintf("t%s%s%02d%02d%s_%s_%s", versionWord(h.version), server, min(len(ciphers), 99), min(len(h.extensions), 99), alpnWord(h.alpn),
		hash12(strings.Join(ciphers, ",")), hash12(last))
}

// Extensions of a ClientHello (RFC 8446 section 4.2).
const (
	extServerName = 0
	extSignatures = 13
	extALPN       = 16
	extVersions   = 43
)

// hello is what the fingerprint is of, without GREASE (RFC 8701).
type hello struct {
	version    uint16
	ciphers    []uint16
	extensions []uint16
	signatures []uint16 // in the client's order
	alpn       string   // the first
}

func readHello(stream []byte) (h hello, ok bool) {
	in, body := cryptobyte.String(stream), cryptobyte.String(nil)
	for len(body) < 4 || len(body) < 4+int(body[1])<<16+int(body[2])<<8+int(body[3]) { // over records, if it is long
		var kind uint8
		var version uint16
		var fragment cryptobyte.String
		if !in.ReadUint8(&kind) || kind != 22 || !in.ReadUint16(&version) || !in.ReadUint16LengthPrefixed(&fragment) || len(fragment) == 0 {
			return h, false
		}
		body = append(body[:len(body):len(body)], fragment...)
	}
	var kind uint8
	var session, methods, extensions, suites cryptobyte.String
	if !body.ReadUint8(&kind) || kind != 1 || !body.ReadUint24LengthPrefixed(&body) ||
		!body.ReadUint16(&h.version) || !body.Skip(32) || !body.ReadUint8LengthPrefixed(&session) ||
		!body.ReadUint16LengthPrefixed(&suites) || !readList(suites, &h.ciphers) || !body.ReadUint8LengthPrefixed(&methods) {
		return h, false
	}
	if body.Empty() {
		return h, true
	}
	if !body.ReadUint16LengthPrefixed(&extensions) {
		return h, false
	}
	for !extensions.Empty() {
		var id uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&id) || !extensions.ReadUint16LengthPrefixed(&data) {
			return h, false
		}
		if !isGREASE(id) {
			h.extensions = append(h.extensions, id)
			h.extension(id, data)
		}
	}
	return h, true
}

// extension reads one; what is malformed is as if it were empty.
func (h *hello) extension(id uint16, data cryptobyte.String) {
	var list, first cryptobyte.String
	switch id {
	case extSignatures:
		if data.ReadUint16LengthPrefixed(&list) {
			readList(list, &h.signatures)
		}
	case extALPN:
		if data.ReadUint16LengthPrefixed(&list) && list.ReadUint8LengthPrefixed(&first) {
			h.alpn = string(first)
		}
	case extVersions:
		var all []uint16
		if data.ReadUint8LengthPrefixed(&list) && readList(list, &all) && len(all) > 0 {
			h.version = slices.Max(all)
		}
	}
}

func readList(in cryptobyte.String, out *[]uint16) bool {
	for !in.Empty() {
		var v uint16
		if !in.ReadUint16(&v) {
			return false
		}
		if !isGREASE(v) {
			*out = append(*out, v)
		}
	}
	return true
}

// isGREASE knows the values that clients make up (RFC 8701 section 2).
func isGREASE(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

func versionWord(v uint16) string {
	switch v {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	}
	return "00"
}

// alpnWord is the first and last character of a protocol's name, or of its bytes in
// hexadecimal if one of the two is neither letter nor digit.
func alpnWord(name string) string {
	if name == "" {
		return "00"
	}
	first, last := name[0], name[len(name)-1]
	if alphanum(first) && alphanum(last) {
		return string([]byte{first, last})
	}
	digits := fmt.Sprintf("%x", name)
	return digits[:1] + digits[len(digits)-1:]
}

func hex4(list []uint16) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = fmt.Sprintf("%04x", v)
	}
	return out
}

func hash12(text string) string {
	if text == "" {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%x", sum[:6])
}
