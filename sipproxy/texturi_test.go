package sipproxy

import (
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sipURI says in one what replaceURIs looks for: scheme, user, host, port and parameters.
var sipURI = regexp.MustCompile(`\b([sS][iI][pP][sS]?):((?:[^\s"'<>@&]|&[aA][mM][pP];)*@)?(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+)(:[0-9]+)?((?:;[^\s"'<>?&;@]*)*)`)

// Whatever a text holds, the URIs in it are those that the expression finds.
func FuzzTextURIs(f *testing.F) {
	for _, s := range []string{
		"<sips:1@pbx.example.com:5061;transport=tls>", "sip:a&amp;b@h;ob;x=y;lr", "SIPS:[::1]:5061;maddr=1", "sipsips:x@y", "sip:sips:x@h", "_sip:a sip:a",
		"sip:sip:a@[", "sip:a@[::1", "sip:a@@b", "sip:@h", "sip:a&b@h", "sip:a&AMP;b@h:", "sip:a:0 sip:;x", "sip:", "sip:a@", "sip:a;@;;=@h", "sip:[]sip:[1]:sip:b", "sip:1@h:1r;x", "sip:h:1:2-sip:a", "sip:h;ob=@?@k;lr", "sip:a@h;x=b@h", "aſip:a sipſ:a@h", "sip:aKb@hK", "\xffsip:\xff@a",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, want []textURI
		same := replaceURIs(text, func(u textURI) string {
			got = append(got, u)
			return u.String()
		})
		for _, m := range sipURI.FindAllSubmatchIndex(text, -1) {
			part := func(i int) string { return string(text[max(m[2*i], 0):max(m[2*i+1], 0)]) }
			u := textURI{part(1), part(2), part(3), part(4), part(5)}
			if end := m[9]; end >= 0 && end < len(text) && (isHostChar(text[end]) || text[end] == ':') {
				u.port = "" // it is no port, and the expression cannot look behind it
			}
			want = append(want, u)
		}
		if len(got) != len(want) || string(same) != string(text) {
			t.Fatalf("%q has %q, want %q", text, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%q has %q, want %q", text, got, want)
			}
		}
	})
}

// busy is how long the processor works for f, whatever else it has to do meanwhile.
func busy(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var began, ended unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &began)
	f()
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ended)
	return time.Duration(ended.Nano() - began.Nano())
}

// A text of nothing but beginnings takes no longer than one of URIs: looked at anew from
// each, it took hundreds of times as long, and seconds for a body.
func TestTextURIsTakeTheirTime(t *testing.T) {
	p := hiding()
	took := func(each string) (least time.Duration) {
		text := []byte(strings.Repeat(each, 1<<14/len(each)))
		for i := range 3 { // the machine may be busy
			d := busy(func() {
				p.inwardText(text)
				p.outwardText(append(text, " 10.0.0.5"...))
			})
			if i == 0 || d < least {
				least = d
			}
		}
		return least
	}
	honest := took("sip:a ")
	for _, each := range []string{"sip:", "sip:a.", "sip:a@[", "sip:[a"} {
		if d := took(each); d > 20*honest {
			t.Errorf("%s takes %s, others %s", each, d, honest)
		}
	}
}

// Where a text is no URI's grammar, what is hidden leaves none that leads elsewhere.
func TestTextsAreMapped(t *testing.T) {
	p := hiding()
	for _, c := range []struct {
		by             func([]byte) []byte
		text, want, of string
	}{
		{p.outwardText, "[10.0.0.5]:5060 [10.0.0.5 10.0.0.1]", "pbx.example.com [pbx.example.com pbx.example.com]", "brackets"},
		{p.outwardText, "<sip:1002@[::ffff:10.0.0.5]:5060;ob>", "<sip:1002@pbx.example.com>", "IPv4 in IPv6"},
		{p.outwardText, "sip:ast@[:10.0.0.5]", "sip:ast@pbx.example.com", "IPv4 in what is not IPv6"},
		{p.outwardText, "sip:1002@[2001:db8::5]:5060;ob", "sip:1002@[2001:db8::5]:5060;ob", "another address"},
		{p.outwardText, "ASTERISK.lan, aſteriſk.lan", "pbx.example.com, aſteriſk.lan", "a name"},
		{p.inwardText, "sip:h;ob=@?@k;transport=tls;lr", "sip:h@?@k;transport=tls;lr", "an @ in a parameter"},
		{p.inwardText, "sips:a@h;x;transport=tls;lr", "sip:a@h;x", "transport"},
	} {
		if got := string(c.by([]byte(c.text))); got != c.want {
			t.Errorf("%s: %q became %q, want %q", c.of, c.text, got, c.want)
		}
	}
}
