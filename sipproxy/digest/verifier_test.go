package digest

import (
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/icholy/digest"
)

const realm = "pbx.example.com"

// clock is a time that a test moves.
type clock struct{ t time.Time }

func build(t *testing.T) (*Verifier, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	v := New(realm)
	v.now = func() time.Time { return c.t }
	return v, c
}

// answer is what a phone sends to a challenge.
func answer(t *testing.T, challenge, password string, count int) string {
	t.Helper()
	c, err := digest.ParseChallenge(challenge)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := digest.Digest(c, digest.Options{Method: "REGISTER", URI: "sip:pbx.example.com", Username: "anna", Password: password, Count: count})
	if err != nil {
		t.Fatal(err)
	}
	return cred.String()
}

func secret(t *testing.T) Secret {
	t.Helper()
	// A1 = H(user:realm:password), RFC 7616 section 3.4.2.
	text := []byte("anna:" + realm + ":secret")
	return Secret{SHA256: fmt.Sprintf("%x", sha256.Sum256(text)), MD5: fmt.Sprintf("%x", md5.Sum(text))}
}

func TestChallenges(t *testing.T) {
	v, _ := build(t)
	list := v.Challenges(false)
	if len(list) != 2 || !strings.Contains(list[0], "SHA-256") || !strings.Contains(list[1], "MD5") || strings.Contains(list[0], "stale") {
		t.Fatalf("challenges %q: SHA-256 comes first (RFC 8760 section 2.3)", list)
	}
	if other := v.Challenges(true); other[0] == list[0] || !strings.Contains(other[1], "stale=true") {
		t.Errorf("challenges %q", other)
	}
}

func TestCheck(t *testing.T) {
	v, c := build(t)
	of := secret(t)
	for i, algorithm := range []string{"SHA-256", "MD5"} {
		challenge := v.Challenges(false)[i]
		for _, step := range []struct {
			what     string
			password string
			count    int
			method   string
			of       Secret
			want     Outcome
		}{
			{"a wrong password", "guess", 1, "REGISTER", of, Wrong},
			{"another method", "secret", 1, "INVITE", of, Wrong},
			{"the right one", "secret", 1, "REGISTER", of, Right},
			{"the same again", "secret", 1, "REGISTER", of, Stale},
			{"the next count", "secret", 2, "REGISTER", of, Right},
			{"a leap", "secret", 9, "REGISTER", of, Right},
			{"a count that was passed over", "secret", 5, "REGISTER", of, Stale},
			{"for nobody", "secret", 10, "REGISTER", Secret{}, Wrong},
		} {
			name, got := v.Check(step.method, answer(t, challenge, step.password, step.count), step.of)
			if got != step.want || name != "anna" {
				t.Errorf("%s, %s: %d for %q, want %d", algorithm, step.what, got, name, step.want)
			}
		}
		c.t = c.t.Add(Lifetime)
		for _, password := range []string{"secret", "guess"} { // nobody learns which
			if _, got := v.Check("REGISTER", answer(t, challenge, password, 20), of); got != Stale {
				t.Errorf("%s, an old nonce with %q: %d", algorithm, password, got)
			}
		}
	}
	if _, got := v.Check("REGISTER", answer(t, v.Challenges(false)[1], "secret", 1), Secret{SHA256: of.SHA256}); got != Wrong {
		t.Errorf("MD5 of a user who has SHA-256 alone: %d", got)
	}
	if _, got := New(realm).Check("REGISTER", answer(t, v.Challenges(false)[0], "secret", 1), of); got != Stale {
		t.Errorf("another's nonce: %d", got)
	}
	for _, header := range []string{"", "Basic YW5uYTpzZWNyZXQ=", "Digest", `Digest username="anna"`, strings.Replace(answer(t, v.Challenges(false)[0], "secret", 1), realm, "other", 1)} {
		if _, got := v.Check("REGISTER", header, of); got != Wrong {
			t.Errorf("%q: %d", header, got)
		}
	}
}

// The older form without counts is good once.
func TestWithoutCounts(t *testing.T) {
	v, _ := build(t)
	challenge := strings.Replace(v.Challenges(false)[1], `, qop="auth"`, "", 1)
	for i, want := range []Outcome{Right, Stale} {
		if _, got := v.Check("REGISTER", answer(t, challenge, "secret", 0), secret(t)); got != want {
			t.Errorf("time %d: %d, want %d", i, got, want)
		}
	}
	if _, got := v.Check("REGISTER", answer(t, strings.Replace(challenge, "MD5", `MD5, qop="auth"`, 1), "secret", 7), secret(t)); got != Stale {
		t.Errorf("and then with counts: %d", got)
	}
}

// A flood of used nonces makes all stale, and none good twice.
func TestBound(t *testing.T) {
	v, c := build(t)
	first := answer(t, v.Challenges(false)[1], "secret", 1)
	if _, got := v.Check("REGISTER", first, secret(t)); got != Right {
		t.Fatal(got)
	}
	for i := range maxNonces {
		v.count(&digest.Credentials{Nonce: v.nonce(), QOP: "auth", Nc: 1})
		if i == maxNonces/2 && v.order.Len() != i+2 {
			t.Fatalf("%d are remembered after %d", v.order.Len(), i+2)
		}
	}
	if n := v.order.Len(); n > maxNonces || n != len(v.counts) {
		t.Errorf("%d nonces are remembered, %d by name", n, len(v.counts))
	}
	if _, got := v.Check("REGISTER", first, secret(t)); got != Stale {
		t.Errorf("a nonce that was used is %d after a flood", got)
	}
	v.count(&digest.Credentials{Nonce: v.nonce(), QOP: "auth", Nc: 1})
	c.t = c.t.Add(2 * Lifetime)
	v.count(&digest.Credentials{Nonce: v.nonce(), QOP: "auth", Nc: 1})
	if n := v.order.Len(); n != 1 {
		t.Errorf("%d nonces outlive their time", n)
	}
}

func FuzzCheck(f *testing.F) {
	v := New(realm)
	f.Add(`Digest username="anna", realm="pbx.example.com", nonce="x", uri="sip:a", response="00", qop=auth, nc=00000001, cnonce="y", algorithm=SHA-256`)
	f.Add(`Digest username="a\"b", nc=99999999999999999999, qop="auth-int"`)
	f.Fuzz(func(t *testing.T, header string) {
		if _, got := v.Check("REGISTER", header, Secret{SHA256: fmt.Sprintf("%064x", 1)}); got == Right {
			t.Fatalf("%q is right", header)
		}
	})
}
