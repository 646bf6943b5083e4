package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/media"
	"github.com/sallyport/sallyport/cmd/internal/load/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// far is a server that does to phones what a case has it do; whatever that leaves
// open it answers well.
type far struct {
	*testing.T
	ln     net.Listener
	engine *media.Engine
	done   sync.WaitGroup
	does   func(l *link, r *sip.Request) bool // with a request; false: what any server would

	mu    sync.Mutex // guards what follows
	calls map[string]*media.Session
	acks  map[string]int // of each call
	links []*link
}

// link is one phone's connection.
type link struct {
	*far
	conn   net.Conn
	got    chan *sip.Response // answers of the phone
	invite *sip.Request       // that rings; the reader's
}

func newFar(t *testing.T, kind media.Kind, does func(*link, *sip.Request) bool) *far {
	t.Helper()
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	e, err := media.New(media.Config{Kind: kind, Suites: media.Suites(), Codecs: media.Codecs()})
	if err != nil {
		t.Fatal(err)
	}
	f := &far{T: t, ln: ln, engine: e, does: does, calls: make(map[string]*media.Session), acks: make(map[string]int)}
	f.done.Go(func() { // ends with the listener; waited for below
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			l := &link{f, conn, make(chan *sip.Response, 10), nil}
			f.mu.Lock()
			f.links = append(f.links, l)
			f.mu.Unlock()
			f.done.Go(l.read) // ends with the connection; likewise
		}
	})
	t.Cleanup(func() {
		ln.Close()
		f.mu.Lock()
		for _, l := range f.links {
			l.conn.Close()
		}
		for _, s := range f.calls {
			defer s.Close()
		}
		f.mu.Unlock()
		f.done.Wait()
		e.Close()
	})
	return f
}

func (l *link) read() {
	defer l.conn.Close()
	stream := sip.NewParser().NewSIPStream()
	buf := make([]byte, 64<<10)
	for {
		n, err := l.conn.Read(buf)
		if err != nil {
			return
		}
		if strings.TrimSpace(string(buf[:n])) == "" { // a keep-alive
			continue
		}
		err = stream.ParseSIPStream(buf[:n], func(m sip.Message) {
			switch m := m.(type) {
			case *sip.Response:
				l.got <- m
			case *sip.Request:
				if l.does == nil || !l.does(l, m) {
					l.well(m)
				}
			}
		})
		if err != nil {
			l.Errorf("a phone sent %q: %v", buf[:n], err)
		}
	}
}

// say answers a request; more are header fields, name and value.
func (l *link) say(r *sip.Request, status int, reason, body string, more ...string) {
	a := sip.NewResponseFromRequest(r, status, reason, []byte(body))
	if status > 100 && a.To() != nil {
		a.To().Params.Add("tag", "far")
	}
	if status/100 != 3 {
		a.AppendHeader(sip.NewHeader("Contact", "<sip:far@127.0.0.1;transport=tls>"))
	}
	if body != "" {
		a.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	}
	for i := 0; i < len(more); i += 2 {
		a.AppendHeader(sip.NewHeader(more[i], more[i+1]))
	}
	l.write(a.String())
}

func (l *link) write(text string) { _, _ = l.conn.Write([]byte(text)) } // a phone that is gone shows in its report

// ask sends a request in the call of an INVITE, as it was answered.
func (l *link) ask(invite *sip.Request, method string, number int, body string) {
	kind := ""
	if body != "" {
		kind = "Content-Type: application/sdp\r\n"
	}
	to := invite.To().Value()
	if !strings.Contains(to, "tag=") {
		to += ";tag=far"
	}
	l.write(fmt.Sprintf("%s sip:phone@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TLS far;branch=z9hG4bK%s%d\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n"+
		"Contact: <sip:far@127.0.0.1;transport=tls>\r\n%sContent-Length: %d\r\n\r\n%s",
		method, method, number, to, invite.From().Value(), invite.CallID().Value(), number, method, kind, len(body), body))
}

// answer describes a call: a phone that speaks 1000 Hz.
func (l *link) answer(r *sip.Request) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := r.CallID().Value()
	s := l.calls[id]
	if s == nil {
		var err error
		if s, err = l.engine.Session(netip.MustParseAddr("127.0.0.1"), media.Tones{Speak: 1000}); err != nil {
			l.Error(err)
			return ""
		}
		l.calls[id] = s
	}
	text, err := s.Answer(string(r.Body()))
	if err != nil {
		l.Error(err)
	}
	return text
}

// well does what any server does.
func (l *link) well(r *sip.Request) {
	switch r.Method {
	case sip.ACK:
	case sip.INVITE:
		l.say(r, 180, "Ringing", "")
		l.say(r, 200, "OK", l.answer(r))
	case sip.REGISTER:
		l.say(r, 200, "OK", "", "Expires", "60")
	default:
		l.say(r, 200, "OK", "")
	}
}

// count tells how many requests of a call came to this, with this one.
func (f *far) count(r *sip.Request) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acks[r.CallID().Value()]++
	return f.acks[r.CallID().Value()]
}

// plan has two phones call a number of the server, twice.
func (f *far) plan() Plan {
	p := Default()
	p.Command, p.Mix, p.Callee, p.Hear = "call", map[measure.Operation]int{Call: 1}, "600", "1000"
	p.Phones, p.Rate, p.Even, p.Duration, p.Talk, p.Timeout, p.RampRate = 2, 10, true, 150*time.Millisecond, 100*time.Millisecond, 5*time.Second, 100
	p.Domain = "pbx.example.com"
	p.Connect = &wire.Target{Addr: f.ln.Addr().String(), Name: "example.com", TLS: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the server is the test's own
	return p
}

// run does what plan says, or otherwise.
func (f *far) run(spoil func(*Plan)) *measure.Report {
	f.Helper()
	p := f.plan()
	if spoil != nil {
		spoil(&p)
	}
	r, err := Run(context.Background(), p, nil)
	if err != nil {
		f.Fatal(err)
	}
	return r
}
