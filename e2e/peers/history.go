package peers

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// This file reads what chan_pjsip understood: res_pjsip_history keeps of each
// message what pjproject's parser made of it, and writes that anew.

// History turns on the keeping.
func (a *Asterisk) History() { a.Must("pjsip set history on") }

var (
	pjEntry  = regexp.MustCompile(`(?s)<--- History Entry \d+ (Received from|Sent to) \S+ at \d+ --->\n(.*)`)
	pjStart  = regexp.MustCompile(`^([A-Za-z0-9.!%*_+'~\x60-]+) (\S+) SIP/2\.0$`)
	pjStatus = regexp.MustCompile(`^SIP/2\.0 (\d\d\d) `)
	pjProbe  = regexp.MustCompile(`app_verbose\.c: PROBE (.*)\|(.*)\|<([^>|]*)>[^|]*\|(\d+) \S+\|(.*)\|(\S+)\n`)
	pjNobody = regexp.MustCompile(`(?i)\r\nFrom: [^\r]*<sips?:[^@>]*>`) // no user: chan_sip, and so Reading, takes the host for one
	pjUser   = regexp.MustCompile(`^10(0[1-9]|1[0-9]|20)$`)             // as pjsip.conf has them
)

// Understood returns open, and behind it the requests that chan_pjsip has read
// since the last call, each with its final answer if it has one by now. log is
// what the dialplan of Probe said of calls.
func (a *Asterisk) Understood(open []Understood, log string) []Understood {
	a.lab.t.Helper()
	all := slices.Clone(open)
	for ; ; a.seen++ {
		entry := pjEntry.FindStringSubmatch(a.Must(fmt.Sprint("pjsip show history entry ", a.seen)))
		if entry == nil {
			break
		}
		u := Understood{Raw: strings.ReplaceAll(strings.ReplaceAll(entry[2], "\r\n", "\n"), "\n", "\r\n"), Reading: Reading{}}
		u.Reading.printed(u.Raw)
		switch status := pjStatus.FindStringSubmatch(u.Raw); {
		case entry[1] == "Received from" && status == nil:
			all = append(all, u)
		case entry[1] == "Sent to" && status != nil && status[1] >= "200":
			u.Status = status[1]
			answer(all, u)
		}
	}
	told := make(map[string]bool)
	for _, p := range pjProbe.FindAllStringSubmatch(log, -1) {
		if told[p[1]] { // the first is the call, a second its end
			continue
		}
		told[p[1]] = true
		for _, u := range all {
			if u.Reading["method"] != "INVITE" || u.Reading["call_id"] != p[1] {
				continue
			}
			shown, _, _ := strings.Cut(u.Reading["from"], ";") // a caller's number ends there; who it is does not
			if shown != unescaped(p[2]) && !(p[2] == "" && pjNobody.MatchString(u.Raw)) {
				u.Reading.also("from", unescaped(p[2]))
			}
			u.Reading.also("contact", p[3])
			u.Reading.also("cseq", p[4])
			u.Reading.also("number", unescaped(p[5]))
			if pjUser.MatchString(u.Reading["from"]) || p[6] != "anonymous" { // whose rights it has
				u.Reading.also("from", p[6])
			}
		}
	}
	return all
}

// answer notes a final answer by its request. It repeats what was understood.
func answer(all []Understood, res Understood) {
	for i := range all {
		if all[i].Status == "" && branchOf(all[i].Raw) == branchOf(res.Raw) && all[i].Reading["method"] == res.Reading["method"] {
			all[i].Status = res.Status
			for _, field := range []string{"call_id", "cseq", "from", "from_tag", "to"} {
				all[i].Reading.also(field, res.Reading[field])
			}
		}
	}
}

// also notes another word on a field: if it is another one, both stay.
func (r Reading) also(field, value string) {
	if r[field] != value {
		r[field] += " & " + value
	}
}

// printed reads a message as pjproject prints it.
func (r Reading) printed(text string) {
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	lines := strings.Split(strings.TrimLeft(head, "\r\n"), "\r\n")
	values := make(map[string][]string)
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		values[name] = append(values[name], strings.TrimSpace(value))
	}
	if start := pjStart.FindStringSubmatch(lines[0]); start != nil {
		r["number"] = wireUserOf(start[2])
		if r["number"] == "" {
			r["number"] = "s"
		}
	}
	r["call_id"] = strings.Join(values["Call-ID"], " & ")
	for i, value := range values["CSeq"] {
		n, method, _ := strings.Cut(value, " ")
		if i == 0 {
			r["cseq"], r["method"] = n, method
			continue
		}
		r.also("cseq", n)
	}
	if start := pjStart.FindStringSubmatch(lines[0]); start != nil {
		r.also("method", start[1])
	}
	for name, field := range map[string]string{"From": "from", "To": "to"} {
		if err := r.party(field, strings.Join(values[name], " & ")); err != nil {
			r[field] = err.Error()
		}
	}
	if contacts := values["Contact"]; len(contacts) == 1 {
		if c := wireParty.FindStringSubmatch(contacts[0]); c != nil {
			r["contact"] = c[2]
		}
	}
}

// Branch is that of a request's only Via; an ACK and a CANCEL have their INVITE's.
func Branch(text string) string {
	b := branchOf(text)
	method, _, _ := strings.Cut(text, " ")
	if method == "ACK" || method == "CANCEL" {
		b += " " + method
	}
	return b
}

func branchOf(text string) string {
	_, after, _ := strings.Cut(text, ";branch=")
	b, _, _ := strings.Cut(after, "\r\n")
	b, _, _ = strings.Cut(b, ";")
	return b
}
