package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// The PBX asks each phone whether it is there, and each answers for itself. One
// whose connection is gone is not there, although to chan_sip any answer, 480 too,
// says that it is; and a call to it is refused at once.
func TestOptionsQualify(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{General: "qualify=yes\nqualifyfreq=1", AOR: "qualify_frequency=1\nqualify_timeout=1"}, func(o *office) {
		anna := o.registered("1001")
		ben := o.registered("1002") // the control: it does not answer
		gone := o.registered("1003")
		for _, p := range []*peers.Phone{anna, gone} {
			m := p.Told("OPTIONS", "anything", func(*peers.Message) bool { return true })
			if uri := strings.Fields(m.Start)[1]; uri != p.Contact() {
				o.t.Errorf("OPTIONS came for %s", uri)
			}
		}
		ben.Expect("OPTIONS", 10*time.Second)
		peers.Until(o.t, 10*time.Second, "the answers of two, and the other's to be missed", func() bool {
			answers(anna, gone)
			return o.pbx.Reaches("1001") && o.pbx.Reaches("1003") && o.pbx.Misses("1002")
		})
		gone.Reset()
		peers.Until(o.t, 10*time.Second, "the phone that is gone to be missed", func() bool { return o.pbx.Misses("1003") })
		o.refusedAtOnce(anna, gone.User)
		gone.Connect(o.edge)
		if m := gone.Register("secret-1003", 600, ""); m.Status() != 200 {
			o.t.Fatalf("registering again was answered %s", m.Start)
		}
		peers.Until(o.t, 10*time.Second, "the phone to be back", func() bool {
			answers(gone)
			return o.pbx.Reaches("1003")
		})
	})
}

// With sip.answer_qualify the phones are not asked, and chan_pjsip, to which too
// any answer is one, learns the same.
func TestQualifyAnswered(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{Version: 22, AOR: "qualify_frequency=1\nqualify_timeout=1"},
		peers.EdgeConfig{Extra: "[sip]\nanswer_qualify = true\n"})
	anna, gone := o.registered("1001"), o.registered("1002")
	peers.Until(t, 10*time.Second, "both to be there", func() bool { return o.pbx.Reaches("1001") && o.pbx.Reaches("1002") })
	gone.Reset()
	peers.Until(t, 10*time.Second, "the phone that is gone to be missed", func() bool { return o.pbx.Misses("1002") })
	if strings.Contains(anna.Heard(), "OPTIONS sip:") || !o.pbx.Reaches("1001") {
		t.Errorf("the phone was asked all the same, or is taken for gone")
	}
	o.refusedAtOnce(anna, gone.User)
}

// refusedAtOnce calls a phone that is not there. Asterisk tells why by a code of
// its own, as it does for voicemail. Asked in vain, it would take 30 seconds.
func (o *office) refusedAtOnce(caller *peers.Phone, user string) {
	o.t.Helper()
	begun := time.Now()
	if _, m := caller.Invite(user, caller.NewMedia(suite).Offer()); m.Status() < 400 || time.Since(begun) > 10*time.Second {
		o.t.Errorf("a call to who is not there is answered %s after %s", m.Start, time.Since(begun))
	}
}
