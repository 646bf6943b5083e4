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
		message.Tag(message.Get(bye, "To")) != "far" || bye.CSeq().SeqNo != invite.CSeq().SeqNo+1 {
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
		if r := s.request(method); message.Tag(message.Get(r, "To")) != "another" || r.Recipient.String() != "sip:another@192.0.2.8" {
			t.Errorf("it got %s", r)
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
	if message.Get(ack, "Via") != message.Get(invite, "Via") || message.Tag(message.Get(ack, "To")) != "far" {
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

func TestIncoming(t *testing.T) {
	m := newSilence()
	answered := make(chan *Call, 1)
	ring := time.Duration(0)
	p, s := connected(t, Config{
		Answer:   func(*Phone, string) (Media, time.Duration, int) { return m, ring, 0 },
		Answered: func(_ *Phone, c *Call) { answered <- c },
	})
	request := func(method, id string) *message.Draft {
		return message.Request(method, "sip:1001@192.0.2.1").Add("Via", "SIP/2.0/TLS far;branch=z9hG4bK"+id).Add("Record-Route", "<sip:p1;lr>").
			Add("From", "<sip:far@x>;tag=far").Add("To", "<sip:1001@x>").Add("Call-ID", id).Add("CSeq", "1 "+method).Add("Contact", "<sip:far@192.0.2.9>")
	}
	call := func(id string) *message.Draft { return request("INVITE", id).SDP("offer") }
	s.send(call("a").Add("Require", "100rel"))
	if r := s.answered(420); message.Get(r, "Unsupported") != "100rel" {
		t.Errorf("it is answered %s", r)
	}
	s.send(call("b"))
	tag := message.Tag(message.Get(s.answered(180), "To"))
	ok := s.answered(200)
	if message.Tag(message.Get(ok, "To")) != tag || string(ok.Body()) != "answer" || !strings.HasPrefix(message.Get(ok, "Contact"), "<sip:1001@") {
		t.Errorf("it is answered %s", ok)
	}
	if again := s.answered(200); message.Tag(message.Get(again, "To")) != tag { // no ACK came
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
	if message.Get(bye, "Route") != "<sip:p1;lr>" || message.Tag(message.Get(bye, "From")) != tag {
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
	s.send(request("OPTIONS", "o"))
	s.answered(200)
}
