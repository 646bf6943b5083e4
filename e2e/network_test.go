package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A phone that goes from one network to another in the middle of a call keeps
// it: its sound at once, by its packets alone; its signalling when it has
// registered from there.
func TestNetworkChange(t *testing.T) {
	for _, name := range []string{suite, "AEAD_AES_128_GCM"} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			phone := o.registered("1001")
			media := phone.NewMedia(name)
			d := o.echo(phone, media, 700)
			media.Hears(700, 10*time.Second)

			mobile := o.Phone("mobile") // another host, and address
			phone.Reset()
			media.Move(mobile)
			o.speaks(media, 900)

			media.NewSource()
			o.speaks(media, 1000)
			media.Move(mobile) // another port
			o.speaks(media, 1100)

			phone.Host = mobile
			phone.Connect(o.edge)
			if m := d.Request("OPTIONS", ""); m.Status() != 481 {
				t.Fatalf("a connection that proved nothing yet was let into the call: %s", m.Start)
			}
			if m := phone.Register("secret-1001", 600, ""); m.Status() != 200 {
				t.Fatalf("registering from the new network was answered %s", m.Start)
			}
			media.NewKey()
			o.change(d, media)
			o.speaks(media, 1300)

			o.pbx.Must("channel request hangup all")
			phone.Answer(phone.Expect("BYE", 5*time.Second), 200, "OK", "")
			media.Stop()
			o.idle()
		})
	}
}

// Two phones behind one NAT, with the same private ports and SSRC, call each
// other and the PBX.
func TestTwoPhonesOneNat(t *testing.T) {
	o := newOffice(t)
	nat := o.NAT("nat")
	hosts := []*peers.Host{nat.Phone("left"), nat.Phone("right")}
	var media []*peers.Media
	var calls []*peers.Dialog
	for i, h := range hosts {
		p := peers.NewPhone(h, o.edge, fmt.Sprint(1001+i))
		if m := p.Register("secret-"+p.User, 600, ""); m.Status() != 200 {
			t.Fatalf("registration was answered %s", m.Start)
		}
		m := p.NewMediaOn(suite, 40000)
		m.SSRC = 0x12345678
		media = append(media, m)
		calls = append(calls, o.echo(p, m, float64(700+400*i)))
	}
	for i, m := range media {
		m.Forget()
		m.Hears(float64(700+400*i), 10*time.Second)
	}
	if n := o.edge.Metric(`sallyport_media_sessions`); n != 2 {
		t.Fatalf("%v media sessions, want 2", n)
	}
	for i, m := range media { // both at once from other ports of the NAT
		m.Move(hosts[i])
		m.Speak(float64(900 + 400*i))
		m.Forget()
	}
	for i, m := range media {
		m.Hears(float64(900+400*i), 10*time.Second)
	}
	for i := range calls {
		o.bye(calls[i], media[i])
	}
	o.idle()

	anna := peers.StartBaresip(nat.Phone("anna"), peers.BaresipConfig{User: "1003", CAFile: o.edge.CAFile(), ToneHz: 700, AutoAnswer: true})
	ben := peers.StartBaresip(nat.Phone("ben"), peers.BaresipConfig{User: "1004", CAFile: o.edge.CAFile(), ToneHz: 1300, AutoAnswer: true})
	o.talk(anna, ben)
	anna.Hangup()
	ben.Event("CALL_CLOSED", 5*time.Second)
	o.idle()
}

// chan_sip's default: it points the legs of two phones at each other, which
// are both ours, and has no more to do with their sound.
func TestDirectMedia(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{DirectMedia: "yes"}, peers.EdgeConfig{})
	anna, ben := o.registered("1001"), o.registered("1002")
	a, b := anna.NewMedia(suite), ben.NewMedia("AEAD_AES_128_GCM")
	d := o.connect(anna, ben, a, b)
	o.reinvited(ben, b)
	o.reinvited(anna, a)
	o.bypassed()
	a.Forget()
	b.Forget()
	a.Hears(1300, 10*time.Second)
	b.Hears(700, 10*time.Second)
	if m := d.Request("BYE", ""); m.Status() != 200 {
		t.Fatalf("BYE was answered %s", m.Start)
	}
	o.reinvited(ben, b) // back to the PBX
	ben.Answer(ben.Expect("BYE", 5*time.Second), 200, "OK", "")
	o.idle()

	// baresip 1.0.0 records nothing after a re-INVITE, so its sound is sought on
	// the way from leg to leg.
	left, right := o.phone("1003", 500), o.phone("1004", 1500)
	left.Dial("1004")
	left.Event("CALL_ESTABLISHED", 10*time.Second)
	right.Event("CALL_ESTABLISHED", 10*time.Second)
	o.bypassed()
	hairpin := peers.StartCapture(o.Edge, "lo")
	before := o.relayed()
	peers.Until(t, 10*time.Second, "two seconds of both phones", func() bool { return o.relayed() > before+4*100 })
	hairpin.Stop()
	for _, hz := range []float64{500, 1500} {
		if !plays(hairpin, hz) {
			t.Errorf("the tone of %v Hz does not go from leg to leg", hz)
		}
	}
	left.Hangup()
	right.Event("CALL_CLOSED", 5*time.Second)
	o.idle()
}

// reinvited takes a re-INVITE of the PBX.
func (o *office) reinvited(phone *peers.Phone, media *peers.Media) {
	o.t.Helper()
	inv := phone.Expect("INVITE", 10*time.Second)
	phone.Answer(inv, 200, "OK", media.Accept(inv.Body))
	phone.Expect("ACK", 5*time.Second)
	media.Apply(onlySuite(inv.Body, media.Suite))
}

// hungUp takes the PBX's BYE. Before it may come a re-INVITE or an UPDATE, with
// which the PBX takes the media back.
func (o *office) hungUp(phone *peers.Phone, media *peers.Media) {
	o.t.Helper()
	for ended := false; !ended; {
		m := phone.Next(5 * time.Second)
		switch ended = m.Method() == "BYE"; {
		case m.Method() == "INVITE", m.Method() == "UPDATE":
			phone.Answer(m, 200, "OK", media.Accept(m.Body), allow)
		case ended:
			phone.Answer(m, 200, "OK", "")
		}
	}
}

// bypassed waits until Asterisk gets no more sound.
func (o *office) bypassed() {
	o.t.Helper()
	toPBX := fmt.Sprintf("ip.dst == %s && udp.length == 180", peers.PBXAddr)
	peers.Until(o.t, 10*time.Second, "Asterisk to get no more sound", func() bool {
		before := o.relayed()
		inside := peers.StartCapture(o.Edge, "inside")
		peers.Until(o.t, 10*time.Second, "some sound", func() bool { return o.relayed() > before+60 })
		inside.Stop()
		return inside.Count(toPBX) == 0
	})
}

// relayed counts the RTP packets of both directions.
func (o *office) relayed() float64 {
	o.t.Helper()
	return o.edge.Metric(`sallyport_media_packets_total{direction="inward",protocol="rtp"}`) +
		o.edge.Metric(`sallyport_media_packets_total{direction="outward",protocol="rtp"}`)
}

// A phone that vanishes in a call: both ends are told. One that is on hold may
// be silent.
func TestMediaTimeout(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Extra: "[media]\ntimeout = \"2s\"\n"})
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)
	for _, direction := range []string{"sendonly", "inactive", "recvonly"} {
		media.Direction = direction
		o.change(d, media)
		media.Silence(true)
		phone.Silent(5 * time.Second) // longer than the timeout, twice
		if o.pbx.Channels() != 1 {
			t.Fatalf("a phone that said %s was given up", direction)
		}
		media.Silence(false)
		media.Direction = "sendrecv"
		o.change(d, media)
		o.speaks(media, 900)
	}
	inside := peers.StartCapture(o.Edge, "inside")
	media.Silence(true)
	bye := phone.Expect("BYE", 8*time.Second)
	if reason := bye.Get("Reason"); !strings.Contains(reason, "no media from the phone") {
		t.Errorf("the phone is told %q", reason)
	}
	phone.Answer(bye, 200, "OK", "")
	o.idle()
	inside.Stop()
	if n := inside.Requests(`sip.Method == "BYE" && ip.src == ` + peers.EdgeInside); n != 1 {
		t.Errorf("the PBX got %d BYEs, want 1", n)
	}
	if n := o.edge.Metric(`sallyport_calls_ended_total{reason="no media from the phone"}`); n != 1 {
		t.Errorf("%v calls ended for the phone's silence, want 1", n)
	}
}

// Every mixture of IP versions on the two sides.
func TestIPv6(t *testing.T) {
	for _, pbx6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("PBX6=%v", pbx6), func(t *testing.T) {
			o := newOfficeWith(t, peers.AsteriskConfig{Six: pbx6}, peers.EdgeConfig{PBX6: pbx6})
			outside, inside := peers.StartCapture(o.Edge, "outside"), peers.StartCapture(o.Edge, "inside")
			four, six := o.registered("1001"), peers.NewPhone6(o.Phone("1002"), o.edge, "1002")
			if m := six.Register("secret-1002", 600, ""); m.Status() != 200 {
				t.Fatalf("registration by IPv6 was answered %s", m.Start)
			}
			for _, phone := range []*peers.Phone{four, six} {
				media := phone.NewMedia(suite)
				d := o.echo(phone, media, 700)
				media.Hears(700, 10*time.Second)
				o.hangUp(d, media)
			}
			a, b := four.NewMedia(suite), six.NewMedia(suite)
			d := o.connect(four, six, a, b)
			a.Hears(1300, 10*time.Second)
			b.Hears(700, 10*time.Second)
			if m := d.Request("BYE", ""); m.Status() != 200 {
				t.Fatalf("BYE was answered %s", m.Start)
			}
			six.Answer(six.Expect("BYE", 5*time.Second), 200, "OK", "")
			o.idle()
			outside.Stop()
			inside.Stop()
			expedited(t, outside, "ip", peers.EdgeOutside)
			expedited(t, outside, "ipv6", peers.EdgeOutside6)
			if pbx6 {
				expedited(t, inside, "ipv6", peers.EdgeInside6)
			} else {
				expedited(t, inside, "ip", peers.EdgeInside)
			}
		})
	}
}

// expedited checks that the edge marked its media for expedited forwarding
// (RFC 3246), by either IP version.
func expedited(t *testing.T, c *peers.Capture, version, from string) {
	t.Helper()
	mark := "ip.dsfield.dscp"
	if version == "ipv6" {
		mark = "ipv6.tclass.dscp"
	}
	media := fmt.Sprintf("%s.src == %s && udp.length >= 180 && udp.length < 200", version, from)
	all, marked := c.Count(media), c.Count(media+" && "+mark+" == 46")
	if all < 50 || marked != all {
		t.Errorf("%d of %d media packets from %s are marked with DSCP 46", marked, all, from)
	}
}

// RTCP on the RTP port towards a phone that offers it, and on the next one
// towards one that does not; the PBX has it on a port of its own either way.
func TestRtcpMux(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	for _, mux := range []bool{true, false} {
		t.Run(fmt.Sprintf("mux=%v", mux), func(t *testing.T) {
			inside := peers.StartCapture(o.Edge, "inside")
			media := phone.NewMedia(suite)
			media.Mux = mux
			d, m := phone.Invite("602", media.Offer())
			if m.Status() != 200 || strings.Contains(m.Body, "a=rtcp-mux") != mux {
				t.Fatalf("the offer was answered %s, with\n%s", m.Start, m.Body)
			}
			media.Start(m.Body, 700)
			media.Hears(1004, 10*time.Second)
			for range 5 {
				media.Report()
			}
			peers.Until(t, 15*time.Second, "Asterisk's report at the phone", func() bool { _, n, _ := media.Counts(); return n > 0 })
			if muxed, other := media.Reports(); mux && other > 0 || !mux && muxed > 0 {
				t.Errorf("%d reports came on the RTP port, %d on the next", muxed, other)
			}
			o.hangUp(d, media)
			inside.Stop()
			name := fmt.Sprintf("%x", media.CNAME)
			reports := 0
			for _, row := range inside.Fields("ip.dst == "+peers.PBXAddr+" && udp.length < 100", []string{"udp.dstport", "udp.payload"}) {
				if strings.Contains(row[1], name) {
					reports++
					if port := row[0]; (port[len(port)-1]-'0')%2 != 1 {
						t.Errorf("a report went to Asterisk's port %s", port)
					}
				}
			}
			if reports != 5 {
				t.Errorf("%d of the phone's 5 reports reached Asterisk", reports)
			}
		})
	}
	t.Run("baresip", func(t *testing.T) {
		for i, mux := range []bool{true, false} {
			user := fmt.Sprint(1002 + i)
			b := peers.StartBaresip(o.Phone(user), peers.BaresipConfig{User: user, CAFile: o.edge.CAFile(), ToneHz: 700, AutoAnswer: true, Mux: mux})
			b.Dial("602")
			b.Event("CALL_ESTABLISHED", 10*time.Second)
			b.Hears(1004, 10*time.Second)
			b.Event("CALL_RTCP", 15*time.Second)
			b.Hangup()
			b.Event("CALL_CLOSED", 5*time.Second)
			o.idle()
		}
	})
}

// Video goes through to a PBX that takes it, and is turned down towards the
// phone by one that does not; fax over UDPTL cannot be encrypted.
func TestVideoAndFax(t *testing.T) {
	fax := "m=image 50000 udptl t38\r\n"
	for _, c := range []struct{ name, general string }{
		{"the PBX takes video", "videosupport=yes\nallow=h264\n"},
		{"the PBX takes none", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOfficeWith(t, peers.AsteriskConfig{General: c.general}, peers.EdgeConfig{})
			phone := o.registered("1001")
			sound, video := phone.NewMedia(suite), phone.NewVideo("AEAD_AES_128_GCM")
			d, m := phone.Invite("600", sound.Offer()+video.VideoLine()+fax)
			if m.Status() != 200 {
				t.Fatalf("the call was answered %s, Warning %q", m.Start, m.Get("Warning"))
			}
			sound.Start(peers.Line(m.Body, 0), 700)
			sound.Hears(700, 10*time.Second)
			line := peers.Line(m.Body, 1)
			if c.general == "" {
				if !strings.Contains(line, "m=video 0 RTP/SAVP 99") {
					t.Errorf("video was answered with\n%s", line)
				}
			} else {
				video.Start(line, 1500)
				video.Hears(1500, 10*time.Second)
			}
			if line := peers.Line(m.Body, 2); !strings.Contains(line, "m=image 0 udptl t38") {
				t.Errorf("fax was answered with\n%s", line)
			}
			o.bye(d, video)
			o.idle()
			_, m = phone.Invite("600", strings.Replace(sound.Offer(), "m=audio", "m=image 0 udptl t38\r\nm=audio", 1))
			if m.Status() != 200 {
				t.Errorf("sound behind a line that is off was answered %s", m.Start)
			}
		})
	}
	o := newOffice(t)
	phone := o.registered("1001")
	head, _, _ := strings.Cut(phone.NewMedia(suite).Offer(), "m=")
	if _, m := phone.Invite("600", head+fax); m.Status() != 488 || !strings.Contains(m.Get("Warning"), "T.38") {
		t.Errorf("fax alone was answered %s, Warning %q", m.Start, m.Get("Warning"))
	}
	o.idle()
}
