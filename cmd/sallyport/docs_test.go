package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// manual is what people read to run it: the README, and docs but for what a run reports.
func manual(t *testing.T) map[string]string {
	t.Helper()
	root := filepath.Join("..", "..")
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { return filepath.Base(f) == "soak.md" || filepath.Base(f) == "reference.md" })
	pages := make(map[string]string)
	for _, file := range append(files, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pages[file] = string(text)
	}
	return pages
}

// leastConfig is what a piece of configuration is added to, if it says nothing else.
const leastConfig = `
[edge]
domain = "pbx.example.com"
public_ip = "203.0.113.7"
[pbx]
address = "10.0.0.5:5060"
`

// tomlFaults loads a piece of configuration as the program does.
func tomlFaults(file, text string) []fault {
	c := defaults()
	decode("least", []byte(leastConfig), &c)
	d := decode(file, []byte(text), &c)
	if d.unreadable {
		return d.sorted()
	}
	c.validate(d)
	for _, trunk := range c.Trunks {
		d.addError(trunk.routed(trunk.Listen.on(netip.MustParseAddr("10.0.0.1")), nil, d).Validate())
	}
	return d.sorted()
}

var tomlBlock = regexp.MustCompile("(?s)```toml\n(.*?)```")

// What the manual says to write is what the program takes.
func TestManualsConfigurationIsGood(t *testing.T) {
	found := 0
	for file, page := range manual(t) {
		blocks := tomlBlock.FindAllStringSubmatchIndex(page, -1)
		found += len(blocks)
		for _, b := range blocks {
			before := strings.Count(page[:b[2]], "\n")
			for _, f := range tomlFaults(filepath.Base(file), page[b[2]:b[3]]) {
				t.Errorf("%s, the piece after line %d: %v", file, before, f)
			}
		}
	}
	if found < 8 {
		t.Errorf("%d pieces of configuration were found", found)
	}
}

// A check that took anything would be none.
func TestManualsFaultsAreFound(t *testing.T) {
	for name, text := range map[string]string{
		"a key that is none":          "[sip]\ntls_lisen = \":5061\"\n",
		"a key of another section":    "[edge]\ntls_listen = \":5061\"\n",
		"a value that is none":        "[pbx]\naddress = 5060\n",
		"a trunk's key that is none":  "[[trunk]]\nname = \"bar\"\nlisten = \":5071\"\npear = \"bar.example.com\"\n",
		"a trunk that nothing is for": "[[trunk]]\nname = \"bar\"\npeer = \"bar.example.com\"\n",
		"no TOML":                     "sip.tls_listen: 5061\n",
	} {
		if len(tomlFaults("manual", text)) == 0 {
			t.Errorf("%s: it has no fault", name)
		}
	}
}

// code is what a page has between backticks.
var code = regexp.MustCompile("`([^`\n]+)`")

// wrongKeys are what a page calls keys, by section and name, and are none.
func wrongKeys(page string) (wrong []string, right int) {
	keys := append(keysOf("", reflect.TypeFor[Config]()), keysOf("trunk", reflect.TypeFor[trunkConfig]())...)
	var sections []string
	for _, key := range keys {
		section, _, _ := strings.Cut(key, ".")
		sections = append(sections, section)
	}
	slices.Sort(sections)
	key := regexp.MustCompile(fmt.Sprintf(`^(?:%s)\.[a-z_.]+`, strings.Join(slices.Compact(sections), "|")))
	for _, quoted := range code.FindAllStringSubmatch(page, -1) {
		name := key.FindString(quoted[1])
		switch {
		case name == "" || isOther(name):
		case slices.Contains(keys, name):
			right++
		default:
			wrong = append(wrong, name)
		}
	}
	return wrong, right
}

// isOther tells what looks like a key and is the name of a host or a file.
func isOther(name string) bool {
	return slices.Contains([]string{".com", ".toml", ".conf", ".cfg", ".log"}, filepath.Ext(name))
}

func TestManualsKeysExist(t *testing.T) {
	found := 0
	for file, page := range manual(t) {
		wrong, right := wrongKeys(page)
		if found += right; len(wrong) > 0 {
			t.Errorf("%s: these are no keys: %v; %d others are", file, wrong, right)
		}
	}
	if found < 100 {
		t.Errorf("%d keys were found", found)
	}
	if wrong, _ := wrongKeys("`sip.tls_lisen` and `policy.calls.max_cals`"); len(wrong) != 2 {
		t.Errorf("of two keys that are none, these were found: %v", wrong)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

func TestManualsLinksLead(t *testing.T) {
	for file, page := range manual(t) {
		for _, l := range link.FindAllStringSubmatch(page, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), l[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", file, l[1])
			}
		}
	}
}

// typed is a command line of ours, at the beginning of a line or between backticks.
var typed = regexp.MustCompile("(?m)(?:^|`)sallyport ([^`\n#|]+)")

// wrongCommands are the command lines of a page that name a command or a flag
// that there is not.
func wrongCommands(page string) (wrong []string, right int) {
	for _, line := range typed.FindAllStringSubmatch(page, -1) {
		words := strings.Fields(line[1])
		n := 1
		usage := usageOf(words[:1])
		if strings.Contains(usage, " COMMAND\n") && len(words) > 1 {
			n, usage = 2, usageOf(words[:2])
		}
		good := !strings.Contains(usage, "there is no command")
		for _, word := range words[n:] {
			if flag := strings.TrimLeft(word, "-"); flag != word && flag != "" {
				good = good && regexp.MustCompile(`(?m)^\s+-`+regexp.QuoteMeta(flag)+`\b`).MatchString(usage)
			}
		}
		if good {
			right++
		} else {
			wrong = append(wrong, line[1])
		}
	}
	return wrong, right
}

// usageOf is what a command says of itself.
func usageOf(words []string) string {
	var out strings.Builder
	family{"sallyport", commands}.run(console{strings.NewReader(""), &out, &out}, append(slices.Clone(words), "-h"))
	return out.String()
}

func TestManualsCommandsExist(t *testing.T) {
	found := 0
	for file, page := range manual(t) {
		wrong, right := wrongCommands(page)
		if found += right; len(wrong) > 0 {
			t.Errorf("%s: there are no such commands or flags: %q; %d others there are", file, wrong, right)
		}
	}
	if found < 30 {
		t.Errorf("%d commands were found", found)
	}
	if wrong, right := wrongCommands("`sallyport rum`, `sallyport trunk pear x`, `sallyport prove --four 60s`\nsallyport check -config x # y\n"); len(wrong) != 3 || right != 1 {
		t.Errorf("of three commands that are none, these were found: %q", wrong)
	}
}
