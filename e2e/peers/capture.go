package peers

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Capture is tshark on one interface.
type Capture struct {
	*Process
	lab  *Lab
	File string
}

// StartCapture records a host's interface, with a capture filter, and returns
// when it really does.
func StartCapture(h *Host, dev, filter string) *Capture {
	l := h.lab
	l.t.Helper()
	if _, err := exec.LookPath("dumpcap"); err != nil {
		l.t.Fatalf("find dumpcap: %v; run make peers", err)
	}
	c := &Capture{lab: l, File: filepath.Join(l.Dir, dev+".pcap")}
	c.Process = l.start("capture-"+dev, h.Command("dumpcap", "-q", "-P", "-i", dev, "-f", filter, "-w", c.File))
	Until(l.t, 10*time.Second, "the capture on "+dev, func() bool {
		if !c.Running() {
			l.t.Fatal("dumpcap ended")
		}
		b, err := os.ReadFile(c.File) // its header is written once the interface is open
		return err == nil && len(b) >= 24
	})
	return c
}

// Fields reads fields of the packets that a display filter selects, one row a
// packet. decodeAs are tshark's -d rules.
func (c *Capture) Fields(filter string, fields []string, decodeAs ...string) [][]string {
	c.lab.t.Helper()
	args := []string{"-n", "-r", c.File, "-Y", filter, "-T", "fields"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	for _, d := range decodeAs {
		args = append(args, "-d", d)
	}
	cmd := exec.Command("tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.lab.t.Fatalf("read capture with tshark: %v\n%s", err, stderr.String())
	}
	var rows [][]string
	for _, line := range strings.Split(strings.TrimRight(string(out), "\n"), "\n") {
		if line != "" {
			rows = append(rows, strings.Split(line, "\t"))
		}
	}
	return rows
}

// Count counts the packets that a display filter selects.
func (c *Capture) Count(filter string, decodeAs ...string) int {
	c.lab.t.Helper()
	return len(c.Fields(filter, []string{"frame.number"}, decodeAs...))
}

// Contains tells whether bytes occur anywhere in what was captured.
func (c *Capture) Contains(b string) bool {
	c.lab.t.Helper()
	all, err := os.ReadFile(c.File)
	if err != nil {
		c.lab.t.Fatalf("read capture: %v", err)
	}
	return bytes.Contains(all, []byte(b))
}
