package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// within is the office for a subtest.
func (o *office) within(t *testing.T) *office {
	o.Within(t)
	inner := *o
	inner.t = t
	return &inner
}

// tries plays a case, and its control.
func (o *office) tries(c sippCase) {
	o.t.Helper()
	if why := o.plays(c, wrong{}); why != "" {
		o.t.Error(why)
	} else if c.wrong.file != "" {
		why := o.plays(c, c.wrong)
		if why == "" {
			o.t.Errorf("%s passes with %q for %q", c.wrong.file, c.wrong.wrong, c.wrong.right)
		}
		o.t.Logf("the control fails: %s", why)
	}
}

// plays runs a case, with one scenario spoilt, and tells what a phone complained
// of.
func (o *office) plays(c sippCase, w wrong) (complaint string) {
	o.t.Helper()
	args := func(file string, more ...string) (string, []string) {
		return o.spoilt(file, w), append([]string{"-t", "l1", "-timeout", "20s", "-timeout_error", "-max_recv_loops", "1"}, more...)
	}
	var all []*peers.SIPp
	for user, file := range c.called {
		before := o.pbx.Contact(user) // of a control, which does not unregister
		path, a := args("registered.xml", "-m", "1", "-s", user, "-rxsf", o.spoilt(file, w))
		all = append(all, peers.StartSIPp(o.sippHost(user), path, a...))
		peers.Until(o.t, 10*time.Second, "phone "+user+" to be registered", func() bool {
			now := o.pbx.Contact(user)
			return now != "" && now != before
		})
	}
	if c.watch != "" {
		path, a := args(c.watch, "-m", "1", "-aa")
		all = append(all, peers.StartSIPp(o.sippHost("watch"), path, a...))
		peers.Until(o.t, 10*time.Second, "the phone that watches", func() bool { return c.ready(o) })
	}
	again := func() {}
	if c.amid != nil {
		again = c.amid(o)
	}
	path, a := args(c.first, append([]string{"-m", "1"}, c.args...)...)
	all = append(all, peers.StartSIPp(o.sippHost("first"), path, a...))
	complaint = o.listens(all, again)
	for _, run := range all { // which have ended, or are of no use
		run.Kill()
	}
	if o.pbx.Running() {
		if complaint != "" { // calls are left where they were, and the edge would hold them for their phones
			o.pbx.Must("channel request hangup all")
			o.edge.Kill()
			o.edge.Start()
		}
		o.idle()
	}
	return complaint
}

// listens waits until all phones are content, or one complains.
func (o *office) listens(all []*peers.SIPp, again func()) (complaint string) {
	o.t.Helper()
	peers.Until(o.t, 90*time.Second, "the phones' scenarios", func() bool {
		content := 0
		for _, run := range all {
			complaint = run.Complaint()
			if !run.Running() {
				content++
				if r := run.Result(time.Second); complaint == "" && (r.Failed > 0 || r.Successful == 0) {
					complaint = "a call failed, and nothing was said"
				}
			}
			if complaint != "" {
				return true
			}
		}
		again()
		return content == len(all)
	})
	return complaint
}

// spoilt is a scenario, or what is wrong in its place.
func (o *office) spoilt(file string, w wrong) string {
	o.t.Helper()
	path := scenario(o.t, file)
	if file != w.file {
		return path
	}
	b, err := os.ReadFile(path)
	if err != nil {
		o.t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), w.right, w.wrong)
	if text == string(b) {
		o.t.Fatalf("%s does not say %q", file, w.right)
	}
	dir, err := os.MkdirTemp(o.Dir, "wrong")
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(filepath.Dir(path))) // with the files that scenarios name
	}
	if path = filepath.Join(dir, file); err == nil {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return path
}

// sippHost is a user's host: the one it had before.
func (o *office) sippHost(user string) *peers.Host {
	o.t.Helper()
	if o.hosts[user] == nil {
		o.hosts[user] = o.Phone("sipp" + user)
	}
	return o.hosts[user]
}

// losesTwoACKs has the network inside lose them on their way to the PBX.
func losesTwoACKs(o *office) (again func()) {
	loss, lost := o.PBX.Lose("ACK ", 2), false
	o.t.Cleanup(func() {
		if !lost {
			o.t.Error("no two ACKs were lost")
		}
	})
	return func() {
		if !lost && loss.Count() >= 2 {
			loss.Stop()
			lost = true
		}
	}
}

// stopsPBX leaves the edge without a PBX, and has it know so.
func stopsPBX(o *office) (again func()) {
	o.pbx.Kill()
	peers.Until(o.t, 20*time.Second, "the edge to find that the PBX is down", func() bool { return o.edge.Metric("sallyport_pbx_up") == 0 })
	return func() {}
}
