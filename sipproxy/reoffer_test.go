package sipproxy

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pageInvites has a page offer, and the PBX accept with an answer, which comes
// to the page as it returns. The first of a call has CSeq 1.
func (b *bench) pageInvites(p *phone, cseq int, offer, answer string) string {
	b.t.Helper()
	to := to602
	if cseq > 1 {
		to += ";tag=pbx"
	}
	p.send(asBrowser(p.request("INVITE", "sip:602@pbx.example.com", to, "c1", cseq, offer, contact), "abc.invalid"))
	b.fromPBX(reply(b.atPBX("INVITE"), 200, "pbx", answer, "Contact: <sip:602@127.0.0.1:5060>"))
	body := p.next("200").body
	p.send(asBrowser(p.request("ACK", "sip:602@pbx.example.com:8443;transport=ws", to602+";tag=pbx", "c1", cseq, ""), "abc.invalid"))
	b.atPBX("ACK")
	return body
}

// ofLine finds an attribute's values in the m-lines of a description; empty
// where a line has none.
func ofLine(body, name string) (values []string) {
	for _, m := range strings.Split(body, "\r\nm=")[1:] {
		values = append(values, regexp.MustCompile("a=" + name + ":(.*)|$").FindStringSubmatch(strings.ReplaceAll(m, "\r", ""))[1])
	}
	return values
}

// unbundled is a page that has a transport for each line.
var unbundled = strings.Replace(pageOffer, "a=group:BUNDLE 0 1\r\n", "", 1)

// What the PBX does not take again and again costs a call nothing.
func TestVideoRefusedManyTimes(t *testing.T) {
	b := newBench(t)
	p := b.page()
	b.registerBrowser(p, "abc.invalid")
	b.pageInvites(p, 1, unbundled, plainSDP+plainVideo)
	for cseq := range 20 {
		b.pageInvites(p, cseq+2, unbundled, plainSDP+noVideo)
	}
	if got := mlines(b.pageInvites(p, 22, unbundled, plainSDP+plainVideo)); got != "m=audio PORT UDP/TLS/RTP/SAVPF 0 101\nm=video PORT UDP/TLS/RTP/SAVPF 96" {
		t.Errorf("the page is answered\n%s", got)
	}
}

// A line that was turned off begins again with a transport of its own.
func TestLineTurnedOffAndOn(t *testing.T) {
	b := newBench(t)
	p := b.page()
	b.registerBrowser(p, "abc.invalid")
	first := ofLine(b.pageInvites(p, 1, unbundled, plainSDP+plainVideo), "ice-ufrag")
	off := ofLine(b.pageInvites(p, 2, strings.Replace(unbundled, "m=video 9", "m=video 0", 1), plainSDP+noVideo), "ice-ufrag")
	on := ofLine(b.pageInvites(p, 3, unbundled, plainSDP+plainVideo), "ice-ufrag")
	if first[0] == first[1] || off[0] != first[0] || off[1] != "" || on[0] != first[0] || on[1] == first[1] || on[1] == "" {
		t.Errorf("user fragments %q, then %q, then %q", first, off, on)
	}
}

// Nor does what it refuses with the whole offer.
func TestReInviteRefusedManyTimes(t *testing.T) {
	b := newBench(t)
	p := b.page()
	b.registerBrowser(p, "abc.invalid")
	audio := pageOffer[:strings.Index(pageOffer, "m=video")]
	b.pageInvites(p, 1, audio, plainSDP)
	for cseq := range 20 {
		p.send(asBrowser(p.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", cseq+2, pageOffer, contact), "abc.invalid"))
		b.fromPBX(reply(b.atPBX("INVITE"), 488, "pbx", ""))
		p.next("488")
		b.atPBX("ACK")
	}
	if got := mlines(b.pageInvites(p, 22, pageOffer, plainSDP+plainVideo)); !strings.Contains(got, "m=video PORT") {
		t.Errorf("the page is answered\n%s", got)
	}
}

// leanly leaves out of the second line what is about the transport, as RFC 8829
// section 5.2.2 has it for a line that is bundled into another.
func leanly(offer string) string {
	i := strings.Index(offer, "m=video")
	return offer[:i] + regexp.MustCompile(`a=(ice-[a-z]+|fingerprint|setup|rtcp):.*\r\n|a=rtcp-mux\r\n`).ReplaceAllString(offer[i:], "")
}

// A bundle's transport need be described once, in offers and in answers, also
// where the hash of the certificate is the session's.
func TestBundleDescribedOnce(t *testing.T) {
	ofSession := func(s string) string {
		return strings.Replace(strings.ReplaceAll(s, fingerprintLine, ""), "m=audio", fingerprintLine+"m=audio", 1)
	}
	both := []string{"active", "active"}
	b := newBench(t)
	p := b.page()
	token, _ := b.registerBrowser(p, "abc.invalid")
	for i, offer := range []string{leanly(pageOffer), ofSession(leanly(pageOffer))} {
		body := b.pageInvites(p, i+1, offer, plainSDP+plainVideo)
		if got := ofLine(body, "setup"); !slices.Equal(got, both) {
			t.Errorf("the page is answered\n%s", body)
		}
		if got := ofLine(body, "ice-ufrag"); len(got) < 2 || got[0] == "" || got[1] != got[0] {
			t.Errorf("our user fragments are %q", got)
		}
	}
	for i, answer := range []string{leanly(pageOffer), ofSession(leanly(pageOffer))} {
		id := "in" + strconv.Itoa(i)
		b.fromPBX(b.inviteTo(token, id, plainSDP+plainVideo))
		answer = strings.ReplaceAll(answer, "actpass", "active")
		p.send(reply(p.next("INVITE"), 200, "anna", answer, "Contact: <sip:k2l9@abc.invalid;transport=ws;ob>"))
		if got := mlines(b.atPBX("200").body); !strings.Contains(got, "m=video PORT") {
			t.Errorf("the PBX is answered\n%s", got)
		}
	}
}

// Firefox gives each line an ICE of its own until it knows that we bundle. That
// the second one's is gone later is no restart.
func TestBundleWithICEOfEachLine(t *testing.T) {
	b := newBench(t)
	p := b.page()
	b.registerBrowser(p, "abc.invalid")
	i := strings.Index(pageOffer, "m=video")
	each := pageOffer[:i] + strings.NewReplacer("EsAw", "FtBx", "P2uYro0UCOQ4zxjKXaWCBui1", "Q3vZsp1VDPR5aykLYbXDCvj2").Replace(pageOffer[i:])
	first := ofLine(b.pageInvites(p, 1, each, plainSDP+plainVideo), "ice-ufrag")
	then := ofLine(b.pageInvites(p, 2, pageOffer, plainSDP+plainVideo), "ice-ufrag")
	if first[0] == "" || first[1] != first[0] || !slices.Equal(then, first) {
		t.Errorf("user fragments %q, then %q", first, then)
	}
}

// Bundled lines have one port, and are none the less of different things.
func TestSecondVideo(t *testing.T) {
	b := newBench(t)
	p := b.page()
	b.registerBrowser(p, "abc.invalid")
	second := pageOffer[strings.Index(pageOffer, "m=video"):]
	offer := strings.Replace(pageOffer, "BUNDLE 0 1", "BUNDLE 0 1 2", 1) + strings.NewReplacer("a=mid:1", "a=mid:2", "96", "97").Replace(second)
	answer := plainSDP + plainVideo + strings.NewReplacer("30002", "30004", "96", "97").Replace(plainVideo)
	want := "m=audio PORT UDP/TLS/RTP/SAVPF 0 101\nm=video PORT UDP/TLS/RTP/SAVPF 96\nm=video PORT UDP/TLS/RTP/SAVPF 97"
	if got := mlines(b.pageInvites(p, 1, offer, answer)); got != want {
		t.Errorf("the page is answered\n%s", got)
	}
}

// pbxInvites has the PBX offer in a call that the page began, and returns what
// comes to the page.
func (b *bench) pbxInvites(p *phone, cseq int, offer string) *message {
	b.t.Helper()
	n := strconv.Itoa(cseq)
	b.fromPBX(text(offer, "INVITE sip:x@"+b.plain.String()+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKre"+n+";rport", "Max-Forwards: 70",
		"From: "+to602+";tag=pbx", "To: \"Anna\" <sip:1001@pbx.example.com>;tag=anna", "Call-ID: c1", "CSeq: "+n+" INVITE", "Contact: <sip:602@127.0.0.1:5060>"))
	return p.next("INVITE")
}

// A line keeps the name that the page gave it, also when it is off.
func TestOfferKeepsNames(t *testing.T) {
	b := newBench(t)
	p := b.page()
	b.registerBrowser(p, "abc.invalid")
	audio, _, _ := strings.Cut(pageOffer, "m=video")
	b.pageInvites(p, 1, strings.NewReplacer("BUNDLE 0 1", "BUNDLE 1", "a=mid:0", "a=mid:1").Replace(audio), plainSDP)
	invite := b.pbxInvites(p, 200, plainSDP+plainVideo)
	if got := ofLine(invite.body, "mid"); !slices.Equal(got, []string{"1", "2"}) || !strings.Contains(invite.body, "BUNDLE 1 2\r\n") {
		t.Errorf("the names are %q", got)
	}
	answer := strings.NewReplacer("BUNDLE 0 1", "BUNDLE 1 2", "a=mid:0", "a=mid:1", "a=mid:1", "a=mid:2", "actpass", "passive").Replace(pageOffer)
	p.send(reply(invite, 200, "", answer, contact))
	b.atPBX("200")
	b.fromPBX(text("", "ACK sip:x@"+b.plain.String()+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKack;rport", "Max-Forwards: 70",
		"From: "+to602+";tag=pbx", "To: "+invite.h.Get("To"), "Call-ID: c1", "CSeq: 200 ACK"))
	p.next("ACK")
	if got := ofLine(b.pbxInvites(p, 201, plainSDP+noVideo).body, "mid"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("the names are %q when video is off", got)
	}
}

// A line that leaves its bundle gets a transport of its own, and one that comes
// into it gets the bundle's, wherever it stands.
func TestLinesLeaveAndJoinABundle(t *testing.T) {
	i := strings.Index(pageOffer, "m=audio")
	j := strings.Index(pageOffer, "m=video")
	turned := strings.Replace(pageOffer[:i], "BUNDLE 0 1", "BUNDLE 1 0", 1) + pageOffer[j:] + pageOffer[i:j]
	audioSecond := strings.Replace(plainSDP, "m=audio", "m=video PORT RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\nm=audio", 1)
	for name, c := range map[string]struct {
		offers, answers [2]string
		audio           int // the line that keeps its transport
		together        bool
	}{
		"leaves": {[2]string{pageOffer, unbundled}, [2]string{plainSDP + plainVideo, plainSDP + plainVideo}, 0, false},
		"joins": {[2]string{turned, turned}, [2]string{strings.Replace(audioSecond, "PORT", "0", 1), strings.Replace(audioSecond, "PORT", "30002", 1)},
			1, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.page()
			b.registerBrowser(p, "abc.invalid")
			before := ofLine(b.pageInvites(p, 1, c.offers[0], c.answers[0]), "ice-ufrag")
			after := ofLine(b.pageInvites(p, 2, c.offers[1], c.answers[1]), "ice-ufrag")
			if before[c.audio] == "" || after[c.audio] != before[c.audio] || after[1-c.audio] == "" || (after[0] == after[1]) != c.together {
				t.Errorf("user fragments %q, then %q", before, after)
			}
		})
	}
}

// A phone that does not bundle is not asked to again, and its other lines have
// transports of their own.
func TestPhoneThatDoesNotBundle(t *testing.T) {
	b := newBench(t)
	p := b.page()
	b.registerBrowser(p, "abc.invalid")
	audio, video, _ := strings.Cut(unbundled, "m=video")
	b.pageInvites(p, 1, audio, plainSDP)
	invite := b.pbxInvites(p, 200, plainSDP+plainVideo)
	if got := ofLine(invite.body, "ice-ufrag"); len(got) != 2 || got[1] == "" || got[0] == got[1] || strings.Contains(invite.body, "bundle-only") {
		t.Errorf("it is offered\n%s", invite.body)
	}
	p.send(reply(invite, 200, "", strings.ReplaceAll(audio+"m=video"+video, "actpass", "passive"), contact))
	if got := mlines(b.atPBX("200").body); !strings.Contains(got, "m=video PORT") {
		t.Errorf("the PBX is answered\n%s", got)
	}
}

// What is answered outside of the bundle that it was offered in has no
// transport: the others must not take its fingerprint and role for theirs.
func TestAnswerOutsideOfBundle(t *testing.T) {
	b := newBench(t)
	p := b.page()
	b.registerBrowser(p, "abc.invalid")
	audio, _, _ := strings.Cut(strings.Replace(pageOffer, "BUNDLE 0 1", "BUNDLE 0", 1), "m=video")
	b.pageInvites(p, 1, audio, plainSDP)
	invite := b.pbxInvites(p, 200, plainSDP+plainVideo)
	p.send(reply(invite, 200, "", strings.NewReplacer("actpass", "passive", "BUNDLE 0 1", "BUNDLE 0").Replace(pageOffer), contact))
	if got := mlines(b.atPBX("200").body); got != "m=audio PORT RTP/AVP 111 0 126\nm=video 0 RTP/AVP 96" {
		t.Errorf("the PBX is answered\n%s", got)
	}
}
