package peers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Ladder draws the SIP messages in an edge's log: phones to the left, the PBX
// to the right.
func Ladder(log []byte) string {
	var b strings.Builder
	var first time.Time
	fmt.Fprintf(&b, "%8s  %-21s %52s\n", "seconds", "phone", "edge")
	for s := bufio.NewScanner(bytes.NewReader(log)); s.Scan(); {
		var m struct {
			Time                        time.Time
			Msg, Side, Dir, Peer, Start string
			CSeq                        string `json:"cseq"`
			CallID                      string `json:"call_id"`
		}
		if json.Unmarshal(s.Bytes(), &m) != nil || m.Msg != "sip" {
			continue
		}
		if first.IsZero() {
			first = m.Time
		}
		line := strings.TrimSuffix(m.Start, " SIP/2.0")
		if strings.HasPrefix(line, "SIP/2.0 ") {
			line = line[8:] + " (" + m.CSeq + ")"
		}
		if len(line) > 46 {
			line = line[:45] + "…"
		}
		arrow := "-->"
		if (m.Side == "secure") == (m.Dir == "out") {
			arrow = "<--"
		}
		id := m.CallID[:min(6, len(m.CallID))]
		if m.Side == "secure" {
			fmt.Fprintf(&b, "%8.3f  %-21s %s %-46s |  [%s]\n", m.Time.Sub(first).Seconds(), m.Peer, arrow, line, id)
		} else {
			fmt.Fprintf(&b, "%8.3f  %-72s | %s %-46s %s [%s]\n", m.Time.Sub(first).Seconds(), "", arrow, line, m.Peer, id)
		}
	}
	return b.String()
}
