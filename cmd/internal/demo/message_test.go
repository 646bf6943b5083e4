package demo

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

func TestReadMessage(t *testing.T) {
	stream := "\r\n\r\nINVITE sip:600@example.com SIP/2.0\r\nv: SIP/2.0/UDP a;branch=z9hG4bK1\r\ni: one\r\nl: 4\r\n\r\nbodySIP/2.0 200 OK\r\nCall-ID: two\r\n\r\n"
	r := bufio.NewReader(strings.NewReader(stream))
	m, err := readMessage(r)
	if err != nil {
		t.Fatal(err)
	}
	if m.method() != "INVITE" || nameaddr.User(m.uri()) != "600" || m.get("Call-ID") != "one" || string(m.body) != "body" || m.status() != 0 {
		t.Errorf("read %+v", m)
	}
	m, err = readMessage(r)
	if err != nil || m.status() != 200 || m.method() != "" || m.get("Call-ID") != "two" {
		t.Errorf("read %+v, %v", m, err)
	}
}

func TestReadMessageRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"huge body":       "OPTIONS sip:a SIP/2.0\r\nContent-Length: 99999999\r\n\r\n",
		"negative length": "OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
		"no colon":        "OPTIONS sip:a SIP/2.0\r\nnonsense\r\n\r\n",
		"cut short":       "OPTIONS sip:a SIP/2.0\r\nContent-Length: 5\r\n\r\nab",
		"endless head":    "OPTIONS sip:a SIP/2.0\r\nX: " + strings.Repeat("a", 2*maxHead) + "\r\n\r\n",
		"nothing":         "",
	} {
		if m, err := parseMessage([]byte(data)); err == nil {
			t.Errorf("%s: read %+v", name, m)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte("INVITE sip:600@example.com SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nContent-Length: 4\r\n\r\nbody"))
	f.Add([]byte("SIP/2.0 200 OK\r\nt: <sip:a@b>\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMessage(data)
		if err != nil {
			return
		}
		_, _, _ = m.uri(), m.method(), nameaddr.User(nameaddr.URI(m.get("To")))
		_, _ = parseSDP(m.body)
		once := m.bytes()
		again, err := parseMessage(once)
		if err != nil {
			return // a lone CR within a line is written as it came
		}
		if !bytes.Equal(again.bytes(), once) {
			t.Errorf("not the same when read again:\n%q\n%q", once, again.bytes())
		}
	})
}
