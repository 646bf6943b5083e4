package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// differ sends mutants through the edge to a PBX, and compares what the edge
// understood of each request that it let in, what is written on the plain side,
// and what chan_sip or chan_pjsip understood.
type differ struct {
	*office
	change atomic.Pointer[func([]byte) []byte] // of what goes on to the PBX; for the control
	host   *peers.Host
	mutant func(uint64) peers.Mutant
	phone  *peers.Phone                // nil between connections
	before map[string]peers.Understood // the ACKs so far, by branch
	last   string                      // mark that Asterisk got
	edgeAt int64                       // bytes read of the edge's log
	pbxAt  int64

	barred, ended, passed, compared int
	fields                          map[string]int // how often each was compared
	mismatches                      []string
}

// quiet are the limits off that one host which sends only garbage would meet.
const quiet = "[policy]\nauth_failures = 0\nhide_users = false\ncaller_id = \"any\"\nheaders = []\nmethods = [\"*\"]\nbodies = [\"*/*\"]\nmax_connections_per_address = 0\nnew_connections_per_second = 0.0\n"

func newDiffer(t *testing.T, version int) *differ {
	t.Helper()
	l := peers.NewLab(t)
	d := &differ{host: l.Phone("mutant"), fields: map[string]int{}}
	tap := peers.StartTap(l, func(b []byte) []byte {
		if change := d.change.Load(); change != nil && !bytes.Contains(b, []byte("\r\nCall-ID: mark-")) {
			return (*change)(b)
		}
		return b
	})
	d.office = &office{
		Lab: l, t: t, tap: tap,
		pbx:  peers.StartAsterisk(l, peers.AsteriskConfig{Version: version, Probe: true, Tapped: true}),
		edge: peers.StartEdge(l, peers.EdgeConfig{PBX: peers.Unchecked, Extra: quiet}), // or it asks the PBX too
	}
	if version == 22 {
		d.pbx.History()
	} else {
		d.pbx.Must("sip set debug on")
		d.pbx.Must("core set debug 5 chan_sip.so")
	}
	d.mutant = peers.Mutants("1001", d.host.Addr.String()+":5061")
	return d
}

// run tries the seeds in turn, some at a time.
func (d *differ) run(first, count uint64) {
	d.t.Helper()
	const chunk = 200
	for begin := first; begin < first+count; begin += chunk {
		tried := make([]attempt, 0, chunk)
		for seed := begin; seed < min(begin+chunk, first+count); seed++ {
			tried = append(tried, d.try(d.mutant(seed)))
		}
		d.judge(tried)
		if !d.edge.Running() || !d.pbx.Running() {
			d.t.Fatalf("the edge or Asterisk ended between seeds %d and %d", begin, begin+chunk)
		}
	}
	d.t.Logf("%d mutants: %d let nothing through, %d ended their connection; %d requests reached Asterisk, %d were compared, by field: %v",
		count, d.barred, d.ended, d.passed, d.compared, d.fields)
}

// attempt is a mutant and what the edge sent to the PBX because of it.
type attempt struct {
	peers.Mutant
	wires []string
}

// try sends a mutant and behind it a mark, whose answer tells that both sides
// are done with the mutant. A connection that does not bring one is given up,
// and the mark sent by the next.
func (d *differ) try(m peers.Mutant) attempt {
	d.t.Helper()
	if d.phone == nil {
		d.phone = peers.NewPhone(d.host, d.edge, "1001")
	}
	err := d.phone.Write(m.Text)
	if err == nil {
		_, err = marked(d.phone)
	}
	if err != nil {
		d.ended++
		d.phone.Close()
		d.phone = peers.NewPhone(d.host, d.edge, "1001")
		if _, err := marked(d.phone); err != nil {
			d.t.Fatalf("a good request is not answered after seed %d: %v\n%q", m.Seed, err, m.Text)
		}
	}
	a := attempt{m, d.tap.Take()}
	for _, text := range a.wires {
		if _, after, ok := strings.Cut(text, "\r\nCall-ID: mark-"); ok {
			d.last, _, _ = strings.Cut("mark-"+after, "\r\n")
		}
	}
	return a
}

// judge compares the views of some mutants.
func (d *differ) judge(tried []attempt) {
	d.t.Helper()
	understood := byBranch(d.understood())
	for branch, u := range d.before { // an ACK may be on its way when the mark is answered
		understood[branch] = u
	}
	d.before = maps.Clone(understood)
	for branch, u := range understood {
		if u.Reading["method"] != "ACK" {
			delete(d.before, branch)
		}
	}
	edge := edgeReadings(d.since(d.edge.Log, &d.edgeAt, true))
	for _, a := range tried {
		let := false
		for _, text := range a.wires {
			if strings.HasPrefix(text, "SIP/2.0") || strings.Contains(text, "\r\nCall-ID: mark-") {
				continue // an answer, or the mark
			}
			let = true
			d.passed++
			d.compare(a, text, edge, understood)
		}
		if !let {
			d.barred++
		}
	}
}

// understood is what the PBX made of the requests that have come since the last
// call, when it is done with them.
func (d *differ) understood() []peers.Understood {
	d.t.Helper()
	if d.pbx.Version != 22 {
		peers.Until(d.t, 20*time.Second, "Asterisk to be done", func() bool {
			return d.pbx.Channels() == 0 && bytes.Contains(d.since(d.pbx.Log, &d.pbxAt, false), []byte(d.last+"' in "))
		})
		return peers.ReadUnderstood(string(d.since(d.pbx.Log, &d.pbxAt, true)))
	}
	var all []peers.Understood
	peers.Until(d.t, 20*time.Second, "Asterisk to have answered all", func() bool {
		all = d.pbx.Understood(all, "")
		return d.pbx.Channels() == 0 && !slices.ContainsFunc(all, func(u peers.Understood) bool { return u.Status == "" && u.Reading["method"] != "ACK" })
	})
	return d.pbx.Understood(all, string(d.since(d.pbx.Log, &d.pbxAt, true)))
}

// since returns what a log got since it was read last.
func (d *differ) since(file string, at *int64, move bool) []byte {
	d.t.Helper()
	f, err := os.Open(file)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, *at, 1<<40))
	if err != nil {
		d.t.Fatal(err)
	}
	if move {
		*at += int64(len(b))
	}
	return b
}

func (d *differ) compare(a attempt, text string, edge map[string][]peers.Reading, understood map[string]peers.Understood) {
	wire, err := peers.ReadWire(text)
	if err != nil {
		d.mismatch(a, "the edge sent a malformed request: %v\n%q", err, text)
		return
	}
	theirs, ok := understood[peers.Branch(text)]
	if !ok {
		d.mismatch(a, "Asterisk's log has no such request\n%q", text)
		return
	}
	d.compared++
	for field := range theirs.Reading {
		d.fields[field]++
	}
	if fields := wire.Differs(theirs.Reading); len(fields) > 0 {
		d.mismatch(a, "%v: sent     %v\n  Asterisk %v\n%q", fields, wire, theirs.Reading, text)
	}
	if wire["method"] == "ACK" || wire["method"] == "CANCEL" { // the edge's own, hop by hop
		return
	}
	all := edge[wire["call_id"]+" "+wire["cseq"]+" "+wire["method"]]
	for _, ours := range all { // several, if there is a second request behind the first
		if len(ours.Differs(wire)) == 0 && len(ours.Differs(theirs.Reading)) == 0 {
			return
		}
	}
	d.mismatch(a, "edge     %v\n  sent     %v\n  Asterisk %v\n%q", all, wire, theirs.Reading, text)
}

func (d *differ) mismatch(a attempt, format string, args ...any) {
	d.mismatches = append(d.mismatches, fmt.Sprintf("seed %d %q\n  "+format+"\n  mutant %q", append(append([]any{a.Seed, a.Operators}, args...), a.Text)...))
}

// edgeReadings are what an edge's log says of the requests that came from
// outside, by Call-ID, CSeq and method.
func edgeReadings(log []byte) map[string][]peers.Reading {
	all := make(map[string][]peers.Reading)
	for line := range bytes.Lines(log) {
		var m struct {
			Msg, Side, Method, Number, From, To string
			CallID                              string `json:"call_id"`
			CSeq                                uint32 `json:"cseq"`
			FromTag                             string `json:"from_tag"`
			ToTag                               string `json:"to_tag"`
		}
		// A line about a message has its whole CSeq, and is none about a request.
		if json.Unmarshal(line, &m) != nil || m.Msg != "request" || m.Side != "secure" {
			continue
		}
		cseq := strconv.FormatUint(uint64(m.CSeq), 10)
		key := m.CallID + " " + cseq + " " + m.Method
		all[key] = append(all[key], peers.Reading{
			"method": m.Method, "call_id": m.CallID, "cseq": cseq, "number": cmp.Or(m.Number, "s"),
			"from": m.From, "from_tag": m.FromTag, "to": m.To, "to_tag": m.ToTag,
		})
	}
	return all
}

func byBranch(list []peers.Understood) map[string]peers.Understood {
	all := make(map[string]peers.Understood)
	for _, u := range list {
		if b := peers.Branch(u.Raw); all[b].Raw == "" { // what is sent again is read again
			all[b] = u
		}
	}
	return all
}

// Requests that are spoilt in some hundred ways are refused, or Asterisk
// understands of them what the edge did. COUNT says how many, FIRST from which
// seed on.
func TestDifferential(t *testing.T) {
	for name, version := range pbxs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDiffer(t, version)
			d.run(number(t, "FIRST", 1), number(t, "COUNT", 400))
			for _, m := range d.mismatches[:min(len(d.mismatches), 20)] {
				t.Error(m)
			}
			if len(d.mismatches) > 20 {
				t.Errorf("and %d more", len(d.mismatches)-20)
			}
			for _, field := range []string{"method", "call_id", "from_tag", "from", "number", "cseq", "contact", "to"} {
				if d.fields[field] == 0 {
					t.Errorf("Asterisk never told what it understood of %s: the comparison is broken (%v)", field, slices.Sorted(maps.Keys(d.fields)))
				}
			}
		})
	}
}

// The control of Differential: what is changed on the way from the edge to
// Asterisk is found, whichever field it is of, and whatever hides it. What hides
// a tag from chan_sip, pjproject reads as the edge does.
func TestDifferentialControl(t *testing.T) {
	for name, version := range pbxs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const each = 150 // seeds, or a field might not be in them
			d, first := newDiffer(t, version), uint64(1)
			for _, c := range []struct {
				name, field, old, replacement string
				version                       int // of the PBX that is to be fooled; 0: both
				times                         int // it is replaced
			}{
				{"method", "method", "OPTIONS sip:600", "MESSAGE sip:600", 16, 1}, // pjproject drops it: CSeq says another
				{"method, and CSeq's", "method", "OPTIONS", "MESSAGE", 0, 2},
				{"method in lower case", "method", "OPTIONS", "message", 16, 2}, // chan_pjsip never answers some of these
				{"number", "number", " sip:600@", " sip:601@", 0, 1},
				{"From user", "from", "<sip:1001@pbx.example.com>;tag=f", "<sip:1002@pbx.example.com>;tag=f", 0, 1},
				{"From tag", "from_tag", ";tag=f", ";tag=g", 0, 1},
				{"tag in a display name", "from_tag", "\"Anna\"", "\"Anna;tag=x\"", 16, 1},
				{"To tag", "to_tag", "To: <sip:600@pbx.example.com>", "To: <sip:600@pbx.example.com>;tag=x", 0, 1},
				{"To user of a registration", "to", "To: <sip:1001@pbx.example.com>", "To: <sip:1002@pbx.example.com>", 0, 1},
				{"Call-ID", "call_id", "Call-ID: d", "Call-ID: e", 0, 1},
				{"CSeq", "cseq", "CSeq: ", "CSeq: 7", 0, 1},
				{"Contact of a call", "contact", "Contact: <sip:call-", "Contact: <sip:other-", 0, 1},
				{"Contact of a registration", "contact", "Contact: <sip:", "Contact: <sip:a", 0, 1},
				{"a second From, white space behind its name", "from", "From: ", "From : <sip:1002@pbx.example.com>;tag=f\r\nFrom: ", 0, 1},
				{"a tab behind a space in front of the tag", "from_tag", ";tag=f", ";tag \t=f", 16, 1},
			} {
				if c.version != 0 && c.version != version {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					change := func(b []byte) []byte { return bytes.Replace(b, []byte(c.old), []byte(c.replacement), c.times) }
					d.change.Store(&change)
					d.mismatches = nil
					d.run(first, each)
					first += each
					about := regexp.MustCompile(`\[[^]]*\b` + c.field + `\b[^]]*\]: sent `)
					if !slices.ContainsFunc(d.mismatches, about.MatchString) {
						t.Fatalf("no mismatch of %s was found, of %d", c.field, len(d.mismatches))
					}
				})
			}
		})
	}
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return n
}
