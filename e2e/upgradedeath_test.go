package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A process that has taken over dies. The calls of the one before it go on, which takes
// its sockets back: their sound, what their phones say, and what the PBX does. It starts
// another, which serves the phones; and those whose calls died with the process can end
// them there.
func TestUpgradeDies(t *testing.T) {
	o, manager := newManagedOffice(t)
	var all []talker
	for i := range 4 {
		p := o.registered(fmt.Sprint(1001 + i))
		m := p.NewMedia(suite)
		m.Count()
		all = append(all, talker{p, m, o.echo(p, m, 700)})
	}
	idle := o.registered("1010")
	before := o.edge.Upgrade()
	if _, err := idle.Read(15 * time.Second); err == nil {
		t.Error("a phone without a call was told something")
	}
	idle.Connect(o.edge)
	idle.Register("secret-1010", 600, "")
	lost := idle.NewMedia(suite)
	d := o.echo(idle, lost, 900)
	lost.Hears(900, 10*time.Second)
	for _, c := range all {
		c.media.Forget()
	}

	second := o.edge.Process
	second.Kill()
	before.WaitLog(`"msg":"the process that serves is gone`, 10*time.Second)
	manager.Hears(before.Pid(), fmt.Sprintf("MAINPID=%d", before.Pid()))
	o.edge.Follow(`"msg":"another process serves","pid":(\d+)`)
	manager.Hears(o.edge.Pid(), "READY=1")
	if manager.Main() != o.edge.Pid() {
		t.Errorf("process %d is watched, not the one that serves, %d", manager.Main(), o.edge.Pid())
	}
	for i, c := range all {
		whole(t, fmt.Sprintf("call %d over the death", i), c.media, 100)
	}

	idle.Connect(o.edge)
	if m := idle.Register("secret-1010", 600, ""); m.Status() != 200 {
		t.Fatalf("registering at the third process was answered %s", m.Start)
	}
	if m := d.Request("BYE", ""); m.Status() != 200 {
		t.Errorf("the BYE of a call that died is answered %s", m.Start)
	}
	lost.Stop()
	media := idle.NewMedia(suite)
	d = o.echo(idle, media, 1100)
	media.Hears(1100, 10*time.Second)
	o.bye(d, media)

	// Calls of the first process: a change and goodbye from either end.
	for _, c := range all {
		o.change(c.call, c.media)
		o.speaksOn(c.media)
	}
	for _, c := range all[:2] {
		o.bye(c.call, c.media)
	}
	o.pbx.Must("channel request hangup all")
	for _, c := range all[2:] {
		c.phone.Answer(c.phone.Expect("BYE", 10*time.Second), 200, "OK", "")
		c.media.Stop()
	}
	if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
		t.Errorf("the first process ended with status %d, %v", status, err)
	}
	o.idle()
}

// speaksOn wants a second of counted sound that is whole.
func (o *office) speaksOn(m *peers.Media) {
	o.t.Helper()
	m.Forget()
	whole(o.t, "since then", m, 50)
}

// If no other can be started either, the first process goes on with its calls, and tries
// on; with the last of them it ends as one that has failed, so that whoever started it
// starts it anew. With a configuration that is mended meanwhile, another serves.
func TestUpgradeDiesForGood(t *testing.T) {
	for _, mended := range []bool{false, true} {
		t.Run(map[bool]string{false: "for good", true: "mended"}[mended], func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			phone := o.registered("1001")
			media := phone.NewMedia(suite)
			media.Count()
			d := o.echo(phone, media, 700)
			before := o.edge.Upgrade()
			good := o.edge.Configured()
			o.edge.Reconfigure(strings.Replace(good, "[edge]\n", "[edge]\nhandover = \"-1s\"\n", 1))
			media.Forget()
			o.edge.Kill()
			before.WaitLog(`"msg":"no other process could be started; trying on".*edge\.handover`, 10*time.Second)
			o.speaksOn(media)
			o.change(d, media)
			if mended {
				o.edge.Reconfigure(good)
				before.WaitLog(`"msg":"another process serves"`, 60*time.Second) // it tries less and less often
				o.edge.Follow(`"msg":"another process serves","pid":(\d+)`)
				o.speaksOn(media)
				o.bye(d, media)
				if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
					t.Errorf("the first process ended with status %d, %v", status, err)
				}
				o.idle()
				return
			}
			o.bye(d, media)
			if status, err := before.Wait(60 * time.Second); status == 0 || err != nil {
				t.Errorf("the process ended with status %d, %v: nobody would start it anew", status, err)
			}
			if !before.Logged("no other could be started") {
				t.Error("the process does not say why it ends")
			}
		})
	}
}

// A process in the middle of a chain dies, whose own heir serves: the oldest must not take
// that one's sockets, and ends its calls.
func TestUpgradeMiddleDies(t *testing.T) {
	o := newOffice(t)
	var all []talker
	call := func() {
		t.Helper()
		p := o.registered(fmt.Sprint(1001 + len(all)))
		m := p.NewMedia(suite)
		m.Count()
		all = append(all, talker{p, m, o.echo(p, m, 700)})
	}
	call()
	first := o.edge.Upgrade()
	call()
	middle := o.edge.Upgrade()
	call()
	for _, c := range all {
		o.speaksOn(c.media)
	}
	middle.Signal(syscall.SIGKILL)
	first.WaitLog("its calls have no sound any longer", 10*time.Second)
	o.speaksOn(all[2].media)
	all[0].phone.Answer(all[0].phone.Expect("BYE", 60*time.Second), 200, "OK", "")
	if _, err := first.Wait(10 * time.Second); err != nil {
		t.Error(err)
	}
	if first.Logged("another process serves\"") {
		t.Error("the oldest has started another")
	}
	o.bye(all[2].call, all[2].media)
}
