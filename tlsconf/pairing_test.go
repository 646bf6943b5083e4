package tlsconf

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// pairedConfigs are two edges, foo with trunk bar and bar with trunk foo.
func pairedConfigs(t *testing.T) (foo, bar Config) {
	t.Helper()
	foo, bar = config(t), config(t)
	foo.Names, bar.Names = []string{"foo.example.com"}, []string{"bar.example.com"}
	foo.Trunks, bar.Trunks = []Trunk{{Name: "bar"}}, []Trunk{{Name: "foo", Peer: "foo.example.com"}}
	return foo, bar
}

func pairUp(t *testing.T, foo, bar Config) string {
	t.Helper()
	text, err := Pair(foo, "bar", "foo", "foo.example.com:5061")
	if err != nil {
		t.Fatal(err)
	}
	token, err := ParseToken("  " + text + "\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if token.Name != "foo" || token.Address != "foo.example.com:5061" {
		t.Errorf("the token is %s", token)
	}
	if err := Join(bar, token.Name, token); err != nil {
		t.Fatal(err)
	}
	return text
}

// meet has the edge from dial the edge to, and tells what the latter takes it for.
func meet(t *testing.T, from *Source, trunk string, to *Source) (taken string, err error) {
	t.Helper()
	client := from.DialConfig(trunk)
	client.ServerName = from.ServerName(trunk)
	client.VerifyConnection = func(verify func(tls.ConnectionState) error) func(tls.ConnectionState) error {
		return func(state tls.ConnectionState) error {
			err = verify(state)
			return err
		}
	}(client.VerifyConnection)
	listener := to.Audience(Off, true)
	state, fault := seenClient(t, listener.Config(), client)
	return listener.Trunk(&state), errors.Join(err, fault)
}

// Two edges that were paired know each other in both directions, without a CA; one that
// was paired anew knows the former no longer.
func TestPairing(t *testing.T) {
	foo, bar := pairedConfigs(t)
	if _, err := New(foo, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("an edge runs without its pairing")
	}
	pairUp(t, foo, bar)
	a, b := mustPaired(t, foo), mustPaired(t, bar)
	for range 2 {
		if taken, err := meet(t, b, "foo", a); err != nil || taken != "bar" {
			t.Errorf("bar dials foo, and is %q there: %v", taken, err)
		}
		if taken, err := meet(t, a, "bar", b); err != nil || taken != "foo" {
			t.Errorf("foo dials bar, and is %q there: %v", taken, err)
		}
		stranger, other := pairedConfigs(t)
		pairUp(t, stranger, other)
		if taken, err := meet(t, mustPaired(t, other), "foo", a); refusedAs(err) != "pin" {
			t.Errorf("another's pairing is %q there: %v", taken, err)
		}
		// Phones see nothing of it: without the name they get the edge's own.
		if leaf := seen(t, a, &tls.Config{InsecureSkipVerify: true, ServerName: "foo.example.com"}); strings.Contains(leaf, pairedName) {
			t.Errorf("a phone is shown %s", leaf)
		}
		withdrawn := a.TrunkWithdrawn("bar")
		state, _ := seenClient(t, a.Audience(Off, true).Config(), func() *tls.Config { c := b.DialConfig("foo"); c.ServerName = b.ServerName("foo"); return c }())
		pairUp(t, foo, bar)
		a.Reload()
		if err := withdrawn(&state); refusedAs(err) != "pin" {
			t.Errorf("paired anew, and the former peer stays: %v", err)
		}
		if _, err := meet(t, b, "foo", a); refusedAs(err) != "pin" {
			t.Errorf("one end is paired anew: %v", err)
		}
		b.Reload()
	}
	if err := Forget(foo, "bar"); err != nil {
		t.Fatal(err)
	}
	a.Reload()
	if taken, err := meet(t, b, "foo", a); err == nil {
		t.Errorf("forgotten, and bar is %q there", taken)
	}
	if _, err := meet(t, a, "bar", b); refusedAs(err) != "unpaired" {
		t.Errorf("forgotten, and bar is dialled: %v", err)
	}
}

func mustPaired(t *testing.T, c Config) *Source {
	t.Helper()
	s, _ := mustSource(t, c, time.Now())
	return s
}

// Each end has its own key, and what it must know of the other; and shows neither.
func TestPairingIsKept(t *testing.T) {
	foo, bar := pairedConfigs(t)
	text := pairUp(t, foo, bar)
	token, _ := ParseToken(text)
	key := base64.StdEncoding.EncodeToString(token.yourKey[:])
	if data, _ := os.ReadFile(foo.pairingFile("bar")); strings.Contains(string(data), key) || len(data) == 0 {
		t.Error("foo has bar's key")
	}
	if data, _ := os.ReadFile(bar.pairingFile("foo")); !strings.Contains(string(data), key) {
		t.Error("bar has not its own key")
	}
	for _, shown := range []string{fmt.Sprint(token), fmt.Sprintf("%v %+v %#v", token, token, token)} {
		if strings.Contains(shown, key) || strings.Contains(shown, fmt.Sprint(token.yourKey[0], token.yourKey[1], token.yourKey[2])) {
			t.Errorf("shown as %s", shown)
		}
	}
	list, err := Pairings(foo)
	if err != nil || len(list) != 1 || list[0].Trunk != "bar" || time.Since(list[0].Made) > time.Hour || list[0].Ours != token.theirPin {
		t.Fatalf("pairings %+v, %v", list, err)
	}
	if until := list[0].Made.AddDate(lifetime, 0, 0).Truncate(time.Second); !list[0].Until.Equal(until) {
		t.Errorf("the pairing is good until %s, want %s", list[0].Until, until)
	}
	file := bar.pairingFile("foo")
	for name, spoil := range map[string]func(){
		"open to others": func() { _ = os.Chmod(file, 0o644) },
		"cut off":        func() { data, _ := os.ReadFile(file); _ = os.WriteFile(file, data[:20], 0o600) },
		"another key": func() {
			_ = os.WriteFile(file, []byte(`{"our_name":"a.trunk.sallyport.invalid","our_key":"AAAA","their_name":"b.trunk.sallyport.invalid","their_pin":"x"}`), 0o600)
		},
	} {
		_ = os.Remove(file)
		if err := Join(bar, "foo", token); err != nil {
			t.Fatal(err)
		}
		if _, err := bar.readPairing("foo"); err != nil {
			t.Fatalf("the control: %v", err)
		}
		spoil()
		if _, err := New(bar, slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), `trunk "foo": name: `) || strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Forget(bar, "foo"); err != nil {
		t.Error(err)
	}
	if err := Forget(bar, "foo"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("forgotten twice: %v", err)
	}
}

// What is cut off or mistyped anywhere is told, and never taken.
func TestTokenDamage(t *testing.T) {
	foo, _ := pairedConfigs(t)
	text, err := Pair(foo, "bar", "foo", "foo.example.com:5061")
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(text) {
		if _, err := ParseToken(text[:n]); err == nil {
			t.Fatalf("the first %d letters are taken", n)
		}
		other := byte('A')
		if text[n] == other {
			other = 'B'
		}
		if _, err := ParseToken(text[:n] + string(other) + text[n+1:]); err == nil {
			t.Fatalf("letter %d changed is taken", n)
		}
	}
	raw, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, tokenPrefix))
	raw[0]++
	raw = raw[:len(raw)-sumSize]
	sum := sha256.Sum256(raw)
	later := tokenPrefix + base64.RawURLEncoding.EncodeToString(append(raw, sum[:sumSize]...))
	if _, err := ParseToken(later); !errors.Is(err, errNewToken) {
		t.Errorf("of a later version: %v", err)
	}
	for _, s := range []string{"", "sallyport1.", "sallyport2." + text[len(tokenPrefix):], text + "A", text + "\n" + text} {
		if _, err := ParseToken(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

// The longest name and address that a length of one byte can tell.
func TestTokenLongest(t *testing.T) {
	token := Token{Name: strings.Repeat("n", maxTokenText), Address: strings.Repeat("a", maxTokenText), made: start}
	token.yourKey[31] = 1
	text, err := token.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseToken(text); err != nil || got != token {
		t.Errorf("read as %s, %v", got, err)
	}
	token.Name += "n"
	if _, err := token.encode(); err == nil {
		t.Error("a longer name is written")
	}
}

// Whatever is taken for a token is written again as it was; and no other is.
func FuzzToken(f *testing.F) {
	t := Token{Name: "foo", Address: "foo.example.com:5061", made: start}
	t.yourKey[31], t.theirID[0], t.yourID[0], t.theirPin[0] = 1, 2, 3, 4
	text, err := t.encode()
	if err != nil {
		f.Fatal(err)
	}
	body, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, tokenPrefix))
	f.Add(body[:len(body)-sumSize])
	f.Add([]byte{})
	f.Add([]byte{tokenVersion + 1})
	long := Token{Name: strings.Repeat("n", maxTokenText), Address: strings.Repeat("a", maxTokenText), made: time.Unix(maxTokenTime, 0), yourKey: t.yourKey}
	for _, change := range []func(*Token){
		func(*Token) {}, // the longest and the latest
		func(t *Token) { t.Name, t.Address = "", "" },
		func(t *Token) { t.Name = "a b" },
		func(t *Token) { t.yourKey = [keySize]byte{} },
		func(t *Token) { t.made = time.Unix(maxTokenTime+1, 0) },
	} {
		one := long
		change(&one)
		if text, err = one.encode(); err != nil {
			f.Fatal(err)
		}
		body, _ = base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, tokenPrefix))
		f.Add(body[:len(body)-sumSize])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body) // else nothing but the checksum would be tried
		text := tokenPrefix + base64.RawURLEncoding.EncodeToString(append(body, sum[:sumSize]...))
		token, err := ParseToken(text)
		if err != nil {
			if !reflect.DeepEqual(token, Token{}) && !errors.Is(err, errNewToken) && !errors.Is(err, errCutToken) {
				t.Errorf("refused as %v", err)
			}
			return
		}
		if again, err := token.encode(); err != nil || again != text {
			t.Errorf("%s becomes %s: %v", text, again, err)
		}
		if _, err := (&pairing{OurKey: base64.StdEncoding.EncodeToString(token.yourKey[:])}).key(); err != nil {
			t.Errorf("its key is not taken later: %v", err)
		}
	})
}

func TestPins(t *testing.T) {
	const hex = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	const base = "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	if !samePin(hex, base) || !samePin(hex, "sha256:"+strings.ToUpper(hex[7:])) {
		t.Error("one pin in two forms is two")
	}
	if p, err := ParsePin(base); err != nil || p.String() != hex {
		t.Errorf("read as %s, %v", p, err)
	}
	for _, s := range []string{"", hex[7:], "sha1:" + hex[7:], hex[:60], hex + "00", "sha256:", "sha256:zz"} {
		if _, err := ParsePin(s); err == nil {
			t.Errorf("%q is a pin", s)
		}
	}
}
