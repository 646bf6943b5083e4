package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// options is a request outside of calls, as it is written.
func options(p *peers.Phone, headers string) string {
	return fmt.Sprintf("OPTIONS sip:602@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/TLS %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:%s@pbx.example.com>;tag=x\r\nTo: <sip:602@pbx.example.com>\r\nCall-ID: %[2]s\r\nCSeq: 1 OPTIONS\r\n%[4]sContent-Length: 0\r\n\r\n",
		p.Local(), peers.Random(8), p.User, headers)
}

// upgradeWhile replaces the edge while something is done again and again, and returns as
// soon as the new process serves, with the one before.
func (o *office) upgradeWhile(do func()) *peers.Process {
	before := o.edge.Process
	o.edge.Signal(syscall.SIGUSR2)
	for deadline := time.Now().Add(20 * time.Second); !before.Logged(`"msg":"upgraded`); {
		if time.Now().After(deadline) {
			o.t.Fatal("the edge is not replaced")
		}
		do()
	}
	o.edge.Follow(`"msg":"upgraded[^\n]*"pid":(\d+)`)
	return before
}

// Who has a call is not sent on, nor is who is in the middle of something: a message that
// is half here, or a challenge that is not answered yet. They are served to the end by the
// process before, and sent on then.
func TestUpgradeMidway(t *testing.T) {
	o := newWebOffice(t, "")
	half, web, asked := o.registered("1001"), o.webPhone("1002"), o.script("1003")
	var idle []*peers.Phone
	for i := range 3 {
		idle = append(idle, o.registered(fmt.Sprint(1011+i)))
	}
	text, frame := options(half, ""), strings.Replace(options(web, ""), "/TLS", "/WSS", 1)
	half.Send(text[:150])
	if err := web.Frame([]byte("\x01\xfe" + string([]byte{0, 150, 0, 0, 0, 0}) + frame[:150])); err != nil { // of two
		t.Fatal(err)
	}
	var challenge *peers.Message
	before := o.upgradeWhile(func() { challenge = asked.Query() })
	for _, p := range idle { // they go when nothing has come from them for a while, and who asks meanwhile stays
		peers.Until(t, 15*time.Second, "phone "+p.User+", which is idle, to be sent on", func() bool {
			challenge = asked.Query()
			return p.Left(200 * time.Millisecond)
		})
	}
	half.Send(text[150:])
	rest := frame[150:]
	if err := web.Frame([]byte("\x80\xfe" + string([]byte{byte(len(rest) >> 8), byte(len(rest)), 0, 0, 0, 0}) + rest)); err != nil {
		t.Fatal(err)
	}
	if m := asked.Answered(challenge, "secret-1003"); m.Status() != 200 {
		t.Errorf("who had been challenged by the process before was answered %s", m.Start)
	}
	for _, p := range []*peers.Phone{half, web} {
		if m := p.Next(5 * time.Second); m.Status() == 0 {
			t.Errorf("phone %s was told %s", p.User, m.Start)
		}
	}
	for _, p := range []*peers.Phone{half, web, asked} {
		p.Gone(15 * time.Second)
	}
	if status, err := before.Wait(20 * time.Second); status != 0 || err != nil {
		t.Errorf("the process before ended with status %d, %v", status, err)
	}
}

// Whom a process bans that has been replaced is kept out of the new one, too.
func TestUpgradeBansOfBefore(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	host := o.Phone("stranger")
	stranger := peers.NewPhone(host, o.edge, "1002")
	before := o.upgradeWhile(func() {
		stranger.Send(options(stranger, ""))
		stranger.Next(5 * time.Second)
		time.Sleep(100 * time.Millisecond) // policy lets nobody ask as fast as it can
	})
	stranger.Send(options(stranger, "User-Agent: friendly-scanner\r\n"))
	stranger.Gone(15 * time.Second)
	before.WaitLog(`"msg":"source banned"`, 5*time.Second)
	peers.Until(t, 5*time.Second, "the new process to have the ban", func() bool {
		return strings.HasPrefix(o.edge.Run("bans", "list"), host.Addr.String()+"/32 ")
	})
	o.speaks(media, 900)
	o.bye(d, media)
}

// What the PBX has asked a phone, and the phone not answered when the edge is replaced, is
// not asked again by the new process, where the phone is, too, by then: though the PBX
// repeats it.
func TestUpgradeUnanswered(t *testing.T) {
	s := newStandsIn(t)
	register := func(p *peers.Phone) (contact string) {
		t.Helper()
		p.Send(strings.ReplaceAll(strings.Replace(strings.ReplaceAll(options(p, "Contact: <"+p.Contact()+">\r\nExpires: 600\r\n"), "OPTIONS", "REGISTER"),
			"sip:602@", "sip:", 1), "To: <sip:602@", "To: <sip:"+p.User+"@"))
		reg := s.pbx.Expect("REGISTER", 5*time.Second)
		s.pbx.Answer(reg, 200, "OK", "", "Contact: "+reg.Get("Contact")+";expires=600")
		if m := p.Next(5 * time.Second); m.Status() != 200 {
			t.Fatalf("a registration is answered %s", m.Start)
		}
		return reg.URI("Contact")
	}
	contact := register(s.phone)
	id := peers.Random(8)
	text := fmt.Sprintf("MESSAGE %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\nFrom: <sip:602@pbx.example.com>;tag=x\r\n"+
		"To: <%s>\r\nCall-ID: %[3]s\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n", contact, s.pbx.Local(), id, contact)
	s.pbx.Send(text)
	asked := s.phone.Expect("MESSAGE", 5*time.Second)
	before := s.edge.Upgrade()
	again := peers.NewPhone(s.phone.Host, s.edge, s.phone.User)
	if at := register(again); at != contact {
		t.Fatalf("the phone is %s at the PBX, and was %s", at, contact)
	}
	s.pbx.Send(text)
	again.Silent(time.Second)
	s.phone.Answer(asked, 200, "OK", "")
	if m := s.pbx.Next(5 * time.Second); m.Status() != 200 || m.Get("Call-Id") != id {
		t.Errorf("the PBX is told %s", m.Start)
	}
	s.pbx.Send(strings.ReplaceAll(text, id, peers.Random(8))) // another goes there
	again.Answer(again.Expect("MESSAGE", 5*time.Second), 200, "OK", "")
	s.called.Ask("BYE", "")
	s.phone.Answer(s.phone.Expect("BYE", 5*time.Second), 200, "OK", "")
	if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
		t.Errorf("the process before ended with status %d, %v", status, err)
	}
}
