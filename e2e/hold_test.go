package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// Who is held hears the PBX's music, and after that the other again.
func TestHoldResume(t *testing.T) {
	o := newOffice(t)
	anna, ben := o.phone("1001", 700), o.registered("1002")
	media := ben.NewMedia(suite)
	anna.Dial("1002")
	d := o.answer(ben, media, 1300)
	media.Hears(700, 10*time.Second)
	anna.Hears(1300, 10*time.Second)
	// A phone that holds may go on sending. chan_sip then mixes its packets and
	// the music's, two sequences under one SSRC; all that matters is what comes after.
	for _, silent := range []bool{true, false, true} {
		media.Direction = "sendonly"
		o.change(d, media)
		media.Silence(silent)
		anna.Forget()
		if silent {
			anna.Hears(peers.MusicHz, 10*time.Second)
		} else {
			inward := `sallyport_media_packets_total{direction="inward",protocol="rtp"}`
			before := o.edge.Metric(inward)
			peers.Until(t, 5*time.Second, "a second of both phones", func() bool { return o.edge.Metric(inward) > before+100 })
		}
		media.Silence(false)
		media.Direction = "sendrecv"
		o.change(d, media)
		anna.Forget()
		media.Forget()
		anna.Hears(1300, 10*time.Second)
		media.Hears(700, 10*time.Second)
	}
	anna.Hangup()
	ben.Answer(ben.Expect("BYE", 5*time.Second), 200, "OK", "")
	o.idle()

	phone := o.registered("1003")
	for _, c := range []struct{ name, direction, answer string }{
		{"sendonly", "sendonly", "recvonly"}, // RFC 3264 section 8.4
		{"inactive", "inactive", "inactive"},
		{"zero address", "sendrecv", "recvonly"}, // RFC 2543's way
	} {
		t.Run(c.name, func(t *testing.T) {
			media := phone.NewMedia(suite)
			d := o.echo(phone, media, 700)
			media.Hears(700, 10*time.Second)
			media.Direction, media.Zero = c.direction, c.name == "zero address"
			m := o.change(d, media)
			if got := direction(m.Body); got != c.answer && got != "inactive" {
				t.Fatalf("hold was answered %s, want %s or inactive", got, c.answer)
			}
			media.Direction, media.Zero = "sendrecv", false
			if m := o.change(d, media); direction(m.Body) != "sendrecv" {
				t.Fatalf("resuming was answered %s", direction(m.Body))
			}
			o.speaks(media, 900)
			o.hangUp(d, media)
		})
	}
}

func direction(sdp string) string {
	for _, d := range []string{"sendonly", "recvonly", "inactive"} {
		if strings.Contains(sdp, "a="+d+"\r\n") {
			return d
		}
	}
	return "sendrecv"
}

// What a re-INVITE can change of a phone's media, each with sound after it.
func TestRekey(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 500)
	media.Hears(500, 10*time.Second)
	first := media.RemoteKey()
	steps := []struct {
		name string
		do   func()
	}{
		{"the same key again", func() {}}, // RFC 4568 section 7.1.4: the contexts go on
		{"a new key", media.NewKey},
		{"a new address", func() { media.Move(phone.Host) }},
		{"a new key and address", func() { media.NewKey(); media.Move(phone.Host) }},
		{"another suite", func() { media.Suite = "AEAD_AES_256_GCM"; media.NewKey() }},
		{"the first suite again, with a new key", func() { media.Suite = suite; media.NewKey() }},
	}
	for i, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			step.do()
			o.change(d, media)
			o.speaks(media, 600+float64(100*i))
		})
	}
	if media.RemoteKey() != first {
		t.Error("the edge's own key for the first suite is another one: its packets would begin again")
	}
	t.Run("refused", func(t *testing.T) { // RFC 3264 section 8: all stays as it was
		if m := d.Reinvite(media.PlainOffer()); m.Status() != 488 {
			t.Fatalf("a re-INVITE without encryption was answered %s", m.Start)
		}
		o.speaks(media, 1500)
	})
	o.hangUp(d, media)
	if _, _, bad := media.Counts(); bad > 5 { // those on their way when keys changed
		t.Errorf("%d packets could not be decrypted", bad)
	}
}

// Music on hold and a call moved by the PBX come from another SSRC, and all leave as
// one source, which no phone has to get used to; and a phone may change its own.
func TestSsrcChange(t *testing.T) {
	o := newOffice(t)
	inside := peers.StartCapture(o.Edge, "inside")
	phone := o.registered("1001")
	ben := o.phone("1002", 1300)
	media := phone.NewMedia(suite)
	d := o.call(phone, "1002", media, 700)
	media.Hears(1300, 10*time.Second)
	ben.Hears(700, 10*time.Second)

	for range 2 {
		ben.Hold()
		media.Forget()
		media.Hears(peers.MusicHz, 10*time.Second)
		ben.Resume()
		media.Forget()
		media.Hears(1300, 10*time.Second)
	}
	o.pbx.Redirect("1001", "600")
	ben.Event("CALL_CLOSED", 5*time.Second)
	o.speaks(media, 900)
	inside.Stop()
	if n := sourcesOf(inside); n < 3 {
		t.Fatalf("the PBX spoke as %d SSRCs: it changed none, and the case shows nothing", n)
	}
	if n := media.Sources(); n != 1 {
		t.Errorf("the phone heard %d SSRCs", n)
	}
	for i := range 3 {
		media.NewSource()
		o.speaks(media, float64(1000+100*i))
	}
	if _, _, bad := media.Counts(); bad != 0 {
		t.Errorf("%d packets could not be decrypted", bad)
	}
	if n := o.edge.Metric(`sallyport_media_drops_total{reason="auth_failed"}`); n != 0 {
		t.Errorf("%v packets failed authentication", n)
	}
	o.hangUp(d, media)
}

// sourcesOf counts the SSRCs of the stream of the PBX that has most.
func sourcesOf(inside *peers.Capture) (most int) {
	streams := make(map[string]map[string]bool)
	for _, row := range inside.Fields("ip.src == "+peers.PBXAddr+" && udp.length == 180", []string{"udp.dstport", "udp.payload"}) {
		port, ssrc := row[0], strings.ReplaceAll(row[1], ":", "")[16:24]
		if streams[port] == nil {
			streams[port] = make(map[string]bool)
		}
		streams[port][ssrc] = true
		most = max(most, len(streams[port]))
	}
	return most
}

// A call older than 65,536 packets: the phone's sequence numbers wrap twice,
// those of the PBX, which begin anywhere, at least once. Packets are doubled and
// out of order all the way (RFC 3711 section 3.3.1).
func TestSequenceWrap(t *testing.T) {
	for _, name := range []string{suite, "AEAD_AES_128_GCM"} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			phone := o.registered("1001")
			media := phone.NewMedia(name)
			media.From(65500)
			d := o.echo(phone, media, 700)
			media.Hears(700, 10*time.Second) // over the first wrap, in order
			media.Silence(true)
			before, _, _ := media.Counts()
			sent := 0
			for sent < 66_000 { // over the second
				batch := make([][]byte, 40)
				for i := range batch {
					batch[i] = media.Packet()
				}
				for i := 0; i+3 < len(batch); i += 4 { // late by two, and doubled
					batch[i], batch[i+2] = batch[i+2], batch[i]
				}
				media.Send(append(batch, batch[7])...)
				sent += len(batch)
				time.Sleep(8 * time.Millisecond)
			}
			media.Silence(false)
			o.speaks(media, 900)
			after, _, bad := media.Counts()
			if n := after - before; n < sent*98/100 {
				t.Errorf("%d of %d packets came back", n, sent)
			}
			if bad != 0 {
				t.Errorf("%d packets could not be decrypted", bad)
			}
			if n := o.edge.Metric(`sallyport_media_drops_total{reason="auth_failed"}`); n != 0 {
				t.Errorf("%v packets failed authentication", n)
			}
			if n := o.edge.Metric(`sallyport_media_drops_total{reason="replayed"}`); n < float64(sent/40) {
				t.Errorf("%v doubled packets were refused, want %d", n, sent/40)
			}
			o.hangUp(d, media)
		})
	}
}
