package flow

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// vias reads all Via values, in order. They are written back from what was
// read, one to a header.
func (m *lexed) vias() ([]*sip.ViaHeader, *Malformed) {
	var list []*sip.ViaHeader
	for _, f := range m.fields {
		if f.name != "Via" {
			continue
		}
		for v := range unquoted(f.value, ',') {
			via := readVia(v)
			if via == nil {
				return nil, malformed("Via", "outside of the grammar")
			}
			if list = append(list, via); len(list) > maxList {
				return nil, malformed("Via", "too many")
			}
		}
	}
	return list, nil
}

// readVia reads one value, or returns nil: sent-protocol LWS sent-by
// *( SEMI via-params ) (RFC 3261 section 25.1; white space may stand around
// its slashes, colon and semicolons).
func readVia(v string) *sip.ViaHeader {
	var via *sip.ViaHeader
	for part := range unquoted(v, ';') {
		if via == nil {
			if via = readSentBy(part); via == nil {
				return nil
			}
			continue
		}
		key, value, has := strings.Cut(part, "=")
		key, value = trim(key), trim(value)
		if !isToken(key) || (has && !isToken(value) && !isLoose(value)) || len(value) > maxParam || len(via.Params) == maxList {
			return nil
		}
		switch key = viaParam(key); {
		case via.Params.Has(key): // branch twice, and each reader takes another
			return nil
		case key == "branch" && !isToken(value):
			return nil
		}
		via.Params.Add(key, value)
	}
	return via
}

// readSentBy reads what is before the parameters.
func readSentBy(s string) *sip.ViaHeader {
	protocol, sentBy := splitVia(s)
	if len(protocol) != 3 || !strings.EqualFold(protocol[0], "SIP") || protocol[1] != "2.0" || !isToken(protocol[2]) {
		return nil
	}
	host, port, ok := splitHostPort(sentBy)
	if !ok || !isHost(host) || (port != "" && !isPort(port)) {
		return nil
	}
	via := &sip.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: strings.ToUpper(protocol[2]),
		Host: viaHost(host), Params: make(sip.HeaderParams, 0, 4), // branch, rport, received, and one more
	}
	if port != "" {
		via.Port, _ = strconv.Atoi(port)
	}
	return via
}

// viaHost is a host as sipgo keeps one, which writes the brackets of IPv6 anew,
// but takes a mapped address (RFC 5118 section 4.9) for IPv4.
func viaHost(host string) string {
	bare := strings.Trim(host, "[]")
	if ip, err := netip.ParseAddr(bare); err == nil && ip.Is4In6() {
		return host
	}
	return bare
}

// viaParam gives the parameters we read one spelling.
func viaParam(key string) string {
	switch lower := strings.ToLower(key); lower {
	case "branch", "rport", "received", "maddr", "ttl":
		return lower
	}
	return key
}

// splitVia takes "SIP / 2.0 / TLS host : 5061" apart.
func splitVia(s string) (protocol []string, sentBy string) {
	rest := trim(s)
	for len(protocol) < 2 {
		name, after, ok := strings.Cut(rest, "/")
		if !ok {
			return nil, ""
		}
		protocol, rest = append(protocol, trim(name)), trim(after)
	}
	transport, sentBy, ok := strings.Cut(rest, " ")
	if !ok {
		return nil, ""
	}
	if host, port, ok := strings.Cut(sentBy, " :"); ok { // around the colon of a host name
		sentBy = trim(host) + ":" + trim(port)
	}
	return append(protocol, transport), trim(sentBy)
}
