package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// Web phones' calls, by WebSocket, ICE and DTLS-SRTP, are kept when the edge is replaced:
// nobody hears of it, in either role. The checks that renew consent go on being answered,
// for longer than a call lives without any; a re-INVITE, a restart of ICE and another
// certificate are taken; goodbye is said from either end.
func TestUpgradeWebCall(t *testing.T) {
	t.Parallel() // it waits most of its time
	o := newWebOffice(t, "")
	phones := []*peers.Phone{o.webPhone("1001"), o.webPhone("1002")}
	var all []talker
	for i, setup := range []string{"active", "passive"} {
		p := phones[i]
		m := p.NewDTLS()
		m.DTLS.Setup = setup
		m.NewICE()
		m.Count()
		all = append(all, talker{p, m, o.dtlsCall(p, "600", m, 700)})
	}
	sounds := func(what string, packets int) {
		t.Helper()
		for i, c := range all {
			whole(t, fmt.Sprintf("call %d %s", i, what), c.media, packets)
			c.media.Forget()
		}
	}
	sounds("before the upgrade", 50)
	keyed := o.keyed()
	before := o.edge.Upgrade()
	sounds("over the upgrade", 100)

	// Consent ends after 30 s without a check; TestIceConsentExpires is the control.
	time.Sleep(35 * time.Second)
	sounds("after it", 50)
	for _, c := range all {
		c.media.DTLS.ICE.Checked()
		o.change(c.call, c.media)
		c.media.DTLS.ICE.Restart()
		o.change(c.call, c.media)
		c.media.DTLS.ICE.Nominated(5 * time.Second)
	}
	sounds("after a restart of ICE", 50)
	if n := o.keyed() - keyed; n != 0 {
		t.Errorf("%d handshakes since the upgrade, want none", n)
	}
	for _, c := range all {
		c.media.DTLS.NewCertificate()
		o.change(c.call, c.media)
		c.media.Keyed(20 * time.Second)
		c.media.Forget()
	}
	sounds("with another certificate", 50)

	// A web phone that comes back is the new process's, with a call of the same kind.
	late := o.webPhone("1003")
	m := late.NewDTLS()
	m.NewICE()
	d := o.dtlsCall(late, "600", m, 900)
	m.Hears(900, 10*time.Second)
	o.bye(d, m)

	o.bye(all[0].call, all[0].media)
	o.pbx.Must("channel request hangup all")
	bye := all[1].phone.Expect("BYE", 10*time.Second)
	if reason := bye.Get("Reason"); strings.Contains(reason, "ICE") {
		t.Errorf("the call is ended for %q", reason)
	}
	all[1].phone.Answer(bye, 200, "OK", "")
	all[1].media.Stop()
	if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
		t.Errorf("the process before ended with status %d, %v", status, err)
	}
	o.idle()
}

// A browser's call goes on when the edge is replaced, for longer than it would without an
// answer to the checks of consent; hold, a restart of ICE and goodbye are the browser's
// own. Then the page comes back, and calls by the new process.
func TestUpgradeBrowser(t *testing.T) {
	for _, stack := range stacks {
		t.Run(stack, func(t *testing.T) {
			o := newPageOffice(t, peers.AsteriskConfig{})
			b, desk := o.browser("1001", stack, 700), o.phone("1002", 1300)
			talk := func() {
				t.Helper()
				desk.Forget()
				desk.Hears(700, 10*time.Second)
				b.Hears(1300, 10*time.Second)
			}
			o.dial(b, "1002")
			talk()
			before := o.edge.Upgrade()
			talk()
			if stack == peers.JsSIP { // the checks are the browser's, whatever page it shows
				time.Sleep(35 * time.Second) // it gives a path up after 30 s (RFC 7675 section 5.1)
				talk()
			}
			b.Hold()
			b.Resume()
			talk()
			b.RestartICE()
			talk()
			b.Hangup()
			desk.Event("CALL_CLOSED", 10*time.Second)
			if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
				t.Errorf("the process before ended with status %d, %v", status, err)
			}
			if stack == peers.SIPJS { // it leaves coming back to whoever uses it
				b.Reload()
				b.Register()
			}
			peers.Until(t, 60*time.Second, "the page and the phone to come back", func() bool { return o.edge.Metric("sallyport_bindings") == 2 })
			o.dial(b, "602")
			b.Hears(1004, 10*time.Second)
			o.quit(b)
		})
	}
}
