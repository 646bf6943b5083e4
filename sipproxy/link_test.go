package sipproxy

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/sdp"
)

const (
	fingerprintLine = "a=fingerprint:sha-256 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF\r\n"
	// pageOffer is Chromium's for audio and video, shortened: of its codecs, one each.
	pageOffer = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS local\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF 111 0 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n" +
		"a=candidate:3 1 udp 2113937151 192.0.2.9 50000 typ host generation 0\r\na=candidate:4 1 tcp 1518280447 192.0.2.9 9 typ host tcptype active generation 0\r\n" +
		"a=ice-options:trickle\r\n" + fingerprintLine + "a=setup:actpass\r\na=mid:0\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=sendrecv\r\n" +
		"a=msid:local mic\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n" +
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:126 telephone-event/8000\r\na=ssrc:3735928559 cname:Z9t\r\na=ssrc:3735928559 msid:local mic\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n" +
		"a=ice-options:trickle\r\n" + fingerprintLine + "a=setup:actpass\r\na=mid:1\r\na=sendrecv\r\na=msid:local camera\r\na=rtcp-mux\r\na=rtcp-rsize\r\n" +
		"a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 nack pli\r\n"
	noVideo    = "m=video 0 RTP/AVP 96\r\n"
	plainVideo = "m=video 30002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=sendrecv\r\n"
)

// masked replaces what differs from call to call.
func masked(body string) string {
	for _, r := range [][2]string{
		{`o=.*`, `o=`}, {`m=(\w+) [1-9]\d*`, `m=$1 PORT`}, {`127\.0\.0\.1 \d+ typ`, `127.0.0.1 PORT typ`}, {`ice-ufrag:\S+`, `ice-ufrag:U`}, {`ice-pwd:\S+`, `ice-pwd:P`},
		{`(sha-256) [0-9A-F:]{95}`, `$1 F`}, {`a=ssrc:\d+ cname:\w+`, `a=ssrc:N cname:C`}, {`inline:\S+`, `inline:K`}, {`\r\n`, "\n"},
	} {
		body = regexp.MustCompile(r[0]).ReplaceAllString(body, r[1])
	}
	return body
}

func compare(t *testing.T, who, got, want string) {
	t.Helper()
	if got = masked(got); got != want {
		t.Errorf("%s got\n%s\nwant\n%s", who, got, want)
	}
}

const (
	head    = "v=0\no=\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n"
	iceLine = "a=ice-ufrag:U\na=ice-pwd:P\na=candidate:1 1 UDP 2130706431 127.0.0.1 PORT typ host\n" +
		"a=candidate:2 1 TCP 1520435199 127.0.0.1 PORT typ host tcptype passive\na=end-of-candidates\na=fingerprint:sha-256 F\n"
	pcmu = "a=rtpmap:0 PCMU/8000\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\n"
)

// A page's offer reaches the PBX as plain RTP; the answer is bundled as the PBX
// takes it.
func TestPageOffers(t *testing.T) {
	answered := head + "a=group:BUNDLE 0\na=ice-lite\nm=audio PORT UDP/TLS/RTP/SAVPF 0 101\n" + pcmu + iceLine +
		"a=setup:active\na=mid:0\na=msid:pbx audio0\na=ssrc:N cname:C\na=ptime:20\na=sendrecv\na=rtcp-mux\n"
	for name, c := range map[string]struct{ answer, want string }{
		"audio": {plainSDP + "m=video 0 RTP/AVP 96\r\n", answered + "m=video 0 UDP/TLS/RTP/SAVPF 96\na=mid:1\na=inactive\n"},
		"both": {plainSDP + plainVideo, strings.Replace(answered, "BUNDLE 0", "BUNDLE 0 1", 1) + "m=video PORT UDP/TLS/RTP/SAVPF 96\na=rtpmap:96 VP8/90000\n" +
			"a=rtcp-fb:96 nack pli\na=rtcp-fb:96 ccm fir\n" + iceLine + "a=setup:active\na=mid:1\na=msid:pbx video1\na=ssrc:N cname:C\na=sendrecv\na=rtcp-mux\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.page()
			b.registerBrowser(p, "abc.invalid")
			p.send(asBrowser(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, pageOffer, contact), "abc.invalid"))
			inv := b.atPBX("INVITE")
			compare(t, "the PBX", inv.body, head+"m=audio PORT RTP/AVP 111 0 126\na=rtpmap:111 opus/48000/2\na=fmtp:111 minptime=10;useinbandfec=1\n"+
				"a=rtpmap:0 PCMU/8000\na=rtpmap:126 telephone-event/8000\na=sendrecv\nm=video PORT RTP/AVP 96\na=rtpmap:96 VP8/90000\na=sendrecv\n")
			b.fromPBX(reply(inv, 200, "pbx", c.answer, "Contact: <sip:602@127.0.0.1:5060>"))
			compare(t, "the page", p.next("200").body, c.want)
		})
	}
}

// Every candidate by UDP comes before any by TCP, in the order of the addresses,
// and each is one that we read ourselves.
func TestCandidates(t *testing.T) {
	at := func(list ...string) (out []netip.AddrPort) {
		for _, s := range list {
			out = append(out, netip.MustParseAddrPort(s))
		}
		return out
	}
	addrs := media.StreamAddrs{Secure: at("192.0.2.1:10000", "[2001:db8::1]:10000"), TCP: at("192.0.2.1:443", "[2001:db8::1]:443")}
	list := (&negotiation{}).candidates(&stream{addrs: addrs})
	want := []string{
		"1 1 UDP 2130706431 192.0.2.1 10000 typ host", "2 1 UDP 2130706175 2001:db8::1 10000 typ host",
		"3 1 TCP 1520435199 192.0.2.1 443 typ host tcptype passive", "4 1 TCP 1520434943 2001:db8::1 443 typ host tcptype passive",
	}
	if !slices.Equal(list, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
	in, err := sdp.Parse([]byte("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 9 RTP/SAVPF 0\r\nc=IN IP4 192.0.2.1\r\na=candidate:" + strings.Join(list, "\r\na=candidate:") + "\r\n"))
	if err != nil || !slices.Equal(in.Media[0].ICE.Candidates, list) {
		t.Errorf("they are read as %q (%v)", in.Media[0].ICE.Candidates, err)
	}
	addrs.TCP = nil
	if off := (&negotiation{}).candidates(&stream{addrs: addrs}); !slices.Equal(off, want[:2]) {
		t.Errorf("without TCP they are %q", off)
	}
}

// The PBX's offer reaches each kind of phone as one that it takes.
func TestOfferByKindOfPhone(t *testing.T) {
	crypto := "a=crypto:1 AEAD_AES_128_GCM inline:K\na=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:K\n"
	web := iceLine + "a=setup:actpass\n"
	named := "a=mid:0\na=msid:pbx audio0\na=ssrc:N cname:C\na=ptime:20\na=sendrecv\na=rtcp-mux\n"
	for name, c := range map[string]struct {
		phone func(*bench) *phone
		more  string
		want  string
	}{
		"page": {(*bench).page, "", head + "a=group:BUNDLE 0\na=ice-lite\nm=audio PORT UDP/TLS/RTP/SAVPF 0 101\n" + pcmu + web + named},
		"page with video": {(*bench).page, plainVideo, head + "a=group:BUNDLE 0 1\na=ice-lite\nm=audio PORT UDP/TLS/RTP/SAVPF 0 101\n" + pcmu + web + named +
			"m=video 0 UDP/TLS/RTP/SAVPF 96\na=rtpmap:96 VP8/90000\na=rtcp-fb:96 nack pli\na=rtcp-fb:96 ccm fir\n" + web +
			"a=mid:1\na=bundle-only\na=msid:pbx video1\na=ssrc:N cname:C\na=sendrecv\na=rtcp-mux\n"},
		"another web phone": {(*bench).browser, "", head + "a=group:BUNDLE 0\na=ice-lite\nm=audio PORT RTP/SAVPF 0 101\n" + pcmu + web + crypto + named},
		"desk phone": {(*bench).phone, "", head + "m=audio PORT RTP/SAVP 0 101\n" + pcmu +
			"a=fingerprint:sha-256 F\na=setup:actpass\n" + crypto + "a=ptime:20\na=sendrecv\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := c.phone(b)
			var token string
			if name == "desk phone" {
				token = b.register(p)
			} else {
				token, _ = b.registerBrowser(p, "abc.invalid")
			}
			b.fromPBX(b.inviteTo(token, "in1", plainSDP+c.more))
			compare(t, "the phone", p.next("INVITE").body, c.want)
		})
	}
}

// A phone may answer our offer of both by either, in either role.
func TestAnswerByEither(t *testing.T) {
	dtls := strings.Replace(secureSDP, cryptoLine, fingerprintLine+"a=setup:SETUP\r\n", 1)
	for name, answer := range map[string]string{
		"crypto": strings.Replace(secureSDP, "a=crypto:1", "a=crypto:2", 1), "active": strings.Replace(dtls, "SETUP", "active", 1),
		"passive": strings.Replace(dtls, "SETUP", "passive", 1), "of the session": strings.Replace(sdpHead+fingerprintLine+"a=setup:active\r\n"+
			dtls[strings.Index(dtls, "m="):], fingerprintLine+"a=setup:SETUP\r\n", "", 1),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.phone()
			b.fromPBX(b.inviteTo(b.register(p), "in1", plainSDP))
			p.send(reply(p.next("INVITE"), 200, "anna", answer, contact))
			if got := mlines(b.atPBX("200").body); got != "m=audio PORT RTP/AVP 0 101" {
				t.Errorf("the PBX is answered\n%s", got)
			}
		})
	}
}

// What cannot become DTLS-SRTP is refused, with a Warning that says why.
func TestDTLSOffersRefused(t *testing.T) {
	line := "m=audio 40000 UDP/TLS/RTP/SAVP 0\r\n"
	for name, c := range map[string]struct{ offer, warning string }{
		"no fingerprint":       {line + "a=setup:actpass\r\n", "without a=fingerprint"},
		"crypto under UDP/TLS": {line + cryptoLine, "without a=fingerprint"},
		"holdconn":             {line + fingerprintLine + "a=setup:holdconn\r\n", "never connects"},
		"neither":              {"m=audio 40000 RTP/SAVP 0\r\n", "without encryption"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.phone()
			p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, sdpHead+c.offer, contact))
			if m := p.next("488"); !strings.Contains(m.h.Get("Warning"), c.warning) {
				t.Errorf("the Warning is %q, want %q in it", m.h.Get("Warning"), c.warning)
			}
			b.noCallLeft()
		})
	}
}

// A page that is called without an offer makes one, and the ACK answers it.
func TestPageOffersLate(t *testing.T) {
	b := newBench(t)
	p := b.page()
	token, _ := b.registerBrowser(p, "abc.invalid")
	b.fromPBX(b.inviteTo(token, "in1", ""))
	p.send(reply(p.next("INVITE"), 200, "anna", pageOffer, "Contact: <sip:k2l9@abc.invalid;transport=ws;ob>"))
	ok := b.atPBX("200")
	if got := mlines(ok.body); got != "m=audio PORT RTP/AVP 111 0 126\nm=video PORT RTP/AVP 96" {
		t.Errorf("the PBX is offered\n%s", got)
	}
	b.fromPBX(text(plainSDP+"m=video 0 RTP/AVP 96\r\n", "ACK "+strings.Trim(ok.h.Get("Contact"), "<>")+" SIP/2.0",
		"Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKack", "Max-Forwards: 70", "From: "+ok.h.Get("From"), "To: "+ok.h.Get("To"), "Call-ID: in1", "CSeq: 102 ACK"))
	if got := mlines(p.next("ACK").body); got != "m=audio PORT UDP/TLS/RTP/SAVPF 0 101\nm=video 0 UDP/TLS/RTP/SAVPF 96" {
		t.Errorf("the page is answered\n%s", got)
	}
}

// What rings with sound and then answers, as several phones perhaps, is one
// answer to a page: it would take no second one with other keys or sources.
func TestPageHearsOneAnswer(t *testing.T) {
	b := newBench(t)
	p := b.page()
	b.registerBrowser(p, "abc.invalid")
	p.send(asBrowser(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, pageOffer, contact), "abc.invalid"))
	inv := b.atPBX("INVITE")
	b.fromPBX(reply(inv, 183, "pbx", plainSDP+noVideo, "Contact: <sip:602@127.0.0.1:5060>"))
	early := p.next("183")
	b.fromPBX(reply(inv, 200, "pbx", strings.NewReplacer("30000", "31000", "o=root 1 1", "o=root 2 2").Replace(plainSDP)+noVideo, "Contact: <sip:602@127.0.0.1:5060>"))
	if final := p.next("200"); final.body != early.body || early.body == "" {
		t.Errorf("early\n%s\nfinally\n%s", early.body, final.body)
	}
}

// New credentials of the page's are answered by new ones of ours, on the same
// transport; the same ones are answered by the same.
func TestPageRestartsICE(t *testing.T) {
	b := newBench(t)
	p := b.page()
	b.registerBrowser(p, "abc.invalid")
	const answer = plainSDP + noVideo
	line := func(body, name string) string { return regexp.MustCompile("a=" + name + ":.*").FindString(body) }
	first := b.pageInvites(p, 1, pageOffer, answer)
	same := b.pageInvites(p, 2, pageOffer, answer)
	restarted := b.pageInvites(p, 3, strings.NewReplacer("EsAw", "FtBx", "P2uYro0UCOQ4zxjKXaWCBui1", "Q3vZsp1VDPR5aykLYbXDCvj2").Replace(pageOffer), answer)
	for _, name := range []string{"ice-ufrag", "ice-pwd", "fingerprint", "ssrc", "setup", "candidate"} {
		was, then, now := line(first, name), line(same, name), line(restarted, name)
		if was == "" || then != was || (now != was) != strings.HasPrefix(name, "ice") {
			t.Errorf("%s, %s after the same offer, %s after a restart", was, then, now)
		}
	}
}

// AES_256_CM is a suite of SDES alone: where nothing else is turned on, no phone
// is offered DTLS, nor may it offer it.
func TestSuitesWithoutDTLS(t *testing.T) {
	b := newBench(t)
	b.proxy.cfg.Suites = []media.Suite{media.AESCM256HMACSHA180}
	p := b.phone()
	b.fromPBX(b.inviteTo(b.register(p), "in1", plainSDP))
	inv := p.next("INVITE")
	if strings.Contains(inv.body, "fingerprint") || !strings.Contains(inv.body, "a=crypto:1 AES_256_CM_HMAC_SHA1_80") {
		t.Errorf("the phone is offered\n%s", inv.body)
	}
	p.send(reply(inv, 603, "anna", ""))
	b.atPBX("603")
	offer := sdpHead + "m=audio 40000 UDP/TLS/RTP/SAVP 0\r\n" + fingerprintLine + "a=setup:actpass\r\n"
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, offer, contact))
	if m := p.next("488"); !strings.Contains(m.h.Get("Warning"), "none of the suites") {
		t.Errorf("the Warning is %q", m.h.Get("Warning"))
	}
}

// A phone over TLS that bundles is answered without, each line by a transport of its own:
// it would know the lines' packets apart by an extension that we do not write.
func TestPhoneIsNotBundled(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	line := fingerprintLine + "a=setup:actpass\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=rtcp-mux\r\n"
	offer := "v=0\r\no=- 1 1 IN IP4 192.168.1.9\r\ns=-\r\nc=IN IP4 192.168.1.9\r\nt=0 0\r\na=group:BUNDLE as vs ts\r\n" +
		"m=audio 40000 UDP/TLS/RTP/SAVPF 0 101\r\na=mid:as\r\n" + line + "m=video 40002 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\na=mid:vs\r\n" + line +
		"m=video 0 UDP/TLS/RTP/SAVPF 97\r\na=rtpmap:97 VP8/90000\r\na=mid:ts\r\na=bundle-only\r\n"
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, offer, contact))
	b.fromPBX(reply(b.atPBX("INVITE"), 200, "pbx", plainSDP+plainVideo, "Contact: <sip:602@127.0.0.1:5060>"))
	answer := p.next("200").body
	if got := mlines(answer); strings.Contains(answer, "BUNDLE") ||
		got != "m=audio PORT UDP/TLS/RTP/SAVPF 0 101\nm=video PORT UDP/TLS/RTP/SAVPF 96\nm=video 0 UDP/TLS/RTP/SAVPF 97" {
		t.Errorf("the phone is answered\n%s", answer)
	}
	if u := ofLine(answer, "ice-ufrag"); u[0] == "" || u[0] == u[1] {
		t.Errorf("the lines' transports are %q", u)
	}
}
