package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

const suite = "AES_CM_128_HMAC_SHA1_80"

func TestCallOut(t *testing.T) {
	o := newOffice(t)
	phone := o.phone("1001", 700)
	for number, hz := range map[string]float64{"602": 1004, "600": 700} {
		phone.Dial(number)
		phone.Event("CALL_ESTABLISHED", 10*time.Second)
		phone.Hears(hz, 10*time.Second)
		phone.Hangup()
		phone.Event("CALL_CLOSED", 5*time.Second)
		o.idle()
	}
}

func TestCallIn(t *testing.T) {
	o := newOffice(t)
	phone := o.phone("1001", 700)
	o.pbx.Originate("1001", "610")
	phone.Event("CALL_ESTABLISHED", 10*time.Second)
	phone.Hears(1004, 10*time.Second)
	o.pbx.Must("channel request hangup all")
	phone.Event("CALL_CLOSED", 5*time.Second)
	o.idle()
	o.pbxHeard(700)
}

// pbxHeard checks what extension 610 recorded.
func (o *office) pbxHeard(hz float64) {
	o.t.Helper()
	got, share := o.pbx.Hears("heard", hz)
	o.t.Logf("Asterisk heard %.1f Hz, %.0f %% of the sound", got, 100*share)
}

func TestPhoneToPhone(t *testing.T) {
	o := newOffice(t)
	anna, ben := o.phone("1001", 700), o.phone("1002", 1300)
	o.talk(anna, ben)
	ben.Hangup()
	anna.Event("CALL_CLOSED", 5*time.Second)
	o.idle()
}

// A phone that dials telephone numbers reaches extensions: in its calls, and
// where it hands one on to.
func TestTelephoneNumbers(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		anna, ben := o.registered("1001"), o.registered("1002")
		media := anna.NewMedia(suite)
		d := o.call(anna, "tel:6-00;phone-context=pbx.example.com", media, 700)
		media.Hears(700, 10*time.Second)
		if !strings.HasPrefix(d.Remote(), "<tel:6-00;phone-context=pbx.example.com>;tag=") {
			o.t.Errorf("the phone called %s", d.Remote())
		}
		o.hangUp(d, media)
		media, b := anna.NewMedia(suite), ben.NewMedia(suite)
		answered := peers.Meanwhile(o.t, func() *peers.Dialog { return o.answer(ben, b, 1300) })
		d = o.call(anna, "tel:1-002", media, 700)
		answered()
		b.Hears(700, 10*time.Second) // chan_pjsip transfers no call that is not bridged yet
		if m := d.Request("REFER", "", "Refer-To: <tel:6.02>", "Referred-By: <sips:1001@pbx.example.com>"); m.Status() != 202 {
			o.t.Fatalf("the transfer was answered %s", m.Start)
		}
		anna.Told("NOTIFY", "how the transfer went", func(m *peers.Message) bool { return strings.HasPrefix(m.Body, "SIP/2.0 200") })
		o.bye(d, media)
		b.Forget()
		b.Hears(1004, 10*time.Second)
		o.pbx.Must("channel request hangup all")
		ben.Told("BYE", "goodbye", func(*peers.Message) bool { return true })
		o.idle()
	})
}

func TestCancelBeforeAnswer(t *testing.T) {
	o := newOffice(t)
	phone := o.phone("1001", 700)
	phone.Dial("605")
	phone.Event("CALL_RINGING", 10*time.Second)
	phone.Hangup()
	phone.Event("CALL_CLOSED", 5*time.Second)
	o.idle()
	t.Run("PBX gives up", func(t *testing.T) {
		ringing := o.registered("1002")
		caller := o.registered("1003")
		cancelled := peers.Meanwhile(o.t, func() *peers.Message {
			_, m := caller.Cancelled("1002", caller.NewMedia(suite).Offer())
			return m
		})
		inv := ringing.Expect("INVITE", 5*time.Second)
		ringing.Answer(inv, 180, "Ringing", "")
		cancel := ringing.Expect("CANCEL", 5*time.Second)
		ringing.Answer(cancel, 200, "OK", "")
		ringing.Answer(inv, 487, "Request Terminated", "")
		ringing.Expect("ACK", 5*time.Second)
		if m := cancelled(); m.Status() != 487 {
			t.Fatalf("the cancelled call ended with %s, want 487", m.Start)
		}
		o.idle()
	})
}

func TestBusy(t *testing.T) {
	o := newOffice(t)
	phone := o.phone("1001", 700)
	phone.Dial("603")
	if e := phone.Event("CALL_CLOSED", 10*time.Second); !strings.Contains(e.Param, "486") {
		t.Fatalf("a busy number was told as %q, want 486", e.Param)
	}
	o.idle()

	callee, caller := o.registered("1002"), o.registered("1003")
	for _, c := range []struct {
		name   string
		status int
		reason string
		caller int
	}{
		{"busy", 486, "Busy Here", 486},
		{"declined", 603, "Decline", 603},
		{"unavailable", 480, "Temporarily Unavailable", 480},
	} {
		t.Run(c.name, func(t *testing.T) {
			answered := peers.Meanwhile(o.t, func() *peers.Message {
				_, m := caller.Invite("1002", caller.NewMedia(suite).Offer())
				return m
			})
			inv := callee.Expect("INVITE", 5*time.Second)
			callee.Answer(inv, c.status, c.reason, "")
			callee.Expect("ACK", 5*time.Second)
			if m := answered(); m.Status() < 400 {
				t.Fatalf("the refused call was answered %s", m.Start)
			} else {
				t.Logf("the callee's %d reached the caller as %s", c.status, m.Start)
			}
			o.idle()
		})
	}
}

func TestHangupByPBX(t *testing.T) {
	o := newOffice(t)
	phone := o.phone("1001", 700)
	phone.Dial("606") // hangs up two seconds after it answered
	phone.Event("CALL_ESTABLISHED", 10*time.Second)
	phone.Event("CALL_CLOSED", 10*time.Second)
	o.idle()
}

func TestHangupByPhone(t *testing.T) {
	o := newOffice(t)
	phone := o.phone("1001", 700)
	phone.Dial("602")
	phone.Event("CALL_ESTABLISHED", 10*time.Second)
	if o.pbx.Channels() != 1 {
		t.Fatal("Asterisk has no call")
	}
	phone.Hangup()
	phone.Event("CALL_CLOSED", 5*time.Second)
	o.idle()
}

func TestOptionsInDialog(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	d, m := phone.Invite("602", media.Offer())
	if m.Status() != 200 {
		t.Fatalf("the call was answered %s", m.Start)
	}
	if m := d.Request("OPTIONS", ""); m.Status() != 200 {
		t.Fatalf("OPTIONS inside the call was answered %s", m.Start)
	}
	if m := d.Request("BYE", ""); m.Status() != 200 {
		t.Fatalf("BYE was answered %s", m.Start)
	}
	o.idle()
	if m := d.Request("OPTIONS", ""); m.Status() != 481 {
		t.Fatalf("OPTIONS after the call was answered %s, want 481", m.Start)
	}
}

// Sound before the answer reaches the phone.
func TestEarlyMedia(t *testing.T) {
	o := newOffice(t)
	phone := o.phone("1001", 700)
	phone.Dial("607")
	phone.Event("CALL_PROGRESS", 10*time.Second)
	phone.Event("CALL_ESTABLISHED", 10*time.Second)
	phone.Hears(1004, 10*time.Second)
	phone.Hangup()
	phone.Event("CALL_CLOSED", 5*time.Second)
	o.idle()
}
