package transaction

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"
)

func asks(t *testing.T, l *Layer, w *wire, req *sip.Request) *Server {
	t.Helper()
	tx, fresh := l.Accept(w, req)
	if !fresh || tx == nil {
		t.Fatalf("%s was not taken for a new request", req.Method)
	}
	return tx
}

// numbered is a request that differs from others in its Call-ID.
func numbered(t *testing.T, method string, n int) *sip.Request {
	t.Helper()
	req := request(t, method, fmt.Sprintf("z9hG4bKn%d", n))
	id := sip.CallIDHeader(fmt.Sprintf("c%d", n))
	req.ReplaceHeader(&id)
	return req
}

// What many share is bounded with all together alone.
func TestSharedFlowsAreBoundedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLayer(DefaultTimers(), Limits{PerFlow: 2, Total: 6, Lingering: 1})
		trunk := &wire{id: 1, reliable: true, shared: true}
		for i := range 6 {
			if tx := asks(t, l, trunk, numbered(t, "INVITE", i)); tx.Fault() != nil {
				t.Fatalf("request %d was refused: %v", i+1, tx.Fault())
			}
		}
		if tx := asks(t, l, trunk, numbered(t, "INVITE", 6)); !errors.Is(tx.Fault(), ErrTooMany) {
			t.Errorf("more were taken than there is room for: %v", tx.Fault())
		}
		l.FlowClosed(trunk)
	})
}

// A phone that asks without end is told so, and of what is refused nothing is
// kept. The PBX is refused nothing.
func TestRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLayer(DefaultTimers(), Limits{PerFlow: 3, Total: 4, Lingering: 1})
		flood, other, third, pbx := &wire{id: 1, reliable: true}, &wire{id: 2, reliable: true}, &wire{id: 3, reliable: true}, &wire{id: 4}
		var held []*Server
		for i := range 3 {
			held = append(held, asks(t, l, flood, numbered(t, []string{"INVITE", "OPTIONS", "MESSAGE"}[i], i)))
		}
		for i := range 100 {
			tx := asks(t, l, flood, numbered(t, "INVITE", 100+i))
			if !errors.Is(tx.Fault(), ErrTooMany) {
				t.Fatalf("request %d of one flow has fault %v", 4+i, tx.Fault())
			}
			_ = tx.Respond(response(tx.Request(), 503))
		}
		if n := flood.lines("SIP/2.0 503"); n != 100 {
			t.Fatalf("%d were refused, want 100", n)
		}
		wantLen(t, l, 3)
		cancel := asks(t, l, flood, numbered(t, "CANCEL", 0))
		if cancel.Fault() != nil {
			t.Fatal("a CANCEL was refused, which would make room")
		}
		_ = cancel.Respond(response(cancel.Request(), 200))
		synctest.Wait()
		if tx := asks(t, l, other, numbered(t, "INVITE", 0)); tx.Fault() != nil {
			t.Fatalf("another phone was refused: %v", tx.Fault())
		}
		if tx := asks(t, l, third, numbered(t, "INVITE", 0)); !errors.Is(tx.Fault(), ErrTooMany) {
			t.Fatalf("of all phones together, 5 were taken: %v", tx.Fault())
		}
		for i := range 10 {
			if tx := asks(t, l, pbx, numbered(t, "INVITE", i)); tx.Fault() != nil {
				t.Fatalf("the PBX was refused: %v", tx.Fault())
			}
		}
		_ = held[1].Respond(response(held[1].Request(), 200))
		synctest.Wait()
		if tx := asks(t, l, flood, numbered(t, "OPTIONS", 200)); tx.Fault() != nil {
			t.Fatalf("after an answer there is still no room: %v", tx.Fault())
		}
		for _, w := range []*wire{flood, other, third, pbx} {
			l.FlowClosed(w)
		}
		wantLen(t, l, 0)
		if l.asked != 0 || len(l.byFlow) != 0 || len(l.pending) != 0 {
			t.Fatalf("after all, %d are counted, %d flows and %d requests are held", l.asked, len(l.byFlow), len(l.pending))
		}
	})
}

// What is only kept in case an answer is repeated, is bounded too: the oldest goes.
func TestLingeringIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w, h := NewLayer(DefaultTimers(), Limits{Lingering: 2}), &wire{}, &heard{}
		var sent []*sip.Request
		for i := range 5 {
			sent = append(sent, numbered(t, "INVITE", i))
			if _, err := l.Request(w, sent[i], h.on); err != nil {
				t.Fatal(err)
			}
		}
		for _, req := range sent {
			l.Deliver(w, response(req, 401))
		}
		wantLen(t, l, 2)
		if l.Deliver(w, response(sent[0], 401)) || !l.Deliver(w, response(sent[4], 401)) {
			t.Fatal("the oldest was kept, or the newest was not")
		}
		if n := w.lines("ACK"); n != 6 {
			t.Fatalf("%d ACKs, want 6", n)
		}
		time.Sleep(33 * time.Second)
		synctest.Wait()
		wantLen(t, l, 0)
		if l.lingering.Len() != 0 {
			t.Fatalf("%d linger", l.lingering.Len())
		}
	})
}

// Over TLS nothing is repeated once the ACK is there.
func TestAcknowledgedIsForgottenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w := NewLayer(DefaultTimers(), DefaultLimits()), &wire{reliable: true}
		tx := asks(t, l, w, request(t, "INVITE", "z9hG4bK1"))
		tx.Acknowledged() // of nothing yet
		wantLen(t, l, 1)
		_ = tx.Respond(response(tx.Request(), 200))
		wantLen(t, l, 1)
		tx.Acknowledged()
		wantLen(t, l, 0)
	})
}

func TestMergedRequests(t *testing.T) {
	l := NewLayer(DefaultTimers(), DefaultLimits())
	w, other := &wire{id: 1}, &wire{id: 2}
	first := asks(t, l, w, request(t, "INVITE", "z9hG4bK1"))
	merged := asks(t, l, w, request(t, "INVITE", "z9hG4bK2"))
	if !errors.Is(merged.Fault(), ErrMerged) {
		t.Fatalf("a merged request has fault %v", merged.Fault())
	}
	_ = merged.Respond(response(merged.Request(), 482))
	if tx, fresh := l.Accept(w, request(t, "ACK", "z9hG4bK2")); tx != nil || !fresh {
		t.Fatal("the ACK of the refusal is matched to something")
	}
	for name, change := range map[string]func(*sip.Request){
		"another CSeq":                func(r *sip.Request) { r.CSeq().SeqNo = 8 },
		"another Call-ID":             func(r *sip.Request) { id := sip.CallIDHeader("c2"); r.ReplaceHeader(&id) },
		"another tag":                 func(r *sip.Request) { r.ReplaceHeader(sip.NewHeader("From", "<sip:1001@pbx.example.com>;tag=b")) },
		"another target, as of forks": func(r *sip.Request) { r.Recipient.User = "603" },
		"in a dialog":                 func(r *sip.Request) { r.ReplaceHeader(sip.NewHeader("To", "<sip:602@pbx.example.com>;tag=x")) },
	} {
		req := request(t, "INVITE", "z9hG4bK"+name[8:9]+name[:1])
		change(req)
		tx := asks(t, l, w, req)
		if tx.Fault() != nil {
			t.Errorf("%s: fault %v", name, tx.Fault())
		}
		tx.terminate()
	}
	if tx := asks(t, l, other, request(t, "INVITE", "z9hG4bK2")); tx.Fault() != nil {
		t.Errorf("on another flow: fault %v", tx.Fault())
	}
	_ = first.Respond(response(first.Request(), 401))
	again := asks(t, l, w, request(t, "INVITE", "z9hG4bK3"))
	if again.Fault() != nil {
		t.Errorf("after the answer, with credentials and the same CSeq: fault %v", again.Fault())
	}
	first.terminate()
	if tx := asks(t, l, w, request(t, "INVITE", "z9hG4bK4")); !errors.Is(tx.Fault(), ErrMerged) {
		t.Errorf("the end of the first one made the second forgotten: fault %v", tx.Fault())
	}
	l.FlowClosed(w)
	l.FlowClosed(other)
}

// Timer C begins anew with each answer that tells of progress, and what ends the
// call by it is told as a timeout: the caller has not cancelled it.
func TestTimerC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, w, h := NewLayer(DefaultTimers(), DefaultLimits()), &wire{reliable: true}, &heard{}
		inv := request(t, "INVITE", "z9hG4bK1")
		_, _ = l.Request(w, inv, h.on)
		l.Deliver(w, response(inv, 100))
		for range 3 {
			time.Sleep(150 * time.Second)
			l.Deliver(w, response(inv, 180))
		}
		time.Sleep(184 * time.Second)
		synctest.Wait()
		if n := w.lines("CANCEL"); n != 0 {
			t.Fatal("gave up a call that went on ringing")
		}
		l.Deliver(w, response(inv, 100)) // tells nothing new
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := w.lines("CANCEL"); n != 1 {
			t.Fatalf("%d CANCELs, want 1", n)
		}
		l.Deliver(w, response(w.last().(*sip.Request), 200))
		l.Deliver(w, response(inv, 487))
		h.want(t, "180 180 180 "+ErrExpired.Error())
		if n := w.lines("ACK"); n != 1 {
			t.Fatalf("%d ACKs of the 487, want 1", n)
		}
		time.Sleep(64 * time.Second)
		synctest.Wait()
		wantLen(t, l, 0)
	})
}

// An answer that races timer C is the answer.
func TestTimerCRaces(t *testing.T) {
	for _, status := range []int{200, 486} {
		synctest.Test(t, func(t *testing.T) {
			l, w, h := NewLayer(DefaultTimers(), DefaultLimits()), &wire{}, &heard{}
			inv := request(t, "INVITE", "z9hG4bK1")
			_, _ = l.Request(w, inv, h.on)
			l.Deliver(w, response(inv, 180))
			time.Sleep(186 * time.Second)
			synctest.Wait()
			l.Deliver(w, response(inv, status))
			h.want(t, fmt.Sprintf("180 %d", status))
			l.FlowClosed(w)
		})
	}
}

// Of a request that is dropped nothing is kept, and its repetition is new.
func TestDropped(t *testing.T) {
	l, w := NewLayer(DefaultTimers(), DefaultLimits()), &wire{}
	asks(t, l, w, request(t, "OPTIONS", "z9hG4bK1")).Drop()
	wantLen(t, l, 0)
	asks(t, l, w, request(t, "OPTIONS", "z9hG4bK1")).Drop()
	if len(w.sent) != 0 {
		t.Fatalf("sent %v", w.sent)
	}
}

// Those that precede others have room of their own, and each kind a bound.
func TestPrecedence(t *testing.T) {
	l := NewLayer(DefaultTimers(), Limits{PerFlow: 16, Unproven: 8, Total: 16, Lingering: 1})
	l.Rank(func(_ Conn, req *sip.Request) Precedence {
		return map[sip.RequestMethod]Precedence{sip.OPTIONS: Ordinary, sip.INVITE: Emergency, sip.BYE: Underway}[req.Method]
	})
	w := &wire{id: 1, reliable: true}
	n := 0
	let := func(method string) (taken int) {
		for n++; asks(t, l, w, numbered(t, method, n)).Fault() == nil; n++ {
			taken++
		}
		return taken
	}
	for _, c := range []struct {
		method string
		want   int
	}{{"MESSAGE", 8}, {"OPTIONS", 8}, {"INVITE", 2}, {"OPTIONS", 0}, {"BYE", 2}, {"INVITE", 0}} {
		if taken := let(c.method); taken != c.want {
			t.Fatalf("%d of %s were let in, want %d", taken, c.method, c.want)
		}
	}
	l.FlowClosed(w)
	wantLen(t, l, 0)
	if l.asked != 0 || len(l.pending) != 0 {
		t.Fatalf("after all, %d are counted and %d pending", l.asked, len(l.pending))
	}
}
