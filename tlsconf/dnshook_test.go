package tlsconf

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The program gets its words as they are, by no shell, and not our environment; how
// it fails is told, in bounds.
func TestDNSHook(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SALLYPORT_SECRET", "not for others")
	var log bytes.Buffer
	program := func(text string, mode os.FileMode) dnsHook {
		path := filepath.Join(dir, "a hook; $(touch spoilt)")
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return dnsHook{path, slog.New(slog.NewTextHandler(&log, nil))}
	}
	c := challenge("dns-01")
	out := filepath.Join(dir, "out")
	h := program(`for w; do echo "<$w>"; done >'`+out+`'; env >>'`+out+`'`, 0o755)
	if err := h.Present(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(out)
	if want := "<add>\n<" + c.DNS01TXTRecordName() + ">\n<" + c.DNS01KeyAuthorization() + ">\n"; !strings.HasPrefix(string(got), want) || strings.Contains(string(got), "SALLYPORT_SECRET") {
		t.Errorf("it got\n%s\nwant\n%s", got, want)
	}
	if err := h.CleanUp(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(out); !strings.HasPrefix(string(got), "<remove>\n") {
		t.Errorf("it got\n%s", got)
	}
	err := program("echo no such zone; yes | head -c 100000; exit 4", 0o755).Present(context.Background(), c)
	if err == nil || !strings.HasPrefix(err.Error(), "tls.acme_dns_hook: run "+h.program+" add: exit status 4; it said \"no such zone") || len(err.Error()) > 2000 {
		t.Errorf("a failure is told by %v", err)
	}
	ended, end := context.WithCancel(context.Background())
	end()
	if err := program("sleep 60", 0o755).Present(ended, c); err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("after its time: %v", err)
	}
	h = program(`echo "$1" >'`+out+`'`, 0o755)
	if err := h.CleanUp(ended, c); err != nil {
		t.Errorf("nothing is removed after its time: %v", err)
	}
	if got, _ := os.ReadFile(out); string(got) != "remove\n" || log.Len() > 0 {
		t.Errorf("after its time it got %q; it says %s", got, log.String())
	}
	if err := program("exit 1", 0o755).CleanUp(context.Background(), c); err == nil || !strings.Contains(log.String(), "may be left in DNS\" name="+c.DNS01TXTRecordName()) {
		t.Errorf("a record that stays is told by %v and %q", err, log.String())
	}
	for mode, words := range map[os.FileMode]string{0o755: "", 0o644: "is no program", 0o775: "others could change", 0o757: "others could change"} {
		if err := program("", mode).check(); (err == nil) != (words == "") || err != nil && !strings.Contains(err.Error(), words) {
			t.Errorf("mode %04o: %v, want %q", mode, err, words)
		}
	}
	if err := (dnsHook{program: filepath.Join(dir, "none")}).check(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a missing one: %v", err)
	}
}
