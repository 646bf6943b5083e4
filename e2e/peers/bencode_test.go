package peers

import (
	"reflect"
	"testing"
)

func TestBencode(t *testing.T) {
	in := NG{"command": "offer", "ICE": "remove", "n": -7, "direction": []string{"out", "in"}, "deep": NG{"": ""}}
	text := bencode(in)
	if want := "d3:ICE6:remove7:command5:offer4:deepd0:0:e9:directionl3:out2:ine1:ni-7ee"; text != want {
		t.Fatalf("bencode gives %s, want %s", text, want)
	}
	out, err := bdecode(text)
	if err != nil {
		t.Fatal(err)
	}
	in["direction"] = []any{"out", "in"}
	if !reflect.DeepEqual(in, out) {
		t.Fatalf("%v came back as %v", in, out)
	}
	for _, bad := range []string{"", "d", "i7e", "d3:ab", "d1:ai7", "le", "d1:ai7eex", "d-1:e"} {
		if v, err := bdecode(bad); err == nil {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
}
