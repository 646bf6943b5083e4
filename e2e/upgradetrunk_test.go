package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// hold has one end of a link hold and resume, with what its phone says then.
func (b *branches) hold(d *peers.Dialog, m *peers.Media) {
	b.t.Helper()
	for _, direction := range []string{"sendonly", "sendrecv"} {
		m.Direction = direction
		m.Session++
		answer := d.Reinvite(m.Offer())
		if answer.Status() != 200 {
			b.t.Fatalf("a re-INVITE that says %s was answered %s", direction, answer.Start)
		}
		m.Apply(answer.Body)
	}
}

// One edge of a trunk is replaced under calls by it, each way. Nobody hears of it, and
// hold and goodbye work from either end. While calls of before go on, and the far end
// keeps the connections that they came by, new ones are the new process's; and the one
// before ends with its own.
func TestUpgradeTrunk(t *testing.T) {
	for name, c := range map[string]struct{ foo, bar string }{
		"each dials":           {},
		"the other edge dials": {foo: "dial = false\n"},
		"the edge alone dials": {bar: "dial = false\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of its time
			newTrunksOf(t, c.foo, c.bar).upgrade()
		})
	}
}

// upgrade replaces foo's edge.
func (s *trunks) upgrade() {
	t := s.t
	links := []*link{s.connect(s.foo, s.bar, 700, 1300), s.connect(s.bar, s.foo, 700, 1300), s.connect(s.foo, s.bar, 700, 1300), s.connect(s.bar, s.foo, 700, 1300)}
	for _, l := range links {
		hear(l.out, l.in)
		l.out.Count()
		l.in.Count()
	}
	time.Sleep(200 * time.Millisecond) // until nothing is on its way that does not count
	for _, l := range links {
		l.out.Forget()
		l.in.Forget()
	}
	before := s.atFoo.Upgrade()
	for i, l := range links {
		for end, m := range []*peers.Media{l.out, l.in} {
			whole(t, fmt.Sprintf("end %d of call %d over the upgrade", end, i), m, 100)
		}
	}
	s.up(s.atFoo, s.Bar, 1)

	const calls = "sallyport_calls"
	for i := range 6 { // by whichever connection
		ends := [][2]*branch{{s.bar, s.foo}, {s.foo, s.bar}}[i%2]
		l := s.connect(ends[0], ends[1], 900, 1500)
		l.in.Hears(900, 10*time.Second)
		l.out.Hears(1500, 10*time.Second)
		if n := s.atFoo.Metric(calls); n != 1 {
			t.Errorf("new call %d: the new process has %v calls, want it alone", i, n)
		}
		s.hangUp(l)
	}
	s.reach()
	s.later(links)
	for _, l := range links[:2] {
		s.hangUp(l)
	}
	if !before.Running() {
		t.Fatal("the process before ended with calls")
	}
	for _, l := range links[2:] {
		s.hungUp(l)
	}
	if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
		t.Errorf("the process before ended with status %d, %v", status, err)
	}
	s.up(s.atFoo, s.Bar, 1)
	s.up(s.atBar, s.Foo, 1)
	s.idle()
}

// A call to the far end in the moment after the upgrade, when that has not connected to the
// new process, goes by the connection that the one before has.
func TestUpgradeTrunkAtOnce(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newTrunksOf(t, "dial = false\n", "")
	running := s.connect(s.foo, s.bar, 700, 1300)
	before := s.atFoo.Upgrade()
	late := s.connect(s.foo, s.bar, 900, 1500)
	late.in.Hears(900, 10*time.Second)
	late.out.Hears(1500, 10*time.Second)
	s.hangUp(late)
	s.hangUp(running)
	if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
		t.Errorf("the process before ended with status %d, %v", status, err)
	}
	s.up(s.atFoo, s.Bar, 1)
	s.idle()
}

// The connection by which calls of before came breaks after the upgrade. The process that
// has them dials again, and the far end, which may choose, speaks to that one of them.
func TestUpgradeTrunkReconnect(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newTrunksOf(t, "", "dial = false\n")
	links := []*link{s.connect(s.foo, s.bar, 700, 1300), s.connect(s.bar, s.foo, 700, 1300)}
	for _, l := range links {
		hear(l.out, l.in)
		l.out.Count()
		l.in.Count()
	}
	before := s.atFoo.Upgrade()
	connections := fmt.Sprintf("sallyport_trunk_connections{trunk=%q}", s.Foo.Name)
	both := func() {
		t.Helper()
		peers.Until(t, 30*time.Second, "both processes to be connected", func() bool { return s.atBar.Metric(connections) == 2 })
	}
	both()
	resets := s.Net.Meddle(func(p peers.Packet) peers.Fate {
		if peers.IsTCP(p) && len(p.Payload()) > 0 {
			go s.Net.Send(p.Reset(), p.ResetBack()) // once the rule lets it
		}
		return 0
	})
	before.WaitLog(`"msg":"trunk is down","trunk"`, 30*time.Second) // the new process names its generation first
	resets.Stop()
	both()
	s.up(s.atFoo, s.Bar, 1)
	s.later(links)
	s.hangUp(links[0])
	s.hungUp(links[1])
	if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
		t.Errorf("the process before ended with status %d, %v", status, err)
	}
	s.reach()
	s.idle()
}

// later has each end of calls hold and resume, and the sound go on.
func (s *trunks) later(links []*link) {
	s.t.Helper()
	for i, l := range links {
		s.hold(l.caller, l.out)
		s.hold(l.callee, l.in)
		for _, m := range []*peers.Media{l.in, l.out} {
			m.Forget()
		}
		for end, m := range []*peers.Media{l.out, l.in} {
			whole(s.t, fmt.Sprintf("end %d of call %d after a hold", end, i), m, 50)
		}
	}
}

// The far end is no edge, and is told nothing that it knows: a call each way goes on, new
// ones come about each way, by whichever process, and the one before ends with the last
// that it has.
func TestUpgradeTrunkAsterisk(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newSoloPBX(t)
	s.begin()
	links := []*link{s.both(s.foo, s.bar, 700, 1300), s.both(s.bar, s.foo, 700, 1300)}
	before := s.edge.Upgrade()
	for _, l := range links {
		hear(l.out, l.in)
	}
	s.reach()
	for range 2 {
		s.hungUp(s.both(s.foo, s.bar, 900, 1500))
		s.hangUp(s.both(s.bar, s.foo, 900, 1500))
	}
	s.holds(links[1])
	s.hangUp(links[0])
	s.hungUp(links[1])
	if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
		t.Errorf("the process before ended with status %d, %v", status, err)
	}
	s.reach()
	s.hungUp(s.both(s.bar, s.foo, 900, 1500))
	s.idle()
}
