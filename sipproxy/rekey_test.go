package sipproxy

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// rekeyed expects a re-INVITE that offers another key than before, and nothing else new.
func rekeyed(t *testing.T, far *phone, before string) *message {
	t.Helper()
	inv := far.next("INVITE")
	key := regexp.MustCompile(`inline:\S+`)
	version := regexp.MustCompile(`o=- (\d+) \d+`)
	was, is := key.FindString(before), key.FindString(inv.body)
	if is == "" || is == was {
		t.Fatalf("the key is the same:\n%s", inv.body)
	}
	line := regexp.MustCompile(`a=crypto:.*\r\n`) // an offer of before may have had more
	plain := func(s string) string { return version.ReplaceAllString(line.ReplaceAllString(s, ""), "o=- $1 v") }
	if plain(inv.body) != plain(before) {
		t.Errorf("more than the key is new:\n%s\nwas\n%s", inv.body, before)
	}
	return inv
}

// Keys of calls that last are replaced between the edges, and the PBX's requests go on
// counting.
func TestTrunkRekey(t *testing.T) {
	b, at := newTrunkBench(t, func(bar *Trunk) { bar.Rekey.After = time.Minute })
	far := b.trunk()
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "k1", 102, "", plainSDP))
	inv := far.next("INVITE")
	far.send(reply(inv, 200, "bar", trunkSDP, "Contact: <sip:2001@192.0.2.8:5061;transport=tls>"))
	b.atPBX("200")
	b.fromPBXTo(at, b.fromBranch(at, "ACK", "2001", "k1", 102, "bar", ""))
	far.next("ACK")
	c := b.proxy.calls.list()[0]
	b.proxy.rekey(c, time.Now().Add(2*time.Minute))
	first := rekeyed(t, far, inv.body)
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "k1", 103, "bar", plainSDP)) // glare
	b.atPBX("491")
	b.fromPBXTo(at, strings.Replace(b.fromBranch(at, "INVITE", "2001", "k1", 103, "bar", ""), ";branch=z9hG4bK", ";branch=z9hG4bKbare", 1))
	if m := b.atPBX("491"); !strings.Contains(m.h.Get("Via"), "z9hG4bKbare") {
		t.Errorf("an INVITE without an offer is not refused: %v", m.h)
	}
	far.send(reply(first, 200, "", strings.Replace(trunkSDP, "inline:d0", "inline:e0", 1)))
	if ack := far.next("ACK"); ack.h.Get("Cseq") != "103 ACK" {
		t.Errorf("CSeq is %s", ack.h.Get("Cseq"))
	}
	b.proxy.rekey(c, time.Now().Add(4*time.Minute))
	second := rekeyed(t, far, first.body)
	far.send(reply(second, 488, "", ""))
	far.next("ACK")
	b.fromPBXTo(at, b.fromBranch(at, "INFO", "2001", "k1", 103, "bar", ""))
	info := far.next("INFO")
	if info.h.Get("Cseq") != "105 INFO" {
		t.Errorf("CSeq is %s, and two of ours came before", info.h.Get("Cseq"))
	}
	far.send(reply(info, 200, "", ""))
	if m := b.atPBX("200"); m.h.Get("Cseq") != "103 INFO" {
		t.Errorf("the PBX counts %s", m.h.Get("Cseq"))
	}
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "k1", 104, "bar", plainSDP))
	if again := far.next("INVITE"); !strings.Contains(again.body, regexp.MustCompile(`inline:\S+`).FindString(first.body)) {
		t.Errorf("after a refusal the key is not the one before:\n%s", again.body)
	}
}

// A far end that knows the call no longer is not asked over and over: the call ends.
func TestTrunkRekeyOfALostCall(t *testing.T) {
	b, at := newTrunkBench(t, func(bar *Trunk) { bar.Rekey.After = time.Minute })
	far := b.trunk()
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "k4", 102, "", plainSDP))
	far.send(reply(far.next("INVITE"), 200, "bar", trunkSDP, "Contact: <sip:2001@192.0.2.8:5061;transport=tls>"))
	b.atPBX("200")
	b.fromPBXTo(at, b.fromBranch(at, "ACK", "2001", "k4", 102, "bar", ""))
	far.next("ACK")
	b.proxy.rekey(b.proxy.calls.list()[0], time.Now().Add(2*time.Minute))
	far.send(reply(far.next("INVITE"), 481, "", ""))
	if bye := b.atPBX("BYE"); !strings.Contains(bye.h.Get("Reason"), "knows the call no longer") {
		t.Errorf("the reason is %q", bye.h.Get("Reason"))
	}
	b.noCallLeft()
}

// An INVITE without an offer is let come to its end before keys are replaced, and one that
// is refused, there or here, changes nothing of what was agreed.
func TestTrunkRekeysAfterInvite(t *testing.T) {
	b, at := newTrunkBench(t, func(bar *Trunk) { bar.Rekey.After = time.Minute })
	far := b.trunk()
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "k3", 102, "", plainSDP))
	far.send(reply(far.next("INVITE"), 200, "bar", trunkSDP, "Contact: <sip:2001@192.0.2.8:5061;transport=tls>"))
	b.atPBX("200")
	b.fromPBXTo(at, b.fromBranch(at, "ACK", "2001", "k3", 102, "bar", ""))
	far.next("ACK")
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "k3", 103, "bar", ""))
	bare := far.next("INVITE")
	c := b.proxy.calls.list()[0]
	under := func() bool {
		b.proxy.rekey(c, time.Now().Add(2*time.Minute))
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.media.keys.under
	}
	if under() {
		t.Error("keys are replaced beside another INVITE")
	}
	far.send(reply(bare, 488, "", ""))
	b.atPBX("488")
	b.fromPBXTo(at, b.fromBranch(at, "ACK", "2001", "k3", 103, "bar", ""))
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "k3", 104, "bar", strings.Replace(plainSDP, "m=audio 30000 RTP/AVP 0 101", "m=image 30000 udptl t38", 1)))
	b.atPBX("488")
	if !under() {
		t.Error("and not after it")
	}
}

// The far end's new keys are answered by new ones, and the PBX hears nothing; what is
// more than keys goes on.
func TestTrunkIsRekeyed(t *testing.T) {
	b, _ := newTrunkBench(t, nil)
	far := b.trunk()
	b.callFromTrunk(far, "r1")
	bar := func(s string) string {
		return strings.ReplaceAll(s, "<sip:1001@pbx.example.com>", "<sip:1001@bar.example.com>")
	}
	other := strings.Replace(strings.Replace(trunkSDP, "inline:d0", "inline:e0", 1), "o=- 7 1", "o=- 7 2", 1)
	at := "Contact: <sip:1001@192.0.2.8:5061;transport=tls>"
	far.send(bar(far.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "r1", 2, other, at)))
	ok := far.next("200")
	if !strings.Contains(ok.body, "a=crypto:1 AEAD_AES_128_GCM inline:") || ok.h.Get("Contact") == "" {
		t.Errorf("the answer is %v\n%s", ok.h, ok.body)
	}
	far.send(bar(far.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "r1", 2, "")))
	far.send(bar(far.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "r1", 3, strings.Replace(other, "a=sendrecv", "a=sendonly", 1), at)))
	hold := b.atPBX("INVITE") // not the ACK
	if !strings.Contains(hold.body, "a=sendonly") {
		t.Errorf("the PBX got\n%s", hold.body)
	}
	b.fromPBXTo(b.proxy.trunks["bar"].pool.addr, reply(hold, 488, "", ""))
	far.next("488")
	far.send(bar(far.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "r1", 3, "")))
	timer := strings.Replace(strings.Replace(trunkSDP, "inline:d0", "inline:f0", 1), "o=- 7 1", "o=- 7 3", 1)
	far.send(bar(far.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "r1", 4, timer, at, "Session-Expires: 1800;refresher=uac")))
	if refresh := b.atPBX("INVITE"); refresh.h.Get("Session-Expires") == "" {
		t.Errorf("the PBX, which would end the call, gets %v", refresh.h)
	}
}

// A PBX that speaks SRTP by itself keeps our key: it may lose count under another.
func TestTrunkKeepsKeys(t *testing.T) {
	b, at := newTrunkBench(t, func(bar *Trunk) { bar.Rekey.After = time.Minute })
	far := b.trunk()
	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "k2", 102, "", plainSDP))
	inv := far.next("INVITE")
	theirs := strings.Replace(trunkSDP, "a=ssrc:4711 cname:x\r\n", "", 1)
	far.send(reply(inv, 200, "bar", theirs, "Contact: <sip:2001@192.0.2.8:5061;transport=tls>"))
	b.atPBX("200")
	b.fromPBXTo(at, b.fromBranch(at, "ACK", "2001", "k2", 102, "bar", ""))
	far.next("ACK")
	b.proxy.rekey(b.proxy.calls.list()[0], time.Now().Add(2*time.Minute))
	other := strings.Replace(strings.Replace(theirs, "inline:d0", "inline:e0", 1), "o=- 7 1", "o=- 7 2", 1)
	far.send(strings.Replace(far.request("INVITE", "sip:1002@pbx.example.com:5061", `"Ben" <sip:1002@pbx.example.com>;tag=pbx`, "k2", 1, other, "Contact: <sip:2001@192.0.2.8:5061;transport=tls>"),
		`"Anna" <sip:1001@pbx.example.com>;tag=anna`, "<sip:2001@bar.example.com>;tag=bar", 1))
	m, err := readText(far.r)
	if err != nil || m.status() == 0 {
		t.Fatalf("the far end hears %v, %v", m, err)
	}
	if m.status() != 200 {
		m = far.next("200")
	}
	inline := regexp.MustCompile(`inline:\S+`)
	if key := inline.FindString(m.body); key == "" || !strings.Contains(inv.body, key) {
		t.Errorf("our key was one of\n%s\nand is\n%s", inv.body, m.body)
	}
}
