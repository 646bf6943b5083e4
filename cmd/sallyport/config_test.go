package main

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// keysOf lists the keys a struct takes.
func keysOf(at string, t reflect.Type) (keys []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		if name == "" {
			continue
		}
		if name = dotted(at, name); at != "" {
			keys = append(keys, name)
		}
		switch {
		case f.Type.Kind() == reflect.Struct: // a section
			keys = append(keys, keysOf(name, f.Type)...)
		case f.Type.Kind() == reflect.Slice && isTable(f.Type.Elem()): // an array of tables
			keys = append(keys, keysOf(name, f.Type.Elem())...)
		}
	}
	return keys
}

var (
	commented = regexp.MustCompile(`(?m)^#([a-z_]+ = |\[\[)`)
	element   = regexp.MustCompile(`^([a-z]+) ".*": `)
)

// The sample is the reference of the keys: all of them, and no other.
func TestSampleHoldsEveryKey(t *testing.T) {
	full := commented.ReplaceAllString(sample, "$1")
	c := defaults()
	d := decode("sallyport.toml", []byte(full), &c)
	c.validate(d)
	if len(d.faults) > 0 {
		t.Errorf("the sample with every key set has faults: %v", d.sorted())
	}
	var got []string
	for key := range d.lines {
		key = element.ReplaceAllString(key, "$1.")
		if strings.Contains(key, ".") {
			got = append(got, key)
		}
	}
	want := keysOf("", reflect.TypeFor[Config]())
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-struct +sample):\n%s", diff)
	}
	// What the sample calls the default is the default.
	example := defaults()
	example.Edge.Domain, example.Edge.PublicIP, example.PBX.Address = c.Edge.Domain, c.Edge.PublicIP, c.PBX.Address
	example.Edge.PlainIP = c.Edge.PlainIP // found at the start
	var trunk trunkConfig
	trunk.preset()
	trunk.Name, trunk.Peer, trunk.Identity, trunk.Listen = "bar", hostPort{"bar.example.com", 5061}, []string{"bar.example.com"}, optionalAddr{listenAddr{Port: 5071}}
	example.Trunks = []trunkConfig{trunk}
	opts := []cmp.Option{cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(example, c, opts...); diff != "" {
		t.Errorf("defaults (-program +sample):\n%s", diff)
	}
}

func TestSampleLoads(t *testing.T) {
	c, d := load("sallyport.toml")
	if len(d.faults) > 0 {
		t.Fatal(d.sorted())
	}
	if c.Edge.Domain != "pbx.example.com" || len(c.PBX.Address) != 1 || c.PBX.Address[0].String() != "10.0.0.5:5060" {
		t.Errorf("the sample is read as %+v", c)
	}
}
