package prove

import (
	"fmt"
	"io"
	"strconv"
	"time"
)

// Verdict is what was proved.
type Verdict string

// The verdicts.
const (
	Clean      Verdict = "clean"      // nothing of SIP or media crossed in clear
	Leaks      Verdict = "leak"       // something did
	Incomplete Verdict = "incomplete" // nothing was seen to, but not everything was seen
)

// Report is the outcome of a watch. It is what -json prints.
type Report struct {
	Interface string    `json:"interface"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Verdict   Verdict   `json:"verdict"`
	Reasons   []string  `json:"reasons"` // why it is incomplete
	Packets   uint64    `json:"packets"` // of all kinds
	Bytes     uint64    `json:"bytes"`
	Dropped   uint64    `json:"dropped"` // by the kernel, before they were seen
	Kinds     []Row     `json:"kinds"`
	Leaks     []Leak    `json:"leaks"`
	Unlisted  uint64    `json:"unlisted"` // packets of leaks beyond those
}

// Row is what was counted of one kind in one direction.
type Row struct {
	Kind      string `json:"kind"`
	Group     string `json:"group"`
	Direction string `json:"direction"`
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
	Verified  uint64 `json:"verified"` // of the packets

	text string
}

// Report sums up. dropped is how many packets the kernel could not hand over.
func (a *Account) Report(dropped uint64) Report {
	if dropped > 0 {
		a.Incomplete(fmt.Sprintf("the kernel dropped %d packets before they were seen", dropped))
	}
	r := Report{Verdict: Clean, Reasons: append([]string{}, a.reasons...), Packets: a.total.packets, Bytes: a.total.bytes, Dropped: dropped, Leaks: []Leak{}}
	order := []Group{Proved, Stranger, Leaked, Missed, Beside}
	leaked := false
	for _, g := range order {
		for k := range numKinds {
			if k.Group() != g {
				continue
			}
			for _, d := range []Direction{In, Out, Past} {
				n := a.counts[k][d]
				if n.packets == 0 {
					continue
				}
				row := Row{Kind: k.String(), Group: g.String(), Direction: d.String(), Packets: n.packets, Bytes: n.bytes, text: kinds[k].text}
				if g == Proved {
					row.Verified = n.packets
				}
				leaked = leaked || g == Leaked
				r.Kinds = append(r.Kinds, row)
			}
		}
	}
	for _, l := range a.leaks.list {
		r.Leaks = append(r.Leaks, *l)
	}
	r.Unlisted = a.leaks.more.packets
	switch {
	case leaked:
		r.Verdict = Leaks
	case len(r.Reasons) > 0:
		r.Verdict = Incomplete
	}
	return r
}

// sum is how many packets a group has.
func (r Report) sum(g Group) (n uint64) {
	for _, row := range r.Kinds {
		if row.Group == g.String() {
			n += row.Packets
		}
	}
	return n
}

// headings are how Print calls the groups.
var headings = map[string]string{
	Proved.String(): "encrypted", Stranger.String(): "inbound, not ours", Leaked.String(): "leaks", Missed.String(): "not to be told",
	Beside.String(): "neither SIP nor media",
}

// Print writes the report for a person.
func (r Report) Print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, %s\n\n", r.Interface, r.To.Sub(r.From).Round(time.Second/10), count(r.Packets))
	line := func(what, direction, packets, bytes, verified any) {
		fmt.Fprintf(w, "%-34v  %-9v  %10v  %12v  %10v\n", what, direction, packets, bytes, verified)
	}
	line("", "direction", "packets", "bytes", "verified")
	group := ""
	for _, row := range r.Kinds {
		if row.Group != group {
			group = row.Group
			fmt.Fprintln(w, headings[group])
		}
		verified := "-"
		if row.Group == Proved.String() {
			verified = strconv.FormatUint(row.Verified, 10)
		}
		line("  "+row.text, row.Direction, row.Packets, row.Bytes, verified)
	}
	if len(r.Leaks) > 0 {
		fmt.Fprint(w, "\nIn clear, or under no key of a call:\n")
	}
	for _, l := range r.Leaks {
		fmt.Fprintf(w, "%s  %s  %s -> %s  %s, %d bytes: %s; %s in all\n",
			l.Time.Format("15:04:05.000"), l.Direction, l.Source, l.Destination, l.Transport, l.Length, l.First, count(l.Packets))
	}
	if r.Unlisted > 0 {
		fmt.Fprintf(w, "and %s more between others\n", count(r.Unlisted))
	}
	fmt.Fprintf(w, "\n%s\n", r.sentence())
	if r.Verdict != Clean {
		for _, why := range r.Reasons {
			fmt.Fprintf(w, "  incomplete: %s\n", why)
		}
	}
}

// count is a number of packets in words.
func count(n uint64) string {
	if n == 1 {
		return "1 packet"
	}
	return fmt.Sprintf("%d packets", n)
}

// sentence is the verdict in words.
func (r Report) sentence() string {
	proved, strangers := r.sum(Proved), r.sum(Stranger)
	said := ""
	switch r.Verdict {
	case Leaks:
		return fmt.Sprintf("LEAK: %s of SIP or media crossed %s in clear, or under no call's key.", count(r.sum(Leaked)), r.Interface)
	case Incomplete:
		return fmt.Sprintf("NOT PROVED: nothing was seen in clear on %s, but not everything was seen.", r.Interface)
	case Clean:
		said = fmt.Sprintf("CLEAN: nothing of SIP or media crossed %s in clear. %s of the edge, all verified", r.Interface, count(proved))
		if proved == 0 {
			said = fmt.Sprintf("CLEAN: nothing of SIP or media crossed %s at all", r.Interface)
		}
	}
	if strangers > 0 {
		said += fmt.Sprintf("; %d came from strangers and were refused", strangers)
	}
	return said + "."
}
