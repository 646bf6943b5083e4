package peers

import (
	"os"
	"strings"
	"testing"
)

// What the lab looks for in the log of an edge is what an edge writes there.
func TestFaultLine(t *testing.T) {
	b, err := os.ReadFile("../../sipproxy/fault.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"`+faultLine) {
		t.Errorf("the edge does not write %q", faultLine)
	}
}
