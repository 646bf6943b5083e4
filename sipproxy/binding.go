package sipproxy

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// binding is a registered contact and the flow that leads to it. It is never
// changed in place: a refresh puts a new one.
type binding struct {
	token    string
	aor      string // as aorKey writes it
	uri      string // the address of record as the phone wrote it
	contact  string // the phone's own Contact URI
	instance bool   // the phone said which device it is
	regID    string // and by which of its connections; or nothing
	callID   string // of its REGISTER
	host     string // the name by which the phone knows us
	flow     *flow.Flow
	pbx      *flow.Flow // that keeps the contact
	expires  time.Time  // for the phone, who may have asked for less than the PBX granted

	routes    []string  // by which the PBX wants the phone's requests
	allow     string    // the methods that the phone takes
	params    string    // of the contact, but expires
	cseq      uint32    // of the last REGISTER
	refreshed time.Time // when the PBX saw the last
	granted   time.Time // until when the PBX keeps the contact
}

// address is that of whom it is a contact.
func (b *binding) address() flow.NameAddr { return flow.NameAddr{URI: b.uri} }

// bindings are the registered contacts. Only a 200 of the PBX changes them,
// and the clock.
type bindings struct {
	mu      sync.Mutex                     // guards the maps
	byToken map[string][]*binding          // of one device, the newest last
	byAOR   map[string]map[string]struct{} // tokens
	byUser  map[string][]string            // addresses of record, of all domains
	byFlow  map[*flow.Flow]map[*binding]struct{}
	dtls    map[string]bool // tokens: see wantsDTLS
}

func newBindings() *bindings {
	return &bindings{
		byToken: make(map[string][]*binding), byAOR: make(map[string]map[string]struct{}), byUser: make(map[string][]string),
		byFlow: make(map[*flow.Flow]map[*binding]struct{}), dtls: make(map[string]bool),
	}
}

// put notes a binding as its device's newest. It takes the place of the one with
// the same reg-id, and of all if it has none.
func (t *bindings) put(b *binding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := slices.DeleteFunc(t.byToken[b.token], func(o *binding) bool {
		return (b.regID == "" || o.regID == "" || o.regID == b.regID) && t.leaveLocked(o)
	})
	if len(list) == maxConnections {
		t.leaveLocked(list[0])
		list = slices.Delete(list, 0, 1)
	}
	t.byToken[b.token] = append(list, b)
	t.joinLocked(b)
	if t.byAOR[b.aor] == nil {
		t.byAOR[b.aor] = make(map[string]struct{})
		user := userIn(b.aor)
		t.byUser[user] = append(t.byUser[user], b.aor)
	}
	t.byAOR[b.aor][b.token] = struct{}{}
}

// userIn is the user of an address of record as aorKey writes it.
func userIn(aor string) string {
	user, _, _ := cutLast(aor, "@")
	return user
}

// remove forgets a device.
func (t *bindings) remove(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keepLocked(token, func(*binding) bool { return false })
}

// removeOne forgets one of a device's connections.
func (t *bindings) removeOne(token, regID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keepLocked(token, func(b *binding) bool { return b.regID != regID })
}

func (t *bindings) keepLocked(token string, keep func(*binding) bool) {
	list := t.byToken[token]
	if len(list) == 0 {
		return
	}
	aor := list[0].aor
	list = slices.DeleteFunc(list, func(b *binding) bool { return !keep(b) && t.leaveLocked(b) })
	if t.byToken[token] = list; len(list) > 0 {
		return
	}
	delete(t.byToken, token)
	delete(t.dtls, token)
	delete(t.byAOR[aor], token)
	if len(t.byAOR[aor]) > 0 {
		return
	}
	delete(t.byAOR, aor)
	user := userIn(aor)
	if t.byUser[user] = slices.DeleteFunc(t.byUser[user], func(o string) bool { return o == aor }); len(t.byUser[user]) == 0 {
		delete(t.byUser, user)
	}
}

// joinLocked puts a binding to those of its flow.
func (t *bindings) joinLocked(b *binding) {
	if t.byFlow[b.flow] == nil {
		t.byFlow[b.flow] = make(map[*binding]struct{})
	}
	t.byFlow[b.flow][b] = struct{}{}
}

// leaveLocked takes a binding from those of its flow; it is true.
func (t *bindings) leaveLocked(b *binding) bool {
	delete(t.byFlow[b.flow], b)
	if len(t.byFlow[b.flow]) == 0 {
		delete(t.byFlow, b.flow)
	}
	return true
}

// get returns the binding of a token, the newest whose connection lives; or the
// newest; or nil.
func (t *bindings) get(token string) *binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	return newest(t.byToken[token])
}

func newest(list []*binding) *binding {
	for _, b := range slices.Backward(list) {
		if !closed(b.flow) {
			return b
		}
	}
	if len(list) > 0 {
		return list[len(list)-1]
	}
	return nil
}

// find returns the binding of one of a device's connections, or nil.
func (t *bindings) find(token, regID string) *binding {
	return t.first(token, func(b *binding) bool { return b.regID == regID })
}

// over returns the binding that a device made over a flow, or nil.
func (t *bindings) over(token string, f *flow.Flow) *binding {
	return t.first(token, func(b *binding) bool { return b.flow == f })
}

// instead is the flow by which a device is reached, whose own was another; nil if that
// is good, or it has none. One that is gone is not, nor one that a device has left which
// said which it is: it has registered by another connection in its place. Of a network
// that broke off nobody here hears for half a minute, and of what is sent there.
func (t *bindings) instead(token string, f *flow.Flow) *flow.Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.byToken[token]
	b := newest(list)
	switch {
	case b == nil:
	case closed(f):
		return b.flow
	case b.instance && !closed(b.flow) && !slices.ContainsFunc(list, func(o *binding) bool { return o.flow == f }):
		return b.flow
	}
	return nil
}

func (t *bindings) first(token string, is func(*binding) bool) *binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.IndexFunc(t.byToken[token], is); i >= 0 {
		return t.byToken[token][i]
	}
	return nil
}

// others tells for how long a device is registered by other connections that
// live, than the one of a contact.
func (t *bindings) others(c registrant, now time.Time) (longest time.Duration) {
	id := regID(c.phone)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.byToken[c.token] {
		if id != "" && b.regID != "" && b.regID != id && !closed(b.flow) {
			longest = max(longest, b.expires.Sub(now))
		}
	}
	return longest
}

// of returns the bindings of one user.
func (t *bindings) of(aor string) []*binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*binding
	for token := range t.byAOR[aor] {
		list = append(list, t.byToken[token]...)
	}
	return list
}

// on returns the binding that a user made over one flow, or nil.
func (t *bindings) on(aor string, f *flow.Flow) *binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	for token := range t.byAOR[aor] {
		for _, b := range t.byToken[token] {
			if b.flow == f {
				return b
			}
		}
	}
	return nil
}

// home returns the way to the PBX that a user is registered at, or nil: with
// several devices the one that heard of him last.
func (t *bindings) home(aor string) *flow.Flow {
	var last *binding
	for _, b := range t.of(aor) {
		if last == nil || b.refreshed.After(last.refreshed) {
			last = b
		}
	}
	if last == nil {
		return nil
	}
	return last.pbx
}

// anyOn returns a binding that was made over a flow, or nil. It is asked at each
// request: what it costs must not grow with the phones that there are.
func (t *bindings) anyOn(f *flow.Flow) *binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	for b := range t.byFlow[f] {
		return b
	}
	return nil
}

// by returns the bindings that were made over a flow.
func (t *bindings) by(f *flow.Flow) []*binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.byFlow[f]))
}

// latest returns the binding of a user, whatever the domain, that is good for
// the longest and whose phone is there; one whose phone is gone if there is no
// other; or nil. A PBX asks so for each contact that it kept and nobody here has.
func (t *bindings) latest(user string) (found *binding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if user == "" {
		return nil
	}
	for _, aor := range t.byUser[user] {
		for token := range t.byAOR[aor] {
			b := newest(t.byToken[token])
			if found == nil || closed(found.flow) && !closed(b.flow) || closed(found.flow) == closed(b.flow) && b.expires.After(found.expires) {
				found = b
			}
		}
	}
	return found
}

// expire removes what has run out, and returns it.
func (t *bindings) expire(now time.Time) []*binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	var gone []*binding
	for token := range t.byToken {
		t.keepLocked(token, func(b *binding) bool {
			if now.After(b.expires) {
				gone = append(gone, b)
				return false
			}
			return true
		})
	}
	return gone
}

func (t *bindings) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, list := range t.byToken {
		n += len(list)
	}
	return n
}
