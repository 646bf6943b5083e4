package flow

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// bodyLength returns what Content-Length says. The number is read here and
// nowhere else: anything but plain digits within the limit is refused before
// a byte is allocated (CVE-2026-58268, CVE-2026-45103). -1 stands for absent.
func (m *lexed) bodyLength(limit int) (int, *Malformed) {
	value, n := m.one("Content-Length")
	switch {
	case n == 0:
		return -1, nil
	case n > 1:
		return 0, malformed("Content-Length", "more than one")
	case !isDigits(value, 10):
		return 0, malformed("Content-Length", "not a number")
	}
	length := 0
	for _, c := range value {
		length = length*10 + int(c-'0')
	}
	if length > limit {
		return 0, &Malformed{Code: 413, Header: "Content-Length", Fault: "body too large"}
	}
	return length, nil
}

// parseDatagram reads a datagram, borrowed: one message. What follows its body
// is discarded (RFC 3261 section 18.3). The head is returned even with a
// fault, to answer the sender with.
func parseDatagram(b []byte) (*lexed, sip.Message, *Malformed) {
	end := bytes.Index(b, headEnd)
	if end < 0 {
		return &lexed{}, nil, malformed("", "head without an end")
	}
	m, fault := lex(b[:end+len(headEnd)])
	if fault != nil {
		return m, nil, fault
	}
	body := b[end+len(headEnd):]
	length, fault := m.bodyLength(maxDatagram)
	switch {
	case fault != nil:
		return m, nil, fault
	case length > len(body):
		return m, nil, malformed("Content-Length", "more than the datagram has")
	case length >= 0:
		body = body[:length]
	}
	msg, fault := m.build(bytes.Clone(body))
	return m, msg, fault
}

var headEnd = []byte("\r\n\r\n")

// build checks a lexed head and returns it as a message, with body, which is
// given away.
func (m *lexed) build(body []byte) (sip.Message, *Malformed) {
	if _, n := m.one("Content-Type"); n == 0 && len(body) > 0 {
		return nil, malformed("Content-Type", "missing for a body") // RFC 3261 section 20.15
	}
	if ct, n := m.one("Content-Type"); n > 0 && !isMediaType(ct) {
		return nil, malformed("Content-Type", "not a media type")
	}
	if strings.HasPrefix(m.start, "SIP/") {
		return m.response(body)
	}
	return m.request(body)
}

func (m *lexed) request(body []byte) (sip.Message, *Malformed) {
	m.escapeDialled()
	method, uri, f := requestLine(m.start)
	if f != nil {
		return nil, f
	}
	cseq, vias, f := m.check(method)
	if f != nil {
		return nil, f
	}
	req := sip.NewRequest(method, uri)
	m.fill(req, cseq, vias)
	if _, n := m.one("Max-Forwards"); n == 0 {
		req.AppendHeader(sip.NewHeader("Max-Forwards", "70")) // section 16.3, item 3
	}
	req.SetBody(body)
	return req, nil
}

func (m *lexed) response(body []byte) (sip.Message, *Malformed) {
	m.escapeDialled()
	version, rest, _ := strings.Cut(m.start, " ")
	code, reason, _ := strings.Cut(rest, " ")
	if version != "SIP/2.0" {
		return nil, malformed("", "version is not SIP/2.0")
	}
	if !isDigits(code, 3) || len(code) != 3 || code < "100" || code > "699" {
		return nil, malformed("", "bad status code")
	}
	cseq, vias, f := m.check("")
	if f != nil {
		return nil, f
	}
	reason = strings.ReplaceAll(reason, "\t", " ") // as in all values
	res := sip.NewResponse(int(code[0]-'0')*100+int(code[1]-'0')*10+int(code[2]-'0'), reason)
	m.fill(res, cseq, vias)
	res.SetBody(body)
	return res, nil
}

// fill appends the headers. Via, CSeq, From and To are written from what was
// read; the others are as the lexer left them, which is byte for byte as they came but
// for folding and white space around them.
func (m *lexed) fill(msg sip.Message, cseq *sip.CSeqHeader, vias []*sip.ViaHeader) {
	for _, via := range vias {
		msg.AppendHeader(via)
	}
	for _, f := range m.fields {
		switch f.name {
		case "Via", "Content-Length":
		case "CSeq":
			msg.AppendHeader(cseq)
		case "From", "To":
			msg.AppendHeader(sip.NewHeader(f.name, canonicalParty(f.value)))
		case "Call-ID":
			id := sip.CallIDHeader(f.value)
			msg.AppendHeader(&id)
		default:
			msg.AppendHeader(sip.NewHeader(f.name, f.value))
		}
	}
}

// mayBeDialled are the headers whose addresses may be what a user has dialled, or has his
// phone forward to.
var mayBeDialled = map[string]bool{"To": true, "Contact": true, "Refer-To": true, "Referred-By": true}

// escapeDialled writes a # in the user part of the Request-URI and of such addresses as
// it should have come. Phones send it bare when their users dial one, and parsers differ
// on what follows it.
func (m *lexed) escapeDialled() {
	if strings.Contains(m.start, "#") { // in the reason of a response it is in no URI
		if parts := strings.Split(m.start, " "); len(parts) == 3 {
			parts[1] = escapeHash(parts[1])
			m.start = strings.Join(parts, " ")
		}
	}
	for i, f := range m.fields {
		if mayBeDialled[f.name] && strings.Contains(f.value, "#") {
			m.fields[i].value = escapeList(f.value)
		}
	}
}

// escapeList does so in a list of addresses.
func escapeList(value string) string {
	var list []string
	for v := range unquoted(value, ',') {
		if n, err := ParseNameAddr(v); err == nil && escapeHash(n.URI) != n.URI {
			before := v[:indexUnquoted(v, '<')+1] // nothing, if it has no brackets, which it may need
			v = before + strings.Replace(v[len(before):], n.URI, escapeHash(n.URI), 1)
		}
		list = append(list, v)
	}
	return strings.Join(list, ",")
}

// escapeHash does so in one SIP URI. What is behind the user part is not touched.
func escapeHash(uri string) string {
	scheme, rest, _ := strings.Cut(uri, ":")
	user, _, ok := strings.Cut(rest, "@")
	if !ok || !strings.Contains(user, "#") || !strings.EqualFold(scheme, "sip") && !strings.EqualFold(scheme, "sips") {
		return uri
	}
	return scheme + ":" + strings.ReplaceAll(user, "#", "%23") + rest[len(user):]
}

// requestLine reads METHOD SP Request-URI SP SIP/2.0, and nothing else
// (section 7.1).
func requestLine(line string) (sip.RequestMethod, sip.Uri, *Malformed) {
	var uri sip.Uri
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isToken(parts[0]) {
		return "", uri, malformed("", "bad request line")
	}
	if upper := strings.ToUpper(parts[0]); methods[upper] && upper != parts[0] {
		return "", uri, malformed("", "method in lower case")
	}
	if parts[2] != "SIP/2.0" {
		if v, ok := strings.CutPrefix(parts[2], "SIP/"); ok && v != "" {
			return "", uri, &Malformed{Code: 505, Fault: "version is not SIP/2.0"}
		}
		return "", uri, malformed("", "bad request line")
	}
	if len(parts[1]) > maxURI {
		return "", uri, &Malformed{Code: 414, Fault: "Request-URI too long"}
	}
	if f := checkURI(parts[1]); f != nil {
		return "", uri, f
	}
	scheme, _, _ := strings.Cut(parts[1], ":")
	switch strings.ToLower(scheme) {
	case "sip", "sips", "tel":
	default:
		return "", uri, &Malformed{Code: 416, Fault: "URI scheme of the request"}
	}
	if strings.Contains(parts[1], "?") { // section 19.1.1: not allowed in a Request-URI
		return "", uri, malformed("", "headers in the Request-URI")
	}
	if err := ParseURI(parts[1], &uri); err != nil {
		return "", uri, malformed("", "bad Request-URI")
	}
	return sip.RequestMethod(parts[0]), uri, nil
}

// methods are those whose meaning somebody behind us may know. They are case-
// sensitive (section 7.1), but not to chan_sip: to it an "invite" is a call,
// and would be none to us.
var methods = map[string]bool{
	"ACK": true, "BYE": true, "CANCEL": true, "INFO": true, "INVITE": true, "MESSAGE": true, "NOTIFY": true, "OPTIONS": true,
	"PING": true, "PRACK": true, "PUBLISH": true, "REFER": true, "REGISTER": true, "SUBSCRIBE": true, "UPDATE": true,
}

func isMediaType(s string) bool {
	kind, params, _ := strings.Cut(s, ";")
	main, sub, ok := strings.Cut(trim(kind), "/")
	if !ok || !isToken(trim(main)) || !isToken(trim(sub)) {
		return false
	}
	return params == "" || checkParams(";"+params) == nil
}

// rejection writes the answer to a malformed request, or nothing if it cannot
// be answered safely: to a response, an ACK, or without the headers that an
// answer repeats. All that it repeats passed the lexer.
func (m *lexed) rejection(f *Malformed) []byte {
	method, _, ok := strings.Cut(m.start, " ")
	if !ok || strings.HasPrefix(m.start, "SIP/") || method == "ACK" || !isToken(method) {
		return nil
	}
	var b strings.Builder
	b.WriteString("SIP/2.0 " + strconv.Itoa(f.Code) + " " + f.reason() + "\r\n")
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		found := false
		for _, each := range m.fields {
			if each.name == name && (!found || name == "Via") {
				b.WriteString(name + ": " + each.value + "\r\n")
				found = true
			}
		}
		if !found {
			return nil
		}
	}
	text := f.Fault
	if f.Header != "" {
		text = f.Header + ": " + text
	}
	b.WriteString("Warning: 399 sallyport \"" + text + "\"\r\nContent-Length: 0\r\n\r\n")
	return []byte(b.String())
}
