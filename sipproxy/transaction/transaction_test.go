package transaction

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"
)

// wire is a Conn that records what is sent.
type wire struct {
	id       uint64
	reliable bool
	shared   bool
	mu       sync.Mutex
	sent     []string // first lines
	messages []sip.Message
	fail     error
}

func (w *wire) ID() uint64     { return w.id }
func (w *wire) Reliable() bool { return w.reliable }
func (w *wire) Shared() bool   { return w.shared }
func (w *wire) Send(m sip.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	line, _, _ := strings.Cut(m.String(), "\r\n")
	w.sent = append(w.sent, line)
	w.messages = append(w.messages, m)
	return nil
}

func (w *wire) lines(prefix string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, l := range w.sent {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

func (w *wire) last() sip.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.messages[len(w.messages)-1]
}

func request(t *testing.T, method, branch string) *sip.Request {
	t.Helper()
	text := method + " sip:602@pbx.example.com SIP/2.0\r\n" +
		"Via: SIP/2.0/UDP 10.0.0.1:5060;branch=" + branch + "\r\n" +
		"Max-Forwards: 70\r\nFrom: <sip:1001@pbx.example.com>;tag=a\r\nTo: <sip:602@pbx.example.com>\r\n" +
		"Call-ID: c1\r\nCSeq: 7 " + method + "\r\nRoute: <sip:proxy;lr>\r\nContent-Length: 0\r\n\r\n"
	m, err := sip.ParseMessage([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m.(*sip.Request)
}

func response(req *sip.Request, status int) *sip.Response {
	res := sip.NewResponseFromRequest(req, status, "Because", nil)
	if status > 100 {
		res.To().Params.Add("tag", "b")
	}
	return res
}

// heard collects what a client transaction passes up.
type heard struct {
	mu  sync.Mutex
	all []string
}

func (h *heard) on(res *sip.Response, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.all = append(h.all, err.Error())
		return
	}
	h.all = append(h.all, fmt.Sprint(res.StatusCode))
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.all, " ")
}

func (h *heard) want(t *testing.T, want string) {
	t.Helper()
	if got := h.String(); got != want {
		t.Fatalf("passed up %q, want %q", got, want)
	}
}

func wantLen(t *testing.T, l *Layer, n int) {
	t.Helper()
	if l.Len() != n {
		t.Fatalf("%d transactions held, want %d", l.Len(), n)
	}
}

func TestClientInviteOverUDP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w, h := NewLayer(DefaultTimers(), DefaultLimits()), &wire{}, &heard{}
		inv := request(t, "INVITE", "z9hG4bK1")
		if _, err := l.Request(w, inv, h.on); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second) // 0, 0.5, 1.5, 3.5: section 17.1.1.2
		synctest.Wait()
		if n := w.lines("INVITE"); n != 4 {
			t.Fatalf("sent %d times in 4 s, want 4", n)
		}
		l.Deliver(w, response(inv, 180))
		time.Sleep(10 * time.Second)
		if n := w.lines("INVITE"); n != 4 {
			t.Fatal("retransmitted after a provisional response")
		}
		l.Deliver(w, response(inv, 486))
		l.Deliver(w, response(inv, 486)) // its ACK was lost
		h.want(t, "180 486")
		if n := w.lines("ACK"); n != 2 {
			t.Fatalf("%d ACKs, want 2", n)
		}
		ack := w.last().(*sip.Request)
		if ack.Via().Params.GetOr("branch", "") != "z9hG4bK1" || ack.CSeq().SeqNo != 7 ||
			ack.To().Params.GetOr("tag", "") != "b" || len(ack.GetHeaders("Via")) != 1 || len(ack.GetHeaders("Route")) != 1 {
			t.Fatalf("ACK differs from section 17.1.1.3:\n%s", ack)
		}
		time.Sleep(33 * time.Second)
		synctest.Wait()
		wantLen(t, l, 0)
	})
}

func TestClientInviteSuccessPassesRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w, h := NewLayer(DefaultTimers(), DefaultLimits()), &wire{}, &heard{}
		inv := request(t, "INVITE", "z9hG4bK1")
		_, _ = l.Request(w, inv, h.on)
		l.Deliver(w, response(inv, 200))
		l.Deliver(w, response(inv, 200))
		l.Deliver(w, response(inv, 180)) // late: dropped
		h.want(t, "200 200")
		if w.lines("ACK") != 0 {
			t.Fatal("acknowledged a 2xx: that is end to end")
		}
		time.Sleep(33 * time.Second)
		synctest.Wait()
		wantLen(t, l, 0)
	})
}

// Of a call that is over, another hears the 2xx that is repeated, for as long as one can
// be on its way.
func TestClientSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w, h, late := NewLayer(DefaultTimers(), DefaultLimits()), &wire{}, &heard{}, &heard{}
		inv := request(t, "INVITE", "z9hG4bK1")
		c, _ := l.Request(w, inv, h.on)
		hear := func(res *sip.Response) { late.on(res, nil) }
		c.Settle(hear) // too early: nothing
		l.Deliver(w, response(inv, 200))
		c.Settle(nil)
		l.Deliver(w, response(inv, 200))
		c.Settle(hear)
		time.Sleep(4 * time.Second) // T4 are 5
		l.Deliver(w, response(inv, 200))
		h.want(t, "200 200")
		late.want(t, "200")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantLen(t, l, 0)
		c.Settle(hear) // too late: nothing
		wantLen(t, l, 0)
	})
}

func TestClientTimeouts(t *testing.T) {
	for _, c := range []struct {
		name, method string
		ring         bool
		after        time.Duration
		cancels      int
	}{
		{"timer B", "INVITE", false, 32 * time.Second, 0},
		{"timer F", "OPTIONS", false, 32 * time.Second, 0},
		{"timer C", "INVITE", true, (185 + 32) * time.Second, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, w, h := NewLayer(DefaultTimers(), DefaultLimits()), &wire{reliable: true}, &heard{}
				req := request(t, c.method, "z9hG4bK1")
				_, _ = l.Request(w, req, h.on)
				want := ErrTimeout.Error()
				if c.ring {
					l.Deliver(w, response(req, 180))
					want = "180 " + ErrExpired.Error()
				}
				time.Sleep(c.after - time.Second)
				synctest.Wait()
				if strings.Contains(h.String(), ErrTimeout.Error()) {
					t.Fatal("gave up early")
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				h.want(t, want)
				if n := w.lines("CANCEL"); n != c.cancels {
					t.Fatalf("%d CANCELs, want %d", n, c.cancels)
				}
				time.Sleep(64 * time.Second)
				synctest.Wait()
				wantLen(t, l, 0)
			})
		})
	}
}

func TestCancelWaitsForProvisional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w, h := NewLayer(DefaultTimers(), DefaultLimits()), &wire{}, &heard{}
		inv := request(t, "INVITE", "z9hG4bK1")
		c, _ := l.Request(w, inv, h.on)
		c.Cancel()
		if w.lines("CANCEL") != 0 {
			t.Fatal("CANCEL before any provisional response (section 9.1)")
		}
		l.Deliver(w, response(inv, 100))
		if w.lines("CANCEL") != 1 {
			t.Fatal("CANCEL not sent after the provisional response")
		}
		cancel := w.last().(*sip.Request)
		if cancel.CSeq().MethodName != sip.CANCEL || cancel.Via().Params.GetOr("branch", "") != "z9hG4bK1" || cancel.To().Params.Has("tag") {
			t.Fatalf("CANCEL differs from section 9.1:\n%s", cancel)
		}
		c.Cancel() // once is enough
		l.Deliver(w, response(cancel, 200))
		l.Deliver(w, response(inv, 487))
		h.want(t, "487") // a 100 is for this hop alone
		if w.lines("CANCEL") != 1 || w.lines("ACK") != 1 {
			t.Fatalf("sent %v", w.sent)
		}
		time.Sleep(33 * time.Second)
		synctest.Wait()
		wantLen(t, l, 0)
	})
}

func TestCancelAfterFinalDoesNothing(t *testing.T) {
	l, w, h := NewLayer(DefaultTimers(), DefaultLimits()), &wire{reliable: true}, &heard{}
	inv := request(t, "INVITE", "z9hG4bK1")
	c, _ := l.Request(w, inv, h.on)
	l.Deliver(w, response(inv, 180))
	l.Deliver(w, response(inv, 200))
	c.Cancel()
	if w.lines("CANCEL") != 0 {
		t.Fatal("cancelled an answered INVITE")
	}
	c.terminate()
}

func TestCancelRacesTheAnswer(t *testing.T) {
	l, w, h := NewLayer(DefaultTimers(), DefaultLimits()), &wire{reliable: true}, &heard{}
	inv := request(t, "INVITE", "z9hG4bK1")
	c, _ := l.Request(w, inv, h.on)
	l.Deliver(w, response(inv, 180))
	c.Cancel()
	l.Deliver(w, response(inv, 200)) // it was on its way already
	h.want(t, "180 200")
	c.terminate()
}

func TestResponsesMustComeByTheFlow(t *testing.T) {
	l, w, h := NewLayer(DefaultTimers(), DefaultLimits()), &wire{id: 1, reliable: true}, &heard{}
	req := request(t, "OPTIONS", "z9hG4bK1")
	c, _ := l.Request(w, req, h.on)
	if l.Deliver(&wire{id: 2, reliable: true}, response(req, 200)) {
		t.Fatal("took a response from another flow")
	}
	if l.Deliver(w, response(request(t, "OPTIONS", "z9hG4bKother"), 200)) {
		t.Fatal("took a stray response")
	}
	h.want(t, "")
	c.terminate()
}

func TestServerInviteRefusedOverUDP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := NewLayer(DefaultTimers(), DefaultLimits()), &wire{}
		inv := request(t, "INVITE", "z9hG4bK1")
		tx, fresh := l.Accept(w, inv)
		if !fresh || tx == nil {
			t.Fatal("new INVITE not taken")
		}
		_ = tx.Respond(response(inv, 100))
		if _, again := l.Accept(w, request(t, "INVITE", "z9hG4bK1")); again {
			t.Fatal("a retransmission came through")
		}
		if n := w.lines("SIP/2.0 100"); n != 2 {
			t.Fatalf("100 sent %d times, want 2", n)
		}
		_ = tx.Respond(response(inv, 486))
		time.Sleep(4 * time.Second) // timer G: 0.5, 1.5, 3.5
		synctest.Wait()
		if n := w.lines("SIP/2.0 486"); n != 4 {
			t.Fatalf("486 sent %d times, want 4", n)
		}
		if ack, forward := l.Accept(w, request(t, "ACK", "z9hG4bK1")); ack != nil || forward {
			t.Fatal("the ACK of a refusal came through")
		}
		time.Sleep(6 * time.Second) // timer I
		synctest.Wait()
		if n := w.lines("SIP/2.0 486"); n != 4 {
			t.Fatal("repeated after the ACK")
		}
		wantLen(t, l, 0)
	})
}

func TestServerInviteAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := NewLayer(DefaultTimers(), DefaultLimits()), &wire{}
		inv := request(t, "INVITE", "z9hG4bK1")
		tx, _ := l.Accept(w, inv)
		_ = tx.Respond(response(inv, 200))
		if _, again := l.Accept(w, request(t, "INVITE", "z9hG4bK1")); again || w.lines("SIP/2.0 200") != 1 {
			t.Fatal("a repeated INVITE is absorbed in silence once accepted (RFC 6026)")
		}
		_ = tx.Respond(response(inv, 200))
		_ = tx.Respond(response(inv, 486))
		if w.lines("SIP/2.0 200") != 2 || w.lines("SIP/2.0 486") != 0 {
			t.Fatalf("sent %v: only repeated 2xx pass", w.sent)
		}
		for _, branch := range []string{"z9hG4bK1", "z9hG4bKnew"} {
			if _, forward := l.Accept(w, request(t, "ACK", branch)); !forward {
				t.Fatalf("the ACK of a 2xx with branch %s is end to end", branch)
			}
		}
		time.Sleep(33 * time.Second)
		synctest.Wait()
		wantLen(t, l, 0)
	})
}

func TestServerOverReliableFlowIsForgottenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := NewLayer(DefaultTimers(), DefaultLimits()), &wire{reliable: true}
		req := request(t, "OPTIONS", "z9hG4bK1")
		tx, _ := l.Accept(w, req)
		_ = tx.Respond(response(req, 200))
		synctest.Wait()
		wantLen(t, l, 0)
	})
}

func TestFlowClosedEndsItsTransactions(t *testing.T) {
	l, h := NewLayer(DefaultTimers(), DefaultLimits()), &heard{}
	dead, alive := &wire{id: 1, reliable: true}, &wire{id: 2}
	inv := request(t, "INVITE", "z9hG4bK1")
	tx, _ := l.Accept(dead, inv)
	gone := false
	tx.OnGone(func() { gone = true })
	_, _ = l.Request(dead, request(t, "OPTIONS", "z9hG4bK2"), h.on)
	c, _ := l.Request(alive, request(t, "OPTIONS", "z9hG4bK3"), h.on)
	l.FlowClosed(dead)
	if !gone {
		t.Fatal("the INVITE's owner was not told")
	}
	h.want(t, ErrFlowClosed.Error())
	wantLen(t, l, 1)
	c.terminate()
	wantLen(t, l, 0)
}

// closing is a wire that is found closed while something is sent on it.
type closing struct {
	wire
	l *Layer
}

func (w *closing) Send(sip.Message) error {
	w.l.FlowClosed(w)
	return errors.New("closed")
}

// Who asks is told once that the flow is gone: by the error, or by the call.
func TestFlowClosedWhileSending(t *testing.T) {
	l, h := NewLayer(DefaultTimers(), DefaultLimits()), &heard{}
	if _, err := l.Request(&closing{wire{id: 1, reliable: true}, l}, request(t, "BYE", "z9hG4bK1"), h.on); err != nil {
		t.Errorf("told by %v, too", err)
	}
	h.want(t, ErrFlowClosed.Error())
	wantLen(t, l, 0)
}

func TestRequestThatCannotBeSent(t *testing.T) {
	l, h := NewLayer(DefaultTimers(), DefaultLimits()), &heard{}
	broken := errors.New("broken")
	if _, err := l.Request(&wire{fail: broken}, request(t, "OPTIONS", "z9hG4bK1"), h.on); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	h.want(t, "")
	wantLen(t, l, 0)
}

func TestCancelFindsItsInviteOnItsOwnFlowOnly(t *testing.T) {
	l, w := NewLayer(DefaultTimers(), DefaultLimits()), &wire{id: 1, reliable: true}
	tx, _ := l.Accept(w, request(t, "INVITE", "z9hG4bK1"))
	cancel := request(t, "CANCEL", "z9hG4bK1")
	if l.Invite(w, cancel) != tx {
		t.Fatal("INVITE not found")
	}
	if l.Invite(&wire{id: 2}, cancel) != nil {
		t.Fatal("a stranger's CANCEL found it")
	}
	tx.terminate()
}

// chan_sip writes one branch into all the NOTIFYs of a mailbox.
func TestOneBranchForSeveralRequests(t *testing.T) {
	l, w := NewLayer(DefaultTimers(), DefaultLimits()), &wire{}
	for seq := range uint32(3) {
		notify := request(t, "NOTIFY", "z9hG4bKsame")
		notify.CSeq().SeqNo = 102 + seq
		tx, fresh := l.Accept(w, notify)
		if !fresh {
			t.Fatalf("NOTIFY %d is taken for another repeated", 102+seq)
		}
		if err := tx.Respond(response(notify, 200)); err != nil {
			t.Fatal(err)
		}
		if _, fresh := l.Accept(w, notify); fresh {
			t.Fatalf("NOTIFY %d, repeated, is taken for another", 102+seq)
		}
	}
}
