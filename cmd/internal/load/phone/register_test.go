package phone

import (
	"context"
	"crypto/md5" //nolint:gosec // as RFC 7616 has it
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/icholy/digest"

	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// Of several challenges the first that is known is answered (RFC 8760 section 2.4),
// by each algorithm as RFC 7616 has it; a nonce that is only old is no wrong
// password.
func TestChallenges(t *testing.T) {
	const known = `", qop="auth", nonce="`
	for _, c := range []struct {
		name   string
		first  []string // challenges of the first 401
		then   []string // and of the second one, if there is one
		wants  string   // algorithm
		failed error
	}{
		{"MD5", []string{`Digest realm="r` + known + `1"`}, nil, "", nil},
		{"no qop", []string{`Digest realm="r", nonce="1", algorithm=MD5`}, nil, "MD5", nil},
		{"SHA-256 first", []string{`Digest realm="r` + known + `1", algorithm=SHA-256`, `Digest realm="r` + known + `2", algorithm=MD5`}, nil, "SHA-256", nil},
		{"unknown first", []string{`Digest realm="r` + known + `1", algorithm=FUTURE-1`, `Digest realm="r` + known + `2", algorithm=MD5`}, nil, "MD5", nil},
		{"stale", []string{`Digest realm="r` + known + `1"`}, []string{`Digest realm="r` + known + `2", stale=true`}, "", nil},
		{"wrong password", []string{`Digest realm="r` + known + `1"`}, []string{`Digest realm="r` + known + `2"`}, "", ErrPassword},
		{"a session, without what it needs", []string{`Digest realm="r", nonce="1", algorithm=MD5-sess`, `Digest realm="r` + known + `2", algorithm=MD5`}, nil, "MD5", nil},
		{"none that is known", []string{`Digest realm="r` + known + `1", algorithm=FUTURE-1`}, nil, "", ErrAuth},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, s := connected(t, Config{})
			done := make(chan error, 1)
			go func() { done <- p.Register(context.Background()) }() // ends with the answer; waited for below
			for _, all := range [][]string{c.first, c.then} {
				if all == nil {
					continue
				}
				var fields []string
				for _, challenge := range all {
					fields = append(fields, "WWW-Authenticate", challenge)
				}
				s.answer(s.request("REGISTER"), 401, "Unauthorized", fields...)
			}
			if c.failed == nil {
				r := s.request("REGISTER")
				got, err := digest.ParseCredentials(message.Get(r, "Authorization"))
				if err != nil || got.Algorithm != c.wants {
					t.Fatalf("the answer is by %v, %v; want %q", got, err, c.wants)
				}
				if c.then != nil && got.Nonce != "2" {
					t.Errorf("the answer is to nonce %s", got.Nonce)
				}
				s.answer(r, 200, "OK", "Expires", "60")
			}
			if err := <-done; !errors.Is(err, c.failed) || c.failed == nil && err != nil {
				t.Errorf("it ended with %v, want %v", err, c.failed)
			}
		})
	}
}

// A proxy and a server, each with a realm of its own and a new nonce for each
// request, are both answered, one after the other (RFC 3261 section 22.3); so are
// two that ask in one answer. That is no wrong password.
func TestRealms(t *testing.T) {
	ask := func(realm string, n int) string {
		return fmt.Sprintf(`Digest realm="%s", qop="auth", nonce="%d"`, realm, n)
	}
	p, s := connected(t, Config{})
	for n := range 3 { // the second time round the phone has answers, and they are old
		done := make(chan error, 1)
		go func() { done <- p.Register(context.Background()) }() // ends with the answer; waited for below
		s.answer(s.request("REGISTER"), 407, "Proxy Authentication Required", "Proxy-Authenticate", ask("outer", n), "Proxy-Authenticate", ask("inner", n))
		s.answer(s.request("REGISTER"), 401, "Unauthorized", "WWW-Authenticate", ask("server", n))
		r := s.request("REGISTER")
		got := make(map[string]string)
		for _, h := range append(r.GetHeaders("Proxy-Authorization"), r.GetHeaders("Authorization")...) {
			c, err := digest.ParseCredentials(h.Value())
			if err != nil {
				t.Fatal(err)
			}
			got[c.Realm] = c.Nonce
		}
		if want := fmt.Sprint(n); len(got) != 3 || got["outer"] != want || got["inner"] != want || got["server"] != want {
			t.Errorf("time %d: the realms are answered %v", n, got)
		}
		s.answer(r, 200, "OK", "Expires", "60")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A session's hash is made of its first nonces and stays, while the count goes on (RFC
// 7616 section 3.4.2); the answers are those of the RFC's formulas.
func TestSessions(t *testing.T) {
	hex := func(h hash.Hash, text string) string {
		h.Write([]byte(text))
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	for name, make := range map[string]func() hash.Hash{"MD5-sess": md5.New, "sha-256-sess": sha256.New, "SHA-512-256-sess": sha512.New512_256} {
		t.Run(name, func(t *testing.T) {
			p, s := connected(t, Config{})
			a1, cnonce := "", ""
			for nc := range 3 {
				done := goRegister(p)
				r := s.request("REGISTER")
				if nc == 0 {
					s.answer(r, 401, "Unauthorized", "WWW-Authenticate", `Digest realm="r", nonce="n", qop="auth", algorithm=`+name)
					r = s.request("REGISTER")
				}
				got, err := digest.ParseCredentials(message.Get(r, "Authorization"))
				if err != nil {
					t.Fatal(err)
				}
				if nc == 0 {
					cnonce, a1 = got.Cnonce, hex(make(), hex(make(), "1001:r:secret")+":n:"+got.Cnonce)
				}
				want := hex(make(), fmt.Sprintf("%s:n:%08x:%s:auth:%s", a1, nc+1, cnonce, hex(make(), "REGISTER:"+got.URI)))
				if got.Algorithm != name || got.Cnonce != cnonce || got.Nc != nc+1 || got.Response != want {
					t.Errorf("answer %d is %+v, want %s", nc, got, want)
				}
				s.answer(r, 200, "OK", "Expires", "60")
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// goRegister registers; what came of it follows.
func goRegister(p *Phone) <-chan error {
	done := make(chan error, 1)
	go func() { done <- p.Register(context.Background()) }() // ends with the answer; who called waits for it
	return done
}

// With auth-int the body counts (RFC 7616 section 3.4.3).
func TestBodyCounts(t *testing.T) {
	p, s := connected(t, Config{})
	done := make(chan error, 1)
	go func() { // ends with the answer; waited for below
		_, err := p.Call(context.Background(), "sip:1002@pbx.example.com", newSilence(), nil)
		done <- err
	}()
	ask := `Digest realm="r", qop="auth-int", nonce="1", algorithm=SHA-256`
	s.answer(s.request("INVITE"), 407, "Proxy Authentication Required", "Proxy-Authenticate", ask)
	s.request("ACK")
	invite := s.request("INVITE")
	got, err := digest.ParseCredentials(message.Get(invite, "Proxy-Authorization"))
	if err != nil {
		t.Fatal(err)
	}
	hash := func(parts ...string) string {
		return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(parts, ":"))))
	}
	a2 := hash("INVITE", got.URI, hash(string(invite.Body())))
	if want := hash(hash("1001", "r", "secret"), "1", "00000001", got.Cnonce, "auth-int", a2); got.Response != want || got.QOP != "auth-int" {
		t.Errorf("the answer is %s, want %s", got, want)
	}
	s.answer(invite, 486, "Busy Here")
	s.request("ACK")
	<-done
}

// A nonce with qop is used again, and counted (RFC 7616 section 3.3).
func TestNonceCount(t *testing.T) {
	p, s := connected(t, Config{})
	done := make(chan error, 1)
	register := func() { done <- p.Register(context.Background()) }
	go register() // ends with the answer; waited for below, as the next one
	s.answer(s.request("REGISTER"), 401, "Unauthorized", "WWW-Authenticate", `Digest realm="r", qop="auth", nonce="1"`)
	for nc := 1; nc <= 3; nc++ {
		r := s.request("REGISTER")
		if got, err := digest.ParseCredentials(message.Get(r, "Authorization")); err != nil || got.Nc != nc || got.Nonce != "1" {
			t.Fatalf("registration %d is by %+v, %v", nc, got, err)
		}
		s.answer(r, 200, "OK")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		go register()
	}
	s.answer(s.request("REGISTER"), 200, "OK")
	<-done
}

// A challenge without qop that comes again is a wrong password too.
func TestWrongWithoutQOP(t *testing.T) {
	p, s := connected(t, Config{})
	done := make(chan error, 1)
	go func() { done <- p.Register(context.Background()) }() // ends with the answer; waited for below
	for range 2 {
		s.answer(s.request("REGISTER"), 401, "Unauthorized", "WWW-Authenticate", `Digest realm="r", nonce="1"`)
	}
	if err := <-done; !errors.Is(err, ErrPassword) {
		t.Errorf("it ended with %v", err)
	}
}

// The instance is a UUID as RFC 4122 has it, of version 4, and each user's own.
func TestInstance(t *testing.T) {
	of := regexp.MustCompile(`^<urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}>$`)
	seen := make(map[string]bool)
	for i := range 100 {
		id := New(&Config{}, i, fmt.Sprintf("load%04d", i), "", "").instance
		if !of.MatchString(id) || seen[id] {
			t.Fatalf("the instance of user %d is %s", i, id)
		}
		seen[id] = true
	}
}

func TestIntervalTooBrief(t *testing.T) {
	p, s := connected(t, Config{Expires: time.Minute})
	done := make(chan error, 1)
	go func() { done <- p.Register(context.Background()) }() // ends with the answer; waited for below
	r := s.request("REGISTER")
	s.answer(r, 423, "Interval Too Brief", "Min-Expires", "300")
	r = s.request("REGISTER")
	if got := message.Get(r, "Expires"); got != "300" {
		t.Errorf("it asks for %s s, want 300", got)
	}
	s.answer(r, 200, "OK", "Contact", "<sip:other@192.0.2.1>;expires=10", "Contact", "<"+nameaddr.URI(message.Get(r, "Contact"))+">;expires=120")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if in := time.Until(p.Refresh()); in > time.Minute || in < 30*time.Second {
		t.Errorf("it refreshes in %s, of 120 s that are granted", in)
	}
}

// Where the registrar tells of the contact as something on the way wrote it, its time
// counts: a phone that kept to what it asked for would be gone meanwhile.
func TestContactWrittenAnew(t *testing.T) {
	p, s := connected(t, Config{Expires: time.Hour})
	done := make(chan error, 1)
	go func() { done <- p.Register(context.Background()) }() // ends with the answer; waited for below
	s.answer(s.request("REGISTER"), 200, "OK", "Contact", "<sip:1001@192.0.2.7:40000;transport=tls>;expires=60")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if in := time.Until(p.Refresh()); in > time.Minute {
		t.Errorf("it refreshes in %s, of 60 s that are granted", in)
	}
}

// A server that finds each nonce old is not answered for ever.
func TestStaleForEver(t *testing.T) {
	p, s := connected(t, Config{})
	done := make(chan error, 1)
	go func() { done <- p.Register(context.Background()) }() // ends with the last answer; waited for below
	for range maxChallenges + 1 {
		s.answer(s.request("REGISTER"), 401, "Unauthorized", "WWW-Authenticate", `Digest realm="r", qop="auth", nonce="1", stale=true`)
	}
	if err := <-done; !errors.Is(err, ErrAuth) {
		t.Errorf("it ended with %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	p, s := connected(t, Config{})
	done := make(chan error, 1)
	go func() { done <- p.Register(context.Background()) }() // ends with the answer; waited for below
	s.answer(s.request("REGISTER"), 503, "Service Unavailable", "Retry-After", "18000;duration=3600")
	var refused *Refused
	if err := <-done; !errors.As(err, &refused) || refused.RetryAfter != 5*time.Hour {
		t.Errorf("it ended with %+v", err)
	}
}

func TestSilentServer(t *testing.T) {
	p, s := connected(t, Config{Timeout: 100 * time.Millisecond})
	if err := p.Register(t.Context()); !errors.Is(err, ErrTimeout) {
		t.Errorf("it ended with %v", err)
	}
	s.conn.Close()
	if err := p.Register(t.Context()); !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrDown) {
		t.Errorf("it ended with %v", err)
	}
}
