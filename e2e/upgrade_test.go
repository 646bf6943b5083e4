package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// gap is what nobody hears: packets of 20 ms that may be missing in a row.
const gap = 5

// talker is one phone in a call.
type talker struct {
	phone *peers.Phone
	media *peers.Media
	call  *peers.Dialog
}

// whole waits until so much was heard of a sound that is counted, in packets, and wants
// no more than a gap missing in it. However busy the machine is: what a phone does not
// say in time, nobody misses.
func whole(t *testing.T, what string, m *peers.Media, packets int) {
	t.Helper()
	peers.Until(t, 20*time.Second, fmt.Sprintf("%d packets to be heard, %s", packets, what), func() bool {
		heard, _ := m.Skipped()
		return heard >= packets
	})
	heard, longest := m.Skipped()
	t.Logf("%s: %d packets heard, %d missing in a row", what, heard, longest)
	if longest > gap {
		t.Errorf("%s: %d packets heard, %d missing in a row", what, heard, longest)
	}
}

// The edge is replaced under twenty calls. Nobody hears of it: each packet of each
// call sounds other than those near it, and none is missing for longer than 100 ms.
// All that belongs to a call works after it, in either direction; who has no call is
// served by the new process; and the one before ends with its calls.
func TestUpgradeUnderCalls(t *testing.T) {
	const calls = 20
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{})
	var all []talker
	var p *peers.Phone
	for i := range calls { // each phone makes one, and is called
		if i%2 == 0 {
			p = o.registered(strconv.Itoa(1001 + i/2))
		}
		m := p.NewMedia(suite)
		m.Count()
		if i%2 == 0 {
			all = append(all, talker{p, m, o.echo(p, m, 0)})
			continue
		}
		o.pbx.Originate(p.User, "600")
		all = append(all, talker{p, m, o.answer(p, m, 0)})
	}
	idle := o.registered("1020")
	hears := func() {
		t.Helper()
		for _, c := range all {
			c.media.Forget()
		}
		for i, c := range all {
			whole(t, fmt.Sprintf("call %d", i), c.media, 50)
		}
	}
	hears()

	for _, c := range all {
		c.media.Forget()
	}
	before := o.edge.Upgrade()
	for i, c := range all {
		whole(t, fmt.Sprintf("call %d over the upgrade", i), c.media, 100)
	}
	if n := o.pbx.Channels(); n != calls {
		t.Fatalf("Asterisk has %d channels, want %d", n, calls)
	}

	// Who had no call comes back, and is served by the new process.
	if _, err := idle.Read(15 * time.Second); err == nil {
		t.Error("a phone without a call was told something")
	}
	idle.Connect(o.edge)
	if m := idle.Register("secret-1020", 600, ""); m.Status() != 200 {
		t.Fatalf("registering at the new process was answered %s", m.Start)
	}
	if n := o.edge.Metric("sallyport_bindings"); n != 1 {
		t.Errorf("the new process has %v bindings, want 1", n)
	}
	media := idle.NewMedia(suite)
	d := o.echo(idle, media, 900)
	media.Hears(900, 10*time.Second)
	o.bye(d, media)
	o.pbx.Originate("1020", "602")
	media = idle.NewMedia(suite)
	o.answer(idle, media, 900)
	media.Hears(1004, 10*time.Second)

	// Calls of before: hold and resume, goodbye from either end.
	out, in := all[0], all[3]
	o.change(out.call, out.media)
	o.change(in.call, in.media)
	hears()
	// A phone in a call can call, and be called, on the connection that it has.
	second := out.phone.NewMedia(suite)
	again := o.echo(out.phone, second, 1100)
	second.Hears(1100, 10*time.Second)
	o.bye(again, second)
	o.pbx.Originate(in.phone.User, "602")
	second = in.phone.NewMedia(suite)
	called := o.answer(in.phone, second, 1100)
	second.Hears(1004, 10*time.Second)
	o.bye(called, second)
	for _, c := range all[:4] {
		o.bye(c.call, c.media)
	}
	if !before.Running() {
		t.Fatal("the process before ended with calls")
	}
	o.pbx.Must("channel request hangup all")
	for _, c := range all[4:] {
		c.phone.Answer(c.phone.Expect("BYE", 10*time.Second), 200, "OK", "")
		c.media.Stop()
	}
	idle.Answer(idle.Expect("BYE", 10*time.Second), 200, "OK", "")
	media.Stop()
	if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
		t.Errorf("the process before ended with status %d, %v", status, err)
	}
	o.idle()
}

// A process that cannot start changes nothing. Upgrades may follow one another while
// each process has a call; and one that is told to end has the others end, too.
func TestUpgradeChain(t *testing.T) {
	o := newOffice(t)
	var all []talker
	call := func() {
		t.Helper()
		p := o.registered(strconv.Itoa(1001 + len(all)))
		m := p.NewMedia(suite)
		all = append(all, talker{p, m, o.echo(p, m, 700)})
	}
	speak := func(hz float64) {
		t.Helper()
		for i, c := range all {
			o.speaks(c.media, hz+float64(100*i))
		}
	}
	call()
	good := o.edge.Configured()
	o.edge.Reconfigure(strings.Replace(good, "[edge]\n", "[edge]\nhandover = \"-1s\"\n", 1))
	if said := o.edge.UpgradeFails(); !strings.Contains(said, "the former process goes on") || !strings.Contains(said, "edge.handover") {
		t.Errorf("an upgrade to a bad configuration says %s", said)
	}
	o.edge.Reconfigure(good)
	speak(500)
	var before []*peers.Process
	for i := range 2 {
		before = append(before, o.edge.Upgrade())
		call()
		speak(float64(600 + 50*i))
	}
	o.edge.Signal(syscall.SIGTERM)
	peers.Until(t, 10*time.Second, "new calls to be refused", func() bool {
		_, m := all[2].phone.Invite("602", all[2].phone.NewMedia(suite).Offer())
		return m.Status() == 503
	})
	speak(800)
	o.edge.Signal(syscall.SIGTERM)
	for _, c := range all {
		c.phone.Answer(c.phone.Expect("BYE", 10*time.Second), 200, "OK", "")
		c.media.Stop()
	}
	for i, p := range before {
		if _, err := p.Wait(10 * time.Second); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
	}
	if _, err := o.edge.Wait(10 * time.Second); err != nil {
		t.Error(err)
	}
	peers.Until(t, 10*time.Second, "Asterisk to have no channel", func() bool { return o.pbx.Channels() == 0 })
}

// Listeners for all addresses are taken over, too.
func TestUpgradeAnyAddress(t *testing.T) {
	for _, at := range []string{"0.0.0.0", "[::]"} {
		t.Run(at, func(t *testing.T) {
			o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Extra: fmt.Sprintf("[sip]\ntls_listen = \"%s:5061\"\nwss_listen = \"%s:443\"\n", at, at)})
			for range 2 {
				before := o.edge.Upgrade()
				if status, err := before.Wait(20 * time.Second); status != 0 || err != nil {
					t.Errorf("the process before ended with status %d, %v", status, err)
				}
			}
			o.registered("1001")
		})
	}
}

// The configuration that the new process begins with may have another port for media, or
// for the PBX, or another PBX. Calls of before go on by what they have: their sound, and
// goodbye from either end.
func TestUpgradeMoves(t *testing.T) {
	for name, c := range map[string]struct{ extra, pbxs string }{
		"the port for media":   {extra: "[media]\nport = 12000\n"},
		"the port for the PBX": {extra: "[sip]\nplain_listen = \":5070\"\n"},
		"the PBX":              {pbxs: "\"10.0.0.9:5060\""},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			var all []talker
			for i := range 2 {
				p := o.registered(strconv.Itoa(1001 + i))
				m := p.NewMedia(suite)
				all = append(all, talker{p, m, o.echo(p, m, 700)})
			}
			text := o.edge.Configured() + c.extra
			if c.pbxs != "" {
				text = strings.Replace(text, strconv.Quote(peers.PBXAddr+":5060"), c.pbxs, 1)
			}
			o.edge.Reconfigure(text)
			before := o.edge.Upgrade()
			for _, c := range all {
				o.speaks(c.media, 900)
				o.change(c.call, c.media)
				o.speaks(c.media, 1100)
			}
			if c.pbxs == "" {
				p := o.registered("1003")
				m := p.NewMedia(suite)
				d := o.echo(p, m, 1300)
				m.Hears(1300, 10*time.Second)
				o.bye(d, m)
			}
			o.bye(all[0].call, all[0].media)
			o.pbx.Must("channel request hangup all")
			all[1].phone.Answer(all[1].phone.Expect("BYE", 10*time.Second), 200, "OK", "")
			all[1].media.Stop()
			if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
				t.Errorf("the process before ended with status %d, %v", status, err)
			}
		})
	}
}

// Who is banned after an upgrade is kept out of the processes before, too: a phone that has
// a call there could go on to make others.
func TestUpgradeBanned(t *testing.T) {
	o := newOffice(t)
	var all []talker
	for i := range 2 {
		p := o.registered(strconv.Itoa(1001 + i))
		m := p.NewMedia(suite)
		all = append(all, talker{p, m, o.echo(p, m, 700)})
		o.edge.Upgrade()
	}
	for _, c := range all {
		second := c.phone.NewMedia(suite)
		o.bye(o.echo(c.phone, second, 900), second)
		from, _, _ := net.SplitHostPort(c.phone.Local())
		o.edge.Run("bans", "add", from)
	}
	for _, c := range all {
		peers.Until(t, 10*time.Second, "the phone's connection to be closed", func() bool {
			err := c.phone.Write(options(c.phone, ""))
			if err == nil {
				_, err = c.phone.Read(200 * time.Millisecond)
			}
			var slow net.Error
			return err != nil && !(errors.As(err, &slow) && slow.Timeout())
		})
		c.media.Stop()
	}
}

// Bans are the new process's, those of just before too; and one that was removed is none.
func TestUpgradeBans(t *testing.T) {
	o := newOffice(t)
	for i := range 4 {
		o.edge.Run("bans", "add", fmt.Sprintf("198.51.100.%d", i+1))
	}
	o.edge.Run("bans", "remove", "198.51.100.1")
	want := o.edge.Run("bans", "list")
	for range 2 {
		o.edge.Upgrade()
		if got := o.edge.Run("bans", "list"); got != want {
			t.Errorf("the new process has the bans\n%swant\n%s", got, want)
		}
	}
	// Nor does it need the disk for that, which may be full.
	file := filepath.Join(o.edge.State, "bans.json")
	if err := errors.Join(os.Remove(file), os.MkdirAll(filepath.Join(file, "in-the-way"), 0o700)); err != nil {
		t.Fatal(err)
	}
	o.edge.Run("bans", "add", "198.51.100.5")
	want = o.edge.Run("bans", "list")
	o.edge.Upgrade()
	peers.Until(t, 5*time.Second, "the new process to have bans that are in no file", func() bool { return o.edge.Run("bans", "list") == want })
}
