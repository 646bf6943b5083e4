package sipproxy

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	cryptoLine = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
	sdpHead    = "v=0\r\no=- 1 1 IN IP4 192.168.1.9\r\ns=-\r\nc=IN IP4 192.168.1.9\r\nt=0 0\r\n"
)

// mlines are the m-lines of a description, and how each is protected.
func mlines(body string) string {
	port := regexp.MustCompile(`^(m=\w+) [1-9]\d*`)
	var list []string
	for _, line := range strings.Split(body, "\r\n") {
		switch {
		case strings.HasPrefix(line, "m="):
			list = append(list, port.ReplaceAllString(line, "$1 PORT"))
		case strings.HasPrefix(line, "a=crypto"):
			list[len(list)-1] += " +" + strings.Fields(line)[1]
		}
	}
	return strings.Join(list, "\n")
}

// Phones for which encryption is optional offer it in several ways. None ends
// in a call in the clear, and the PBX sees each sound once.
func TestOptionalEncryption(t *testing.T) {
	savp, avp := "m=audio 40000 RTP/SAVP 0\r\n", "m=audio 40000 RTP/AVP 0\r\n"
	for _, c := range []struct{ name, offer, pbx, phone string }{
		{"AVP with a=crypto", avp + cryptoLine, "m=audio PORT RTP/AVP 0", "m=audio PORT RTP/AVP 0 +AES_CM_128_HMAC_SHA1_80"},
		{"SAVP, then AVP", savp + cryptoLine + avp, "m=audio PORT RTP/AVP 0",
			"m=audio PORT RTP/SAVP 0 +AES_CM_128_HMAC_SHA1_80\nm=audio 0 RTP/AVP 0"},
		{"AVP, then SAVP", avp + savp + cryptoLine, "m=audio PORT RTP/AVP 0",
			"m=audio 0 RTP/AVP 0\nm=audio PORT RTP/SAVP 0 +AES_CM_128_HMAC_SHA1_80"},
		{"both with a=crypto", savp + cryptoLine + avp + cryptoLine, "m=audio PORT RTP/AVP 0",
			"m=audio PORT RTP/SAVP 0 +AES_CM_128_HMAC_SHA1_80\nm=audio 0 RTP/AVP 0"},
		{"AVPF", strings.Replace(savp, "SAVP", "SAVPF", 1) + cryptoLine, "m=audio PORT RTP/AVP 0", "m=audio PORT RTP/SAVPF 0 +AES_CM_128_HMAC_SHA1_80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			p := b.phone()
			p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, sdpHead+c.offer, contact))
			inv := b.atPBX("INVITE")
			if got := mlines(inv.body); got != c.pbx {
				t.Errorf("the PBX is offered\n%s", got)
			}
			b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
			if got := strings.ReplaceAll(mlines(p.next("200").body), " 0 101", " 0"); got != c.phone {
				t.Errorf("the phone is answered\n%s\nwant\n%s", got, c.phone)
			}
		})
	}
}

// A PBX that does not know video may leave its line out, which means no.
func TestAnswerLacksALine(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1,
		secureSDP+"m=video 40002 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n"+cryptoLine, contact))
	inv := b.atPBX("INVITE")
	if got := mlines(inv.body); got != "m=audio PORT RTP/AVP 0 101\nm=video PORT RTP/AVP 96" {
		t.Errorf("the PBX is offered\n%s", got)
	}
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	if got := mlines(p.next("200").body); got != "m=audio PORT RTP/SAVP 0 101 +AES_CM_128_HMAC_SHA1_80\nm=video 0 RTP/SAVP 96" {
		t.Errorf("the phone is answered\n%s", got)
	}
}

// A phone that stops its video leaves the line out, and takes it up again.
func TestOfferLacksALine(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	first := b.callOut(p, "c1")
	video := "m=video 40002 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n" + cryptoLine
	plainVideo := "m=video 30002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
	for cseq, c := range []struct{ offer, pbx, answer, phone string }{
		{secureSDP + video, "m=audio PORT RTP/AVP 0 101\nm=video PORT RTP/AVP 96", plainSDP + plainVideo,
			"m=audio PORT RTP/SAVP 0 101 +AES_CM_128_HMAC_SHA1_80\nm=video PORT RTP/SAVP 96 +AES_CM_128_HMAC_SHA1_80"},
		{secureSDP, "m=audio PORT RTP/AVP 0 101\nm=video 0 RTP/AVP 0", plainSDP + "m=video 0 RTP/AVP 96\r\n",
			"m=audio PORT RTP/SAVP 0 101 +AES_CM_128_HMAC_SHA1_80"},
		{secureSDP + video, "m=audio PORT RTP/AVP 0 101\nm=video PORT RTP/AVP 96", plainSDP + plainVideo,
			"m=audio PORT RTP/SAVP 0 101 +AES_CM_128_HMAC_SHA1_80\nm=video PORT RTP/SAVP 96 +AES_CM_128_HMAC_SHA1_80"},
	} {
		p.send(p.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", cseq+2, c.offer, contact))
		inv := b.atPBX("INVITE")
		if got := mlines(inv.body); got != c.pbx || port(inv.body) != port(first.body) {
			t.Errorf("the PBX is offered\n%s", got)
		}
		b.fromPBX(reply(inv, 200, "", c.answer, "Contact: <sip:602@127.0.0.1:5060>"))
		if got := mlines(p.next("200").body); got != c.phone {
			t.Errorf("the phone is answered\n%s", got)
		}
		p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", cseq+2, ""))
		b.atPBX("ACK")
	}
}

// A call on hold may be silent, also when it had video before.
func TestHoldAfterVideo(t *testing.T) {
	b := newBenchWith(t, time.Second, nil)
	p := b.phone()
	video, plainVideo := "m=video 40002 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n"+cryptoLine, "m=video 30002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP+video, contact))
	b.fromPBX(reply(b.atPBX("INVITE"), 200, "pbx", plainSDP+plainVideo, "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("200")
	p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 1, ""))
	b.atPBX("ACK")
	hold := strings.Replace(secureSDP, "sendrecv", "sendonly", 1) + strings.Replace(video, "40002", "0", 1)
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, hold, contact))
	b.fromPBX(reply(b.atPBX("INVITE"), 200, "", strings.Replace(plainSDP, "sendrecv", "recvonly", 1)+strings.Replace(plainVideo, "30002", "0", 1),
		"Contact: <sip:602@127.0.0.1:5060>"))
	p.next("200")
	p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, ""))
	b.atPBX("ACK")
	_ = p.conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	if m, err := readText(p.r); err == nil {
		t.Fatalf("the phone got %s (%s)", m.start, m.h.Get("Reason"))
	}
}

// The answer to an offer has its profile.
func TestProfileOfAnswer(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.fromPBX(b.inviteTo(b.register(p), "in1", strings.Replace(plainSDP, "RTP/AVP", "RTP/AVPF", 1)))
	inv := p.next("INVITE")
	p.send(reply(inv, 200, "anna", strings.Replace(secureSDP, "a=crypto:1", "a=crypto:2", 1), contact))
	if got := mlines(b.atPBX("200").body); got != "m=audio PORT RTP/AVPF 0 101" {
		t.Errorf("the PBX is answered\n%s", got)
	}
}

// A description in a 183 that fails does not spoil the one in the 200.
func TestAnswerAfterABadOne(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.fromPBX(b.inviteTo(b.register(p), "in1", plainSDP))
	inv := p.next("INVITE")
	p.send(reply(inv, 183, "anna", strings.Replace(secureSDP, "a=crypto:1", "a=crypto:7", 1), contact))
	b.atPBX("183")
	p.send(reply(inv, 200, "anna", strings.Replace(secureSDP, "a=crypto:1", "a=crypto:2", 1), contact))
	if got := mlines(b.atPBX("200").body); got != "m=audio PORT RTP/AVP 0 101" {
		t.Errorf("the PBX is answered\n%s", got)
	}
}

// A re-INVITE of the PBX keeps the suite: many phones cannot change it in a
// call.
func TestSuiteStays(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	first := b.callOut(p, "c1")
	for cseq := range 2 {
		b.fromPBX(b.inDialog("INVITE", first, cseq+5, plainSDP))
		again := p.next("INVITE")
		if got := mlines(again.body); got != "m=audio PORT RTP/SAVP 0 101 +AES_CM_128_HMAC_SHA1_80" {
			t.Errorf("the phone is offered\n%s", got)
		}
		p.send(reply(again, 200, "", secureSDP, contact))
		b.atPBX("200")
		b.fromPBX(b.inDialog("ACK", first, cseq+5, ""))
		p.next("ACK")
	}
}

// A PBX that names its media by host name would be silent one way: the call is
// refused, and neither end is left with it.
func TestPBXNamesNoAddress(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact))
	b.fromPBX(reply(b.atPBX("INVITE"), 200, "pbx", strings.Replace(plainSDP, "c=IN IP4 127.0.0.1", "c=IN IP4 media.example.com", 1),
		"Contact: <sip:602@127.0.0.1:5060>"))
	if m := p.next("488"); !strings.Contains(m.h.Get("Warning"), "301 ") {
		t.Errorf("Warning is %q", m.h.Get("Warning"))
	}
	b.atPBX("ACK")
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	b.noCallLeft()
}

// A PBX that hears a fax offers T.38 in the middle of a call. It is told no,
// and the call goes on as it was.
func TestFaxInACall(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	first := b.callOut(p, "c1")
	head, _, _ := strings.Cut(plainSDP, "m=")
	b.fromPBX(b.inDialog("INVITE", first, 5, head+"m=image 30010 udptl t38\r\na=T38FaxVersion:0\r\n"))
	if m := b.atPBX("488"); !strings.Contains(m.h.Get("Warning"), "T.38") {
		t.Errorf("Warning is %q", m.h.Get("Warning"))
	}
	b.fromPBX(b.inDialog("ACK", first, 5, ""))
	b.fromPBX(b.inDialog("INVITE", first, 6, plainSDP))
	if got := mlines(p.next("INVITE").body); got != "m=audio PORT RTP/SAVP 0 101 +AES_CM_128_HMAC_SHA1_80" {
		t.Errorf("after that the phone is offered\n%s", got)
	}
}

// A line of an offer that was refused is none of the next offer: who answers with it
// all the same gets no media there, and the edge goes on.
func TestAnswerToALineOfARefusedOffer(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	video := "m=video 40002 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n" + cryptoLine
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP+strings.Replace(video, "40002", "0", 1), contact))
	first := b.atPBX("INVITE")
	b.fromPBX(reply(first, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("200")
	p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 1, ""))
	b.atPBX("ACK")

	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, secureSDP+video, contact))
	b.fromPBX(reply(b.atPBX("INVITE"), 488, "", ""))
	p.next("488")
	p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, ""))

	b.fromPBX(b.inDialog("INVITE", first, 5, plainSDP))
	again := p.next("INVITE")
	if got := mlines(again.body); got != "m=audio PORT RTP/SAVP 0 101 +AES_CM_128_HMAC_SHA1_80\nm=video 0 RTP/SAVP 0" {
		t.Errorf("the phone is offered\n%s", got)
	}
	p.send(reply(again, 200, "", secureSDP+video, contact))
	if got := mlines(b.atPBX("200").body); got != "m=audio PORT RTP/AVP 0 101" {
		t.Errorf("the PBX is answered\n%s", got)
	}
}

// An answer of another kind of media, or over something else than RTP, is none: written
// anew it would be RTP of a format that is no payload type.
func TestAnswerOfAnotherKind(t *testing.T) {
	for _, line := range []string{"m=audio 40000 udptl t38\r\n", "m=image 40000 RTP/SAVP 0\r\n"} {
		b := newBench(t)
		p := b.phone()
		b.fromPBX(b.inviteTo(b.register(p), "in1", plainSDP))
		inv := p.next("INVITE")
		p.send(reply(inv, 200, "anna", sdpHead+line+strings.Replace(cryptoLine, "crypto:1", "crypto:2", 1), contact))
		p.next("ACK")
		p.next("BYE")
		if m := b.atPBX("488"); m.body != "" {
			t.Errorf("%s: the PBX is answered\n%s", line, m.body)
		}
	}
}

// counted is a description whose origin counts on.
func counted(sdp string) string {
	return regexp.MustCompile(`(o=\S+ \d+) 1 `).ReplaceAllString(sdp, "$1 2 ")
}

// A response with an offer comes again until the PRACK, and the 2xx repeats it. That is
// no new offer: keys and ports are those of the first, which the phone answers.
func TestOfferOfAResponseRepeated(t *testing.T) {
	for name, prack := range map[string]bool{"answered in PRACK": true, "answered in ACK": false} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.phone()
			p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, "", contact, "Supported: 100rel"))
			inv := b.atPBX("INVITE")
			early := []string{pbxContact}
			if prack {
				early = append(early, "Require: 100rel", "RSeq: 1")
			}
			b.fromPBX(reply(inv, 183, "pbx", plainSDP, early...))
			first := p.next("183").body
			b.fromPBX(reply(inv, 183, "pbx", plainSDP, early...))
			if again := p.next("183").body; again != first || key(first) == "" {
				t.Errorf("the phone got\n%s\nand then\n%s", first, again)
			}
			answer, inACK := strings.Replace(secureSDP, "a=crypto:1", "a=crypto:2", 1), ""
			if prack {
				p.send(p.request("PRACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, answer, "RAck: 1 1 INVITE"))
				m := b.atPBX("PRACK")
				if !strings.Contains(m.body, "RTP/AVP") {
					t.Errorf("the PBX is answered\n%s", m.body)
				}
				b.fromPBX(reply(m, 200, "", ""))
				p.next("200")
			} else {
				inACK = answer
			}
			b.fromPBX(reply(inv, 200, "pbx", counted(plainSDP), pbxContact))
			if ok := p.next("200").body; ok != first {
				t.Errorf("the phone got\n%s\nand then\n%s", first, ok)
			}
			p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 1, inACK))
			if m := b.atPBX("ACK"); (m.body != "") == prack {
				t.Errorf("the ACK has\n%s", m.body)
			}
			b.fromPBX(b.inDialog("INVITE", inv, 7, strings.Replace(plainSDP, "30000", "30008", 1)))
			if offer := p.next("INVITE").body; key(offer) == "" || offer == first {
				t.Errorf("the phone is offered\n%s", offer)
			}
		})
	}
}

// The same of a phone that offers in its response, with two lines; and an offer that is
// another one counts.
func TestOfferOfAPhonesResponseRepeated(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.fromPBX(b.inviteTo(b.register(p), "in", ""))
	inv := p.next("INVITE")
	offer := secureSDP + "m=video 40002 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n" + cryptoLine
	var got []string
	for _, each := range []string{offer, offer, counted(offer), secureSDP} {
		clear(b.said) // what is repeated here is the phone's
		p.send(reply(inv, 183, "anna", each, contact))
		got = append(got, b.atPBX("183").body)
	}
	if got[1] != got[0] || got[2] != got[0] || strings.Count(got[0], "m=") != 2 {
		t.Errorf("the PBX got\n%s\nand then\n%s\n%s", got[0], got[1], got[2])
	}
	if strings.Count(got[3], "m=") != 1 {
		t.Errorf("the PBX got\n%s", got[3])
	}
}
