package sdp

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is marshalled into testdata")

// samples are the descriptions in testdata by name.
func samples(tb testing.TB) map[string][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.sdp")
	if err != nil || len(files) < 15 {
		tb.Fatalf("list testdata: %d files, %v", len(files), err)
	}
	all := make(map[string][]byte)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".sdp")] = b
	}
	return all
}

func mustParse(tb testing.TB, b []byte) *Session {
	tb.Helper()
	s, err := Parse(b)
	if err != nil {
		tb.Fatalf("%v in:\n%s", err, b)
	}
	return s
}

// TestGolden compares what is written anew with testdata/*.golden.
func TestGolden(t *testing.T) {
	for name, in := range samples(t) {
		t.Run(name, func(t *testing.T) {
			s := mustParse(t, in)
			got := s.Marshal()
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			checkRoundTrip(t, s)
		})
	}
}

// TestLineEnds reads every sample with other line ends, to the same model.
func TestLineEnds(t *testing.T) {
	for name, in := range samples(t) {
		want := mustParse(t, in)
		bare := bytes.ReplaceAll(in, []byte("\r\n"), []byte("\n"))
		for how, b := range map[string][]byte{
			"LF":                 bare,
			"no last line end":   bytes.TrimSuffix(bare, []byte("\n")),
			"empty line at end":  append(slices.Clone(in), "\r\n"...),
			"CR without LF last": bytes.TrimSuffix(in, []byte("\n")),
		} {
			if got := mustParse(t, b); !reflect.DeepEqual(got, want) {
				t.Errorf("%s with %s is another model", name, how)
			}
		}
	}
}

// checkRoundTrip fails if what s is written as is not read as s again. Lines
// that can't be used are not written. One rtcp-fb line for all formats becomes
// many, so that what is written can go beyond the limits: never far.
func checkRoundTrip(tb testing.TB, s *Session) {
	tb.Helper()
	out := s.Marshal()
	if len(out) > 8*maxSize {
		tb.Fatalf("%d bytes written", len(out))
	}
	long := func(line []byte) bool { return len(line) > maxLine } // by the padding of a key, or a name that is unknown
	if len(out) > maxSize || bytes.Count(out, []byte("\n")) > maxLines || slices.ContainsFunc(bytes.Split(out, []byte("\r\n")), long) {
		return
	}
	again := mustParse(tb, out)
	want := *s
	want.Media = slices.Clone(s.Media)
	for i := range want.Media {
		m := &want.Media[i]
		m.Crypto = slices.DeleteFunc(slices.Clone(m.Crypto), func(c Crypto) bool { return c.broken != "" })
		if len(m.Crypto) == 0 {
			m.Crypto = nil
		}
	}
	if !reflect.DeepEqual(again, &want) {
		tb.Fatalf("another model after:\n%s\n%+v\n%+v", out, again, &want)
	}
	if twice := again.Marshal(); !bytes.Equal(out, twice) {
		tb.Fatalf("written twice:\n%s\n%s", out, twice)
	}
}
