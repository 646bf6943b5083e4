package main

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// fault is one thing wrong with the configuration file.
type fault struct {
	file string
	line int    // 0: the file lacks the key
	key  string // dotted; empty for a fault of the file itself
	text string // what is wrong; what to do
}

// Error has the form compilers use, which editors can jump to.
func (f fault) Error() string {
	var b strings.Builder
	b.WriteString(f.file)
	if f.line > 0 {
		fmt.Fprintf(&b, ":%d", f.line)
	}
	if f.key != "" {
		b.WriteString(": " + f.key)
	}
	return b.String() + ": " + f.text
}

// document is a parsed file on its way into a struct. go-toml's own decoder ends
// at the first value of a wrong type; this one goes on, to report all at once.
type document struct {
	file       string
	lines      map[string]int      // by dotted key, sections included
	elements   map[string][]string // of an array of tables: what each is called in keys, like `trunk "bar"`
	faults     []fault
	unreadable bool // the file holds no TOML: its values are not worth a look
}

// decode fills the struct that into points to from TOML, and returns the
// document with every fault found. A field whose key is at fault or is not given
// keeps its value.
func decode(file string, data []byte, into any) *document {
	d := &document{file: file, lines: make(map[string]int)}
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		d.syntax(err)
		return d
	}
	d.nameElements(tree)
	d.readLines(data)
	d.table("", tree, reflect.ValueOf(into).Elem())
	return d
}

// add records a fault under a key, at its line if the file has it. A key already
// at fault is left: what is said of it later mostly follows from the first.
func (d *document) add(key, text string) {
	if !d.faulty(key) {
		d.record(key, text)
	}
}

func (d *document) record(key, text string) {
	line := d.lines[key]
	if element, _, ok := strings.Cut(key, ": "); ok && line == 0 {
		line = d.lines[element] // which lacks the key
	}
	d.faults = append(d.faults, fault{file: d.file, line: line, key: key, text: text})
}

func (d *document) faulty(key string) bool {
	return slices.ContainsFunc(d.faults, func(f fault) bool { return f.key == key && key != "" })
}

// addError records an error whose words begin with a key, as those of the
// packages' Validate do; joined errors one by one, all those of a key together.
func (d *document) addError(err error) {
	before := document{faults: slices.Clone(d.faults)}
	for _, e := range split(err) {
		key, text := keyOf(e.Error())
		if !before.faulty(key) {
			d.record(key, text)
		}
	}
}

// split takes joined errors apart.
func split(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, split(e)...)
	}
	return out
}

// keyOf parts an error's words from the key that they begin with, if they do.
func keyOf(words string) (key, text string) {
	if m := elementKey.FindStringSubmatch(words); m != nil {
		return m[1], m[2]
	}
	key, text, ok := strings.Cut(words, ": ")
	if !ok || !isKey(key) {
		return "", words
	}
	return key, text
}

var elementKey = regexp.MustCompile(`(?s)^([a-z_]+ "[^"]*": [a-z_]+): (.*)$`)

// isKey reports whether s looks like "section.key".
func isKey(s string) bool {
	section, key, ok := strings.Cut(s, ".")
	return ok && section != "" && key != "" && !strings.ContainsAny(s, " /:\"")
}

// sorted returns the faults in the order of the file, those of absent keys last.
func (d *document) sorted() []fault {
	out := slices.Clone(d.faults)
	slices.SortStableFunc(out, func(a, b fault) int {
		if (a.line == 0) != (b.line == 0) {
			return cmp.Compare(b.line, a.line)
		}
		return cmp.Compare(a.line, b.line)
	})
	return out
}

func (d *document) syntax(err error) {
	d.unreadable = true
	f := fault{file: d.file, text: err.Error()}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		f.line, _ = de.Position()
		f.text = strings.TrimPrefix(de.Error(), "toml: ")
	}
	f.text += "; this is not TOML, see `sallyport help config`"
	d.faults = append(d.faults, f)
}

// nameElements finds what the tables of an array are called: by their names, as long
// as they have any that can be told apart, or by their place, from 1.
func (d *document) nameElements(tree map[string]any) {
	d.elements = make(map[string][]string)
	for key, value := range tree {
		list, _ := value.([]any)
		for i, item := range list {
			table, ok := item.(map[string]any)
			if !ok {
				continue
			}
			called := fmt.Sprintf("%s[%d]", key, i+1)
			if name, ok := table["name"].(string); ok && isElementName(name) && !slices.Contains(d.elements[key], fmt.Sprintf("%s %q", key, name)) {
				called = fmt.Sprintf("%s %q", key, name)
			}
			d.elements[key] = append(d.elements[key], called)
		}
	}
}

func isElementName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r == '\\' || r > '~' })
}

// readLines notes the line of every key and section.
func (d *document) readLines(data []byte) {
	var p unstable.Parser
	p.Reset(data)
	section, seen := "", make(map[string]int)
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table:
			section, _ = d.keyLine(&p, "", e)
		case unstable.ArrayTable:
			var line int
			section, line = d.keyLine(&p, "", e)
			if i := seen[section]; i < len(d.elements[section]) {
				seen[section]++
				section = d.elements[section][i]
				d.lines[section] = line
			}
		case unstable.KeyValue:
			d.valueLines(&p, section, e)
		}
	}
}

func (d *document) valueLines(p *unstable.Parser, section string, kv *unstable.Node) {
	key, _ := d.keyLine(p, section, kv)
	if v := kv.Value(); v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			d.valueLines(p, key, it.Node())
		}
	}
}

// keyLine notes the line of a key, and of the tables on the way to it.
func (d *document) keyLine(p *unstable.Parser, section string, n *unstable.Node) (key string, line int) {
	key = section
	for it := n.Key(); it.Next(); {
		key, line = dotted(key, string(it.Node().Data)), p.Shape(it.Node().Raw).Start.Line
		if _, seen := d.lines[key]; !seen {
			d.lines[key] = line
		}
	}
	return key, line
}

// table sets the fields of a struct from a table.
func (d *document) table(at string, tree map[string]any, into reflect.Value) {
	fields := fieldsOf(into)
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		key, value := dotted(at, name), tree[name]
		field, known := fields[name]
		if !known {
			d.add(key, unknown(at, name, value, fields))
			continue
		}
		if field.Kind() == reflect.Struct && !isText(field) {
			if sub, ok := value.(map[string]any); ok {
				d.table(key, sub, field)
			} else {
				d.add(key, fmt.Sprintf("is %s, and must be a section; write [%s]", kindOf(value), key))
			}
			continue
		}
		if field.Kind() == reflect.Slice && isTable(field.Type().Elem()) {
			d.tables(key, value, field)
			continue
		}
		fresh := reflect.New(field.Type()).Elem()
		if err := set(fresh, value); err != nil {
			d.add(key, err.Error())
			continue
		}
		field.Set(fresh)
	}
}

// tables sets a slice of structs from an array of tables. Each begins with its defaults.
func (d *document) tables(key string, value any, into reflect.Value) {
	list, ok := value.([]any)
	if !ok || len(list) != len(d.elements[key]) {
		d.add(key, fmt.Sprintf("is %s, and must be an array of tables; write [[%s]], with two brackets, before each", kindOf(value), key))
		return
	}
	for i, item := range list {
		fresh := reflect.New(into.Type().Elem())
		if p, ok := fresh.Interface().(interface{ preset() }); ok {
			p.preset()
		}
		d.table(d.elements[key][i], item.(map[string]any), fresh.Elem())
		into.Set(reflect.Append(into, fresh.Elem()))
	}
}

// isTable reports whether values of a type are read from a table.
func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !isText(reflect.New(t).Elem()) && t != reflect.TypeFor[netip.Addr]()
}

func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := make(map[string]reflect.Value)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("toml"); name != "" {
			fields[name] = v.Field(i)
		}
	}
	return fields
}

func dotted(at, name string) string {
	switch {
	case at == "":
		return name
	case strings.HasSuffix(at, `"`), strings.HasSuffix(at, "]"): // an element of an array
		return at + ": " + name
	}
	return at + "." + name
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

// set sets one value of a key. The words of its errors follow the key's name.
func set(v reflect.Value, from any) error {
	if v.Kind() == reflect.Slice {
		return setList(v, from)
	}
	s, isString := from.(string)
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(s)
		if !isString || err != nil {
			return fmt.Errorf("is %s, and must be a time; write it like \"90s\" or \"5m\"", shown(from))
		}
		v.SetInt(int64(d))
	case v.Type() == reflect.TypeFor[netip.Addr]():
		a, err := netip.ParseAddr(s)
		if !isString || err != nil {
			return fmt.Errorf("is %s, and must be an IP address; write it like \"203.0.113.7\" or \"2001:db8::7\"", shown(from))
		}
		v.Set(reflect.ValueOf(a.Unmap()))
	case isText(v):
		if !isString {
			return fmt.Errorf("is %s, and must be a string; put it in quotes", shown(from))
		}
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s))
	case v.Kind() == reflect.String:
		if !isString {
			return fmt.Errorf("is %s, and must be a string; put it in quotes", shown(from))
		}
		v.SetString(s)
	case v.Kind() == reflect.Bool:
		b, ok := from.(bool)
		if !ok {
			return fmt.Errorf("is %s, and must be true or false; write it without quotes", shown(from))
		}
		v.SetBool(b)
	case v.Kind() == reflect.Int:
		n, ok := from.(int64)
		if !ok {
			return fmt.Errorf("is %s, and must be a whole number; write it without quotes", shown(from))
		}
		if n > math.MaxInt32 || n < math.MinInt32 {
			return fmt.Errorf("is %d, which is out of all proportion; give a smaller number", n)
		}
		v.SetInt(n)
	case v.Kind() == reflect.Float64:
		switch n := from.(type) {
		case int64:
			v.SetFloat(float64(n))
		case float64:
			v.SetFloat(n)
		default:
			return fmt.Errorf("is %s, and must be a number; write it without quotes", shown(from))
		}
	default:
		return fmt.Errorf("can't be read into %s", v.Type())
	}
	return nil
}

// setList sets a list; one value without brackets is a list of one.
func setList(v reflect.Value, from any) error {
	items, ok := from.([]any)
	if !ok {
		items = []any{from}
	}
	var faults []string
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if err := set(list.Index(i), item); err != nil {
			faults = append(faults, err.Error())
		}
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	v.Set(list)
	return nil
}

// kindOf names the kind of a TOML value.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64, float64:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "a section"
	}
	return "a date"
}

// shown is a value as a fault shows it: itself if it is short and simple.
func shown(v any) string {
	switch v := v.(type) {
	case string:
		if len(v) <= 40 {
			return fmt.Sprintf("%q", v)
		}
	case int64, float64, bool:
		return fmt.Sprint(v)
	}
	return kindOf(v)
}
