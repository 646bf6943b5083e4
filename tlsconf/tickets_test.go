package tlsconf

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

// A key seals for eight hours, and opens for a day.
func TestTicketKeys(t *testing.T) {
	var k tickets
	seen := make(map[[32]byte]bool)
	now := start
	for n := range 10 {
		before := slices.Clone(k.keys)
		if !k.rotate(now) || k.rotate(now.Add(ticketRotation-time.Second)) {
			t.Fatalf("key %d is not of its time", n+1)
		}
		if seen[k.keys[0]] || k.keys[0] == [32]byte{} || len(k.keys) != min(n+1, ticketKeys) {
			t.Fatalf("after %d rotations there are %d keys, and the first is used twice or empty", n+1, len(k.keys))
		}
		if kept := k.keys[1:]; !slices.Equal(kept, before[:len(kept)]) {
			t.Fatalf("after %d rotations those before are lost", n+1)
		}
		seen[k.keys[0]] = true
		now = now.Add(ticketRotation)
	}
	for name, at := range map[string]time.Time{"slept": now.Add(3 * ticketKeys * ticketRotation), "clock set back": now.Add(-1000 * time.Hour)} {
		old := k.keys[0]
		if !k.rotate(at) || len(k.keys) != 1 || k.keys[0] == old {
			t.Errorf("%s: %d keys are left", name, len(k.keys))
		}
	}
}

// Keys go from one process to the next, with their age; nothing else is taken for such.
func TestTicketsAreHandedOn(t *testing.T) {
	var k, next tickets
	for i := range ticketKeys {
		k.rotate(start.Add(time.Duration(i) * ticketRotation))
		if err := next.unmarshal(k.marshal()); err != nil || !slices.Equal(next.keys, k.keys) || !next.made.Equal(k.made) {
			t.Errorf("%d keys are read as %d, of %s: %v", len(k.keys), len(next.keys), next.made, err)
		}
	}
	for _, b := range [][]byte{nil, k.marshal()[:8], k.marshal()[:39], append(k.marshal(), 0), append(k.marshal(), make([]byte, 32)...)} {
		if err := next.unmarshal(b); err == nil || !slices.Equal(next.keys, k.keys) {
			t.Errorf("%d bytes are taken: %v", len(b), err)
		}
	}
	cfg := config(t)
	old, _ := mustSource(t, cfg, time.Now())
	fresh, _ := mustSource(t, cfg, time.Now()) // the same files
	client := clientOf(t, old)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i, at := range []*Source{old, old, fresh, fresh} {
		if i == 3 {
			if err := fresh.TakeTickets(old.Tickets()); err != nil {
				t.Fatal(err)
			}
		}
		state, err := seenClient(t, at.ServerConfig(Off), client)
		if want := i == 1 || i == 3; err != nil || state.DidResume != want {
			t.Errorf("connection %d: resumed %v, %v, want %v", i+1, state.DidResume, err, want)
		}
		if i == 2 { // the control, whose ticket took the other's place
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			if _, err := seenClient(t, old.ServerConfig(Off), client); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A session is resumed at each listener while a key is there that opens its ticket,
// and no longer.
func TestTicketsOfListeners(t *testing.T) {
	for version, v := range versions {
		cfg := config(t)
		now := time.Now()
		s, _ := mustSource(t, cfg, now)
		first, second := s.ServerConfig(Off), s.ServerConfig(Off)
		for _, step := range []struct {
			name    string
			after   time.Duration
			at      *tls.Config
			resumed bool
		}{
			{"new", 0, first, false},
			{"at once", 0, first, true},
			{"at another listener", 0, second, true},
			{"under the key before", ticketRotation, first, true},
			{"when all keys are others", ticketKeys * ticketRotation, first, false},
		} {
			client := clientOf(t, s)
			client.MaxVersion = v
			cache := tls.NewLRUClientSessionCache(1)
			client.ClientSessionCache = cache
			if step.name != "new" {
				if _, err := seenClient(t, first, client); err != nil {
					t.Fatal(err)
				}
			}
			now = now.Add(step.after)
			for at := now.Add(-step.after); at.Before(now); at = at.Add(ticketRotation) {
				s.look(at.Add(ticketRotation))
			}
			state, err := seenClient(t, step.at, client)
			if err != nil || state.DidResume != step.resumed {
				t.Errorf("%s, %s: resumed %v, %v, want %v", version, step.name, state.DidResume, err, step.resumed)
			}
		}
	}
}

// No dump of a Source shows the keys.
func TestTicketKeysAreNotShown(t *testing.T) {
	s, _ := mustSource(t, config(t), time.Now())
	copy(s.tickets.keys[0][:], bytes.Repeat([]byte{7}, 32))
	shown := func(v any) bool {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("shown", "value", v)
		return strings.Contains(log.String(), "7 7 7 7")
	}
	if shown(s) {
		t.Error("a key is shown")
	}
	if !shown(*s.tickets) { // the control
		t.Error("a key that is shown is not found")
	}
}
