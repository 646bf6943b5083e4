package succession

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain is the heir, too, when it is started as one.
func TestMain(m *testing.M) {
	e, err := Inherit()
	if err != nil {
		panic(err)
	}
	if e == nil {
		os.Exit(m.Run())
	}
	os.Exit(inherits(e))
}

// inherits is an heir: what it is left tells what it does.
func inherits(e *Estate) int {
	if _, ok := e.Take("bad luck"); ok {
		e.Fail("the configuration is wrong\nin two places")
		return 1
	}
	if _, ok := e.Take("patience"); ok {
		select {} // until it is killed
	}
	fd, ok := e.Take("pipe")
	if _, again := e.Take("pipe"); !ok || again || e.Generation() != 3 {
		return 2
	}
	words, err := e.Read("words")
	if nothing, err := e.Read("words"); nothing != nil || err != nil {
		return 3
	}
	if err := errors.Join(err, e.Ready()); err != nil {
		return 4
	}
	e.Hear(func(word string) { e.Tell("heard " + word) })
	_, _ = unix.Write(fd, words)
	e.Tell(Drain)
	<-e.Gone()
	return 0
}

func TestSuccession(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	words, err := Content("words", []byte("mine"))
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, Heirloom{"pipe", int(w.Fd())}, Heirloom{"of no use", int(r.Fd())}, words)
	w.Close()
	_ = unix.Close(words.FD)
	if err := h.Await(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if !h.Took("pipe") || h.Took("of no use") {
		t.Error("it does not tell what it took")
	}
	if err := h.Yield(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	if n, err := r.Read(got); err != nil || string(got[:n]) != "mine" {
		t.Errorf("by the pipe came %q, %v", got[:n], err)
	}
	if word := <-h.Said(); word != Drain {
		t.Errorf("the heir said %q", word)
	}
	h.Tell(Ban + "x")
	if word := <-h.Said(); word != "heard ban x" {
		t.Errorf("the heir said %q of what it was told", word)
	}
	h.kin.Close()
	if err := <-h.exited; err != nil {
		t.Errorf("the heir ended with %v", err)
	}
}

// An heir that fails tells why, and has ended.
func TestHeirFails(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for name, want := range map[string]string{
		"bad luck": "the configuration is wrong; in two places",
		"nothing":  "exit status 2",
	} {
		if err := start(t, Heirloom{name, int(w.Fd())}).Await(t.Context(), 20*time.Second); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, err := Start("/no/such/binary", 3, nil); err == nil {
		t.Error("nothing was started")
	}
}

// An heir that takes too long, or is wanted no longer, is killed.
func TestHeirIsKilled(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ended, end := context.WithCancel(t.Context())
	end()
	for _, c := range []struct {
		ctx   context.Context
		limit time.Duration
		name  string
		want  string
	}{
		{t.Context(), 100 * time.Millisecond, "patience", "was not ready within 100ms"},
		{ended, time.Minute, "patience", "is wanted no longer"},
		{ended, time.Minute, "pipe", "is wanted no longer"},
	} {
		h := start(t, Heirloom{c.name, int(w.Fd())})
		if err := h.Await(c.ctx, c.limit); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func start(t *testing.T, left ...Heirloom) *Heir {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h, err := Start(path, 3, left)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
