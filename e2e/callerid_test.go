package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// calledBy calls a number that says in the PBX's log who is taken to call, waits
// for that, and returns it with the answer.
func (o *office) calledBy(phone *peers.Phone, headers ...string) (caller string, answer *peers.Message) {
	o.t.Helper()
	said := func() []string {
		log, _ := os.ReadFile(o.pbx.Log)
		return strings.Split(string(log), "CALLED BY ")
	}
	before := len(said())
	_, answer = phone.Invite("650", phone.NewMedia(suite).Offer(), headers...)
	switch {
	case strings.Contains(answer.Get("Warning"), "somebody else"):
		return "", answer
	case phone.Poses != "" && answer.Status() == 403: // by chan_sip, which goes by From and the password
		return "refused by the PBX", answer
	}
	peers.Until(o.t, 5*time.Second, "the PBX to say who calls", func() bool {
		all := said()
		caller, _, _ = strings.Cut(all[len(all)-1], "\n")
		return len(all) > before && strings.HasSuffix(caller, ".")
	})
	return caller, answer
}

// A phone says that it is somebody else, in each header that this PBX believes, and
// in From. A gateway may, whom the operator trusts: there the PBX is told.
func TestSpoofedCallerId(t *testing.T) {
	l := peers.NewLab(t)
	o := &office{Lab: l, t: t, pbx: peers.StartAsterisk(l, peers.AsteriskConfig{General: "trustrpid=yes"})}
	host := l.Phone("1001")
	for _, tc := range []struct {
		name, policy string
		pai, from    string // what the PBX takes the caller for; nothing: the call is refused here
	}{
		{"control: trusted", "trusted_users = [\"1001\"]\n", "1099 FOR 1098 WITH boss.", "refused by the PBX"},
		{"own", "", "1001 FOR  WITH .", ""},
		{"forced", "caller_id = \"forced\"\n", "1001 FOR  WITH .", "1001 FOR  WITH ."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o.t = t
			o.edge = peers.StartEdge(l, peers.EdgeConfig{Extra: "[policy]\n" + tc.policy})
			defer o.edge.Stop()
			phone := peers.NewPhone(host, o.edge, "1001")
			if m := phone.Register("secret-1001", 600, ""); m.Status() != 200 {
				t.Fatalf("registration was answered %s", m.Start)
			}
			if got, _ := o.calledBy(phone, "P-Asserted-Identity: <sip:1099@pbx.example.com>", "Diversion: <sip:1098@pbx.example.com>", "X-Caller: boss"); got != tc.pai {
				t.Errorf("the PBX takes the caller for %q, want %q", got, tc.pai)
			}
			phone.Poses = "1002"
			if got, m := o.calledBy(phone); got != tc.from {
				t.Errorf("as another: the PBX takes the caller for %q, want %q; answered %s", got, tc.from, m.Start)
			}
			if m := phone.Register("secret-1001", 600, ""); m.Status() != 200 {
				t.Errorf("the phone's registration was answered %s", m.Start)
			}
		})
	}
}
