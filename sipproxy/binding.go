package sipproxy

import (
	"strings"
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
	callID   string // of its REGISTER
	host     string // the name by which the phone knows us
	flow     *flow.Flow
	pbx      *flow.Flow // that keeps the contact
	expires  time.Time  // for the phone, who may have asked for less than the PBX granted

	allow     string    // the methods that the phone takes
	params    string    // of the contact, but expires
	cseq      uint32    // of the last REGISTER
	refreshed time.Time // when the PBX saw the last
	granted   time.Time // until when the PBX keeps the contact
}

// bindings are the registered contacts. Only a 200 of the PBX changes them,
// and the clock.
type bindings struct {
	mu      sync.Mutex // guards the maps
	byToken map[string]*binding
	byAOR   map[string]map[string]*binding // by token
}

func newBindings() *bindings {
	return &bindings{byToken: make(map[string]*binding), byAOR: make(map[string]map[string]*binding)}
}

func (t *bindings) put(b *binding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byToken[b.token] = b
	if t.byAOR[b.aor] == nil {
		t.byAOR[b.aor] = make(map[string]*binding)
	}
	t.byAOR[b.aor][b.token] = b
}

func (t *bindings) remove(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(token)
}

func (t *bindings) removeLocked(token string) {
	b := t.byToken[token]
	if b == nil {
		return
	}
	delete(t.byToken, token)
	delete(t.byAOR[b.aor], token)
	if len(t.byAOR[b.aor]) == 0 {
		delete(t.byAOR, b.aor)
	}
}

// get returns the binding of a token, or nil.
func (t *bindings) get(token string) *binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byToken[token]
}

// of returns the bindings of one user.
func (t *bindings) of(aor string) []*binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*binding, 0, len(t.byAOR[aor]))
	for _, b := range t.byAOR[aor] {
		list = append(list, b)
	}
	return list
}

// on returns the binding that a user made over one flow, or nil.
func (t *bindings) on(aor string, f *flow.Flow) *binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.byAOR[aor] {
		if b.flow == f {
			return b
		}
	}
	return nil
}

// home returns the way to the PBX that a user is registered at, or nil: with
// several devices the one that heard of him last.
func (t *bindings) home(aor string) *flow.Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var last *binding
	for _, b := range t.byAOR[aor] {
		if last == nil || b.refreshed.After(last.refreshed) {
			last = b
		}
	}
	if last == nil {
		return nil
	}
	return last.pbx
}

// latest returns the binding of a user, whatever the domain, that is good for
// the longest and whose phone is there; one whose phone is gone if there is no
// other; or nil.
func (t *bindings) latest(user string) (found *binding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for aor, list := range t.byAOR {
		if at := strings.LastIndexByte(aor, '@'); aor[:at] != user || user == "" {
			continue
		}
		for _, b := range list {
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
	for token, b := range t.byToken {
		if now.After(b.expires) {
			gone = append(gone, b)
			t.removeLocked(token)
		}
	}
	return gone
}

func (t *bindings) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byToken)
}
