package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// made parts what is written by hand in the reference from what the code says.
const made = "<!-- From here on: go test ./cmd/sallyport -run TestReference -update -->\n"

// The reference has every metric and every line of the log, as the code has them.
func TestReference(t *testing.T) {
	page := filepath.Join("..", "..", "docs", "reference.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	byHand, _, ok := bytes.Cut(text, []byte(made))
	if !ok {
		t.Fatalf("%s has no line %q", page, made)
	}
	s := spoken{metrics: make(map[string]string), lines: make(map[string]map[string][]string)}
	s.read(t, filepath.Join("..", ".."))
	if len(s.metrics) < 40 || len(s.lines["Error"]) < 10 || len(s.lines["Warn"]) < 20 || len(s.lines["Info"]) < 40 {
		t.Fatalf("of %d metrics and %d errors little was found", len(s.metrics), len(s.lines["Error"]))
	}
	want := string(byHand) + made + s.page()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s is not what the code says; run go test ./cmd/sallyport -run TestReference -update", page)
	}
}

// spoken is what the edge tells its operator.
type spoken struct {
	metrics map[string]string              // rows, by name
	lines   map[string]map[string][]string // by level and message: its keys
}

// read goes through the packages that the edge is made of, but for its demo.
func (s spoken) read(t *testing.T, root string) {
	t.Helper()
	for _, room := range []string{"cmd/sallyport", "cmd/internal/admin", "cmd/internal/phone", "cmd/internal/prove", "cmd/internal/succession", "sipproxy", "media", "policy", "tlsconf"} {
		err := filepath.WalkDir(filepath.Join(root, room), func(path string, e fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err == nil {
				ast.Inspect(file, s.node)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (s spoken) node(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CompositeLit:
		s.metric(n)
	case *ast.CallExpr:
		s.line(n)
	}
	return true
}

// metric notes an admin.Metric.
func (s spoken) metric(n *ast.CompositeLit) {
	if nameOf(n.Type) != "Metric" {
		return
	}
	fields := map[string]ast.Expr{}
	for _, e := range n.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			fields[nameOf(kv.Key)] = kv.Value
		}
	}
	name, ok := literal(fields["Name"])
	if !ok {
		return
	}
	kind := "counter"
	if fields["Kind"] != nil && nameOf(fields["Kind"]) == "Gauge" {
		kind = "gauge"
	}
	var labels []string
	if list, ok := fields["Labels"].(*ast.CompositeLit); ok {
		for _, e := range list.Elts {
			label, _ := literal(e)
			labels = append(labels, "`"+label+"`")
		}
	}
	help, _ := literal(fields["Help"])
	s.metrics[name] = fmt.Sprintf("| `sallyport_%s` | %s | %s | %s |\n", name, kind, strings.Join(labels, ", "), help)
}

// levels are the methods of a logger, and what the reference calls their lines.
var levels = map[string]string{"Error": "ERROR", "Warn": "WARN", "Info": "INFO", "Log": "At a level that tells how grave it is"}

// line notes a call of a logger.
func (s spoken) line(n *ast.CallExpr) {
	method, ok := n.Fun.(*ast.SelectorExpr)
	if !ok || nameOf(method.X) != "log" {
		return
	}
	name, args := method.Sel.Name, n.Args
	if name == "Log" && len(args) > 2 { // after a context and the level
		args = args[2:]
	}
	if levels[name] == "" || len(args) == 0 {
		return
	}
	message, ok := literal(args[0])
	if !ok {
		return
	}
	level := s.lines[name]
	if level == nil {
		level = make(map[string][]string)
		s.lines[name] = level
	}
	keys := level[message]
	for i := 1; i < len(args); i += 2 {
		if key, ok := literal(args[i]); ok && !slices.Contains(keys, "`"+key+"`") {
			keys = append(keys, "`"+key+"`")
		}
	}
	level[message] = keys
}

// nameOf is the last name of an identifier or a selector.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// literal is a string as the code has it; of one that goes on, what it begins with.
func literal(e ast.Expr) (string, bool) {
	if sum, ok := e.(*ast.BinaryExpr); ok {
		begins, ok := literal(sum.X)
		return begins + "…", ok
	}
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}

// page is all that as the reference shows it.
func (s spoken) page() string {
	var b strings.Builder
	b.WriteString("\n## Metrics\n\n| Name | Kind | Labels | |\n|---|---|---|---|\n")
	for _, name := range sortedKeys(s.metrics) {
		b.WriteString(s.metrics[name])
	}
	b.WriteString("\n## Lines of the log\n")
	for _, level := range []string{"Error", "Warn", "Info", "Log"} {
		fmt.Fprintf(&b, "\n### %s\n\n| Message | Keys |\n|---|---|\n", levels[level])
		for _, message := range sortedKeys(s.lines[level]) {
			fmt.Fprintf(&b, "| %s | %s |\n", message, strings.Join(s.lines[level][message], ", "))
		}
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
