package nameaddr

import (
	"slices"
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	for value, want := range map[string]struct{ uri, tag string }{
		`sip:a@b;tag=1`:                              {"sip:a@b", "1"},
		`<sip:a@b;lr>;TAG="1"`:                       {"sip:a@b;lr", "1"},
		`"A, <x>;tag=no \" <y>" <sip:a@b> ; tag = 1`: {"sip:a@b", "1"},
		`<sip:a@b>`:                                  {"sip:a@b", ""},
		`"never closed`:                              {"", ""},
		``:                                           {"", ""},
	} {
		if uri, tag := URI(value), Tag(value); uri != want.uri || tag != want.tag {
			t.Errorf("%s is %q with tag %q, want %+v", value, uri, tag, want)
		}
	}
}

func TestList(t *testing.T) {
	got := List(`"a, b" <sip:a,b@c>, <sip:d>;x="1,2" ,sip:e`)
	if want := []string{`"a, b" <sip:a,b@c>`, `<sip:d>;x="1,2"`, "sip:e"}; !slices.Equal(got, want) {
		t.Errorf("the list is %q, want %q", got, want)
	}
}

func TestUser(t *testing.T) {
	for uri, want := range map[string]string{"sip:a@b": "a", "sip:b": "", "sip:a:secret@b;x=y": "a", "": ""} {
		if got := User(uri); got != want {
			t.Errorf("the user of %q is %q, want %q", uri, got, want)
		}
	}
}

// FuzzAddress: nothing that is read is longer than what it is read of, and a list has
// all of its text but commas and blanks around them.
func FuzzAddress(f *testing.F) {
	f.Add(`"A, <x>;tag=no" <sip:a@example.com>;tag=1`)
	f.Add(`<sip:p1;lr>, <sip:p2;lr>`)
	f.Fuzz(func(t *testing.T, value string) {
		if len(URI(value)) > len(value) || len(Tag(value)) > len(value) || len(User(URI(value))) > len(value) {
			t.Fatalf("%q has more in it than it is", value)
		}
		if rest := strings.Join(List(value), ""); len(rest) > len(value) || strings.Count(value, ",") < len(List(value))-1 {
			t.Fatalf("%q is the list %q", value, List(value))
		}
	})
}
