package peers

import (
	"regexp"
	"slices"
	"strings"
)

// Understood is one datagram of the edge as Asterisk's own log shows it: the
// bytes that came, and what chan_sip made of them.
type Understood struct {
	Raw     string
	Reading Reading
	Status  string // of its first final answer
}

const (
	readFrom = "\n<--- SIP read from UDP:" + tapInner + " --->\n"
	readEnd  = "\n<------------->\n"
)

// astKnown are the methods of chan_sip.
var astKnown = []string{
	"REGISTER", "OPTIONS", "NOTIFY", "INVITE", "ACK", "PRACK", "BYE", "REFER", "SUBSCRIBE", "MESSAGE", "UPDATE", "INFO", "CANCEL", "PUBLISH", "PING",
}

var (
	astMethod  = regexp.MustCompile(`\*\*\*\* Received (\S+) \(\d+\) - Command in SIP (\S+)`)
	astDialog  = regexp.MustCompile(`= Looking for  Call ID: (.*) \(Checking From\) --From tag (.*) --To-tag (.*)  \n`)
	astFrom    = regexp.MustCompile(`(?:Found peer '[^']*'|No matching peer) for '(.*)' from '?` + regexp.QuoteMeta(tapInner))
	astNumber  = regexp.MustCompile(`Looking for (.*) in probe(?: \(domain .*\))?\n`)
	astUser    = regexp.MustCompile(`(?s)Saved useragent "[^\n]*" for peer (\S+)\n`) // it says so when that changes
	astProbe   = regexp.MustCompile(`app_verbose\.c: PROBE (.*)\|(.*)\|(.*)\|(\d+) (\S+)\n`)
	astAnswer  = regexp.MustCompile(`(?s)Transmitting \([^)]*\) to ` + regexp.QuoteMeta(tapInner) + ` --->\n(SIP/2\.0 [2-6]\d\d.*?)\n\n`)
	astContact = regexp.MustCompile(`\nContact: <([^>]*)>`)
	astCSeq    = regexp.MustCompile(`\nCSeq: (\d+) `)
)

// ReadUnderstood reads a log of an Asterisk that was started with Probe.
func ReadUnderstood(log string) []Understood {
	probes := make(map[string][]string)
	for _, p := range astProbe.FindAllStringSubmatch(log, -1) {
		if probes[p[1]] == nil { // the first is the call, a second its end
			probes[p[1]] = p
		}
	}
	var all []Understood
	for _, part := range strings.Split(log, readFrom)[1:] {
		raw, said, ok := strings.Cut(part, readEnd)
		if !ok || strings.HasPrefix(raw, "SIP/2.0") {
			continue
		}
		u := Understood{Raw: raw, Reading: Reading{}}
		u.read(said)
		if p := probes[u.Reading["call_id"]]; p != nil && u.Reading["method"] == "INVITE" {
			u.Reading["contact"], u.Reading["cseq"] = p[3], p[4]
		}
		all = append(all, u)
	}
	return all
}

func (u *Understood) read(said string) {
	r := u.Reading
	note := func(re *regexp.Regexp, fields ...string) {
		if m := re.FindStringSubmatch(said); m != nil {
			for i, field := range fields {
				r[field] = m[i+1]
			}
		}
	}
	note(astMethod, "method")
	if r["method"] == "-UNKNOWN-" { // any that it does not know; of those, it tells nothing
		if method, _, _ := strings.Cut(u.Raw, " "); !slices.Contains(astKnown, method) {
			delete(r, "method")
		}
	}
	note(astDialog, "call_id", "from_tag", "to_tag")
	note(astFrom, "from")
	note(astNumber, "number")
	if r["method"] == "REGISTER" {
		note(astUser, "to")
	}
	if m := astAnswer.FindStringSubmatch(said); m != nil && strings.Contains(m[1], "\nCall-ID: "+r["call_id"]+"\r") {
		u.Status, _, _ = strings.Cut(strings.TrimPrefix(m[1], "SIP/2.0 "), " ")
		if c := astCSeq.FindStringSubmatch(m[1]); c != nil {
			r["cseq"] = c[1]
		}
		if c := astContact.FindStringSubmatch(m[1]); c != nil && r["method"] == "REGISTER" {
			r["contact"] = c[1]
		}
	}
	for _, field := range []string{"from", "number", "to"} { // it unescapes some and shows others as they came
		if _, told := r[field]; told {
			r[field] = unescaped(r[field])
		}
	}
}
