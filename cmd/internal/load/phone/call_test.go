package phone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// A request in a call goes by the routes that were recorded, the nearest first (RFC
// 3261 section 12.1.2), to the Contact; a 200 that comes again is acknowledged again.
func TestDialog(t *testing.T) {
	p, s := connected(t, Config{})
	c, invite := calling(t, p, s)
	s.answer(invite, 200, "OK", "Contact", "<sip:far@192.0.2.9>", "Record-Route", "<sip:p1;lr>, <sip:p2;lr>")
	ack := s.request("ACK")
	if ack.CSeq().SeqNo != invite.CSeq().SeqNo || ack.Recipient.String() != "sip:far@192.0.2.9" {
		t.Errorf("the ACK is %s", ack)
	}
	done := make(chan error, 1)
	go func() { done <- c.Hangup(context.Background()) }() // ends with the answer; waited for below
	bye := s.request("BYE")
	if routes := message.All(bye, "Route"); !slices.Equal(routes, []string{"<sip:p2;lr>", "<sip:p1;lr>"}) || bye.Recipient.String() != "sip:far@192.0.2.9" ||
		nameaddr.Tag(message.Get(bye, "To")) != "far" || bye.CSeq().SeqNo != invite.CSeq().SeqNo+1 {
		t.Errorf("the BYE is %s", bye)
	}
	s.answer(bye, 200, "OK")
	if err := <-done; err != nil || c.Err() != nil {
		t.Error(err, c.Err())
	}
	<-c.Media.(*silence).closed
}

// Another who answers too is hung up (RFC 3261 section 13.2.2.4).
func TestForked(t *testing.T) {
	p, s := connected(t, Config{})
	_, invite := calling(t, p, s)
	s.send(message.Answer(invite, 200, "OK", "another").Add("Contact", "<sip:another@192.0.2.8>"))
	for _, method := range []string{"ACK", "BYE"} {
		if r := s.request(method); nameaddr.Tag(message.Get(r, "To")) != "another" || r.Recipient.String() != "sip:another@192.0.2.8" {
			t.Errorf("it got %s", r)
		}
	}
}

// Where both hang up at once, the 481 to our BYE is none of the server's faults; where
// it alone has forgotten the call, it is.
func TestCrossedBYE(t *testing.T) {
	for _, crossed := range []bool{true, false} {
		p, s := connected(t, Config{})
		c, invite := calling(t, p, s)
		done := make(chan error, 1)
		go func() { done <- c.Hangup(context.Background()) }() // ends with the answer; waited for below
		bye := s.request("BYE")
		if crossed {
			s.send(inside(invite, "BYE", 1))
			s.answered(200)
		}
		s.answer(bye, 481, "Call/Transaction Does Not Exist")
		var r *Refused
		if err := <-done; crossed && err != nil || !crossed && (!errors.As(err, &r) || r.Status != 481) {
			t.Errorf("crossed %v: it ended with %v", crossed, err)
		}
	}
}

// A refused call is acknowledged in its own transaction; one that is given up is
// cancelled, but only once it was answered at all.
func TestRefusedAndCancelled(t *testing.T) {
	p, s := connected(t, Config{})
	done := make(chan error, 1)
	call := func(ctx context.Context, progress func(int)) {
		_, err := p.Call(ctx, "sip:1002@pbx.example.com", newSilence(), progress)
		done <- err
	}
	go call(t.Context(), nil) // ends with the answer; waited for below
	invite := s.request("INVITE")
	s.answer(invite, 486, "Busy Here")
	ack := s.request("ACK")
	if message.Get(ack, "Via") != message.Get(invite, "Via") || nameaddr.Tag(message.Get(ack, "To")) != "far" {
		t.Errorf("the ACK is %s", ack)
	}
	var refused *Refused
	if err := <-done; !errors.As(err, &refused) || refused.Status != 486 {
		t.Errorf("it ended with %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	go call(ctx, func(int) { stop() }) // likewise
	invite = s.request("INVITE")
	s.answer(invite, 183, "Session Progress")
	cancel := s.request("CANCEL")
	if message.Get(cancel, "Via") != message.Get(invite, "Via") || cancel.CSeq().SeqNo != invite.CSeq().SeqNo {
		t.Errorf("the CANCEL is %s", cancel)
	}
	s.answer(cancel, 200, "OK")
	s.answer(invite, 487, "Request Terminated")
	s.request("ACK")
	if err := <-done; !errors.As(err, &refused) || refused.Status != 487 || p.Busy() {
		t.Errorf("it ended with %v, and is busy: %v", err, p.Busy())
	}
}

// A call that was moved is made there, by the same connection, in a transaction of its
// own; one that moves in circles is not followed for ever.
func TestMoved(t *testing.T) {
	p, s := connected(t, Config{})
	done := make(chan error, 1)
	go func() { // ends with the last answer; waited for below
		_, err := p.Call(context.Background(), "sip:1002@pbx.example.com", newSilence(), nil)
		done <- err
	}()
	var branches []string
	for move := range maxMoves + 1 {
		invite := s.request("INVITE")
		want := "sip:1002@pbx.example.com"
		if move > 0 {
			want = fmt.Sprintf("sip:1002@192.0.2.%d", move)
		}
		if invite.Recipient.String() != want || int(invite.CSeq().SeqNo) != move+1 {
			t.Errorf("move %d is %s", move, invite)
		}
		branches = append(branches, nameaddr.Param(message.Get(invite, "Via"), "branch"))
		s.answer(invite, 302, "Moved Temporarily", "Contact", fmt.Sprintf(`"Anna" <sip:1002@192.0.2.%d>;q=0.7, <mailto:anna@example.com>`, move+1))
		s.request("ACK")
	}
	var r *Refused
	if err := <-done; !errors.As(err, &r) || r.Status != 302 {
		t.Errorf("it ended with %v", err)
	}
	if slices.Sort(branches); len(slices.Compact(branches)) != maxMoves+1 {
		t.Error("a branch was used twice")
	}
}

// A reliable provisional answer is acknowledged once, in its dialog, and what it says
// of media counts if the 200 says nothing; that of another branch does not (RFC 3262).
func TestReliable(t *testing.T) {
	p, s := connected(t, Config{})
	made, media := make(chan *Call, 1), newSilence()
	go func() { // ends with the answer; waited for below
		c, err := p.Call(context.Background(), "sip:1002@pbx.example.com", media, nil)
		if err != nil {
			t.Error(err)
		}
		made <- c
	}()
	invite := s.request("INVITE")
	progress := func(tag, rseq, body string) *message.Draft {
		return message.Answer(invite, 183, "Session Progress", tag).Add("Require", "100rel").Add("RSeq", rseq).
			Add("Contact", "<sip:"+tag+"@192.0.2.9>").Add("Record-Route", "<sip:p1;lr>, <sip:p2;lr>").SDP(body)
	}
	for i, one := range []struct {
		tag, rseq string
		new       bool
	}{{"a", "7", true}, {"a", "7", false}, {"a", "9", false}, {"b", "100", true}, {"a", "8", true}} {
		s.send(progress(one.tag, one.rseq, "early "+one.tag))
		if !one.new {
			continue
		}
		prack := s.request("PRACK")
		want := fmt.Sprintf("%s %d INVITE", one.rseq, invite.CSeq().SeqNo)
		if message.Get(prack, "RAck") != want || prack.Recipient.String() != "sip:"+one.tag+"@192.0.2.9" || nameaddr.Tag(message.Get(prack, "To")) != one.tag ||
			!slices.Equal(message.All(prack, "Route"), []string{"<sip:p2;lr>", "<sip:p1;lr>"}) || prack.CSeq().SeqNo <= invite.CSeq().SeqNo {
			t.Errorf("provisional answer %d got %s", i, prack)
		}
		s.answer(prack, 200, "OK")
	}
	s.send(message.Answer(invite, 200, "OK", "b").Add("Contact", "<sip:b@192.0.2.9>"))
	if ack := s.request("ACK"); ack.CSeq().SeqNo != invite.CSeq().SeqNo {
		t.Errorf("the ACK is %s", ack)
	}
	if <-made == nil {
		t.FailNow()
	}
	for i, want := range []string{"a", "a", "a", "b", "a"} {
		if got := <-media.early; got != "early "+want {
			t.Errorf("description %d before the answer is %q, want that of %s", i, got, want)
		}
	}
	if got := <-media.accepted; got != "early b" {
		t.Errorf("the answer is taken from %q", got)
	}
}

// inside is a request of the far end in a call.
func inside(invite *sip.Request, method string, number int) *message.Draft {
	return message.Request(method, "sip:1001@192.0.2.1").Add("Via", fmt.Sprintf("SIP/2.0/TLS far;branch=z9hG4bK%s%d", method, number)).
		Add("From", message.Get(invite, "To")+";tag=far").Add("To", message.Get(invite, "From")).Add("Call-ID", message.Get(invite, "Call-ID")).
		Add("CSeq", fmt.Sprintf("%d %s", number, method)).Add("Contact", "<sip:far@192.0.2.9>")
}

// While a change of ours is under way, one of theirs gets 491; ours is tried again
// when it gets one.
func TestGlare(t *testing.T) {
	p, s := connected(t, Config{})
	c, invite := calling(t, p, s)
	done := make(chan error, 1)
	go func() { done <- c.Change(context.Background()) }() // ends with the answer; waited for below
	ours := s.request("INVITE")
	s.send(inside(invite, "INVITE", 1).SDP("theirs"))
	s.answered(491)
	s.answer(ours, 491, "Request Pending")
	s.request("ACK")
	ours = s.request("INVITE")
	s.answer(ours, 200, "OK", "Contact", "<sip:far@192.0.2.9>")
	s.request("ACK")
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.send(inside(invite, "INVITE", 2).SDP("theirs"))
	if r := s.answered(200); string(r.Body()) != "answer" {
		t.Errorf("its answer is %q", r.Body())
	}
	s.send(inside(invite, "ACK", 2))
	s.send(inside(invite, "INFO", 2)) // out of order
	s.answered(500)
	s.send(inside(invite, "BYE", 3))
	s.answered(200)
	<-c.Ended
	s.send(inside(invite, "BYE", 4))
	s.answered(481)
}

// A session that is ours to keep alive is.
func TestSessionTimer(t *testing.T) {
	p, s := connected(t, Config{})
	_, invite := calling(t, p, s)
	s.send(inside(invite, "UPDATE", 1).Add("Session-Expires", "90").Add("Supported", "timer"))
	if got := message.Get(s.answered(200), "Session-Expires"); got != "90;refresher=uac" {
		t.Errorf("who asks is to refresh, and it says %q", got)
	}
	s.send(inside(invite, "UPDATE", 2).Add("Session-Expires", "2;refresher=uas").Add("Require", "timer"))
	if r := s.answered(200); message.Get(r, "Session-Expires") != "2;refresher=uas" || message.Get(r, "Require") != "timer" {
		t.Errorf("it is answered %s", r)
	}
	refresh := s.request("INVITE")
	s.answer(refresh, 200, "OK", "Contact", "<sip:far@192.0.2.9>")
	s.request("ACK")
}

// toPhone is a request of a far end's to the phone, in a dialog that it names.
func toPhone(method, id string) *message.Draft {
	return message.Request(method, "sip:1001@192.0.2.1").Add("Via", "SIP/2.0/TLS far;branch=z9hG4bK"+id).Add("Record-Route", "<sip:p1;lr>").
		Add("From", "<sip:far@x>;tag=far").Add("To", "<sip:1001@x>").Add("Call-ID", id).Add("CSeq", "1 "+method).Add("Contact", "<sip:far@192.0.2.9>")
}

// Who must be acknowledged rings again until that is, and answers only then. Where there
// was no offer, it goes with the ringing.
func TestRequiredPrack(t *testing.T) {
	m := newSilence()
	p, s := connected(t, Config{Answer: func(*Phone, string) (Media, time.Duration, int) { return m, 0, 0 }})
	for _, c := range []struct{ id, offer, rung, accepted, answer string }{
		{"a", "offer", "", "", "answer"},
		{"b", "", "offer", "theirs", ""},
	} {
		s.send(toPhone("INVITE", c.id).Add("Require", "100rel").SDP(c.offer))
		ringing := s.answered(180)
		number, to := message.Get(ringing, "RSeq"), message.Get(ringing, "To")
		if message.Get(ringing, "Require") != "100rel" || number == "" || string(ringing.Body()) != c.rung {
			t.Errorf("%s: it rings by %s", c.id, ringing)
		}
		if again := s.answered(180); message.Get(again, "RSeq") != number {
			t.Errorf("%s: it rings again by %s", c.id, again)
		}
		prack := func(rack string) *message.Draft {
			return toPhone("PRACK", c.id).Set("To", to).Set("CSeq", "2 PRACK").Add("RAck", rack).SDP(c.accepted)
		}
		s.send(prack(number + " 2 INVITE"))
		s.answered(481)
		s.send(prack(number + "  1 INVITE"))
		if r := s.answered(200); r.CSeq().MethodName != sip.PRACK {
			t.Errorf("%s: answered before it was acknowledged: %s", c.id, r)
		}
		if r := s.answered(200); r.CSeq().MethodName != sip.INVITE || string(r.Body()) != c.answer {
			t.Errorf("%s: it is answered %s", c.id, r)
		}
		if c.accepted != "" {
			if got := <-m.accepted; got != c.accepted {
				t.Errorf("%s: it takes %q", c.id, got)
			}
		}
		s.send(toPhone("ACK", c.id).Set("To", to))
		s.send(prack(number+" 1 INVITE").Set("CSeq", "3 PRACK"))                                   // once more, when all is over
		for r := s.next("").(*sip.Response); r.StatusCode != 481; r = s.next("").(*sip.Response) { // the 200 may come once more
			if r.StatusCode != 200 {
				t.Fatalf("%s: a PRACK of no use is answered %d", c.id, r.StatusCode)
			}
		}
		s.send(toPhone("BYE", c.id).Set("To", to).Set("CSeq", "4 BYE"))
		s.answered(200)
		<-m.closed
	}
	for id, end := range map[string]func(in *incoming){
		"c": func(*incoming) {
			s.send(toPhone("CANCEL", "c"))
			s.answered(200)
			s.answered(487)
		},
		"d": func(in *incoming) { // as 64*T1 after it rang
			p.unheard(in)
			s.answered(504)
			p.unheard(in) // nothing is left to be ended
		},
	} {
		s.send(toPhone("INVITE", id).Add("Require", "100rel").SDP("offer"))
		s.answered(180)
		p.mu.Lock()
		in := p.received[id]
		p.mu.Unlock()
		end(in)
		<-m.closed
		if p.Busy() {
			t.Errorf("%s: the phone is busy with a call that is over", id)
		}
	}
}

func TestIncoming(t *testing.T) {
	m := newSilence()
	answered := make(chan *Call, 1)
	ring := time.Duration(0)
	p, s := connected(t, Config{
		Answer:   func(*Phone, string) (Media, time.Duration, int) { return m, ring, 0 },
		Answered: func(_ *Phone, c *Call) { answered <- c },
	})
	request := toPhone
	call := func(id string) *message.Draft { return request("INVITE", id).SDP("offer") }
	s.send(call("a").Add("Require", "precondition"))
	if r := s.answered(420); message.Get(r, "Unsupported") != "precondition" {
		t.Errorf("it is answered %s", r)
	}
	s.send(call("b"))
	tag := nameaddr.Tag(message.Get(s.answered(180), "To"))
	ok := s.answered(200)
	if nameaddr.Tag(message.Get(ok, "To")) != tag || string(ok.Body()) != "answer" || !strings.HasPrefix(message.Get(ok, "Contact"), "<sip:1001@") {
		t.Errorf("it is answered %s", ok)
	}
	if again := s.answered(200); nameaddr.Tag(message.Get(again, "To")) != tag { // no ACK came
		t.Errorf("it is answered %s", again)
	}
	s.send(call("c"))
	for r := s.next("").(*sip.Response); r.StatusCode != 486; r = s.next("").(*sip.Response) { // the 200 may come once more
		if r.StatusCode != 200 {
			t.Fatalf("a second call is answered %d", r.StatusCode)
		}
	}
	s.send(request("ACK", "b").Set("To", "<sip:1001@x>;tag="+tag))
	c := <-answered
	done := make(chan error, 1)
	go func() { done <- c.Hangup(context.Background()) }() // ends with the answer; waited for below
	last := s.next("BYE")
	for _, again := last.(*sip.Response); again; _, again = last.(*sip.Response) { // the 200, once more
		last = s.next("BYE")
	}
	bye := last.(*sip.Request)
	if message.Get(bye, "Route") != "<sip:p1;lr>" || nameaddr.Tag(message.Get(bye, "From")) != tag {
		t.Errorf("the BYE is %s", bye)
	}
	s.answer(bye, 200, "OK")
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-m.closed
	ring = time.Minute
	s.send(call("d"))
	s.answered(180)
	s.send(request("CANCEL", "d"))
	s.answered(200)
	s.answered(487)
	if <-m.closed; p.Busy() {
		t.Error("the phone is busy with a call that was cancelled")
	}
	s.send(call("e").Set("Via", "SIP/2.0/TLS far;branch=z9hG4bKe, SIP/2.0/TLS farther;branch=z9hG4bK0")) // a CANCEL has the first alone
	s.answered(180)
	s.send(request("CANCEL", "e"))
	s.answered(200)
	s.answered(487)
	<-m.closed
	s.send(request("OPTIONS", "o"))
	s.answered(200)
}
