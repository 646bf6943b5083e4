package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	client "github.com/icholy/digest"
)

func TestDigestForPBX(t *testing.T) {
	const good = `Digest username="1001", realm="a, \"b\"", uri="sip:x", response="0", algorithm=MD5, qop=auth, nc=00000001, opaque=""`
	for value, want := range map[string]string{
		good:                            good,
		"dIGEST\tusername=\"1001\"":     `Digest username="1001"`,
		"Digest  a = \"1\" ,\tb=2":      `Digest a="1", b=2`,
		`Digest ,a="1",, b=2,`:          `Digest a="1", b=2`,
		"Digest a=1, uri=sip:x;y":       "",
		"Digest a=1, uri=sip:x@[::1]":   `Digest a=1, uri="sip:x@[::1]"`,
		"Digest a=1 b=2":                "",
		"Digest a=\"1\"x":               "",
		"Digest a=\"1":                  "",
		"Digest a=\"1\\\"":              "",
		"Digest a=":                     "",
		"Digest =1":                     "",
		"Digest a":                      "",
		"Digest digest a=1":             "",
		"Digest":                        "",
		"Digest ,":                      "",
		"Digestive a=1":                 "",
		"NoOneKnowsThisScheme x=here":   "",
		"Bearer abc":                    "",
		"":                              "",
		"Digest a=1, b=\u00a02":         "Digest a=1, b=\"\u00a02\"",
		"Digest username=\"\u00fc\"":    "Digest username=\"\u00fc\"",
		"Digest a=1, Digest b=\"1002\"": "",
		// In quotes the backslash would take the closing one with it, and a PBX read on.
		"Digest x=\\, username=\"1002\"": "",
	} {
		if got := digestForPBX(value); got != want {
			t.Errorf("%s goes on as %q, want %q", value, got, want)
		}
	}
}

// What is no digest does not reach the PBX; the request does.
func TestForeignCredentials(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	for value, passes := range map[string]bool{"digest username=\"1001\"": true, "NoOneKnowsThisScheme opaque-data=here": false} {
		for _, name := range []string{"Authorization", "Proxy-Authorization"} {
			p.send(p.request("OPTIONS", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>", fmt.Sprint("c", p.n), 1, "", name+": "+value))
			got := b.requested()
			if strings.Contains(got, "\r\n"+name+": Digest username=\"1001\"\r\n") != passes || strings.Contains(got, "Scheme") {
				t.Errorf("%s: %s reached the PBX as\n%s", name, value, got)
			}
			readAndAnswer(b, p, got)
		}
	}
}

// Whatever a phone sends as its credentials: what goes on to the PBX is read as the same
// again, and names the same user.
func FuzzDigestForPBX(f *testing.F) {
	for _, s := range []string{
		`Digest username="1001", realm="asterisk", nonce="00c0ffee", uri="sip:a", response="00"`, `digest\tusername=a@b,,nonce = "x" , qop=auth,`,
		`Digest username="a\"b",username=c`, `Digest a="`, `Digest =`, `Digest a=;`, `Basic a=b`, `Digest ,`, `Digest username*="x"`, `Digest nonce="a",NONCE=a`, `Digest Username="a\"", URI=sip:b,\tnc="1",`, `Digest *=\`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		d, ok := readDigest(value)
		if !ok {
			return
		}
		text := digestForPBX(value)
		again, ok := readDigest(text)
		if !ok || again.String() != text {
			t.Fatalf("%q goes on as %q, and is read as %q", value, text, again)
		}
		for _, name := range []string{"username", "nonce", "realm"} {
			a, twice := d.param(name)
			if b, twice2 := again.param(name); a != b || twice != twice2 {
				t.Errorf("%q has %s %q, %q has %q", value, name, a, text, b)
			}
		}
		user, one := d.user()
		if user2, one2 := again.user(); user != user2 || one != one2 {
			t.Errorf("%q is of %q, %q of %q", value, user, text, user2)
		}
		// The library that computes with them reads the same.
		c, err := client.ParseCredentials(d.plainly())
		switch nonce, _ := d.param("nonce"); {
		case err != nil && !strings.Contains(err.Error(), "invalid nc"):
			t.Errorf("%q is written %q: %v", value, d.plainly(), err)
		case err == nil && utf8.ValidString(value) && (one && c.Username != user || !strings.ContainsAny(nonce, `"\`) && c.Nonce != nonce):
			t.Errorf("%q is of %q with %q, in the library of %q with %q", value, user, nonce, c.Username, c.Nonce)
		}
	})
}
