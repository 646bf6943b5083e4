package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// weights are what phones do, as sallyload has them; held calls last for two and a half
// times as long.
const (
	callWeight, holdWeight = 6, 2
	otherWeights           = "register=3,reconnect=2,options=1,cancel=1"
	others                 = 7
)

const noAnswer = 10 * time.Second // of a request

// load begins half of the calls, from a host of their own.
func (s *soak) load(host string, first int, by ...string) *peers.Sallyload {
	s.t.Helper()
	each := (callWeight*(s.talk+ring).Seconds() + holdWeight*(s.talk*5/2+ring).Seconds()) / (callWeight + holdWeight + others)
	half := float64(s.calls) / 2
	return peers.StartSallyload(s.Phone(host), append([]string{
		"mix", "--mix", fmt.Sprintf("call=%d,hold=%d,%s", callWeight, holdWeight, otherWeights), "--ca", s.issuer.CAFile(), "--domain", "pbx.example.com",
		"--users", "%d", "--first", strconv.Itoa(first), "--password", "secret-%s", "--phones", strconv.Itoa(int(1.6*half) + 20), "--callee", "echo",
		"--rate", fmt.Sprintf("%.3f", half/each), "--arrivals", "even", "--duration", fmt.Sprintf("%.0fs", s.arrivals), "--talk", s.talk.String(),
		"--expires", "1m", "--timeout", noAnswer.String(),
	}, by...)...)
}

// restart kills the PBX's stand-in once, and has it away for some seconds, in the first
// half of the run.
func (s *soak) restart() {
	s.t.Helper()
	r := &s.report.Restart
	if r.From > 0 || s.since() < s.arrivals/5 {
		return
	}
	r.From = s.since()
	s.answerer.Kill()
	time.Sleep(3 * time.Second)
	s.answerer = peers.StartAnswerer(s.Lab, "--ring", ring.String())
	// Calls of before have lost their sound, and fail when they are hung up; the edge
	// finds the PBX again when it asks the next time.
	r.To = s.since() + (s.talk*5/2 + ring + 2*noAnswer).Seconds()
}

// certify gives the edge another certificate.
func (s *soak) certify() {
	s.serial = s.issuer.Issue()
	s.issuer.UseCert(s.serial)
	s.issuer.UseKey(s.serial)
}

// renew does so ten times in the run, and says so by SIGHUP each time.
func (s *soak) renew() {
	if s.since() < s.arrivals*float64(s.report.Renewals+1)/11 {
		return
	}
	s.serves(s.host, s.serial) // the one before
	s.certify()
	s.edge.Signal(syscall.SIGHUP)
	s.report.Renewals++
}

// visit has twenty phones come at once, stay for some seconds, and take their
// registrations back: by TLS and by WSS in turn, without end.
func (s *soak) visit() {
	s.t.Helper()
	if s.visitors != nil {
		if s.visitors.Running() {
			return
		}
		s.visited()
	}
	target := peers.EdgeOutside + ":5061"
	if s.report.Visits%2 == 1 {
		target = "wss://" + peers.EdgeOutside + ":" + peers.WSSPort + "/"
	}
	s.visitors = peers.StartSallyload(s.host, "storm", "--target", target, "--ca", s.issuer.CAFile(), "--domain", "pbx.example.com",
		"--users", "%d", "--first", "40001", "--password", "secret-%s", "--phones", "20", "--duration", "30s", "--stay", "6s", "--timeout", noAnswer.String())
}

// visited takes what became of visitors.
func (s *soak) visited() {
	s.t.Helper()
	if s.visitors == nil {
		return
	}
	s.report.Visits++
	s.count("visitors", s.visitors.Result(time.Minute))
	s.visitors = nil
}

// judge takes what became of calls.
func (s *soak) judge(name string, r peers.Load) {
	s.t.Helper()
	taken := s.count(name, r)
	m := r.Media
	s.report.LoadCores += r.Generator.CPU / s.since()
	c := soakCalls{Name: name, Calls: r.Operations["call"].Done + r.Operations["hold"].Done, Right: m.Right, Wrong: m.Wrong, Silent: m.Silent, Sent: m.Sent, Packets: m.Received, Lost: m.Lost, Taken: taken}
	s.report.Calls = append(s.report.Calls, c)
	s.t.Logf("%s: %+v", name, c)
	// All of it comes back, but for what calls lost that the restart met, each at most
	// to its end; and of what comes next to nothing is missing.
	const share = 0.005
	cut := float64(s.calls) / 2 * (s.talk * 5 / 2).Seconds() * 50
	if missing := float64(m.Sent - m.Received); missing > cut+share*float64(m.Sent) || float64(m.Lost) > share*float64(m.Received) {
		s.t.Errorf("%s: of %d packets %d came back, and %d of those between were lost", name, m.Sent, m.Received, m.Lost)
	}
	if c.Calls == 0 || m.Right == 0 || m.Wrong+m.Silent > taken || m.Ends > m.Right+taken || m.Bad > 0 {
		s.t.Errorf("%s: of %d ends of calls %d heard their tone, %d another, %d nothing, %d packets did not verify; the restart took %d", name, m.Ends, m.Right, m.Wrong, m.Silent, m.Bad, taken)
	}
}

// count returns what failed while the PBX restarted; nothing else may fail.
func (s *soak) count(name string, r peers.Load) (taken int) {
	s.t.Helper()
	failed, last := 0, 0.0
	var causes []string
	for op, o := range r.Operations {
		failed += o.Failed
		if o.Failed > 0 {
			causes = append(causes, fmt.Sprintf("%s: %v, first %s", op, o.Causes, o.First))
		}
	}
	for _, p := range r.Series {
		if at := r.Started.Sub(s.begun).Seconds() + float64(p.Second); p.Failed > 0 && at >= s.report.Restart.From && at <= s.report.Restart.To+1 {
			taken += p.Failed
			last = at - s.report.Restart.From
		}
	}
	if taken > 0 {
		s.t.Logf("%s: %d operations failed until %.0f s after the PBX went: %s", name, taken, last, strings.Join(causes, "; "))
	}
	if failed != taken {
		s.t.Errorf("%s: %d of %d failures were not the restart's: %s", name, failed-taken, failed, strings.Join(causes, "; "))
	}
	s.report.Restart.Taken += taken
	return taken
}
