package sipproxy

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
)

// The far ends of these benchmarks allocate next to nothing: what is counted is the
// edge's, with its TLS and its sockets.

// BenchmarkRegister is a registration refreshed over a connection that there is.
func BenchmarkRegister(b *testing.B) {
	loaded(b, func(p *load) { p.register() })
}

// BenchmarkCall is a call that is set up, rings, is answered and hung up.
func BenchmarkCall(b *testing.B) {
	loaded(b, func(p *load) { p.call() })
}

// loaded runs op on a few connections at a time.
func loaded(b *testing.B, op func(*load)) {
	rules := policy.Defaults()
	rules.MaxConnectionsPerAddress, rules.NewConnectionsPerSecond = 0, 0
	at := newBenchFor(b, media.Defaults().Silence, nil, rules)
	go echo(at.pbx) // ends when the socket is closed
	b.SetParallelism(8)
	b.ReportAllocs()
	var users atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		p := &load{phone: at.phone(), user: strconv.Itoa(1000 + int(users.Add(1)))}
		for pb.Next() {
			op(p)
		}
	})
}

// load is a phone that writes and reads without memory of its own.
type load struct {
	*phone
	user string
	buf  []byte
	to   []byte // with the tag, of the last answer
	n    int
}

func (p *load) begin(method, uri, to, callID string, cseq int) {
	p.n++
	p.buf = fmt.Appendf(p.buf[:0], "%s %s SIP/2.0\r\nVia: SIP/2.0/TLS 192.168.1.9:5061;branch=z9hG4bK%s-%d;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:%s@pbx.example.com>;tag=t%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:%s@192.168.1.9:5061;transport=tls>\r\nUser-Agent: bench\r\n",
		method, uri, p.user, p.n, p.user, callID, to, callID, cseq, method, p.user)
}

func (p *load) end(body string) {
	if body != "" {
		p.buf = append(p.buf, "Content-Type: application/sdp\r\n"...)
	}
	p.buf = fmt.Appendf(p.buf, "Content-Length: %d\r\n\r\n%s", len(body), body)
	if _, err := p.conn.Write(p.buf); err != nil {
		p.t.Error(err)
	}
}

var crlf = []byte("\r\n")

// answered reads to the next final response, which must be a 200.
func (p *load) answered() {
	for status, length := 0, 0; ; {
		line, err := p.r.ReadSlice('\n')
		if err != nil {
			p.t.Error(err)
			return
		}
		switch line = bytes.TrimSuffix(line, crlf); {
		case bytes.HasPrefix(line, []byte("SIP/2.0 ")):
			status = int(line[8]-'0')*100 + int(line[9]-'0')*10 + int(line[10]-'0')
		case bytes.HasPrefix(line, []byte("To: ")):
			p.to = append(p.to[:0], line[4:]...)
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			length, _ = strconv.Atoi(string(line[16:]))
		case len(line) == 0:
			if _, err := p.r.Discard(length); err != nil || status > 200 {
				p.t.Errorf("got %d, %v", status, err)
			}
			if status >= 200 {
				return
			}
		}
	}
}

func (p *load) register() {
	p.begin("REGISTER", "sip:pbx.example.com", "<sip:"+p.user+"@pbx.example.com>", "reg"+p.user, p.n+1)
	p.buf = append(p.buf, "Expires: 600\r\n"...)
	p.end("")
	p.answered()
}

func (p *load) call() {
	id := p.user + "-" + strconv.Itoa(p.n)
	p.begin("INVITE", "sip:600@pbx.example.com", "<sip:600@pbx.example.com>", id, 1)
	p.end(secureSDP)
	p.answered()
	p.begin("ACK", "sip:600@127.0.0.1:5061;transport=tls", string(p.to), id, 1)
	p.end("")
	p.begin("BYE", "sip:600@127.0.0.1:5061;transport=tls", string(p.to), id, 2)
	p.end("")
	p.answered()
}

// echo is a PBX that answers all with 200, and lets calls ring before.
func echo(conn *net.UDPConn) {
	in, out := make([]byte, 64<<10), make([]byte, 0, 4<<10)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(in)
		if err != nil {
			return
		}
		statuses, body := []string{"200 OK"}, ""
		switch {
		case bytes.HasPrefix(in[:n], []byte("ACK")):
			continue
		case bytes.HasPrefix(in[:n], []byte("INVITE")):
			statuses, body = []string{"100 Trying", "180 Ringing", "200 OK"}, plainSDP
		}
		for _, status := range statuses {
			out = append(append(append(out[:0], "SIP/2.0 "...), status...), crlf...)
			contact := []byte("<sip:600@127.0.0.1:5060>")
			for _, line := range bytes.Split(in[:n], crlf) { // the start line is none of them
				name, value, _ := bytes.Cut(line, []byte(": "))
				switch string(name) {
				case "Via", "From", "Call-ID", "CSeq", "To":
					out = append(out, line...)
					if string(name) == "To" && status[0] != '1' && !bytes.Contains(line, []byte(";tag=")) {
						out = append(out, ";tag=pbx"...)
					}
					out = append(out, crlf...)
				case "Contact":
					if bytes.HasPrefix(in, []byte("REGISTER")) {
						contact = append(bytes.Clone(value), ";expires=600"...)
					}
				}
			}
			out = append(append(append(out, "Contact: "...), contact...), crlf...)
			if body != "" && status[0] == '2' {
				out = fmt.Appendf(out, "Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			} else {
				out = append(out, "Content-Length: 0\r\n\r\n"...)
			}
			_, _ = conn.WriteToUDPAddrPort(out, from)
		}
	}
}
