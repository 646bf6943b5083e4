package peers

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Reading is what somebody understood of a request: method, number (the user
// of the Request-URI; s for none), from and to (users), from_tag, to_tag, contact, call_id
// and cseq. What a reader does not tell is absent.
type Reading map[string]string

// Differs names the fields that both tell, and tell differently.
func (r Reading) Differs(other Reading) []string {
	var fields []string
	for field, value := range r {
		if theirs, told := other[field]; told && theirs != value {
			fields = append(fields, field)
		}
	}
	slices.Sort(fields)
	return fields
}

var (
	wireStart  = regexp.MustCompile(`^([A-Za-z0-9.!%*_+'~\x60-]+) ((?i:sips?):[^\s<>"]+|(?i:tel):[^\s<>"]+) SIP/2\.0$`)
	wireHeader = regexp.MustCompile(`^([A-Za-z0-9.!%*_+'~\x60-]{2,}): (\S.*|)$`)
	wireParty  = regexp.MustCompile(`^((?:"(?:[^"\\]|\\.)*"|[^"<>,;]*?) ?)<([^<>"\s]+)>((?:\s*;.*)?)$`)
	wireBare   = regexp.MustCompile(`^([^<>"\s;,?]+)((?:\s*;.*)?)$`)
	wireUser   = regexp.MustCompile(`(?i)^sips?:(?:([^@]*)@)?[^@]+$`)
	wireHost   = regexp.MustCompile(`(?i)^sips?:(?:[^@]*@)?(\[[^]]*\]|[^:;?]*)`)
	wireTag    = regexp.MustCompile(`(?i)(?:^|;)\s*tag\s*=\s*([A-Za-z0-9.!%*_+'~\x60-]+)\s*(?:;|$)`)
	wireCSeq   = regexp.MustCompile(`^([0-9]{1,10}) ([A-Za-z0-9.!%*_+'~\x60-]+)$`)
)

// ReadWire reads a request that the edge sent to the PBX, without any
// leniency: an error is a message that no edge may send. It shares no code
// with the edge.
func ReadWire(text string) (Reading, error) {
	head, body, ok := strings.Cut(text, "\r\n\r\n")
	if !ok {
		return nil, errors.New("no end of the head")
	}
	lines := strings.Split(head, "\r\n")
	values, err := wireHeaders(lines[1:])
	if err != nil {
		return nil, err
	}
	start := wireStart.FindStringSubmatch(lines[0])
	if start == nil {
		return nil, fmt.Errorf("start line %q", lines[0])
	}
	for _, name := range []string{"From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length"} {
		if len(values[name]) != 1 {
			return nil, fmt.Errorf("%d of %s", len(values[name]), name)
		}
	}
	if n := len(values["Via"]); n != 1 {
		return nil, fmt.Errorf("%d Via, want the edge's alone", n)
	}
	if n := values["Content-Length"][0]; n != strconv.Itoa(len(body)) {
		return nil, fmt.Errorf("Content-Length %s of %d bytes", n, len(body))
	}
	cseq := wireCSeq.FindStringSubmatch(values["CSeq"][0])
	if cseq == nil || cseq[2] != start[1] {
		return nil, fmt.Errorf("CSeq %q", values["CSeq"][0])
	}
	r := Reading{"method": start[1], "number": cmp.Or(wireUserOf(start[2]), "s"), "call_id": values["Call-ID"][0], "cseq": cseq[1]}
	for name, field := range map[string]string{"From": "from", "To": "to"} {
		if err := r.party(field, values[name][0]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if contacts := values["Contact"]; len(contacts) == 1 {
		if c := wireParty.FindStringSubmatch(contacts[0]); c != nil {
			r["contact"] = c[2]
		}
	}
	return r, nil
}

func wireHeaders(lines []string) (map[string][]string, error) {
	values := make(map[string][]string)
	spelling := make(map[string]string)
	for _, line := range lines {
		if !utf8.ValidString(line) || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return nil, fmt.Errorf("byte that no header has in %q", line)
		}
		h := wireHeader.FindStringSubmatch(line)
		if h == nil {
			return nil, fmt.Errorf("header line %q", line)
		}
		if lower := strings.ToLower(h[1]); spelling[lower] == "" {
			spelling[lower] = h[1]
		} else if spelling[lower] != h[1] {
			return nil, fmt.Errorf("header %s in two spellings", h[1])
		}
		values[h[1]] = append(values[h[1]], h[2])
	}
	return values, nil
}

func (r Reading) party(field, value string) error {
	p := wireParty.FindStringSubmatch(value)
	if p == nil {
		if b := wireBare.FindStringSubmatch(value); b != nil {
			p = []string{"", "", b[1], b[2]}
		} else {
			return fmt.Errorf("address %q", value)
		}
	}
	r[field], r[field+"_tag"] = wireUserOf(p[2]), ""
	if h := wireHost.FindStringSubmatch(p[2]); r[field] == "" && h != nil {
		r[field] = h[1] // as chan_sip has it
	}
	if tag := wireTag.FindStringSubmatch(p[3]); tag != nil {
		r[field+"_tag"] = tag[1]
	}
	return nil
}

// wireUserOf is the user of a URI, unescaped.
func wireUserOf(uri string) string {
	user := ""
	if m := wireUser.FindStringSubmatch(uri); m != nil {
		user, _, _ = strings.Cut(m[1], ":") // RFC 3261 section 25.1: userinfo is user and password
	} else if scheme, number, _ := strings.Cut(uri, ":"); strings.EqualFold(scheme, "tel") {
		user, _, _ = strings.Cut(number, ";")
	}
	return unescaped(user)
}

// unescaped is text as all three can be compared: logs have no bytes that are
// not UTF-8.
func unescaped(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		s = plain
	}
	return strings.ToValidUTF8(s, "\ufffd")
}
