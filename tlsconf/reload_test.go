package tlsconf

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// folder keeps certificates as certbot does: a link for each file into a folder
// of versions.
type folder struct {
	t   *testing.T
	dir string
}

func newFolder(t *testing.T, f Files) (folder, Files) {
	t.Helper()
	d := folder{t, t.TempDir()}
	live := Files{filepath.Join(d.dir, "fullchain.pem"), filepath.Join(d.dir, "privkey.pem")}
	d.link(f.Cert, live.Cert)
	d.link(f.Key, live.Key)
	return d, live
}

// link points a name elsewhere, in one step.
func (d folder) link(to, name string) {
	d.t.Helper()
	if err := errors.Join(os.Symlink(to, name+".new"), os.Rename(name+".new", name)); err != nil {
		d.t.Fatal(err)
	}
}

// watched is a Source, and what it said since it was last asked.
func watched(t *testing.T, cfg Config) (*Source, func() string) {
	t.Helper()
	return watchedAt(t, cfg, start)
}

func watchedAt(t *testing.T, cfg Config, start time.Time) (*Source, func() string) {
	t.Helper()
	var log bytes.Buffer
	s, err := newSource(cfg, slog.New(slog.NewTextHandler(&log, nil)), start)
	if err != nil {
		t.Fatal(err)
	}
	said := func() string { defer log.Reset(); return log.String() }
	said()
	return s, said
}

func TestReload(t *testing.T) {
	first, second := issued(t, ECDSA, "first", "pbx.example.com"), issued(t, RSA, "second", "pbx.example.com")
	expired, expiredKey := pairOf(t, func(c *x509.Certificate) { c.NotAfter = start.AddDate(0, 0, -1) })
	open := writeCopy(t, second.Key)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(d folder, live Files)
		serves string
		says   []string // and each reason names key and file
	}{
		{"links moved", func(d folder, live Files) { d.link(second.Cert, live.Cert); d.link(second.Key, live.Key) }, "second",
			[]string{`msg="certificate in force"`, "certificate.key=\"RSA 2048\""}},
		{"certificate without its key", func(d folder, live Files) { d.link(second.Cert, live.Cert) }, "first",
			[]string{"level=ERROR", "certificate refused; the one in force stays", "tls.cert: the key does not belong to the certificate: ", "fullchain.pem", "privkey.pem"}},
		{"key gone", func(d folder, live Files) { os.Remove(live.Key) }, "first",
			[]string{"level=ERROR", "tls.key: read ", "privkey.pem: no such file"}},
		{"key open to others", func(d folder, live Files) { d.link(second.Cert, live.Cert); d.link(open, live.Key) }, "first",
			[]string{"level=ERROR", "tls.key: the private key is open to other users", "type: chmod 640 "}},
		{"expired", func(d folder, live Files) { d.link(expired, live.Cert); d.link(expiredKey, live.Key) }, "first",
			[]string{"level=ERROR", "tls.cert: ", "expired on 2026-02-28"}},
		{"no PEM", func(d folder, live Files) { d.link(os.Args[0], live.Cert) }, "first", []string{"level=ERROR", "tls.cert: read "}},
		{"touched", func(d folder, live Files) { d.link(writeCopy(t, first.Cert), live.Cert) }, "first",
			[]string{"it is the one in force"}},
		{"nothing", func(folder, Files) {}, "first", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, live := newFolder(t, first)
			cfg := config(t)
			cfg.Files = []Files{live}
			s, said := watched(t, cfg)
			config := s.ServerConfig(Off) // of a listener that goes on
			tc.change(d, live)
			s.look(start)
			if log := said(); log != "" {
				t.Errorf("files still in motion are read:\n%s", log)
			}
			s.look(start)
			log := said()
			for _, want := range tc.says {
				if !strings.Contains(log, want) {
					t.Errorf("the log lacks %q:\n%s", want, log)
				}
			}
			if tc.says == nil && log != "" {
				t.Errorf("without a change it says\n%s", log)
			}
			s.look(start)
			s.look(start)
			if log := said(); log != "" {
				t.Errorf("it says again\n%s", log)
			}
			if got := seenBy(t, config); got != tc.serves {
				t.Errorf("a new handshake sees %q, want %q", got, tc.serves)
			}
			st := s.Stats()
			if refused := len(tc.says) > 0 && tc.says[0] == "level=ERROR"; (st.Refused == 1) != refused || (st.Renewed == 1) != (tc.serves == "second") {
				t.Errorf("counted %+v", st)
			}
			// Whatever it was, good files are taken again.
			d.link(second.Cert, live.Cert)
			d.link(second.Key, live.Key)
			s.look(start)
			s.look(start)
			if got := seenBy(t, config); got != "second" {
				t.Errorf("after the repair a handshake sees %q", got)
			}
		})
	}
}

func seenBy(t *testing.T, server *tls.Config) string {
	t.Helper()
	var subject string
	_ = handshake(t, server, &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
		subject = state.PeerCertificates[0].Subject.CommonName
		return nil
	}})
	return subject
}

// Of several certificates each is taken or refused by itself.
func TestReloadOneOfTwo(t *testing.T) {
	home, branch := issued(t, ECDSA, "home", "pbx.example.com"), issued(t, ECDSA, "branch", "pbx.example.net")
	newHome, newBranch := issued(t, ECDSA, "new home", "pbx.example.com"), issued(t, ECDSA, "new branch", "pbx.example.net")
	homeDir, liveHome := newFolder(t, home)
	branchDir, liveBranch := newFolder(t, branch)
	cfg := config(t)
	cfg.Files = []Files{liveHome, liveBranch}
	s, said := watched(t, cfg)
	homeDir.link(newHome.Cert, liveHome.Cert)
	homeDir.link(newHome.Key, liveHome.Key)
	branchDir.link(newBranch.Cert, liveBranch.Cert) // without its key
	s.look(start)
	s.look(start)
	for name, want := range map[string]string{"pbx.example.com": "new home", "pbx.example.net": "branch"} {
		if got := seen(t, s, &tls.Config{ServerName: name}); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if log := said(); strings.Count(log, "certificate refused") != 1 || !strings.Contains(log, liveBranch.Key) {
		t.Errorf("the log says\n%s", log)
	}
}

// What was refused for a fault of this machine is taken when that is over, though
// no file changes.
func TestReloadTriesAgain(t *testing.T) {
	first, early := issued(t, ECDSA, "first", "pbx.example.com"), start.Add(time.Hour)
	crt, key := pairOf(t, func(c *x509.Certificate) { c.NotBefore = early })
	d, live := newFolder(t, first)
	cfg := config(t)
	cfg.Files = []Files{live}
	s, said := watched(t, cfg)
	d.link(crt, live.Cert)
	d.link(key, live.Key)
	for at := start; at.Before(early); at = at.Add(pollInterval) {
		s.look(at)
	}
	if log := said(); strings.Count(log, "check this machine's clock") != 1 || s.Stats().Refused != 1 {
		t.Errorf("one refusal, in an hour of looks, left the log\n%s", log)
	}
	s.look(early.Add(retryInterval))
	if log := said(); !strings.Contains(log, "certificate in force") || s.Describe()[0].File != live.Cert || s.Stats().Renewed != 1 {
		t.Errorf("it is not taken when its time has come:\n%s", log)
	}
}

// A connection that is up stays up, with what it was shaken with.
func TestReloadKeepsConnections(t *testing.T) {
	first, second := issued(t, ECDSA, "first", "pbx.example.com"), issued(t, ECDSA, "second", "pbx.example.com")
	d, live := newFolder(t, first)
	cfg := config(t)
	cfg.Files = []Files{live}
	s, _ := watched(t, cfg)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", s.ServerConfig(Off))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends when ln is closed; its echoes end with their connections
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	dial := func() *tls.Conn {
		c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	subject := func(c *tls.Conn) string {
		var b [4]byte
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b[:]); err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	old := dial()
	if got := subject(old); got != "first" {
		t.Fatalf("it begins with %q", got)
	}
	d.link(second.Cert, live.Cert)
	d.link(second.Key, live.Key)
	s.look(start)
	s.look(start)
	if got := subject(dial()); got != "second" {
		t.Errorf("a new connection sees %q", got)
	}
	if got := subject(old); got != "first" {
		t.Errorf("the old connection is %q now", got)
	}
}

func TestReloadSelfSigned(t *testing.T) {
	cfg := config(t)
	s, said := watched(t, cfg)
	before := s.Describe()[0].Fingerprint
	if err := makeSelfSigned(cfg, start); err != nil {
		t.Fatal(err)
	}
	s.look(start)
	s.look(start)
	if s.Describe()[0].Fingerprint == before {
		t.Errorf("the new one was not taken:\n%s", said())
	}
	other := cfg
	other.Names = []string{"other.example.com"}
	if err := makeSelfSigned(other, start); err != nil {
		t.Fatal(err)
	}
	s.look(start)
	s.look(start)
	if log := said(); !strings.Contains(log, "certificate refused") || !strings.Contains(log, "does not name pbx.example.com") {
		t.Errorf("one for another name is not refused:\n%s", log)
	}
	os.Remove(cfg.selfSignedKey())
	s.look(start)
	s.look(start)
	if log := said(); !strings.Contains(log, "certificate refused") || !strings.Contains(log, "is gone") {
		t.Errorf("one without its key is not refused:\n%s", log)
	}
}

// By Run, files are taken within seconds; by Reload at once.
func TestRunAndReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life := func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(0, 6, 0)
		}
		crt, key := pairOf(t, life)
		d, live := newFolder(t, Files{crt, key})
		cfg := config(t)
		cfg.Files = []Files{live}
		s, err := New(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }() // ends with ctx; waited for below
		swap := func() (was string) {
			was = s.Describe()[0].Fingerprint
			crt, key := pairOf(t, life)
			d.link(crt, live.Cert)
			d.link(key, live.Key)
			return was
		}
		was := swap()
		time.Sleep(2*pollInterval + time.Second)
		if s.Describe()[0].Fingerprint == was {
			t.Error("Run did not take the new files in time")
		}
		was = swap()
		s.Reload()
		if s.Describe()[0].Fingerprint == was {
			t.Error("Reload did not take the new files")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestExpiryIsTold(t *testing.T) {
	crt, key := pairOf(t, func(c *x509.Certificate) { c.NotAfter = start.AddDate(0, 0, 60) })
	cfg := config(t)
	cfg.Files = []Files{{crt, key}}
	s, said := watched(t, cfg)
	var told []string
	for hours := 0; hours < 62*24; hours++ {
		s.look(start.Add(time.Duration(hours) * time.Hour))
		if log := said(); log != "" {
			told = append(told, log)
		}
	}
	want := []string{"level=WARN|expires in 30 days", "level=WARN|expires in 14 days", "level=WARN|expires in 7 days", "level=ERROR|expires in 1 day:", "level=ERROR|has expired"}
	if len(told) != len(want) {
		t.Fatalf("it spoke %d times, want %d:\n%s", len(told), len(want), strings.Join(told, ""))
	}
	for i, w := range want {
		level, words, _ := strings.Cut(w, "|")
		if !strings.Contains(told[i], level) || !strings.Contains(told[i], words) || !strings.Contains(told[i], crt) {
			t.Errorf("reminder %d is %q, want %s and %q", i, told[i], level, words)
		}
	}
	if left := s.Stats().Certificates[0]; left.Name != "pbx.example.com" || left.Key != "ECDSA P-256" || left.File != crt {
		t.Errorf("stats %+v", left)
	}
}

// One that lives for six days is always near its end, which is not worth a word.
func TestShortLife(t *testing.T) {
	d := Description{NotBefore: start, NotAfter: start.AddDate(0, 0, 6)}
	for hours, want := range map[int]int{0: far, 24: far, 6*24 - 25: far, 6*24 - 23: 1, 6 * 24: 0} {
		if got := d.ending(start.Add(time.Duration(hours) * time.Hour)); got != want {
			t.Errorf("after %d hours: %d, want %d", hours, got, want)
		}
	}
}
