package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A phone that encrypts with another key than it signalled is heard by
// nobody, and the counter says why. It is the control of all tests of sound.
func TestWrongKey(t *testing.T) {
	for _, name := range []string{"AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			phone := o.registered("1001")
			call := func(hz float64, wrong bool) *peers.Media {
				media := phone.NewMedia(name)
				if wrong {
					media.UseKey = append([]byte(nil), media.Key...)
					media.UseKey[0] ^= 1
				}
				d, m := phone.Invite("610", media.Offer())
				if m.Status() != 200 {
					t.Fatalf("the call was answered %s", m.Start)
				}
				media.Start(m.Body, hz)
				media.Hears(1004, 10*time.Second) // the other direction is whole
				if m := d.Request("BYE", ""); m.Status() != 200 {
					t.Fatalf("BYE was answered %s", m.Start)
				}
				media.Stop()
				o.idle()
				return media
			}
			call(700, true)
			if samples, rate, err := o.pbx.Recording("heard"); err == nil && len(samples) > 0 {
				if hz, share := peers.Tone(samples, rate); share > 0.5 {
					t.Fatalf("Asterisk heard %.1f Hz from a phone with a wrong key", hz)
				}
			}
			if n := o.edge.Metric(`sallyport_media_drops_total{reason="auth_failed"}`); n < 20 {
				t.Fatalf("auth_failed is %v, want each of the phone's packets", n)
			}
			if n := o.edge.Metric(`sallyport_media_packets_total{direction="inward",protocol="rtp"}`); n != 0 {
				t.Fatalf("%v packets of the phone were relayed, want none", n)
			}
			call(900, false)
			o.pbxHeard(900)
		})
	}
}

func TestPlainOfferRefused(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	inside := peers.StartCapture(o.Edge, "inside")
	_, m := phone.Invite("602", phone.NewMedia(suite).PlainOffer())
	if m.Status() != 488 || !strings.Contains(m.Get("Warning"), "without encryption") {
		t.Fatalf("a plain offer was answered %s with Warning %q, want 488 that says so", m.Start, m.Get("Warning"))
	}
	o.idle()
	if _, m := phone.Invite("602", phone.NewMedia(suite).Offer()); m.Status() != 200 { // the control
		t.Fatalf("an encrypted offer was answered %s", m.Start)
	}
	inside.Stop()
	if n := inside.Requests(`sip.Method == "INVITE"`); n != 2 { // the control's, challenged and answered
		t.Fatalf("%d INVITEs reached Asterisk, want the control's 2", n)
	}
}

// Nothing of calls is to be read outside; the same checks find all of it
// inside.
func TestNothingInClear(t *testing.T) {
	o := newOffice(t)
	outside := peers.StartCapture(o.Edge, "outside")
	inside := peers.StartCapture(o.Edge, "inside")
	anna, ben := o.phone("1001", 700), o.phone("1002", 1300)
	o.talk(anna, ben)
	anna.Hangup()
	ben.Event("CALL_CLOSED", 5*time.Second)
	o.idle()
	outside.Stop()
	inside.Stop()

	for _, word := range []string{"SIP/2.0", "INVITE ", "REGISTER ", "Call-ID", "m=audio", "a=crypto", "inline:", "1002@", "Digest "} {
		for _, row := range outside.Fields(fmt.Sprintf("frame contains %q", word), []string{"ip.src", "udp.payload"}) {
			// baresip 1.0.0 says goodbye (RTCP BYE, RFC 3550 section 6.6) when it
			// has put its SRTP away already. The edge takes no part in that.
			if goodbye := peers.Unhex(row[1]); row[0] != peers.EdgeOutside && len(goodbye) > 2 && goodbye[1] == 203 {
				if inside.Contains(string(goodbye)) {
					t.Errorf("a phone's clear goodbye was relayed")
				}
				continue
			}
			t.Errorf("%q is to be read outside, from %s", word, row[0])
		}
		if crypto := word == "a=crypto" || word == "inline:"; inside.Contains(word) == crypto {
			t.Errorf("%q inside: found %v, want %v", word, crypto, !crypto)
		}
	}
	if n := outside.Count("sip"); n != 0 {
		t.Errorf("tshark finds %d SIP messages outside", n)
	}
	if n := inside.Count("sip"); n == 0 {
		t.Error("tshark finds no SIP inside: the check is broken")
	}
	for hz, dir := range map[float64]string{700: "anna's", 1300: "ben's"} {
		if !plays(inside, hz) {
			t.Errorf("%s tone is not found inside: the check is broken", dir)
		}
		if plays(outside, hz) {
			t.Errorf("%s tone is to be heard outside", dir)
		}
	}
	if n := outside.Count("udp"); n < 100 {
		t.Errorf("only %d UDP packets outside: were there media at all?", n)
	}
}

// plays tells whether a tone is heard when every UDP packet of a capture is
// taken for PCMU.
func plays(c *peers.Capture, hz float64) bool {
	streams := map[string][]int16{}
	for _, row := range c.Fields("udp.length > 150", []string{"ip.src", "udp.srcport", "udp.dstport", "udp.payload"}) {
		key := strings.Join(row[:3], " ")
		payload := peers.Unhex(row[3])
		if len(payload) < 172 {
			continue
		}
		for _, b := range payload[12:172] {
			streams[key] = append(streams[key], peers.FromMuLaw(b))
		}
	}
	for _, samples := range streams {
		if got, share := peers.Tone(samples, peers.Rate); peers.Near(got, hz) && share > 0.5 {
			return true
		}
	}
	return false
}
