package answer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
	"github.com/pion/rtcp"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client speaks with a Server by UDP.
type client struct {
	*testing.T
	server *Server
	conn   *net.UDPConn
	cseq   int
}

func start(t *testing.T, c Config) *client {
	t.Helper()
	c.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with ctx; waited for below
		defer close(done)
		s.Run(ctx)
	}()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		stop()
		<-done
	})
	return &client{T: t, server: s, conn: conn}
}

func (c *client) draft(method string) *message.Draft {
	c.cseq++
	return message.Request(method, "sip:echo@127.0.0.1").Add("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;rport").
		Add("From", "<sip:a@x>;tag=1").Add("To", "<sip:echo@x>").Add("Call-ID", c.Name()).Add("CSeq", fmt.Sprint(c.cseq, " ", method)).
		Add("Contact", "<sip:a@192.0.2.1>").Add("Expires", "60")
}

func (c *client) send(d *message.Draft) {
	c.Helper()
	if _, err := c.conn.Write(d.Bytes()); err != nil {
		c.Fatal(err)
	}
}

// next is the next answer, which must have a status, unless that is 0.
func (c *client) next(status int) *sip.Response {
	c.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 4096)
	n, err := c.conn.Read(buf)
	if err != nil {
		c.Fatalf("await %d: %v", status, err)
	}
	m, err := message.Parse(buf[:n])
	if err != nil {
		c.Fatal(err)
	}
	r, ok := m.(*sip.Response)
	if !ok || status > 0 && r.StatusCode != status {
		c.Fatalf("got %q, want %d", buf[:n], status)
	}
	return r
}

func TestPassword(t *testing.T) {
	for _, sha := range []bool{false, true} {
		t.Run(fmt.Sprint(sha), func(t *testing.T) {
			c := start(t, Config{Password: "secret-%s", SHA256: sha})
			for password, want := range map[string]int{"secret-a": 200, "secret-b": 401} {
				c.send(c.draft("REGISTER"))
				challenge, err := digest.ParseChallenge(message.Get(c.next(401), "WWW-Authenticate"))
				if err != nil || (challenge.Algorithm == "SHA-256") != sha {
					t.Fatalf("challenge %v, %v", challenge, err)
				}
				cred, err := digest.Digest(challenge, digest.Options{Method: "REGISTER", URI: "sip:x", Username: "a", Password: password, Count: 1})
				if err != nil {
					t.Fatal(err)
				}
				c.send(c.draft("REGISTER").Add("Authorization", cred.String()))
				r := c.next(want)
				if got := nameaddr.Param(message.Get(r, "Contact"), "expires"); want == 200 && got != "60" {
					t.Errorf("the contact has expires=%q", got)
				}
				if via := message.Get(r, "Via"); nameaddr.Param(via, "received") != "127.0.0.1" || nameaddr.Param(via, "rport") == "" {
					t.Errorf("the Via is %q", via)
				}
			}
		})
	}
}

const offer = "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"

// A 200 comes again until its ACK, and sound comes back as another source's.
func TestCall(t *testing.T) {
	c := start(t, Config{})
	invite := c.draft("INVITE").SDP(offer)
	c.send(invite)
	c.next(180)
	ok := c.next(200)
	if again := c.next(200); message.Get(again, "To") != message.Get(ok, "To") {
		t.Errorf("it was repeated as another: %s", message.Get(again, "To"))
	}
	c.send(invite)
	if c.next(200); nameaddr.Tag(message.Get(ok, "To")) == "" {
		t.Error("the answer has no tag")
	}
	c.cseq--
	c.send(c.draft("ACK"))
	_, after, _ := strings.Cut(string(ok.Body()), "m=audio ")
	port := 0
	if _, err := fmt.Sscan(after, &port); err != nil {
		t.Fatalf("%v in %s", err, ok.Body())
	}
	sound := dial(t, port)
	packet := append([]byte{0x80, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4}, "hello"...)
	if _, err := sound.Write(packet); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, 100)
	n, err := sound.Read(back)
	if err != nil || string(back[12:n]) != "hello" || back[8] == 1 {
		t.Errorf("what came back is %x, %v", back[:n], err)
	}
	c.send(c.draft("BYE"))
	for c.next(200).CSeq().MethodName != sip.BYE { // a 200 to the INVITE was on its way
	}
}

// Who reports is told what came of him, on the port of sound or on the next one as was
// agreed, and by whom (RFC 3550 section 6.4); nobody else is told anything.
func TestReports(t *testing.T) {
	for name, mux := range map[string]string{"mux": "a=rtcp-mux\r\n", "two ports": ""} {
		t.Run(name, func(t *testing.T) {
			c := start(t, Config{})
			c.send(c.draft("INVITE").SDP(offer + mux))
			c.next(180)
			answer := string(c.next(200).Body())
			c.cseq--
			c.send(c.draft("ACK"))
			if got := strings.Contains(answer, "a=rtcp-mux\r\n"); got != (mux != "") {
				t.Fatalf("the answer is\n%s", answer)
			}
			port := 0
			_, after, _ := strings.Cut(answer, "m=audio ")
			if _, err := fmt.Sscan(after, &port); err != nil || port%2 != 0 {
				t.Fatalf("%v in %s", err, answer)
			}
			sound := dial(t, port)
			reports := sound
			if mux == "" {
				reports = dial(t, port+1)
			}
			const ssrc = 0x01020304
			back := make([]byte, 200)
			for _, n := range []byte{1, 2, 4, 5} { // 3 is lost
				if _, err := sound.Write(append([]byte{0x80, 0, 0, n, 0, 0, n, 0, 1, 2, 3, 4}, make([]byte, 160)...)); err != nil {
					t.Fatal(err)
				}
				if _, err := sound.Read(back); err != nil {
					t.Fatal(err)
				}
			}
			for _, from := range []uint32{99, ssrc} { // the first one never spoke, and is told nothing
				said, err := (&rtcp.SenderReport{SSRC: from, NTPTime: 0x0000123456780000}).Marshal()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := reports.Write(said); err != nil {
					t.Fatal(err)
				}
			}
			n, err := reports.Read(back)
			if err != nil {
				t.Fatal(err)
			}
			all, err := rtcp.Unmarshal(back[:n])
			if err != nil || len(all) != 2 {
				t.Fatalf("told %v, %v", all, err)
			}
			r, ok := all[0].(*rtcp.SenderReport)
			if !ok || r.SSRC != ssrc^0x55000000 || r.PacketCount != 4 || r.OctetCount != 4*160 || len(r.Reports) != 1 || r.NTPTime == 0 {
				t.Fatalf("told %+v", all[0])
			}
			if b := r.Reports[0]; b.SSRC != ssrc || b.TotalLost != 1 || b.FractionLost != 256/5 || b.LastSequenceNumber != 5 || b.LastSenderReport != 0x12345678 || b.Delay > 1<<16 {
				t.Errorf("told %+v", b)
			}
			gone, err := (&rtcp.Goodbye{Sources: []uint32{ssrc}}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			last := append([]byte{0x80, 0, 0, 6, 0, 0, 6, 0, 1, 2, 3, 5}, make([]byte, 160)...) // another speaker, who is known
			for _, p := range [][]byte{gone, {0x80, 201, 0, 1, 1, 2, 3, 4}} {
				if _, err := reports.Write(p); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := sound.Write(last); err != nil {
				t.Fatal(err)
			}
			if n, err := sound.Read(back); err != nil || n != len(last) {
				t.Errorf("who said goodbye is told %x, %v", back[:n], err)
			}
			if _, err := reports.Write([]byte{0x80, 201, 0, 1, 1, 2, 3, 5}); err != nil {
				t.Fatal(err)
			}
			if n, err = reports.Read(back); err != nil {
				t.Fatal(err)
			}
			if all, err = rtcp.Unmarshal(back[:n]); err != nil || all[0].DestinationSSRC()[0] != ssrc+1 {
				t.Errorf("told %+v, %v", all, err)
			}
		})
	}
}

func dial(t *testing.T, port int) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// A registration that is taken back is none, and a call that is held is no other one.
func TestCounts(t *testing.T) {
	c := start(t, Config{})
	for _, expires := range []string{"60", "0"} {
		c.send(c.draft("REGISTER").Set("Expires", expires))
		c.next(200)
	}
	to := "<sip:echo@x>"
	for range 3 {
		c.send(c.draft("INVITE").Set("To", to).SDP(offer))
		r := c.next(0)
		for ; r.StatusCode != 200; r = c.next(0) {
		}
		to = message.Get(r, "To")
		c.cseq--
		c.send(c.draft("ACK").Set("To", to))
	}
	c.send(c.draft("BYE").Set("To", to))
	for c.next(200).CSeq().MethodName != sip.BYE { // a 200 to the INVITE was on its way
	}
	if got, want := c.server.Counts(), (Counts{Registers: 1, Invites: 1, Byes: 1}); got != want {
		t.Errorf("it counts %+v, want %+v", got, want)
	}
}

func TestCancel(t *testing.T) {
	c := start(t, Config{Ring: time.Minute})
	c.send(c.draft("INVITE").SDP(offer))
	c.next(180)
	c.cseq--
	c.send(c.draft("CANCEL"))
	c.next(200)
	if r := c.next(487); r.CSeq().MethodName != sip.INVITE {
		t.Errorf("487 is to %s", r.CSeq().Value())
	}
}

func TestRefusals(t *testing.T) {
	c := start(t, Config{})
	c.send(c.draft("INVITE").SDP("v=0\r\n"))
	c.next(488)
	c.send(c.draft("SUBSCRIBE"))
	c.next(405)
	c.send(c.draft("OPTIONS"))
	c.next(200)
}
