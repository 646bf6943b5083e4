package sipproxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/flow"
)

// tlsPeer is where the trunks of a bench lead.
type tlsPeer struct {
	ln      net.Listener
	conns   chan net.Conn
	busy    sync.Mutex                    // held: who dials now waits
	targets atomic.Pointer[[]flow.Target] // where it listens
}

// listen has the peer take connections at one more address.
func (p *tlsPeer) listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", serverTLS(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.busy.Lock()
			_ = conn.(*tls.Conn).Handshake()
			p.busy.Unlock()
			p.conns <- conn
		}
	}()
	targets := []flow.Target{{Addr: netip.MustParseAddrPort(ln.Addr().String())}}
	if before := p.targets.Load(); before != nil {
		targets = append(targets, *before...)
	}
	p.targets.Store(&targets)
	return ln
}

// attachTrunks attaches what the trunks of a Config need, and returns what serves it.
func (b *bench) attachTrunks(c Config, limits flow.Limits, log *slog.Logger) (parts []func(context.Context) error) {
	b.t.Helper()
	if len(c.Trunks) == 0 {
		return nil
	}
	b.far = &tlsPeer{conns: make(chan net.Conn, 8)}
	b.far.ln = b.far.listen(b.t)
	for _, t := range c.Trunks {
		far := flow.NewTrunk(flow.TrunkConfig{
			Name: t.Name, TLS: &tls.Config{InsecureSkipVerify: true},
			Locate: func(context.Context) ([]flow.Target, error) { return slices.Clone(*b.far.targets.Load()), nil },
		}, limits, b.proxy, log)
		if !t.Listen.IsValid() {
			b.proxy.AttachTrunk(t.Name, far, nil)
			parts = append(parts, far.Run)
			continue
		}
		plain, err := flow.ListenPlain(t.Listen, nil, limits, b.proxy, log)
		if err != nil {
			b.t.Fatal(err)
		}
		b.proxy.AttachTrunk(t.Name, far, plain)
		parts = append(parts, far.Run, plain.Run)
	}
	return parts
}

// trunk is the far end of the next connection.
func (b *bench) trunk() *phone {
	b.t.Helper()
	select {
	case conn := <-b.far.conns:
		b.t.Cleanup(func() { conn.Close() })
		p := &phone{t: b.t, conn: conn, r: bufio.NewReader(conn)}
		for _, t := range b.proxy.trunks {
			until(b.t, "the trunk to be up", func() bool { return t.far.Flow() != nil })
		}
		return p
	case <-time.After(time.Until(soon())):
		b.t.Fatal("the trunk is not dialled")
		return nil
	}
}

// trunkDown waits until the connection of the trunk to bar is gone.
func (b *bench) trunkDown() {
	b.t.Helper()
	until(b.t, "the trunk to be down", func() bool { return b.proxy.trunks["bar"].far.Flow() == nil })
}

const trunkSDP = "v=0\r\no=- 7 1 IN IP4 192.0.2.8\r\ns=-\r\nc=IN IP4 192.0.2.8\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 0\r\n" +
	"a=rtpmap:0 PCMU/8000\r\na=rtcp-mux\r\na=ssrc:4711 cname:x\r\n" +
	"a=crypto:1 AEAD_AES_128_GCM inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJQ==\r\na=sendrecv\r\n"

// newTrunkBench is a bench with a trunk to bar, and where the PBX sends what is for it.
func newTrunkBench(t *testing.T, change func(*Trunk)) (*bench, netip.AddrPort) {
	t.Helper()
	bar := Trunk{Name: "bar", Domain: "bar.example.com", Listen: netip.AddrPortFrom(loopback, freePort(t))}
	if change != nil {
		change(&bar)
	}
	b := newBenchWith(t, media.Defaults().Silence, func(c *Config) { c.Trunks = []Trunk{bar} })
	at := bar.Listen
	if !at.IsValid() {
		at = b.plain
	}
	return b, at
}

func (b *bench) fromPBXTo(at netip.AddrPort, s string) {
	b.t.Helper()
	if _, err := b.pbx.WriteToUDPAddrPort([]byte(s), at); err != nil {
		b.t.Fatal(err)
	}
}

// fromBranch composes a request of the PBX for a trunk.
func (b *bench) fromBranch(at netip.AddrPort, method, number, callID string, cseq int, toTag, body string, more ...string) string {
	to := fmt.Sprintf("To: <sip:%s@%s>", number, at)
	if toTag != "" {
		to += ";tag=" + toTag
	}
	return text(body, append([]string{
		fmt.Sprintf("%s sip:%s@%s SIP/2.0", method, number, at), fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bK%s%d%s", b.pbx.LocalAddr(), callID, cseq, method),
		"Max-Forwards: 70", `From: "Ben" <sip:1002@127.0.0.1>;tag=pbx`, to, "Call-ID: " + callID, fmt.Sprintf("CSeq: %d %s", cseq, method),
		"Contact: <sip:1002@127.0.0.1:5060>", "P-Asserted-Identity: <sip:1002@127.0.0.1>", "Privacy: id",
	}, more...)...)
}

// A call of the PBX goes to the far end with nothing of the inside, but with who calls.
func TestCallToTrunk(t *testing.T) {
	b, at := newTrunkBench(t, nil)
	far := b.trunk()
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "t1", 102, "", plainSDP))
	inv := far.next("INVITE")
	if inv.uri() != "sip:2001@bar.example.com" || inv.h.Get("To") != "<sip:2001@bar.example.com>" {
		t.Errorf("it went to %s, To %s", inv.uri(), inv.h.Get("To"))
	}
	if from := inv.h.Get("From"); from != `"Ben" <sip:1002@pbx.example.com>;tag=pbx` {
		t.Errorf("From is %s", from)
	}
	if id := inv.h.Get("P-Asserted-Identity"); id != "<sip:1002@pbx.example.com>" {
		t.Errorf("who calls is lost: %q", id)
	}
	if !regexp.MustCompile(`m=audio \d+ RTP/SAVP 0 101\r\n(.*\r\n)*a=crypto:1 AEAD_AES_128_GCM inline:`).MatchString(inv.body) ||
		!strings.Contains(inv.body, "a=rtcp-mux") || !strings.Contains(inv.body, "a=ssrc:") || strings.Contains(inv.body, "fingerprint") {
		t.Errorf("the offer is\n%s", inv.body)
	}
	far.send(reply(inv, 200, "bar", trunkSDP, "Contact: <sip:2001@192.0.2.8:5061;transport=tls>"))
	ok := b.atPBX("200")
	if c := ok.h.Get("Contact"); !strings.HasSuffix(c, "@"+at.String()+">") {
		t.Errorf("our Contact is %s, and the PBX knows the trunk as %s", c, at)
	}
	b.fromPBXTo(at, b.fromBranch(at, "ACK", "2001", "t1", 102, "bar", ""))
	far.next("ACK")
	far.send(far.request("BYE", "sip:1002@pbx.example.com:5061", `"Ben" <sip:1002@pbx.example.com>;tag=pbx`, "t1", 1, ""))
	stranger := b.phone()
	stranger.send(strings.Replace(stranger.request("BYE", "sip:1002@pbx.example.com", `"Ben" <sip:1002@pbx.example.com>;tag=pbx`, "t1", 7, ""), `"Anna" <sip:1001@pbx.example.com>;tag=anna`, "<sip:2001@bar.example.com>;tag=bar", 1))
	stranger.next("481")
	b.fromPBXTo(at, b.fromBranch(at, "BYE", "2001", "t1", 103, "bar", ""))
	bye := far.next("BYE")
	if bye.uri() != "sip:2001@192.0.2.8:5061;transport=tls" {
		t.Errorf("BYE went to %s", bye.uri())
	}
	far.send(reply(bye, 200, "", ""))
	b.atPBX("200")
	b.noCallLeft()
}

// callFromTrunk sets up a call of the far end's 1001 to 602, and returns the INVITE at
// the PBX.
func (b *bench) callFromTrunk(far *phone, callID string) *message {
	b.t.Helper()
	invite := far.request("INVITE", "sip:602@pbx.example.com", to602, callID, 1, trunkSDP, "Contact: <sip:1001@192.0.2.8:5061;transport=tls>", "P-Asserted-Identity: <sip:1001@bar.example.com>")
	far.send(strings.ReplaceAll(invite, "<sip:1001@pbx.example.com>", "<sip:1001@bar.example.com>"))
	inv := b.atPBX("INVITE")
	b.fromPBXTo(b.proxy.trunks["bar"].pool.addr, reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	far.next("200")
	far.send(strings.ReplaceAll(far.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", callID, 1, ""), "<sip:1001@pbx.example.com>", "<sip:1001@bar.example.com>"))
	b.atPBX("ACK")
	return inv
}

// A call of the far end reaches the PBX by the trunk's own address, in the caller's
// name, and goes on by another connection when its own is gone.
func TestCallFromTrunk(t *testing.T) {
	b, at := newTrunkBench(t, nil)
	far := b.trunk()
	inv := b.callFromTrunk(far, "f1")
	if via := inv.h.Get("Via"); !strings.HasPrefix(via, "SIP/2.0/UDP "+at.String()) {
		t.Errorf("Via is %s, not the trunk's %s", via, at)
	}
	if from := inv.h.Get("From"); from != `"Anna" <sip:1001@bar.example.com>;tag=anna` {
		t.Errorf("From is %s", from)
	}
	if inv.h.Get("P-Asserted-Identity") == "" {
		t.Error("who calls is lost")
	}
	far.conn.Close()
	again := b.trunk()
	b.fromPBXTo(at, text("", "BYE "+strings.Trim(inv.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKf2",
		"Max-Forwards: 70", "From: "+to602+";tag=pbx", "To: "+inv.h.Get("From"), "Call-ID: f1", "CSeq: 5 BYE"))
	bye := again.next("BYE")
	again.send(reply(bye, 200, "", ""))
	b.atPBX("200")
	b.noCallLeft()
}

// A BYE that was lost with the trunk's connection is sent again by the next; and so is
// one for which there was none.
func TestTrunkOwesBye(t *testing.T) {
	b, at := newTrunkBench(t, nil)
	far := b.trunk()
	call := func(id string) {
		b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", id, 102, "", plainSDP))
		far.send(reply(far.next("INVITE"), 200, "bar", trunkSDP, "Contact: <sip:2001@192.0.2.8:5061;transport=tls>"))
		b.atPBX("200")
		b.fromPBXTo(at, b.fromBranch(at, "ACK", "2001", id, 102, "bar", ""))
		far.next("ACK")
	}
	call("w1")
	call("w2")
	b.fromPBXTo(at, b.fromBranch(at, "BYE", "2001", "w1", 103, "bar", ""))
	far.next("BYE") // and no answer
	b.far.busy.Lock()
	far.conn.Close()
	b.atPBX("200")
	b.trunkDown()
	b.fromPBXTo(at, b.fromBranch(at, "BYE", "2001", "w2", 103, "bar", ""))
	b.atPBX("200")
	b.noCallLeft()
	if !b.proxy.IsUsing("bar") || !b.proxy.Owes() { // it would not be dialled any more, and the process could end
		t.Error("nobody has need of the trunk any more")
	}
	b.far.busy.Unlock()
	again := b.trunk()
	if b.proxy.isIdle(b.proxy.trunks["bar"].far.Flow()) {
		t.Error("the connection may be closed before the far end is told")
	}
	ended := make(map[string]bool)
	for range 2 {
		bye := again.next("BYE")
		again.send(reply(bye, 200, "", ""))
		id, _, _ := strings.Cut(bye.h.Get("Call-Id"), "@")
		ended[id] = true
	}
	if !ended["w1"] || !ended["w2"] {
		t.Errorf("the far end hears of %v", ended)
	}
	until(t, "nothing to be owed", func() bool { return !b.proxy.Owes() })
	if b.proxy.IsUsing("bar") || b.proxy.IsUsing("nobody") {
		t.Error("the trunk has use with nothing owed")
	}
	until(t, "the connection to be idle", func() bool { return b.proxy.isIdle(b.proxy.trunks["bar"].far.Flow()) })
}

// What is for a trunk that is down is refused at once, and goes nowhere else.
func TestTrunkDown(t *testing.T) {
	b, at := newTrunkBench(t, nil)
	far := b.trunk()
	b.far.ln.Close()
	far.conn.Close()
	b.trunkDown()
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "d1", 102, "", plainSDP))
	if m := b.atPBX("503"); !strings.Contains(m.h.Get("Warning"), "trunk bar is down") {
		t.Errorf("the reason is %q", m.h.Get("Warning"))
	}
	b.fromPBXTo(at, text("", "OPTIONS sip:"+at.String()+" SIP/2.0", "Via: SIP/2.0/UDP "+b.pbx.LocalAddr().String()+";branch=z9hG4bKd2",
		"Max-Forwards: 70", "From: <sip:asterisk@127.0.0.1>;tag=o", "To: <sip:"+at.String()+">", "Call-ID: d2", "CSeq: 102 OPTIONS"))
	if m, err := b.heard(time.Now().Add(300 * time.Millisecond)); err == nil && m.method() == "OPTIONS" {
		t.Errorf("the PBX hears %s of a trunk that is down, and takes it for a yes", m.start)
	}
	b.noCallLeft()
}

// A call that nobody here knows, as it is older than the edge, is ended by its far end.
func TestTrunkEndsWhatIsLost(t *testing.T) {
	b, at := newTrunkBench(t, nil)
	far := b.trunk()
	far.send(far.request("BYE", "sip:602@pbx.example.com", to602+";tag=pbx", "lost", 9, ""))
	bye := b.atPBX("BYE")
	if bye.h.Get("Call-Id") != "lost" || !strings.Contains(bye.h.Get("To"), "tag=pbx") || !strings.Contains(bye.h.Get("From"), "tag=anna") {
		t.Errorf("the PBX gets %v", bye.h)
	}
	b.fromPBXTo(at, reply(bye, 200, "", ""))
	far.next("200")
	far.send(far.request("INFO", "sip:602@pbx.example.com", to602+";tag=pbx", "lost", 10, ""))
	far.next("481")
}

// Trunks that share the phones' address are told apart by number and domain.
func TestTrunkByNumber(t *testing.T) {
	b, at := newTrunkBench(t, func(bar *Trunk) {
		bar.Listen, bar.Prefixes, bar.Domains = netip.AddrPort{}, []string{"2", "+49"}, []string{"bar.example.com"}
	})
	far := b.trunk()
	for i, uri := range []string{"2001@" + at.String(), "+4930123@" + at.String(), "anna@bar.example.com"} {
		invite := b.fromBranch(at, "INVITE", "2001", fmt.Sprint("n", i), 102, "", plainSDP)
		b.fromPBXTo(at, strings.ReplaceAll(invite, "2001@"+at.String(), uri))
		inv := far.next("INVITE")
		user, _, _ := strings.Cut(uri, "@")
		if inv.uri() != "sip:"+user+"@bar.example.com" {
			t.Errorf("%s went to %s", uri, inv.uri())
		}
		far.send(reply(inv, 486, "bar", ""))
		b.atPBX("486")
	}
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "3001", "n9", 102, "", plainSDP))
	b.atPBX("480") // a phone's, who is not there
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2abcdefghijklmno", "n10", 102, "", plainSDP))
	b.atPBX("480") // likewise, by its token
	route := fmt.Sprintf("Route: <sip:abcdefghijklmnop@%s;lr>", at)
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "n11", 102, "", plainSDP, route))
	b.atPBX("480") // likewise, by its Path
}

// With an address of its own, a trunk's prefixes tell what the PBX may send.
func TestTrunkTakesItsNumbers(t *testing.T) {
	b, at := newTrunkBench(t, func(bar *Trunk) { bar.Prefixes = []string{"2"} })
	far := b.trunk()
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "0900123", "w1", 102, "", plainSDP))
	b.atPBX("404")
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "w2", 102, "", plainSDP))
	far.next("INVITE")
}

// Both ends ask whether there is somebody.
func TestTrunkOptions(t *testing.T) {
	b, at := newTrunkBench(t, nil)
	far := b.trunk()
	options := func(n int) {
		b.fromPBXTo(at, text("", "OPTIONS sip:"+at.String()+" SIP/2.0", fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bKo%d", b.pbx.LocalAddr(), n),
			"Max-Forwards: 70", "From: <sip:asterisk@127.0.0.1>;tag=o", "To: <sip:"+at.String()+">", fmt.Sprintf("Call-ID: o%d", n), "CSeq: 102 OPTIONS"))
	}
	options(1)
	far.send(reply(far.next("OPTIONS"), 200, "bar", ""))
	b.atPBX("200")
	options(2)
	far.send(reply(far.next("OPTIONS"), 503, "bar", "")) // no PBX there
	if m, err := b.heard(time.Now().Add(300 * time.Millisecond)); err == nil {
		t.Errorf("the PBX hears %s", m.start)
	}
	far.send(far.request("OPTIONS", "sip:pbx.example.com", "<sip:pbx.example.com>", "o3", 1, ""))
	far.next("200")
	far.send(far.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "o4", 1, "", contact))
	far.next("405")
}

// The far end learns who it is that rings and answers, and wants privacy; a phone does not.
func TestWhoAnswersATrunk(t *testing.T) {
	b, at := newTrunkBench(t, nil)
	far, p := b.trunk(), b.phone()
	id := []string{pbxContact, "P-Asserted-Identity: <sip:602@127.0.0.1>", "Privacy: id"}
	for asker, shown := range map[*phone]string{far: "<sip:602@pbx.example.com>", p: ""} {
		asker.send(asker.request("INVITE", "sip:602@pbx.example.com", to602, "who"+shown, 1, map[bool]string{true: trunkSDP, false: secureSDP}[asker == far], contact))
		inv, to := b.atPBX("INVITE"), b.plain
		if asker == far {
			to = at
		}
		for _, status := range []int{180, 200} {
			body := ""
			if status == 200 {
				body = plainSDP
			}
			b.fromPBXTo(to, reply(inv, status, "pbx", body, id...))
			if m := asker.next(fmt.Sprint(status)); m.h.Get("P-Asserted-Identity") != shown || m.h.Get("Privacy") != "id" {
				t.Errorf("%d: who answers is %q, want %q; Privacy %q", status, m.h.Get("P-Asserted-Identity"), shown, m.h.Get("Privacy"))
			}
		}
	}
}
