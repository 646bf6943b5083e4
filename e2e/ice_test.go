package e2e

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/sallyport/sallyport/e2e/peers"
)

// newIceOffice has a web phone, which the edge offers ICE.
func newIceOffice(t *testing.T) (*office, *peers.Phone) {
	t.Helper()
	o := newWebOffice(t, "")
	return o, o.webPhone("1001")
}

// A phone checks and nominates in either way, in each role, calling and called,
// and then has its sound.
func TestDtlsIceStun(t *testing.T) {
	o, phone := newIceOffice(t)
	for _, aggressive := range []bool{true, false} {
		for _, setup := range []string{"active", "passive", "actpass"} {
			name := map[bool]string{true: "aggressive", false: "regular"}[aggressive] + "/" + setup
			t.Run(name, func(t *testing.T) {
				media := func() *peers.Media {
					m := phone.NewDTLS()
					m.DTLS.Setup = setup
					m.NewICE().Aggressive = aggressive
					return m
				}
				out, in := media(), media()
				o.dtlsOut(phone, out, 700)
				out.DTLS.ICE.Checked()
				o.dtlsIn(phone, in, 900)
				in.DTLS.ICE.Checked()
			})
		}
	}
}

// The phone goes to another port, and then to another host: it checks there
// and nominates, and the sound follows, although it says nothing itself.
func TestIceMoves(t *testing.T) {
	o, phone := newIceOffice(t)
	mobile := o.Phone("mobile")
	for _, aggressive := range []bool{true, false} {
		t.Run(map[bool]string{true: "aggressive", false: "regular"}[aggressive], func(t *testing.T) {
			media := phone.NewDTLS()
			ice := media.NewICE()
			ice.Aggressive = aggressive
			d := o.dtlsCall(phone, "602", media, 700)
			media.Hears(1004, 10*time.Second)
			media.Silence(true)
			for _, h := range []*peers.Host{phone.Host, mobile} {
				media.Move(h)
				ice.Nominated(5 * time.Second)
				ice.Checked()
				media.Forget()
				media.Hears(1004, 10*time.Second)
			}
			media.Silence(false)
			o.hangUp(d, media)

			// What it says is heard from the new place too.
			media = phone.NewDTLS()
			media.NewICE().Aggressive = aggressive
			d = o.dtlsCall(phone, "600", media, 700)
			media.Hears(700, 10*time.Second)
			media.Move(mobile)
			o.speaks(media, 900)
			o.hangUp(d, media)
		})
	}
	t.Run("without a check", func(t *testing.T) { // the control
		media := phone.NewDTLS()
		ice := media.NewICE()
		d := o.dtlsCall(phone, "602", media, 700)
		media.Hears(1004, 10*time.Second)
		media.Silence(true)
		ice.Silence(true)
		media.Move(mobile)
		before, _, _ := media.Counts()
		relayed := o.relayed()
		peers.Until(t, 10*time.Second, "a second of the PBX's sound", func() bool { return o.relayed() > relayed+50 })
		if after, _, _ := media.Counts(); after != before {
			t.Errorf("%d packets came to where no check came from", after-before)
		}
		ice.Silence(false)
		media.Forget()
		media.Hears(1004, 10*time.Second)
		o.hangUp(d, media)
	})
}

// A phone that restarts ICE gets other credentials, and keeps its keys and its
// sound, also if it does so because it has moved (RFC 8445 section 9).
func TestIceRestartOfPhone(t *testing.T) {
	o, phone := newIceOffice(t)
	mobile := o.Phone("mobile")
	media := phone.NewDTLS()
	ice := media.NewICE()
	d := o.dtlsCall(phone, "600", media, 700)
	media.Hears(700, 10*time.Second)
	keyed := o.keyed()
	for i, move := range []bool{false, true} {
		before := ice.Remote()
		ice.Restart()
		if move {
			media.Move(mobile)
		}
		o.change(d, media)
		if ice.Remote() == before {
			t.Error("the edge answered a restart with the same credentials")
		}
		ice.Nominated(5 * time.Second)
		ice.Checked()
		o.speaks(media, float64(900+200*i))
	}
	o.change(d, media) // the control
	before := ice.Remote()
	o.change(d, media)
	if ice.Remote() != before {
		t.Error("the edge restarts where the phone does not")
	}
	if n := o.keyed() - keyed; n != 0 {
		t.Errorf("%d handshakes, want none: the keys do not depend on the path", n)
	}
	o.hangUp(d, media)
}

// A phone that stops to check wants no more of it, whatever it still sends (RFC
// 7675 section 5.1): the call ends, and both ends are told why.
func TestIceConsentExpires(t *testing.T) {
	o, phone := newIceOffice(t)
	media := phone.NewDTLS()
	ice := media.NewICE()
	o.dtlsCall(phone, "600", media, 700)
	media.Hears(700, 10*time.Second)
	phone.Silent(35 * time.Second) // the control: it lives on as long as the phone checks
	ice.Silence(true)
	const cause = "ICE: the phone has checked no path for 30s (RFC 7675)"
	bye := phone.Expect("BYE", 60*time.Second)
	if reason := bye.Get("Reason"); !strings.Contains(reason, cause) {
		t.Errorf("the phone is told %q, want %q", reason, cause)
	}
	phone.Answer(bye, 200, "OK", "")
	o.idle()
	if n := o.edge.Metric(`sallyport_calls_ended_total{reason="` + cause + `"}`); n != 1 {
		t.Errorf("%v calls are counted as ended so, want 1", n)
	}
}

// A phone that names no candidate yet (RFC 8838) is found by its checks.
func TestIceTrickle(t *testing.T) {
	o, phone := newIceOffice(t)
	for _, setup := range []string{"active", "passive"} {
		t.Run(setup, func(t *testing.T) {
			media := phone.NewDTLS()
			media.DTLS.Setup = setup
			media.NewICE().Trickle = true
			if strings.Contains(media.Offer(), "a=candidate") {
				t.Fatal("the phone names candidates: the case shows nothing")
			}
			o.dtlsOut(phone, media, 700)
			media.DTLS.ICE.Checked()
		})
	}
}

// A phone that thinks it is controlled is told that it is not (RFC 8445 section
// 7.3.1.1), and goes on in the other role.
func TestIceRoleConflict(t *testing.T) {
	o, phone := newIceOffice(t)
	media := phone.NewDTLS()
	ice := media.NewICE()
	ice.Conflict = true
	o.dtlsOut(phone, media, 700)
	ice.Checked()
	if n := ice.Errors(487); n == 0 {
		t.Error("the phone was not told of the conflict")
	}
}

// Checks that nobody could have signed who knows the password get no answer,
// and take nobody's sound away.
func TestIceUnsigned(t *testing.T) {
	o, phone := newIceOffice(t)
	media := phone.NewDTLS()
	ice := media.NewICE()
	attacker := peers.StartAttacker(o.Lab)
	own := netip.AddrPortFrom(attacker.Addr, 40000)
	d := o.dtlsCall(phone, "602", media, 700)
	media.Hears(1004, 10*time.Second)
	refused := o.edge.Metric(dropsSTUN)
	for _, wrong := range []peers.Signature{peers.SignedBy("guess"), peers.Unsigned(), peers.SignedBy("")} {
		bad := ice.Ask(wrong)
		right := ice.Ask(ice.Signed()) // answered after it would have been
		select {
		case m := <-right:
			if m.Type.Class != stun.ClassSuccessResponse {
				t.Fatalf("a check of the phone is answered %s", m.Type)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a check of the phone is not answered")
		}
		select {
		case m := <-bad:
			t.Errorf("a check that is not signed is answered %s", m.Type)
		default:
		}
		for range 20 {
			attacker.Send(own, media.Remote(), ice.Check(wrong))
		}
	}
	peers.Until(t, 5*time.Second, "each to be refused", func() bool { return o.edge.Metric(dropsSTUN)-refused == 3*21 })
	media.Forget()
	media.Hears(1004, 10*time.Second)
	if n := attacker.Got(); n != 0 {
		t.Errorf("the edge sent the attacker %d packets", n)
	}

	knows := o.Phone("knows") // the control: one who knows the password is the phone
	there := peers.StartCapture(knows, "outside")
	for range 20 {
		attacker.Send(netip.AddrPortFrom(knows.Addr, 40000), media.Remote(), ice.Check(ice.Signed()))
	}
	media.Forget()
	ice.Silence(true)
	media.Silence(true)
	relayed := o.relayed()
	peers.Until(t, 10*time.Second, "a second of the PBX's sound", func() bool { return o.relayed() > relayed+50 })
	there.Stop()
	if n := there.Count("udp.length > 150 && ip.src == " + peers.EdgeOutside); n < 25 {
		t.Errorf("the edge sent %d packets to one with the password: the check shows nothing", n)
	}
	ice.Silence(false)
	o.hangUp(d, media)
}

const dropsSTUN = `sallyport_media_drops_total{reason="stun"}`
