package peers

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
)

// Mutant is a request that was spoilt: always in the same way for one seed.
type Mutant struct {
	Seed      uint64
	Text      string
	Operators []string // what was done, in order
}

// mutation is one kind of damage. It returns the text as it is where it finds
// nothing to spoil.
type mutation struct {
	name  string
	apply func(r *rand.Rand, text string) string
}

// Mutants makes the mutant of a seed, of a phone that calls itself by user and
// address.
func Mutants(user, address string) func(seed uint64) Mutant {
	all := mutations()
	return func(seed uint64) Mutant {
		r := rand.New(rand.NewPCG(seed, 4475))
		m := Mutant{Seed: seed, Text: sound(r, seed, user, address)}
		for range 1 + r.IntN(3) {
			each := all[r.IntN(len(all))]
			m.Text = each.apply(r, m.Text)
			m.Operators = append(m.Operators, each.name)
		}
		return m
	}
}

// sound is the request before it is spoilt.
func sound(r *rand.Rand, seed uint64, user, address string) string {
	method := pick(r, "REGISTER", "INVITE", "OPTIONS", "MESSAGE", "SUBSCRIBE", "BYE")
	number, to, more, body := "600", "600", "", ""
	switch method {
	case "REGISTER":
		to, more = user, "Expires: 60\r\n"
	case "INVITE":
		more = "Supported: timer, 100rel\r\nAllow: INVITE, ACK, BYE, CANCEL\r\nSession-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\nContent-Type: application/sdp\r\n"
		body = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0\r\n" +
			"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n"
	case "MESSAGE":
		more, body = "Content-Type: text/plain\r\n", "hello"
	case "SUBSCRIBE":
		more = "Event: presence\r\nAccept: application/pidf+xml\r\nExpires: 60\r\n"
	}
	if r.IntN(4) == 0 {
		more = fmt.Sprintf("Authorization: Digest username=%q, realm=\"asterisk\", nonce=\"4bd7\", uri=\"sip:pbx.example.com\", response=\"%032x\", algorithm=MD5\r\n", user, seed) + more
	}
	return fmt.Sprintf("%s sip:%s@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/TLS %s;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\n"+
		"From: \"Anna\" <sip:%s@pbx.example.com>;tag=f%d\r\nTo: <sip:%s@pbx.example.com>\r\nCall-ID: d%d@%s\r\nCSeq: %d %s\r\n"+
		"Contact: <sip:%s@%s;transport=tls>\r\nUser-Agent: mutant %d\r\n%sContent-Length: %d\r\n\r\n%s",
		method, number, address, seed, user, seed, to, seed, strings.Split(address, ":")[0], 1+r.IntN(1000), method, user, address, seed, more, len(body), body)
}

// mutations are in the manner of RFC 4475, PROTOS c07-sip, and the attacks
// that were published on proxies and on chan_sip.
func mutations() []mutation {
	list := []mutation{
		{"byte inserted", func(r *rand.Rand, s string) string { return splice(s, r.IntN(len(s)+1), 0, pick(r, odd...)) }},
		{"byte inserted into a header name", func(r *rand.Rand, s string) string {
			at := headerAt(r, s)
			return splice(s, at+r.IntN(4), 0, pick(r, odd...))
		}},
		{"byte inserted before a colon", func(r *rand.Rand, s string) string {
			return splice(s, colonAt(r, s), 0, pick(r, odd...))
		}},
		{"byte inserted after a colon", func(r *rand.Rand, s string) string {
			return splice(s, colonAt(r, s)+1, 0, pick(r, odd...))
		}},
		{"byte overwritten", func(r *rand.Rand, s string) string { return splice(s, r.IntN(len(s)), 1, pick(r, odd...)) }},
		{"bytes removed", func(r *rand.Rand, s string) string {
			at := r.IntN(len(s))
			return splice(s, at, min(1+r.IntN(8), len(s)-at), "")
		}},
		{"bytes repeated", func(r *rand.Rand, s string) string {
			at := r.IntN(len(s))
			return splice(s, at, 0, s[at:min(len(s), at+1+r.IntN(40))])
		}},
		{"space changed", func(r *rand.Rand, s string) string {
			return swapOne(r, s, " ", pick(r, "\t", "  ", "\r\n ", "\r\n\t", "\x0b", "\x0c", "\x01", "\x00", "\u00a0", "\n ", "\r ", "\r\n \r\n "))
		}},
		{"line end changed", func(r *rand.Rand, s string) string {
			return swapOne(r, s, "\r\n", pick(r, "\n", "\r", "\n\r", "\r\r\n", "\r\n\r\n", " \r\n", "\x00\r\n", "\x0b\r\n", "\u2028"))
		}},
		{"header in another case", func(r *rand.Rand, s string) string {
			at := headerAt(r, s)
			end := at + max(0, strings.IndexByte(s[at:], ':'))
			return s[:at] + pick(r, strings.ToUpper, strings.ToLower)(s[at:end]) + s[end:]
		}},
		{"header in compact form", func(r *rand.Rand, s string) string {
			long := pick(r, "From", "To", "Call-ID", "Contact", "Content-Length", "Via", "Content-Type")
			return strings.Replace(s, "\r\n"+long+":", "\r\n"+compactForm[long]+pick(r, ":", " :", "\t:"), 1)
		}},
		{"header twice", duplicate},
		{"header moved", func(r *rand.Rand, s string) string {
			line := lineAt(s, headerAt(r, s))
			rest := strings.Replace(s, line, "", 1)
			return splice(rest, headerAt(r, rest), 0, line)
		}},
		{"header removed", func(r *rand.Rand, s string) string { return strings.Replace(s, lineAt(s, headerAt(r, s)), "", 1) }},
		{"request line", func(r *rand.Rand, s string) string {
			line, rest, _ := strings.Cut(s, "\r\n")
			return pick(r, startLines...)(line) + "\r\n" + rest
		}},
		{"Request-URI", func(r *rand.Rand, s string) string {
			line, rest, _ := strings.Cut(s, "\r\n")
			method, _, _ := strings.Cut(line, " ")
			return method + " " + pick(r, uris...) + " SIP/2.0\r\n" + rest
		}},
		{"second request behind", func(r *rand.Rand, s string) string {
			return s + "OPTIONS sip:hidden@pbx.example.com SIP/2.0\r\n" + s[strings.Index(s, "\r\n")+2:]
		}},
		{"method", func(r *rand.Rand, s string) string {
			method, _, _ := strings.Cut(s, " ")
			return strings.ReplaceAll(s, method, pick(r, strings.ToLower(method), method+"\x00", "X"+method, "ACK", "CANCEL", "PRACK", "UPDATE", "INFO", "PUBLISH", "NOTIFY", "REFER", "RANDOM", "!%*_+`'~-."))
		}},
	}
	for _, name := range slices.Sorted(maps.Keys(headerValues)) {
		values := headerValues[name]
		list = append(list, mutation{name, func(r *rand.Rand, s string) string { return replaceValue(s, name, pick(r, values...)) }})
	}
	return list
}

var headerLine = regexp.MustCompile(`(?m)^[A-Za-z-]+:`)

// headerAt is where a header begins, colonAt where its colon is.
func headerAt(r *rand.Rand, s string) int {
	all := headerLine.FindAllStringIndex(s, -1)
	if len(all) == 0 {
		return 0
	}
	return all[r.IntN(len(all))][0]
}

func colonAt(r *rand.Rand, s string) int {
	at := headerAt(r, s)
	return at + max(0, strings.IndexByte(s[at:], ':'))
}

func lineAt(s string, at int) string {
	if end := strings.Index(s[at:], "\r\n"); end >= 0 {
		return s[at : at+end+2]
	}
	return s[at:]
}

func splice(s string, at, remove int, insert string) string {
	at = min(at, len(s))
	return s[:at] + insert + s[min(len(s), at+remove):]
}

// swapOne replaces one of the places where old stands.
func swapOne(r *rand.Rand, s, old, replacement string) string {
	n := strings.Count(s, old)
	if n == 0 {
		return s
	}
	at := 0
	for range r.IntN(n) {
		at += strings.Index(s[at:], old) + len(old)
	}
	at += strings.Index(s[at:], old)
	return splice(s, at, len(old), replacement)
}

func replaceValue(s, name, value string) string {
	at := strings.Index(s, "\r\n"+name+":")
	if at < 0 {
		return s
	}
	line := lineAt(s, at+2)
	_, old, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), ": ")
	return strings.Replace(s, line, name+": "+strings.ReplaceAll(value, "$", old)+"\r\n", 1)
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }
