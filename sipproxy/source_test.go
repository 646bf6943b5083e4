package sipproxy

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"testing"
)

// The PBX is told where a request came from, by nobody but us.
func TestSource(t *testing.T) {
	b := newBench(t)
	b.proxy.cfg.SourceHeader = "X-Sallyport-Source"
	p := b.phone()
	spoofed := []string{"X-Sallyport-Source: 10.0.0.5:5060;transport=UDP", "x-sallyport-SOURCE: 10.0.0.5", "X-Sallyport-User: ceo"}
	want := p.conn.LocalAddr().String() + ";transport=TLS;tls=1.3"
	for i, method := range []string{"REGISTER", "OPTIONS", "MESSAGE", "SUBSCRIBE", "INVITE"} {
		sdp := ""
		if method == "INVITE" {
			sdp = secureSDP
		}
		p.send(p.request(method, "sip:602@pbx.example.com", to602, fmt.Sprint("c", i), 1, sdp, append(spoofed, contact)...))
		if m := b.atPBX(method); strings.Join(m.h.Values("X-Sallyport-Source"), " and ") != want || m.h.Get("X-Sallyport-User") != "" {
			t.Errorf("%s says that it comes from %q, want %s; headers are %v", method, m.h.Values("X-Sallyport-Source"), want, m.h)
		}
	}
	// Nor do answers of phones carry it, nor what goes to phones.
	token := b.register(p)
	b.fromPBX(strings.Replace(b.inviteTo(token, "in", plainSDP), "CSeq:", "X-Sallyport-Source: 203.0.113.99:1\r\nCSeq:", 1))
	inv := p.next("INVITE")
	p.send(reply(inv, 486, "anna", "", spoofed...))
	for who, m := range map[string]*message{"the phone": inv, "the PBX": b.atPBX("486")} {
		if strings.Contains(strings.ToLower(fmt.Sprint(m.h)), "x-sallyport") {
			t.Errorf("%s got %v", who, m.h)
		}
	}
}

// Unless it is asked for, there is none; spoofed ones end here all the same.
func TestNoSource(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("OPTIONS", "sip:602@pbx.example.com", to602, "c1", 1, "", "X-Sallyport-Source: 10.0.0.5", "x-SALLYPORT-else: 1", "Organization: crosses"))
	if m := b.atPBX("OPTIONS"); strings.Contains(strings.ToLower(fmt.Sprint(m.h)), "x-sallyport") || m.h.Get("Organization") != "crosses" {
		t.Errorf("the PBX got %v", m.h)
	}
}

// A certificate's name is shown, and breaks out of nothing.
func TestClientName(t *testing.T) {
	for _, c := range []struct {
		name string
		dns  []string
		want string
	}{
		{"Branch Office 7", nil, "Branch Office 7"},
		{"ignored", []string{"branch7.example.com", "other"}, "branch7.example.com"},
		{"a\";transport=UDP\r\nX-Evil: 1, <sip:a>\\%é", nil, "a__transport=UDP__X-Evil: 1_ _sip:a____"},
	} {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: c.name}, DNSNames: c.dns}
		if got := clientName(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}); got != c.want {
			t.Errorf("%q is shown as %q, want %q", c.name, got, c.want)
		}
	}
}
