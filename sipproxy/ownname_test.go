package sipproxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

// named takes every certificate for the users of its common name.
type named struct{}

func (named) Users(state *tls.ConnectionState) []string {
	return strings.Split(state.PeerCertificates[0].Subject.CommonName, " ")
}

func (named) Trunk(*tls.ConnectionState) string { return "" }

func (named) Withdrawn(*tls.ConnectionState) error { return nil }

// phoneOf is a phone that shows a certificate for users.
func (b *bench) phoneOf(users string) *phone {
	b.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: users}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.phoneWith(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
}

func digestLine(params string) string { return "Authorization: Digest " + params }

const otherParams = `realm="asterisk", nonce="1", uri="sip:pbx.example.com", response="00000000000000000000000000000000"`

// A phone that showed a certificate is nobody but its users, in From, in the To of a
// REGISTER and in its credentials; one that showed none is whom it says.
func TestInOwnName(t *testing.T) {
	for _, tc := range []struct {
		name, users, method, from, to string
		more                          string
		refused                       string // empty: it goes on
	}{
		{"register", "1001", "REGISTER", "sip:1001@pbx.example.com", "<sip:1001@pbx.example.com>", "", ""},
		{"register with credentials", "1001", "REGISTER", "sip:1001@pbx.example.com", "<sip:1001@pbx.example.com>", digestLine(`username="1001", ` + otherParams), ""},
		{"register one of two", "1001 1002", "REGISTER", "sip:1002@pbx.example.com", "<sip:1002@pbx.example.com>", "", ""},
		{"register by escapes", "1001", "REGISTER", "sip:%31001@pbx.example.com", "<sip:1001@pbx.example.com>", "", ""},
		{"register another", "1001", "REGISTER", "sip:1002@pbx.example.com", "<sip:1002@pbx.example.com>", "", `From is "1002"`},
		{"register for another", "1001", "REGISTER", "sip:1001@pbx.example.com", "<sip:1002@pbx.example.com>", "", `To is "1002"`},
		{"register with another's credentials", "1001", "REGISTER", "sip:1001@pbx.example.com", "<sip:1001@pbx.example.com>", digestLine(`username="1002", ` + otherParams), `the credentials are for "1002"`},
		{"likewise, under the domain", "1001", "REGISTER", "sip:1001@pbx.example.com", "<sip:1001@pbx.example.com>", digestLine(`username="1001@pbx.example.com", ` + otherParams), ""},
		{"without a certificate", "", "REGISTER", "sip:1002@pbx.example.com", "<sip:1002@pbx.example.com>", "", ""},
		{"message", "1001", "MESSAGE", "sip:1001@pbx.example.com", "<sip:600@pbx.example.com>", "", ""},
		{"another's message", "1001", "MESSAGE", "sip:1002@pbx.example.com", "<sip:600@pbx.example.com>", "", `From is "1002"`},
		{"another's message, as if inside a call", "1001", "MESSAGE", "sip:1002@pbx.example.com", "<sip:600@pbx.example.com>;tag=x", "", `From is "1002"`},
		{"nobody's message", "1001", "MESSAGE", "sip:pbx.example.com", "<sip:600@pbx.example.com>", "", `From is "pbx.example.com"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			p := b.phone()
			if tc.users != "" {
				p = b.phoneOf(tc.users)
			}
			lines := []string{tc.method + " sip:pbx.example.com SIP/2.0", p.via(), "Max-Forwards: 70", "From: <" + tc.from + ">;tag=a", "To: " + tc.to,
				"Call-ID: own-name", "CSeq: 1 " + tc.method, contact}
			if tc.more != "" {
				lines = append(lines, tc.more)
			}
			p.send(text("", lines...))
			if tc.refused == "" {
				b.atPBX(tc.method)
				return
			}
			m := p.next("403")
			if warning := m.h.Get("Warning"); !strings.Contains(warning, strings.ReplaceAll(tc.refused, `"`, "")) && !strings.Contains(strings.ReplaceAll(warning, `\"`, `"`), tc.refused) {
				t.Errorf("refused with the Warning %s, want %q", warning, tc.refused)
			}
			if n := b.proxy.Stats().OtherUsers; n != 1 {
				t.Errorf("%d were counted", n)
			}
		})
	}
}

// Inside a call the phone is what the PBX called it; its credentials are its own.
func TestInOwnNameInCalls(t *testing.T) {
	b := newBench(t)
	p := b.phoneOf("1001")
	token := b.register(p)
	b.fromPBX(strings.Replace(b.inviteTo(token, "in", plainSDP), fmt.Sprintf("To: <sip:%s@%s>", token, b.plain), "To: <sip:sales@127.0.0.1>", 1))
	inv := p.next("INVITE")
	p.send(reply(inv, 200, "anna", strings.Replace(secureSDP, "a=crypto:1", "a=crypto:2", 1), contact))
	b.atPBX("200")
	bye := func(cseq string, more ...string) string {
		return text("", append([]string{"BYE " + strings.Trim(inv.h.Get("Contact"), "<>") + " SIP/2.0", p.via(), "Max-Forwards: 70",
			"From: " + inv.h.Get("To") + ";tag=anna", "To: " + inv.h.Get("From"), "Call-ID: " + inv.h.Get("Call-Id"), "CSeq: " + cseq + " BYE"}, more...)...)
	}
	p.send(bye("1", digestLine(`username="1002", `+otherParams)))
	p.next("403")
	p.send(bye("2"))
	b.atPBX("BYE")
}
