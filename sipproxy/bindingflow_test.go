package sipproxy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// Whatever becomes of bindings, who is registered over a flow, and which is a user's
// latest, are told as a look at all of them would tell it, and nothing is kept of a flow
// or a user that has none.
func TestBindingsByFlow(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	table, now := newBindings(), time.Now()
	flows := make([]*flow.Flow, 6)
	for i := range flows {
		flows[i] = new(flow.Flow)
	}
	found := 0
	for step := range 20_000 {
		user := random.IntN(5)
		device := random.IntN(3)
		token, aor := fmt.Sprintf("%d-%d", user, device), fmt.Sprintf("%d@%s", user, []string{"pbx.example.com", "pbx.example.com", "192.0.2.1"}[device])
		reg := []string{"", "1", "2"}[random.IntN(3)]
		switch random.IntN(8) {
		case 0:
			table.remove(token)
		case 1:
			table.removeOne(token, reg)
		case 2:
			now = now.Add(time.Second)
			table.expire(now)
		case 3:
			f := flows[random.IntN(len(flows))]
			table.doubt(aor, func(b *binding) bool { return b.flow == f })
		default:
			life := time.Duration(random.IntN(5)) * time.Second
			table.put(&binding{token: token, aor: aor, regID: reg, flow: flows[random.IntN(len(flows))], expires: now.Add(life)})
		}
		if got, want := table.latest(fmt.Sprint(user)), latestOf(table, fmt.Sprint(user)); (got == nil) != (want == nil) ||
			got != nil && (!got.expires.Equal(want.expires) || userIn(got.aor) != fmt.Sprint(user)) {
			t.Fatalf("step %d: the latest of %d is %+v, want one like %+v", step, user, got, want)
		}
		indexed := 0
		for _, f := range flows {
			users := make(map[string]bool)
			for _, list := range table.byToken {
				for _, b := range list {
					if b.flow == f {
						user, _, _ := strings.Cut(b.aor, "@")
						users[user] = true
					}
				}
			}
			if b := table.anyOn(f); (b == nil) != (len(users) == 0) || b != nil && !users[userIn(b.aor)] {
				t.Fatalf("step %d: over a flow %+v is registered, of %v", step, b, users)
			} else if b != nil {
				found++
			}
			indexed += len(table.byFlow[f])
		}
		if indexed != table.len() {
			t.Fatalf("step %d: %d bindings are found by their flows, of %d", step, indexed, table.len())
		}
	}
	if found == 0 {
		t.Fatal("nobody was ever registered")
	}
	for token := range table.byToken {
		table.remove(token)
	}
	if len(table.byFlow) != 0 {
		t.Errorf("%d flows are kept that nobody is registered over", len(table.byFlow))
	}
	if len(table.byUser)+len(table.byAOR) != 0 {
		t.Errorf("%d users are kept that are registered nowhere", len(table.byUser))
	}
}

// latestOf looks at all bindings. Their flows are open.
func latestOf(table *bindings, user string) (found *binding) {
	for _, list := range table.byToken {
		if b := newest(list); strings.HasPrefix(b.aor, user+"@") && (found == nil || b.expires.After(found.expires)) {
			found = b
		}
	}
	return found
}
