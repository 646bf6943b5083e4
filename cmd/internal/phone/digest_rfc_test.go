package phone

import (
	"net/http"
	"strings"
	"testing"

	"github.com/icholy/digest"
)

const answerTo = `(value, user, password, method, uri, cnonce) => {
	const c = sallyport.challenge(value);
	return c && sallyport.answer(c, user, password, method, uri, cnonce);
}`

// The examples of RFC 7616 section 3.9.1 and RFC 2617 section 3.5.
func TestDigestExamples(t *testing.T) {
	const realm = `Digest realm="http-auth@example.org", qop="auth, auth-int", nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
	for name, c := range map[string]struct{ challenge, password, cnonce, response string }{
		"RFC 7616 MD5":     {realm + ", algorithm=MD5", "Circle of Life", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", "8ca523f5e9506fed4657c9700eebdbec"},
		"RFC 7616 SHA-256": {realm + ", algorithm=SHA-256", "Circle of Life", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
		"RFC 2617":         {`Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"`, "Circle Of Life", "0a4f113b", "6629fae49393a05397450978507c4ef1"},
	} {
		got := newBench(t).call(answerTo, c.challenge, "Mufasa", c.password, "GET", "/dir/index.html", c.cnonce).String()
		if !strings.Contains(got, `response="`+c.response+`"`) || !strings.Contains(got, "qop=auth, nc=00000001") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Another implementation gives the same answers.
func TestDigestDiffers(t *testing.T) {
	b := newBench(t)
	for _, value := range []string{
		`Digest realm="asterisk", nonce="1700000000/abc", algorithm=MD5, qop="auth"`,
		`Digest realm="a, b \"c\"", nonce="n", algorithm=SHA-256, qop=auth, opaque="o"`,
		`Digest realm="asterisk",nonce="n"`,
		`Digest realm="asterisk",nonce="n",algorithm=SHA-256`,
	} {
		ch, err := digest.ParseChallenge(value)
		if err != nil {
			t.Fatal(err)
		}
		want, err := digest.Digest(ch, digest.Options{Method: http.MethodPost, URI: "sip:pbx.example.com", Count: 1, Cnonce: "c0ffee", Username: "101", Password: "pä:ss"})
		if err != nil {
			t.Fatal(err)
		}
		got := b.call(answerTo, value, "101", "pä:ss", http.MethodPost, "sip:pbx.example.com", "c0ffee").String()
		parsed, err := digest.ParseCredentials(got)
		if err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		if parsed.Response != want.Response || parsed.Realm != want.Realm || (want.QOP != "" && parsed.Nc != want.Nc) {
			t.Errorf("%s\nis answered %s\nwant        %s", value, got, want)
		}
	}
	// A session's key depends on both nonces (RFC 7616 section 3.4.2), by hand.
	b.is(`(() => { const h = sallyport.sha256, c = sallyport.challenge('Digest realm="r", nonce="n", algorithm=SHA-256-sess, qop="auth", userhash=true');
		const key = h(h("u:r:p") + ":n:x"), got = sallyport.answer(c, "u", "p", "M", "s", "x");
		return got.includes('response="' + h(key + ":n:00000001:x:auth:" + h("M:s")) + '"') && got.includes('username="' + h("u:r") + '"') && got.includes("userhash=true"); })()`, "true")
	for _, value := range []string{
		`Basic realm="r"`, `Digest realm="r"`, `Digest nonce="n"`, `Digest realm="r", nonce="n", algorithm=SHA-512-256`, `Digest realm="r", nonce="n", qop="auth-int"`,
	} {
		if got := b.call("(v) => String(sallyport.challenge(v))", value).String(); got != "null" {
			t.Errorf("%s is taken", value)
		}
	}
}
