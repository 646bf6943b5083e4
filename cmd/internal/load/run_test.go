package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/media"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
	"github.com/sallyport/sallyport/cmd/internal/load/wire"
)

// invited has a case answer the INVITEs that make calls, and nothing else.
func invited(does func(l *link, r *sip.Request)) func(*link, *sip.Request) bool {
	return func(l *link, r *sip.Request) bool {
		if _, inside := r.To().Params.Get("tag"); r.Method != sip.INVITE || inside {
			return false
		}
		does(l, r)
		return true
	}
}

// status answers with one.
func status(code int, reason string, more ...string) func(*link, *sip.Request) bool {
	return invited(func(l *link, r *sip.Request) { l.say(r, code, reason, "", more...) })
}

// ringing answers when it is cancelled.
func ringing() func(*link, *sip.Request) bool {
	return func(l *link, r *sip.Request) bool {
		switch r.Method {
		case sip.INVITE:
			l.invite = r
			l.say(r, 180, "Ringing", "")
		case sip.CANCEL:
			l.say(r, 200, "OK", "")
			l.say(l.invite, 487, "Request Terminated", "")
		default:
			return false
		}
		return true
	}
}

const opus = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/SAVP 111\r\na=rtpmap:111 opus/48000/2\r\n"

// What a server does to calls is told by its cause, and each cause is another.
func TestCausesOfServers(t *testing.T) {
	for _, c := range []struct {
		name  string
		does  func(*link, *sip.Request) bool
		cause string // of the calls; empty: they are well
	}{
		{"well", nil, ""},
		{"busy", status(486, "Busy Here"), "call: 486 Busy Here"},
		{"overloaded", status(503, "Service Unavailable", "Retry-After", "60"), "call: 503 Service Unavailable"},
		{"moves in circles", status(302, "Moved Temporarily", "Contact", "<sip:601@127.0.0.1>"), "call: 302 Moved Temporarily"},
		{"challenges for ever", status(407, "Proxy Authentication Required", "Proxy-Authenticate", `Digest realm="r", nonce="1", qop="auth"`), "call: the password is not accepted"},
		{"asks for what nobody has", status(401, "Unauthorized", "WWW-Authenticate", `Negotiate abc`), "call: the challenge cannot be answered"},
		{"opus alone", invited(func(l *link, r *sip.Request) { l.say(r, 200, "OK", opus) }), "call: the description has no audio with a codec that we speak"},
		{"describes nothing", invited(func(l *link, r *sip.Request) { l.say(r, 200, "OK", "") }), "call: the description has no audio with a codec that we speak"},
		{"hangs up", invited(func(l *link, r *sip.Request) {
			l.say(r, 200, "OK", l.answer(r))
			l.ask(r, "BYE", 1, "")
		}), "call: the other end hung up"},
		{"ends the connection", invited(func(l *link, _ *sip.Request) { l.conn.Close() }), "call: the connection is gone"},
		{"ends the connection in the call", invited(func(l *link, r *sip.Request) {
			l.say(r, 200, "OK", l.answer(r))
			l.conn.Close()
		}), "call: the connection is gone"},
		{"speaks HTTP", invited(func(l *link, _ *sip.Request) { l.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") }), "call: the connection is gone"},
		{"never answers", invited(func(*link, *sip.Request) {}), "call: no answer"},
		{"rings for ever", ringing(), "call: no answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFar(t, media.SDES, c.does)
			r := f.run(func(p *Plan) {
				if strings.HasPrefix(c.cause, "call: no answer") {
					p.Timeout = 2 * time.Second
				}
			})
			calls := r.Operations[Call]
			if c.cause == "" {
				if calls.Done != calls.Due || !r.Passed {
					t.Errorf("the calls went so: %+v", calls)
				}
				return
			}
			if calls.Failed != calls.Due || calls.Causes[c.cause] != calls.Due || r.Passed {
				t.Errorf("the causes are %v, want %s; the first: %s", calls.Causes, c.cause, calls.First)
			}
		})
	}
}

// What servers do in calls beside that, and rightly, does calls no harm: the tone is
// heard in all.
func TestServersThatAskBack(t *testing.T) {
	asks := func(method string, body bool, want int) func(*link, *sip.Request) bool {
		return func(l *link, r *sip.Request) bool {
			if r.Method != sip.ACK {
				return false
			}
			_, inside := r.To().Params.Get("tag")
			if l.count(r) > 1 || !inside {
				return false // that of a re-INVITE, or of a refusal
			}
			invite := r // its From, To and Call-ID are the INVITE's
			description := ""
			if body {
				var err error
				l.mu.Lock()
				if description, err = l.calls[r.CallID().Value()].Offer(); err != nil {
					l.Error(err)
				}
				l.mu.Unlock()
			}
			l.ask(invite, method, 1, description)
			l.done.Go(func() { // ends with the answer
				select {
				case a := <-l.got:
					if a.StatusCode != want {
						l.Errorf("%s is answered %s", method, a.StartLine())
						return
					}
					if method == "INVITE" {
						if body {
							l.mu.Lock()
							defer l.mu.Unlock()
							if err := l.calls[r.CallID().Value()].Accept(string(a.Body()), true); err != nil {
								l.Error(err)
							}
						}
						l.ask(invite, "ACK", 1, "")
					}
				case <-time.After(10 * time.Second):
					l.Errorf("%s is not answered", method)
				}
			})
			return true
		}
	}
	for _, kind := range []media.Kind{media.SDES, media.DTLS} {
		for _, c := range []struct {
			name string
			does func(*link, *sip.Request) bool
		}{
			{"OPTIONS", asks("OPTIONS", false, 200)},
			{"NOTIFY", asks("NOTIFY", false, 200)},
			{"INFO", asks("INFO", false, 200)},
			{"UPDATE", asks("UPDATE", false, 200)},
			{"re-INVITE", asks("INVITE", true, 200)},
			{"REFER", asks("REFER", false, 405)},
			{"early media of two", invited(func(l *link, r *sip.Request) {
				l.say(r, 183, "Session Progress", l.answer(r))
				l.say(r, 180, "Ringing", "")
				l.say(r, 183, "Session Progress", strings.ReplaceAll(opus, "111", "112"))
				l.say(r, 200, "OK", l.answer(r))
			})},
			{"moved once", func(l *link, r *sip.Request) bool {
				if r.Method != sip.INVITE || r.Recipient.User == "601" {
					return false
				}
				l.say(r, 302, "Moved Temporarily", "", "Contact", "<sip:601@192.0.2.1>")
				return true
			}},
		} {
			t.Run(fmt.Sprint(c.name, " with ", kind), func(t *testing.T) {
				t.Parallel()
				f := newFar(t, kind, c.does)
				r := f.run(func(p *Plan) { p.Media, p.Talk = kind, 1500*time.Millisecond })
				if m := r.Media; !r.Passed || m == nil || m.Right != r.Operations[Call].Due || m.Reports.Sent == 0 || m.Reports.Bad > 0 {
					t.Errorf("the calls went so: %+v, and heard %+v", r.Operations[Call], m)
				}
			})
		}
	}
}

// What a server sends before its answer is judged where that was asked for, and counts
// apart from the call.
func TestEarlyMedia(t *testing.T) {
	for hertz, want := range map[float64]string{0: "", 1000: "", 600: media.ErrEarly.Error()} {
		t.Run(fmt.Sprint(hertz), func(t *testing.T) {
			t.Parallel()
			f := newFar(t, media.SDES, invited(func(l *link, r *sip.Request) {
				l.say(r, 183, "Session Progress", l.answer(r))
				time.AfterFunc(500*time.Millisecond, func() { l.say(r, 200, "OK", l.answer(r)) })
			}))
			r := f.run(func(p *Plan) { p.Media, p.Talk, p.Early = media.SDES, 1500*time.Millisecond, hertz })
			calls, m := r.Operations[Call], r.Media
			if r.Passed != (want == "") || want != "" && calls.Causes[want] != calls.Due {
				t.Errorf("passed: %v, with %+v", r.Passed, calls)
			}
			if m == nil || m.Right != calls.Due || m.Early.Ends != calls.Due || m.Early.Received < 10*calls.Due || m.Early.Right+m.Early.Wrong+m.Early.Unjudged != calls.Due {
				t.Errorf("of %d calls the sound is %+v", calls.Due, m)
			}
		})
	}
}

// A server that offers the phone that is called nothing that it can take gets 488 of it
// and hands that on: the cause is what was wrong with the offer.
func TestRefusedByCallee(t *testing.T) {
	const plain = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
	f := newFar(t, media.SDES, invited(func(l *link, r *sip.Request) {
		l.mu.Lock()
		callee := l.links[0]
		if callee == l {
			callee = l.links[1]
		}
		l.mu.Unlock()
		callee.write(fmt.Sprintf("INVITE sip:phone@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TLS far;branch=z9hG4bK%[1]s\r\nFrom: <sip:far@127.0.0.1>;tag=far\r\n"+
			"To: <sip:phone@127.0.0.1>\r\nCall-ID: %[1]s-2\r\nCSeq: 1 INVITE\r\nContact: <sip:far@127.0.0.1;transport=tls>\r\n"+
			"Content-Type: application/sdp\r\nContent-Length: %[2]d\r\n\r\n%[3]s", r.CallID().Value(), len(plain), plain))
		l.done.Go(func() { // ends with the answer
			for {
				select {
				case a := <-callee.got:
					if a.StatusCode >= 200 {
						l.say(r, a.StatusCode, a.Reason, "")
						return
					}
				case <-time.After(10 * time.Second):
					l.Error("the phone that is called does not answer")
					return
				}
			}
		})
	}))
	r := f.run(func(p *Plan) { p.Callee, p.Hear = "", "" })
	if c, want := r.Operations[Call], "call: "+media.ErrUnkeyed.Error(); c.Causes[want] != c.Due || c.Due == 0 {
		t.Errorf("the causes are %v, want %s; the first: %s", c.Causes, want, c.First)
	}
}

// A phone that has no port left for its sound refuses a call with 500, which servers hand
// on as they like: what was wrong is the generator's own.
func TestNoPortLeft(t *testing.T) {
	p := Default()
	p.Phones, p.Connect = 2, &wire.Target{}
	f, err := newFleet(&p, measure.New(2))
	if err != nil {
		t.Fatal(err)
	}
	defer f.engine.Close()
	with := &pair{caller: f.members[0], callee: f.members[1]}
	f.members[1].await(with)
	if m, _, status := f.answer(f.members[1].Phone, ""); m != nil || status != 500 { // it has no address
		t.Fatalf("it answers %v, %d", m, status)
	}
	err = with.why(fmt.Errorf("call: %w", &phone.Refused{Status: 503, Reason: "Service Unavailable"}))
	if !errors.Is(err, with.lacks) || !strings.Contains(err.Error(), "503") || strings.Contains(cause(err), "503") {
		t.Errorf("the cause of %v is %q", err, cause(err))
	}
}

// A BYE may take as long as any other request, and one that is not answered fails like
// any other.
func TestSlowBYE(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		after   time.Duration // the answer; 0: never
		timeout time.Duration
		cause   string // empty: it is well
	}{{"late", goodbye + 200*time.Millisecond, 20 * time.Second, ""}, {"never", 0, 2 * time.Second, "hang up: no answer"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFar(t, media.SDES, func(l *link, r *sip.Request) bool {
				if r.Method == sip.BYE && c.after > 0 {
					time.AfterFunc(c.after, func() { l.say(r, 200, "OK", "") })
				}
				return r.Method == sip.BYE
			})
			calls := f.run(func(p *Plan) { p.Timeout = c.timeout }).Operations[Call]
			if good := calls.Done == calls.Due; good != (c.cause == "") || !good && calls.Causes[c.cause] != calls.Due {
				t.Errorf("the calls went so: %+v", calls)
			}
		})
	}
}

// A server that answers at once, as an IVR does, or queues a call, never said that it
// rings: there is no such latency to tell.
func TestUnrung(t *testing.T) {
	f := newFar(t, media.SDES, invited(func(l *link, r *sip.Request) {
		l.say(r, 182, "Queued", "")
		l.say(r, 200, "OK", l.answer(r))
	}))
	if r := f.run(nil); !r.Passed || r.Latency[measure.Answered].Count == 0 || r.Latency[measure.Ringing].Count != 0 {
		t.Errorf("passed: %v, with %+v", r.Passed, r.Latency)
	}
}

// A call that is to be given up while it rings, and never does, has no answer: that it
// is cancelled for that is sallyload's own doing.
func TestNeverRings(t *testing.T) {
	f := newFar(t, media.SDES, func(l *link, r *sip.Request) bool {
		if r.Method == sip.INVITE {
			l.invite = r
			l.say(r, 100, "Trying", "")
			return true
		}
		return r.Method == sip.CANCEL && ringing()(l, r)
	})
	r := f.run(func(p *Plan) { p.Mix, p.Timeout = map[measure.Operation]int{Cancel: 1}, 2*time.Second })
	if c := r.Operations[Cancel]; c.Failed != c.Due || c.Causes["call: no answer"] != c.Due {
		t.Errorf("the causes are %v; the first: %s", c.Causes, c.First)
	}
}

// A run that is ended before its time tells what it did until then.
func TestEnded(t *testing.T) {
	ctx, end := context.WithCancel(context.Background())
	f := newFar(t, media.SDES, func(_ *link, r *sip.Request) bool {
		if r.Method == sip.ACK {
			end()
		}
		return false
	})
	p := f.plan()
	p.Talk, p.Duration = time.Hour, time.Hour
	r, err := Run(ctx, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Operations[Call]; !r.Ended || c.Due == 0 || c.Failed > 0 || c.GivenUp+c.Done != c.Due {
		t.Errorf("ended: %v, with %+v", r.Ended, c)
	}
}

// One that was ended before anything was done has not passed: nothing is known of the
// server.
func TestEndedBeforeAll(t *testing.T) {
	ctx, end := context.WithCancel(context.Background())
	f := newFar(t, media.SDES, func(*link, *sip.Request) bool {
		end()
		return true
	})
	r, err := Run(ctx, f.plan(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Operations[Ramp]; !r.Ended || r.Passed || c.Done+c.Failed > 0 || c.GivenUp != c.Due {
		t.Errorf("ended: %v, passed: %v, with %+v", r.Ended, r.Passed, c)
	}
}

// A phone whose connection ends with the very answer that registers it is not taken for
// registered: it comes back before it calls.
func TestLostAtOnce(t *testing.T) {
	var met atomic.Int32
	f := newFar(t, media.SDES, func(l *link, r *sip.Request) bool {
		if r.Method != sip.REGISTER || met.Add(1) > 2 { // of two phones the first one each
			return false
		}
		l.well(r)
		l.conn.Close()
		return true
	})
	if c := f.run(nil).Operations[Call]; c.Done != c.Due || c.Due == 0 {
		t.Errorf("the calls went so: %+v", c)
	}
}

// A ramp that takes longer than what the server grants refreshes the phones that came
// first: they are there when the others are.
func TestLongRamp(t *testing.T) {
	t.Parallel()
	var refreshed, called atomic.Bool
	f := newFar(t, media.SDES, func(l *link, r *sip.Request) bool {
		switch r.Method {
		case sip.INVITE:
			if !called.Swap(true) && !refreshed.Load() {
				l.Error("no phone was refreshed before the first call")
			}
		case sip.REGISTER:
			refreshed.Store(refreshed.Load() || l.count(r) > 1)
			l.say(r, 200, "OK", "", "Expires", "2")
			return true
		}
		return false
	})
	if r := f.run(func(p *Plan) { p.RampRate = 0.7 }); !r.Passed || r.Operations[Refresh] == nil {
		t.Errorf("it went so: %+v", r.Operations)
	}
}

// seconds has all that a run tells of each.
type seconds []measure.Point

func (s *seconds) Second(_ string, p measure.Point) { *s = append(*s, p) }

// The seconds of a run have all that was done in it, the last one, which is cut short,
// too; and whoever watches is told of each cause, however short the run is.
func TestLastSecond(t *testing.T) {
	f := newFar(t, media.SDES, status(486, "Busy Here"))
	var seen seconds
	r, err := Run(context.Background(), f.plan(), &seen)
	if err != nil {
		t.Fatal(err)
	}
	due, failed, news := 0, 0, ""
	for _, p := range r.Series {
		due, failed = due+p.Due, failed+p.Failed
	}
	for _, p := range seen {
		news += strings.Join(p.News, "")
	}
	if c := r.Operations[Call]; due != c.Due+r.Operations[Ramp].Due || failed != c.Failed || failed == 0 || !strings.Contains(news, "486 Busy Here") {
		t.Errorf("of %+v the seconds have %d due and %d failed, and tell %q", c, due, failed, news)
	}
}

// Behind a server that answers nothing, arrivals do not wait for one another's
// timeouts: a run ends soon after its arrivals do. That they waited is not the
// generator's lag.
func TestNoPhoneFree(t *testing.T) {
	f := newFar(t, media.SDES, func(*link, *sip.Request) bool { return true })
	begun := time.Now()
	r := f.run(func(p *Plan) {
		p.Command, p.Mix, p.Callee, p.Hear = "register", map[measure.Operation]int{Register: 1}, "", ""
		p.Rate, p.Duration, p.Timeout = 100, 2500*time.Millisecond, 2*time.Second
	})
	c := r.Operations[Register]
	if took := time.Since(begun); took > 15*time.Second || c.Causes[noPhone] == 0 || c.Causes["register: no answer"] == 0 || c.Failed != c.Due {
		t.Errorf("it took %s: %+v", took, c)
	}
	if lag, wait := r.Latency[measure.Lag], r.Latency[measure.Wait]; wait.Max < 1500 || lag.P50 > wait.Max/2 {
		t.Errorf("the lag is %+v, the wait %+v", lag, wait)
	}
}

// A registration that is under way when a run is ended is taken back too.
func TestEndedWhileRegistering(t *testing.T) {
	ctx, end := context.WithCancel(context.Background())
	var asked, taken atomic.Int32
	f := newFar(t, media.SDES, func(l *link, r *sip.Request) bool {
		if r.Method != sip.REGISTER {
			return false
		}
		if h := r.GetHeader("Expires"); h != nil && h.Value() == "0" {
			taken.Add(1)
			return false
		}
		if asked.Add(1) == 2 {
			end()
		}
		time.AfterFunc(200*time.Millisecond, func() { l.well(r) })
		return true
	})
	if _, err := Run(ctx, f.plan(), nil); err != nil {
		t.Fatal(err)
	}
	if asked.Load() != taken.Load() {
		t.Errorf("of %d registrations %d were taken back", asked.Load(), taken.Load())
	}
}
