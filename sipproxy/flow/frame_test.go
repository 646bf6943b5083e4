package flow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// pieces gives a stream in pieces of the given lengths, then of the last one.
type pieces struct {
	data    []byte
	lengths []byte
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := len(p.data)
	if len(p.lengths) > 0 {
		n = int(p.lengths[0])%64 + 1
		if len(p.lengths) > 1 {
			p.lengths = p.lengths[1:]
		}
	}
	n = copy(b, p.data[:min(n, len(p.data))])
	p.data = p.data[n:]
	return n, nil
}

// frames reads a stream to its end, as text: what tests compare.
func frames(stream []byte, lengths []byte, l Limits) (all []string, most int) {
	fr := &framer{r: &pieces{stream, lengths}, limits: l, deadline: func(bool) {}}
	for {
		f, err := fr.next()
		most = max(most, cap(fr.buf))
		switch {
		case err != nil:
			return append(all, "end"), most
		case f.kind == framePing:
			all = append(all, "ping")
		case f.fault != nil:
			return append(all, f.fault.Error()), most
		default:
			all = append(all, fmt.Sprintf("%s %d %q", f.m.start, len(f.m.fields), f.body))
		}
	}
}

func small() Limits {
	l := DefaultLimits()
	l.MaxHead, l.MaxBody = 2048, 4096
	return l
}

func withBody(body string) string {
	return strings.Replace(options, "Content-Length: 0\r\n\r\n", fmt.Sprintf("Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body), 1)
}

func TestFraming(t *testing.T) {
	const one = `OPTIONS sip:602@pbx.example.com SIP/2.0 8 ""`
	for _, c := range []struct {
		name, stream string
		want         []string
	}{
		{"one message", options, []string{one, "end"}},
		{"two at once", options + options, []string{one, one, "end"}},
		{"ping", "\r\n\r\n", []string{"ping", "end"}},
		{"pong", "\r\n" + options, []string{one, "end"}},
		{"pings around", "\r\n\r\n" + options + "\r\n\r\n\r\n\r\n" + options, []string{"ping", one, "ping", "ping", one, "end"}},
		{"body that looks like a head", withBody("\r\n\r\nINVITE sip:x SIP/2.0\r\n\r\n") + options,
			[]string{`OPTIONS sip:602@pbx.example.com SIP/2.0 9 "\r\n\r\nINVITE sip:x SIP/2.0\r\n\r\n"`, one, "end"}},
		{"cut in the head", options[:100], []string{"end"}},
		{"cut in the body", withBody("hello")[:len(withBody("hello"))-1], []string{"end"}},
		{"no Content-Length", strings.Replace(options, "Content-Length: 0\r\n", "", 1), []string{"malformed message: Content-Length: missing"}},
		{"head too large", swap("Contact", "X: "+strings.Repeat("x", 3000)+"\r\nContact"), []string{"malformed message: head too large"}},
		{"head without an end", strings.Repeat("x", 5000), []string{"malformed message: head too large"}},
		{"body too large", swap("Length: 0", "Length: 5000"), []string{"malformed message: Content-Length: body too large"}},
		{"line ends of LF", strings.ReplaceAll(options, "\r\n", "\n") + options, []string{"malformed message: bare CR or LF"}},
		{"a hidden second length", swap("Length: 0", "Length: 0\r\nContent-Length: 40") + options, []string{"malformed message: Content-Length: more than one"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, lengths := range [][]byte{nil, {0}, {1}, {6, 2, 40}} {
				got, _ := frames([]byte(c.stream), lengths, small())
				if fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Fatalf("in pieces of %v: got %q, want %q", lengths, got, c.want)
				}
			}
		})
	}
}

func TestFramerShrinksBetweenMessages(t *testing.T) {
	l := DefaultLimits()
	fr := &framer{r: &pieces{data: []byte(withBody(strings.Repeat("x", 30000)))}, limits: l, deadline: func(bool) {}}
	if _, err := fr.next(); err != nil {
		t.Fatal(err)
	}
	if cap(fr.buf) > smallBuffer {
		t.Fatalf("an idle connection holds %d bytes", cap(fr.buf))
	}
}

func TestPace(t *testing.T) {
	var at time.Time
	p := &pace{limits: DefaultLimits(), half: new(atomic.Bool), set: func(t time.Time) { at = t }, first: time.Now().Add(time.Second)}
	p.before(false)
	if !errors.Is(p.over, ErrSilent) || time.Until(at) > time.Second {
		t.Fatalf("before the first message: %v at %s", p.over, time.Until(at))
	}
	p.got()
	p.before(false)
	if !errors.Is(p.over, ErrIdle) || time.Until(at) < time.Hour {
		t.Fatalf("between messages: %v in %s", p.over, time.Until(at))
	}
	p.before(true)
	begun := at
	p.before(true) // more of the same message: no more time
	if !errors.Is(p.over, ErrStalled) || at != begun || time.Until(at) > p.limits.MessageTimeout {
		t.Fatalf("inside a message: %v in %s", p.over, time.Until(at))
	}
}

// FuzzFrame: however a stream is cut, it reads the same, in bounded memory.
func FuzzFrame(f *testing.F) {
	f.Add([]byte(options), []byte{1})
	f.Add([]byte("\r\n\r\n"+withBody("hi")+"\r\n"+options), []byte{3, 9})
	f.Add(bytes.Repeat([]byte("\r\n"), 20), []byte{0})
	f.Fuzz(func(t *testing.T, stream, lengths []byte) {
		l := small()
		whole, _ := frames(stream, nil, l)
		cut, most := frames(stream, lengths, l)
		if len(whole) > 0 && len(cut) > 0 && fmt.Sprint(whole) != fmt.Sprint(cut) {
			t.Fatalf("whole %q\ncut   %q", whole, cut)
		}
		if most > 2*(l.MaxHead+l.MaxBody)+smallBuffer {
			t.Fatalf("the buffer grew to %d", most)
		}
	})
}
