package sipproxy

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/policy"
)

func TestCredentials(t *testing.T) {
	digest := func(s string) string { return `Digest realm="asterisk", ` + s }
	for _, tc := range []struct {
		name    string
		headers []string
		user    string
		refused bool
	}{
		{"none", nil, "", false},
		{"one", []string{digest(`username="1001", nonce="n"`)}, "1001", false},
		{"unquoted, in upper case", []string{`DIGEST USERNAME=1001,NONCE=n`}, "", true},
		{"a name in quotes", []string{digest(`opaque="x, username=\"9\",", username="1001"`)}, "", true},
		{"two of one user", []string{digest(`username="1001"`), digest(`username="1001"`)}, "1001", false},
		{"two users", []string{digest(`username="1001"`), digest(`username="1002"`)}, "", true},
		{"two users in one", []string{digest(`username="1001", username="1002"`)}, "", true},
		{"escapes", []string{digest(`username="10\01"`)}, "", true},
		{"a tab behind the scheme", []string{"Digest\tusername=\"1001\""}, "1001", false},
		{"another scheme", []string{`Basic dXNlcm5hbWU9`}, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := sip.NewRequest(sip.REGISTER, sip.Uri{Scheme: "sip", Host: "x"})
			for i, h := range tc.headers {
				in.AppendHeader(sip.NewHeader([]string{"Authorization", "Proxy-Authorization"}[i], h))
			}
			c, r := credentialsOf(in)
			if c.user != tc.user || (r != nil) != tc.refused {
				t.Errorf("got %+v, %v", c, r)
			}
		})
	}
}

// Only what the PBX does for nobody but the owner of a password proves anything.
func TestWhatBecame(t *testing.T) {
	for _, tc := range []struct {
		method string
		login  bool
		status int
		stale  bool
		want   string
	}{
		{"REGISTER", false, 401, false, "challenged"}, {"REGISTER", true, 401, true, "challenged"}, {"INVITE", false, 407, false, "challenged"},
		{"REGISTER", true, 401, false, "failed"}, {"INVITE", true, 407, false, "failed"}, {"REGISTER", true, 403, false, "failed"},
		{"INVITE", true, 403, false, "forbidden"}, {"SUBSCRIBE", true, 403, false, "forbidden"},
		{"REGISTER", false, 404, false, "unknown_user"}, {"REGISTER", true, 404, false, "unknown_user"}, {"REGISTER", false, 403, false, "unknown_user"},
		{"INVITE", false, 404, false, "unknown_user"}, {"INVITE", true, 404, false, "passed"},
		{"REGISTER", true, 200, false, "registered"}, {"REGISTER", false, 200, false, "registered"},
		{"INVITE", true, 180, false, "accepted"}, {"INVITE", true, 200, false, "accepted"}, {"INVITE", false, 200, false, ""},
		{"OPTIONS", true, 200, false, "passed"}, {"MESSAGE", true, 202, false, "passed"}, {"SUBSCRIBE", true, 200, false, "accepted"}, {"REGISTER", true, 420, false, "passed"}, {"INVITE", true, 488, false, "passed"},
		{"INVITE", true, 503, false, "passed"}, {"OPTIONS", false, 404, false, ""},
	} {
		in := sip.NewRequest(sip.RequestMethod(tc.method), sip.Uri{Scheme: "sip", Host: "x"})
		res := sip.NewResponse(tc.status, "")
		res.AppendHeader(sip.NewHeader("WWW-Authenticate", fmt.Sprintf(`Digest realm="a", stale=%v`, tc.stale)))
		var cred credentials
		if tc.login {
			cred = credentials{"1001", "n"}
		}
		got := ""
		if what, known := became(in, res, cred); known {
			got = what.String()
		}
		if got != tc.want {
			t.Errorf("%s with credentials %v, answered %d: %q, want %q", tc.method, tc.login, tc.status, got, tc.want)
		}
	}
}

// registerAs sends a REGISTER of a user, with a nonce or without credentials,
// lets the PBX answer, and returns what the phone got.
func (b *bench) registerAs(p *phone, user, nonce string, status int, more ...string) *message {
	b.t.Helper()
	auth := []string{"Contact: <sip:" + user + "@192.168.1.9>"}
	if nonce != "" {
		auth = append(auth, fmt.Sprintf(`Authorization: Digest username="%s", realm="asterisk", nonce="%s", uri="sip:x", response="0"`, user, nonce))
	}
	p.send(strings.ReplaceAll(p.request("REGISTER", "sip:pbx.example.com", "<sip:"+user+"@pbx.example.com>", "r-"+user, p.n+1, "", auth...), "sip:1001@pbx", "sip:"+user+"@pbx"))
	b.fromPBX(reply(b.atPBX("REGISTER"), status, "r", "", append([]string{"Allow: INVITE"}, more...)...))
	_ = p.conn.SetReadDeadline(soon())
	m, err := readText(p.r)
	if err != nil {
		b.t.Fatalf("the phone awaits an answer: %v", err)
	}
	return m
}

var nonceIn = regexp.MustCompile(`nonce="([^"]*)"`)

// What a phone learns of a user that there is not is what it learns of one that
// there is: the PBX says 404 and 403, and the phone sees neither difference.
func TestMask(t *testing.T) {
	const ask = `WWW-Authenticate: Digest algorithm=MD5, realm="asterisk", nonce="0a1b2c3d"`
	for name, wrong := range map[string]int{"wrong passwords get 403": 403, "wrong passwords get 401": 401} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			known, unknown := b.phone(), b.phone()
			type seen struct {
				status           int
				challenge, allow string
			}
			see := func(m *message) seen {
				challenge := nonceIn.ReplaceAllStringFunc(m.h.Get("Www-Authenticate"), func(s string) string {
					return fmt.Sprint("nonce of ", len(s), strings.Trim(s[6:], `"0123456789abcdef`))
				})
				return seen{m.status(), challenge, m.h.Get("Allow")}
			}
			var learn []string
			if wrong == 401 {
				learn = []string{strings.Replace(ask, "0a1b2c3d", "ffffffff", 1)}
			}
			k := []*message{b.registerAs(known, "1001", "", 401, ask)}
			k = append(k, b.registerAs(known, "1001", "0a1b2c3d", wrong, learn...))
			u := []*message{b.registerAs(unknown, "9999", "", 404)}
			nonce := nonceIn.FindStringSubmatch(u[0].h.Get("Www-Authenticate"))
			if nonce == nil || nonce[1] == "0a1b2c3d" {
				t.Fatalf("the unknown user got %+v", u[0])
			}
			u = append(u, b.registerAs(unknown, "9999", nonce[1], 404))
			for i := range k {
				if a, b := see(k[i]), see(u[i]); a != b {
					t.Errorf("step %d: known %+v, unknown %+v", i, a, b)
				}
			}
			// A nonce that nobody gave: both are asked again.
			if m := b.registerAs(unknown, "9999", "deadbeef", 404); m.status() != 401 {
				t.Errorf("with a nonce that was made up the unknown user got %s", m.start)
			}
		})
	}
	t.Run("control: off", func(t *testing.T) {
		b := newBench(t)
		b.proxy.mask.off = true
		p := b.phone()
		b.registerAs(p, "1001", "", 401, ask)
		if m := b.registerAs(p, "9999", "", 404); m.status() != 404 {
			t.Errorf("got %s", m.start)
		}
	})
}

func TestAlike(t *testing.T) {
	for in, want := range map[string]string{
		"0a1b2c3d": `^[0-9a-f]{8}$`, "1764097200/3F": `^[0-9A-F]{10}/[0-9A-F]{2}$`, "12345": `^[0-9]{5}$`, "Zz9-x": `^[0-9a-zA-Z]{3}-[0-9a-zA-Z]$`, "": `^$`,
	} {
		if got := alike(in); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s became %s", in, got)
		}
	}
}

// A connection that guesses is closed, with the PBX's answer as its last word;
// and its source is kept out.
func TestGuesserIsDismissed(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.registerAs(p, "1001", "", 401, `WWW-Authenticate: Digest algorithm=MD5, realm="asterisk", nonce="0a1b2c3d"`)
	for range policy.Defaults().AuthFailuresPerConnection {
		if m := b.registerAs(p, "1001", "0a1b2c3d", 403); m.status() != 403 {
			t.Fatalf("got %s", m.start)
		}
	}
	_ = p.conn.SetReadDeadline(soon())
	if m, err := readText(p.r); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Fatalf("the connection goes on: %v, %v", m, err)
	}
}

// A scanner gets no answer, and the PBX nothing of it.
func TestScannerIsToldNothing(t *testing.T) {
	b := newBench(t)
	quiet := b.phone()
	quiet.send(quiet.request("OPTIONS", "sip:100@pbx.example.com", "<sip:100@pbx.example.com>", "o1", 1, "", "User-Agent: control"))
	b.atPBX("OPTIONS")
	p := b.phone()
	p.send(p.request("OPTIONS", "sip:100@pbx.example.com", "<sip:100@pbx.example.com>", "o2", 1, "", "User-Agent: friendly-scanner"))
	_ = p.conn.SetReadDeadline(soon())
	if m, err := readText(p.r); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Fatalf("got %v, %v", m, err)
	}
	if m, err := b.heard(time.Now().Add(200 * time.Millisecond)); err == nil {
		t.Errorf("the PBX got %s", m.start)
	}
}

// Nor one that is held, however much it asks, and however wrongly: an answer would name the edge. What it asks
// is kept no longer than it is read.
func TestHeldScanner(t *testing.T) {
	b := newBenchUnder(t, func(c *policy.Config) { c.Tarpit = time.Minute })
	p := b.phone()
	var last string
	for i := range 40 { // more than wait of one that has proved nothing
		last = p.request("OPTIONS", "sip:100@pbx.example.com", "<sip:100@pbx.example.com>", fmt.Sprint("o", i), 1, "", "User-Agent: friendly-scanner")
		p.send(last)
	}
	p.send(regexp.MustCompile(`branch=\w+`).ReplaceAllString(last, "branch=z9hG4bKanother")) // the same by another way
	for i, wrong := range []string{"Proxy-Require: x", digestLine(`username="a"`) + "\r\n" + digestLine(`username="b"`)} {
		p.send(p.request("OPTIONS", "sip:100@pbx.example.com", "<sip:100@pbx.example.com>", fmt.Sprint("w", i), 1, "", "User-Agent: friendly-scanner", wrong))
	}
	p.send(strings.Replace(last, "Max-Forwards: 70", "Max-Forwards: 0", 1))
	p.send(strings.ReplaceAll(last, "OPTIONS", "FOO"))
	until(t, "all to be read", func() bool {
		n := uint64(0)
		for _, each := range b.proxy.Stats().Refused {
			n += each
		}
		return n == 45
	})
	_ = p.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if m, err := readText(p.r); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the scanner got %v, %v", m, err)
	}
	if n := b.proxy.tx.Len(); n != 0 {
		t.Errorf("%d transactions are held", n)
	}
}

// The PBX answers a phone that is gone: nothing of it is remembered.
func TestAnswerToOneWhoIsGone(t *testing.T) {
	b := newBench(t)
	judge := b.proxy.judgeBy.(*policy.Policy)
	for _, status := range []int{200, 401, 403} {
		p := b.phone()
		p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", fmt.Sprint("gone", status), 1, "", contact,
			`Authorization: Digest username="1001", realm="asterisk", nonce="n", uri="sip:x", response="0"`))
		reg := b.atPBX("REGISTER")
		p.conn.Close()
		until(t, "the connection to be forgotten", func() bool { return judge.Stats().Watched["connections"] == 0 })
		before := judge.Stats().Outcomes
		b.fromPBX(reply(reg, status, "r", ""))
		until(t, "the answer to be seen", func() bool {
			n := judge.Stats().Outcomes
			return n["registered"]+n["failed"] > before["registered"]+before["failed"]
		})
		until(t, "nothing to be remembered of it", func() bool { return judge.Stats().Watched["connections"] == 0 })
	}
}
