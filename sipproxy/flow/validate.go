package flow

import (
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

const (
	maxCSeq   = 1<<31 - 1
	maxTag    = 127 // what chan_sip keeps of one: to it, two that differ behind that are the same
	maxParam  = 256 // of a Via
	maxURI    = 255 // of a Request-URI; of a longer one chan_sip loses the end, and calls s
	maxCallID = 512
	maxList   = 64 // addresses in one kind of header; words in one that lists them; parameters of a Via
	maxAccept = 32 // media types, and
	maxRange  = 63 // bytes of each, for which Asterisk has room (CVE-2018-7284)
)

// single are the headers that may come once.
var single = []string{
	"From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Content-Type", "Content-Encoding",
	"Content-Disposition", "Expires", "Min-Expires", "Event", "Refer-To", "Referred-By", "Replaces", "Session-Expires",
	"Min-SE", "RSeq", "RAck", "Retry-After", "Subscription-State", "SIP-ETag", "SIP-If-Match",
}

// numeric are the headers whose value is a number of seconds or hops, and the
// digits they may have. The two of RFC 4028 may have parameters behind it.
var numeric = map[string]int{
	"Expires": 10, "Min-Expires": 10, "Max-Forwards": 10, "Session-Expires": 10, "Min-SE": 10, "RSeq": 10,
}

// check holds a lexed head to what every SIP message must have (RFC 3261
// section 8.1.1), and returns its CSeq and Vias read.
func (m *lexed) check(method sip.RequestMethod) (*sip.CSeqHeader, []*sip.ViaHeader, *Malformed) {
	for _, name := range single {
		if _, n := m.one(name); n > 1 {
			return nil, nil, malformed(name, "more than one")
		}
	}
	for _, name := range []string{"From", "To", "Call-ID", "CSeq", "Via"} {
		if _, n := m.one(name); n == 0 {
			return nil, nil, malformed(name, "missing")
		}
	}
	for _, f := range m.fields {
		if digits, ok := numeric[f.name]; ok {
			number, _, more := strings.Cut(f.value, ";")
			if !isDigits(trim(number), digits) {
				return nil, nil, malformed(f.name, "not a number")
			}
			if more && (f.name != "Session-Expires" && f.name != "Min-SE" || checkStrict(f.value[len(number):]) != nil) {
				return nil, nil, malformed(f.name, "bad parameters")
			}
		}
	}
	if f := m.checkAddresses(); f != nil {
		return nil, nil, f
	}
	if f := m.checkAccept(); f != nil {
		return nil, nil, f
	}
	if f := m.checkEvent(); f != nil {
		return nil, nil, f
	}
	if id, _ := m.one("Call-ID"); !isCallID(id) {
		return nil, nil, malformed("Call-ID", "not a word or word@word")
	}
	cseq, f := m.cseq(method)
	if f != nil {
		return nil, nil, f
	}
	vias, f := m.vias()
	return cseq, vias, f
}

func (m *lexed) checkAddresses() *Malformed {
	for _, name := range []string{"From", "To"} {
		value, _ := m.one(name)
		if f := checkParty(value); f != nil {
			f.Header = name
			return f
		}
	}
	if from, _ := m.one("From"); !hasTag(from) { // section 8.1.1.3
		return malformed("From", "no tag")
	}
	for _, name := range []string{"Contact", "Route", "Record-Route", "Path", "Service-Route", "Refer-To", "Referred-By"} {
		count := 0
		for _, f := range m.fields {
			if f.name != name || (name == "Contact" && f.value == "*") {
				continue
			}
			for v := range unquoted(f.value, ',') {
				if count++; count > maxList {
					return malformed(name, "too many addresses")
				}
				if bad := checkAddress(v); bad != nil {
					bad.Header = name
					return bad
				}
			}
		}
	}
	return nil
}

// checkAccept bounds what a SUBSCRIBE once overran Asterisk's stack with, and
// the lists for which pjproject has room.
func (m *lexed) checkAccept() *Malformed {
	count := 0
	for _, f := range m.fields {
		switch f.name {
		case "Accept":
		case "Allow", "Supported", "Require", "Unsupported":
			if countUnquoted(f.value, ',') > maxList {
				return malformed(f.name, "too many")
			}
			continue
		default:
			continue
		}
		for v := range unquoted(f.value, ',') {
			if count++; count > maxAccept || len(trim(v)) > maxRange {
				return malformed("Accept", "too many or too long")
			}
		}
	}
	return nil
}

// checkEvent accepts what RFC 6665 section 8.4 does: event-type, and parameters.
// pjproject drops a message with another, and answers nothing.
func (m *lexed) checkEvent() *Malformed {
	value, n := m.one("Event")
	if n == 0 {
		return nil
	}
	name, params, has := strings.Cut(value, ";")
	if !isToken(trim(name)) || has && checkStrict(";"+params) != nil {
		return malformed("Event", "not an event type")
	}
	return nil
}

// checkAddress holds one address to the grammar, quotes and all.
func checkAddress(v string) *Malformed {
	n, err := ParseNameAddr(v)
	if err != nil {
		return malformed("", "not an address")
	}
	if !isDisplayName(n.Display) {
		return malformed("", "bad display name")
	}
	if n.Display == "" && !strings.HasPrefix(trim(v), "<") && strings.ContainsAny(n.URI, "?,") {
		return malformed("", "URI needs brackets") // section 20.10
	}
	if f := checkURI(n.URI); f != nil {
		return f
	}
	return checkParams(n.Params)
}

func checkParty(v string) *Malformed {
	if f := checkAddress(v); f != nil {
		return f
	}
	n, _ := ParseNameAddr(v)
	switch scheme, _, _ := strings.Cut(n.URI, ":"); strings.ToLower(scheme) {
	case "sip", "sips", "tel":
	default: // chan_sip makes a user of the scheme
		return malformed("", "neither sip, sips nor tel")
	}
	if f := checkStrict(n.Params); f != nil {
		return f
	}
	tags := 0
	var rest strings.Builder
	rest.WriteString(n.Display + n.URI)
	for p := range unquoted(n.Params, ';') {
		key, value, _ := strings.Cut(p, "=")
		if p == "" {
			continue
		}
		if !strings.EqualFold(trim(key), "tag") {
			rest.WriteString(";" + trim(p))
			continue
		}
		if tags++; tags > 1 || !isToken(trim(value)) || len(value) > maxTag {
			return malformed("", "bad tag")
		}
	}
	// The first ;tag= is the tag to chan_sip, in a display name or in the URI
	// as well: a request in another's dialog there, and in none to us.
	if strings.Contains(strings.ToLower(rest.String()), ";tag=") {
		return malformed("", "tag out of its place")
	}
	return nil
}

// canonicalParty writes a checked From or To without white space around its
// parameters: with some, chan_sip finds no tag.
func canonicalParty(v string) string {
	n, err := ParseNameAddr(v)
	if err != nil {
		return v
	}
	if v[0] == '<' && len(v) == len(n.URI)+len("<>")+len(n.Params) && !strings.ContainsAny(n.Params, " \t") && !strings.Contains(n.Params, ";;") && !strings.HasSuffix(n.Params, ";") {
		return v
	}
	return n.Without("").String()
}

func hasTag(v string) bool {
	n, err := ParseNameAddr(v)
	if err != nil {
		return false
	}
	_, ok := n.Param("tag")
	return ok
}

// checkParams accepts *( ";" token [ "=" (token / host / quoted-string) ] ).
func checkParams(params string) *Malformed {
	if params == "" {
		return nil
	}
	for p := range unquoted(params[1:], ';') {
		key, value, has := strings.Cut(p, "=")
		if !isToken(trim(key)) {
			return malformed("", "bad parameter name")
		}
		if value = trim(value); has && !isToken(value) && !isQuoted(value) && !isLoose(value) {
			return malformed("", "bad parameter value")
		}
	}
	return nil
}

// checkStrict accepts of these what pjproject does, which drops a message with
// another in a header that it reads.
func checkStrict(params string) *Malformed {
	for p := range unquoted(params, ';') {
		if _, value, _ := strings.Cut(p, "="); !isQuoted(trim(value)) && strings.ContainsAny(value, "@?#") {
			return malformed("", "bad parameter value")
		}
	}
	return checkParams(params)
}

// isLoose are the characters that gen-value has beyond token: of hosts, and
// those that phones put unquoted into instance ids.
func isLoose(s string) bool {
	for i := 0; i < len(s); i++ {
		if !tokenChar(s[i]) && strings.IndexByte("[]:/@?&$#", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

func isQuoted(s string) bool {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return false
	}
	for i := 1; i < len(s)-1; i++ {
		switch s[i] {
		case '\\':
			if i++; i >= len(s)-1 {
				return false
			}
		case '"':
			return false
		}
	}
	return true
}

// isDisplayName accepts nothing, a quoted string, or tokens and spaces. Text
// beyond ASCII without quotes is outside of the grammar, but phones send it.
func isDisplayName(s string) bool {
	if s == "" || isQuoted(s) {
		return true
	}
	for i := 0; i < len(s); i++ {
		if !tokenChar(s[i]) && s[i] != ' ' && s[i] < 0x80 {
			return false
		}
	}
	return true
}

func isCallID(s string) bool {
	left, right, at := strings.Cut(s, "@")
	return len(s) <= maxCallID && isWord(left) && (!at || isWord(right))
}

// isWord is RFC 3261 section 25.1: word.
func isWord(s string) bool {
	for i := 0; i < len(s); i++ {
		if !tokenChar(s[i]) && strings.IndexByte("()<>:\\\"/[]?{}", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// cseq reads CSeq. A request's method must be the one in its first line
// (section 8.1.1.5); an empty method is a response's.
func (m *lexed) cseq(method sip.RequestMethod) (*sip.CSeqHeader, *Malformed) {
	value, _ := m.one("CSeq")
	digits, name, ok := strings.Cut(value, " ")
	if name = trim(name); !ok || !isDigits(digits, 10) || !isToken(name) {
		return nil, malformed("CSeq", "not a number and a method")
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n > maxCSeq {
		return nil, malformed("CSeq", "number out of range")
	}
	if method != "" && name != string(method) {
		return nil, malformed("CSeq", "method is not the request's")
	}
	return &sip.CSeqHeader{SeqNo: uint32(n), MethodName: sip.RequestMethod(name)}, nil
}
