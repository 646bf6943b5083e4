package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sallyport/sallyport/"

// house is who may import whom of our own packages: the drawing in
// docs/house.md. A package that is not listed may not exist; an arrow that is not
// listed may not be drawn.
var house = map[string][]string{
	"cmd/sallyport":           {"cmd/internal/admin", "cmd/internal/demo", "cmd/internal/phone", "cmd/internal/prove", "cmd/internal/succession", "media", "media/seam", "policy", "sipproxy", "sipproxy/flow", "sipproxy/locate", "sipproxy/users", "tlsconf"},
	"cmd/internal/admin":      {"media", "policy", "sipproxy", "sipproxy/flow", "tlsconf"},
	"cmd/internal/demo":       {"cmd/internal/nameaddr", "cmd/internal/sound"},
	"cmd/internal/nameaddr":   {},
	"cmd/internal/sound":      {},
	"cmd/internal/phone":      {},
	"cmd/internal/prove":      {"media"},
	"cmd/internal/succession": {},
	"sipproxy":                {"media", "policy", "sipproxy/digest", "sipproxy/flow", "sipproxy/locate", "sipproxy/sdp", "sipproxy/transaction", "sipproxy/users"},
	"sipproxy/digest":         {},
	"sipproxy/flow":           {"media/seam"},
	"sipproxy/locate":         {},
	"sipproxy/sdp":            {},
	"sipproxy/transaction":    {},
	"sipproxy/users":          {},
	"media":                   {"media/packet", "media/seam"},
	"media/packet":            {"media/seam"},
	"media/seam":              {},
	"policy":                  {},
	"tlsconf":                 {},
	"e2e":                     {"e2e/peers"},
	"e2e/bench":               {"e2e/peers"},
	"e2e/load":                {"e2e/peers"},
	"e2e/peers":               {},

	"cmd/sallyload":             {"cmd/internal/load", "cmd/internal/load/answer", "cmd/internal/load/measure", "cmd/internal/load/media", "cmd/internal/load/plot", "cmd/internal/load/wire"},
	"cmd/internal/load":         {"cmd/internal/load/measure", "cmd/internal/load/media", "cmd/internal/load/phone", "cmd/internal/load/wire"},
	"cmd/internal/load/answer":  {"cmd/internal/load/media", "cmd/internal/load/message", "cmd/internal/nameaddr"},
	"cmd/internal/load/measure": {},
	"cmd/internal/load/media":   {"cmd/internal/load/measure", "cmd/internal/sound"},
	"cmd/internal/load/message": {"cmd/internal/nameaddr"},
	"cmd/internal/load/phone":   {"cmd/internal/load/message", "cmd/internal/load/wire", "cmd/internal/nameaddr"},
	"cmd/internal/load/plot":    {"cmd/internal/load/measure"},
	"cmd/internal/load/wire":    {"cmd/internal/load/message"},
}

func TestHouse(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	seen := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		room := strings.TrimPrefix(p.ImportPath, module)
		allowed, listed := house[room]
		if !listed {
			t.Errorf("%s is not a room of the house: add it to the drawing in docs/house.md and to this table, or merge it", room)
			continue
		}
		seen[room] = true
		for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			to, ours := strings.CutPrefix(imp, module)
			if ours && to != room && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: the house has no such arrow", room, to)
			}
		}
	}
	for room := range house {
		if !seen[room] {
			t.Errorf("%s is drawn but does not exist", room)
		}
	}
}
