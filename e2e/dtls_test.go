package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// dtlsCall calls a number with media that DTLS keys.
func (o *office) dtlsCall(phone *peers.Phone, number string, media *peers.Media, hz float64) *peers.Dialog {
	o.t.Helper()
	d := o.call(phone, number, media, hz)
	media.Keyed(20 * time.Second) // as long as the edge waits
	return d
}

// dtlsOut calls extension 610, and checks that both ends hear each other.
func (o *office) dtlsOut(phone *peers.Phone, media *peers.Media, hz float64) {
	o.t.Helper()
	o.forget()
	d := o.dtlsCall(phone, "610", media, hz)
	o.bothHear(media, hz)
	o.hangup(d, media)
}

// dtlsIn lets Asterisk call the phone from extension 610, with the same check.
func (o *office) dtlsIn(phone *peers.Phone, media *peers.Media, hz float64) {
	o.t.Helper()
	o.answers610(phone, media, hz, func(offer string) {
		media.Start(offer, hz)
		media.Keyed(10 * time.Second)
	})
}

// baresip keys by DTLS, calling and called, and hears and is heard. It offers
// actpass, which leaves the choice to the edge; called, it is the one who
// begins, and takes DTLS although it is offered SDES as well.
func TestDtlsPhone(t *testing.T) {
	o := newOffice(t)
	for i, ways := range []struct {
		name       string
		mux        bool
		handshakes int
	}{{"two ports", false, 2}, {"rtcp-mux", true, 1}} { // RFC 5764 section 3
		t.Run(ways.name, func(t *testing.T) {
			user := fmt.Sprint(1001 + i)
			phone := peers.StartBaresip(o.Phone(user), peers.BaresipConfig{
				User: user, CAFile: o.edge.CAFile(), MediaEnc: "dtls_srtp", ToneHz: 700, AutoAnswer: true, Mux: ways.mux,
			})
			talk := func(begin func(), hz float64, handshakes int, end func()) {
				t.Helper()
				keyed := o.keyed()
				begin()
				phone.Event("CALL_ESTABLISHED", 10*time.Second)
				phone.Hears(hz, 10*time.Second)
				peers.Until(t, 5*time.Second, "each port's keys", func() bool { return o.keyed() >= keyed+handshakes })
				end()
				phone.Event("CALL_CLOSED", 5*time.Second)
				o.idle()
				if n := o.keyed() - keyed; n != handshakes {
					t.Errorf("the call was keyed by %d handshakes, want %d", n, handshakes)
				}
			}
			talk(func() { phone.Dial("602") }, 1004, ways.handshakes, phone.Hangup)
			talk(func() { phone.Dial("600") }, 700, ways.handshakes, phone.Hangup)
			o.forget()
			talk(func() { phone.Dial("610") }, 1004, ways.handshakes, func() { o.pbxHeard(700); phone.Hangup() })
			o.forget() // the edge offers rtcp-mux to browsers alone
			talk(func() { o.pbx.Originate(user, "610") }, 1004, 2, func() {
				o.pbxHeard(700)
				o.pbx.Must("channel request hangup all")
			})
		})
	}
}

// keyed counts the handshakes whose keys the edge has put in force.
func (o *office) keyed() int {
	o.t.Helper()
	log, err := os.ReadFile(o.edge.Log)
	if err != nil {
		o.t.Fatal(err)
	}
	return strings.Count(string(log), `"media keyed by DTLS"`)
}

// A phone in each role, with its fingerprint in either place and by each hash,
// with either kind of certificate.
func TestDtlsRoles(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	for _, c := range []struct {
		name, setup, hash string
		above, rsa        bool
		answer            string
	}{
		{"active", "active", "sha-256", false, false, "passive"},
		{"passive", "passive", "sha-256", false, false, "active"},
		{"actpass", "actpass", "sha-256", false, false, "passive"},
		{"active, of the session, sha-1", "active", "sha-1", true, false, "passive"},
		{"passive, of the session, sha-512", "passive", "sha-512", true, false, "active"},
		{"active, RSA", "active", "sha-512", false, true, "passive"},
		{"passive, RSA, sha-1", "passive", "sha-1", false, true, "active"},
	} {
		t.Run(c.name, func(t *testing.T) {
			media := phone.NewDTLS()
			media.DTLS.Setup, media.DTLS.Hash, media.DTLS.Above = c.setup, c.hash, c.above
			media.DTLS.Cert = phone.MediaCertificate(c.rsa)
			media.DTLS.Named = media.DTLS.Cert
			o.forget()
			d, m := phone.Invite("610", media.Offer())
			if m.Status() != 200 || !strings.Contains(m.Body, "a=setup:"+c.answer+"\r\n") {
				t.Fatalf("the call was answered %s, want setup:%s in\n%s", m.Start, c.answer, m.Body)
			}
			media.Start(m.Body, 700)
			media.Keyed(10 * time.Second)
			o.bothHear(media, 700)
			o.hangup(d, media)
		})
	}
}

// The phone is called: the edge offers actpass beside its crypto lines, and the
// phone chooses.
func TestDtlsCalled(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	for _, setup := range []string{"active", "passive"} {
		t.Run(setup, func(t *testing.T) {
			media := phone.NewDTLS()
			media.DTLS.Setup = setup
			o.dtlsIn(phone, media, 700)
		})
	}
}

// A phone that looks for DTLS in the m-line, as Linphone does, refuses what it is offered
// first. It is called again at once, by Asterisk's one INVITE, and the next time at once.
func TestDtlsAlone(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		phone := o.registered("1001")
		for _, proto := range []string{"RTP/SAVP", "UDP/TLS/RTP/SAVP"} {
			o.forget()
			o.pbx.Originate("1001", "610")
			inv := phone.Expect("INVITE", 5*time.Second)
			if !strings.Contains(inv.Body, " "+proto+" ") {
				o.t.Fatalf("the phone is offered\n%s\nwant %s", inv.Body, proto)
			}
			if proto == "RTP/SAVP" {
				phone.Answer(inv, 488, "Not Acceptable Here", "")
				inv = phone.Expect("INVITE", 5*time.Second)
			}
			media := phone.NewDTLS()
			media.DTLS.Setup = "active"
			phone.Answer(inv, 180, "Ringing", "")
			phone.Answer(inv, 200, "OK", media.Accept(inv.Body))
			media.Start(inv.Body, 700)
			media.Keyed(10 * time.Second)
			o.bothHear(media, 700)
			o.hangup(phone.DialogOf(inv), media)
		}
	})
}

// Of the suites that a phone knows, GCM is taken if it is among them.
func TestDtlsProfiles(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	for _, c := range []struct {
		knows []string
		want  string
	}{
		{[]string{suite, "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"}, "AEAD_AES_128_GCM"},
		{[]string{suite}, suite},
		{[]string{"AES_CM_128_HMAC_SHA1_32"}, "AES_CM_128_HMAC_SHA1_32"},
		{[]string{"AEAD_AES_256_GCM"}, "AEAD_AES_256_GCM"},
	} {
		for _, setup := range []string{"active", "passive"} {
			if setup == "passive" && len(c.knows) > 1 { // who is passive chooses (RFC 5764 section 4.1.1): the phone
				continue
			}
			t.Run(c.want+" of "+strings.Join(c.knows, " ")+"/"+setup, func(t *testing.T) {
				media := phone.NewDTLS()
				media.Stack = peers.Libsrtp
				media.DTLS.Setup, media.DTLS.Profiles = setup, c.knows
				o.dtlsOut(phone, media, 700)
				if media.Suite != c.want {
					t.Errorf("agreed on %s, want %s", media.Suite, c.want)
				}
			})
		}
	}
}

// A re-INVITE that names another certificate begins another handshake (RFC 8842
// section 4); one that names the same does not.
func TestDtlsNewCertificate(t *testing.T) {
	o := newWebOffice(t, "")
	phone := o.webPhone("1001")
	for _, ice := range []bool{false, true} {
		for _, setup := range []string{"active", "passive"} {
			t.Run(fmt.Sprintf("%s, ICE %v", setup, ice), func(t *testing.T) {
				media := phone.NewDTLS()
				media.DTLS.Setup = setup
				if ice {
					media.NewICE()
				}
				d := o.dtlsCall(phone, "600", media, 700)
				media.Hears(700, 10*time.Second)
				keyed, key := o.keyed(), media.RemoteKey()
				o.change(d, media)
				media.Keyed(20 * time.Second)
				o.speaks(media, 900)
				if o.keyed() != keyed || media.RemoteKey() != key {
					t.Error("the same certificate was asked for again")
				}
				media.DTLS.NewCertificate()
				o.change(d, media)
				media.Keyed(20 * time.Second)
				o.speaks(media, 1100)
				if o.keyed() != keyed+1 || media.RemoteKey() == key {
					t.Errorf("%d handshakes with another certificate, want one, and other keys", o.keyed()-keyed)
				}
				o.hangUp(d, media)
			})
		}
	}
}
