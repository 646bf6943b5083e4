package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// answerBy is how long a phone waits for an answer: as RFC 3261 has a transaction
// wait, 64*T1.
const answerBy = 32 * time.Second

// line is a phone on its connection. It does one thing at a time, and little for it:
// all share two processors, and what a generator takes is not left for the proxies. A
// registration costs it 24 µs, and costs sallyload 100, which is more than the proxy's
// own part: with that one, all proxies would look alike.
type line struct {
	conn      net.Conn
	r         *bufio.Reader
	transport string
	user      string
	local     string
	calls     int
	cseq      int
	buf       []byte
}

func newLine(conn net.Conn, transport, user string) *line {
	return &line{conn: conn, r: bufio.NewReaderSize(conn, 4096), transport: transport, user: user, local: conn.LocalAddr().String()}
}

// branches numbers the requests of all phones: to a proxy one that was there is a
// repetition.
var branches atomic.Int64

// reply is what a phone reads of a response.
type reply struct {
	status  int
	cseq    string
	to      string
	contact string
	routes  []string // as they came
	callID  string
}

// request begins a request; the caller adds headers, and ends it by send.
func (l *line) request(method, uri, callID, to string, cseq int, routes ...string) {
	l.buf = fmt.Appendf(l.buf[:0], "%s %s SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bK-%d;rport\r\nMax-Forwards: 70\r\n",
		method, uri, l.transport, l.local, branches.Add(1))
	for _, r := range routes {
		l.buf = fmt.Appendf(l.buf, "Route: %s\r\n", r)
	}
	l.buf = fmt.Appendf(l.buf, "From: <sip:%s@pbx.example.com>;tag=t%s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nUser-Agent: bench\r\n",
		l.user, callID, to, callID, cseq, method)
}

func (l *line) contact() {
	l.buf = fmt.Appendf(l.buf, "Contact: <sip:%s@%s;transport=%s>\r\n", l.user, l.local, strings.ToLower(l.transport))
}

func (l *line) send(body string) error {
	if body != "" {
		l.buf = append(l.buf, "Content-Type: application/sdp\r\n"...)
	}
	l.buf = fmt.Appendf(l.buf, "Content-Length: %d\r\n\r\n%s", len(body), body)
	_, err := l.conn.Write(l.buf)
	return err
}

// final reads to the final response to a request. Late ones to others are passed over.
func (l *line) final(callID, cseq string) (reply, error) {
	_ = l.conn.SetReadDeadline(time.Now().Add(answerBy))
	for {
		m, err := l.read()
		if err != nil {
			return m, fmt.Errorf("await the answer to %s: %w", cseq, err)
		}
		if m.callID == callID && m.cseq == cseq && m.status >= 200 {
			return m, nil
		}
	}
}

var colon = []byte(":")

// read reads one response, and passes over what else comes.
func (l *line) read() (m reply, err error) {
	length, first := 0, true
	for {
		text, err := l.r.ReadSlice('\n')
		if err != nil {
			return m, err
		}
		text = bytes.TrimRight(text, "\r\n")
		switch {
		case len(text) == 0 && first:
			continue // a ping
		case len(text) == 0:
			if _, err := l.r.Discard(length); err != nil {
				return m, err
			}
			if m.status > 0 {
				return m, nil
			}
			length, first = 0, true
			continue
		case first:
			first = false
			if len(text) > 12 && bytes.HasPrefix(text, []byte("SIP/2.0 ")) {
				m.status, _ = strconv.Atoi(string(text[8:11]))
			}
			continue
		}
		name, value, _ := bytes.Cut(text, colon)
		value = bytes.TrimSpace(value)
		switch string(name) {
		case "Content-Length":
			length, _ = strconv.Atoi(string(value))
		case "CSeq":
			m.cseq = string(value)
		case "Call-ID":
			m.callID = string(value)
		case "To":
			m.to = string(value)
		case "Contact":
			m.contact = string(value)
		case "Record-Route":
			for _, r := range strings.Split(string(value), ",") {
				m.routes = append(m.routes, strings.TrimSpace(r))
			}
		}
	}
}

// register registers, or does so again.
func (l *line) register() error {
	l.cseq++
	id := "reg-" + l.user
	l.request("REGISTER", "sip:pbx.example.com", id, "<sip:"+l.user+"@pbx.example.com>", l.cseq)
	l.contact()
	l.buf = append(l.buf, "Expires: 3600\r\n"...)
	if err := l.send(""); err != nil {
		return err
	}
	m, err := l.final(id, strconv.Itoa(l.cseq)+" REGISTER")
	if err == nil && (m.status != 200 || m.contact == "") {
		err = fmt.Errorf("register: it was answered %d, contact %q", m.status, m.contact)
	}
	return err
}

// call calls and hangs up, and returns how long the setup took.
func (l *line) call() (time.Duration, error) {
	l.calls++
	id, began := fmt.Sprintf("call-%s-%d", l.user, l.calls), time.Now()
	l.request("INVITE", "sip:600@pbx.example.com", id, "<sip:600@pbx.example.com>", 1)
	l.contact()
	if err := l.send(sipOffer); err != nil {
		return 0, err
	}
	m, err := l.final(id, "1 INVITE")
	setup := time.Since(began)
	if err == nil && (m.status != 200 || m.contact == "") {
		err = fmt.Errorf("call: it was answered %d, contact %q", m.status, m.contact)
	}
	if err != nil {
		return 0, err
	}
	target, routes := strings.Trim(m.contact, "<>"), reversed(m.routes)
	l.request("ACK", target, id, m.to, 1, routes...)
	if err := l.send(""); err != nil {
		return 0, err
	}
	l.request("BYE", target, id, m.to, 2, routes...)
	if err := l.send(""); err != nil {
		return 0, err
	}
	if m, err = l.final(id, "2 BYE"); err == nil && m.status != 200 {
		err = fmt.Errorf("hang up: it was answered %d", m.status)
	}
	return setup, err
}

func reversed(routes []string) []string {
	var r []string
	for i := len(routes) - 1; i >= 0; i-- {
		r = append(r, routes[i])
	}
	return r
}

// sipOffer is what each phone offers: the edge takes no call without keys.
var sipOffer = "v=0\r\no=- 1 1 IN IP4 203.0.113.11\r\ns=-\r\nc=IN IP4 203.0.113.11\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 0 8 101\r\n" +
	"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n" +
	"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + strings.Repeat("Q2hl", 10) + "\r\na=sendrecv\r\n"

// sipAnswer is what the PBX answers.
var sipAnswer = describe(pbxMedia, "RTP/AVP", "")

// responder is a PBX that answers all at once: REGISTER with its contact, INVITE with
// 100, 180 and 200, and any other request with 200. It keeps no state.
type responder struct{ conn *net.UDPConn }

// startResponder listens in the place of the PBX.
func startResponder(l *peers.Lab, readers int) (*responder, error) {
	r := &responder{}
	err := l.PBX.Do(func() (err error) {
		r.conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: l.PBX.Addr.AsSlice(), Port: 5060})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen as the PBX: %w", err)
	}
	_ = r.conn.SetReadBuffer(tapBuffer)
	for range readers {
		go r.serve() // ends when the socket is closed
	}
	return r, nil
}

func (r *responder) close() { r.conn.Close() }

func (r *responder) serve() {
	in, out := make([]byte, 64<<10), make([]byte, 0, 8<<10)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(in)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			continue
		}
		method, _, ok := bytes.Cut(in[:n], []byte(" "))
		if !ok || bytes.HasPrefix(method, []byte("SIP/")) || string(method) == "ACK" {
			continue
		}
		statuses, body := []string{"200 OK"}, ""
		if string(method) == "INVITE" {
			statuses, body = []string{"100 Trying", "180 Ringing", "200 OK"}, sipAnswer
		}
		for i, status := range statuses {
			if i < len(statuses)-1 {
				out = respond(out[:0], in[:n], status, string(method), "")
			} else {
				out = respond(out[:0], in[:n], status, string(method), body)
			}
			_, _ = r.conn.WriteToUDPAddrPort(out, from) // lost, it is asked again
		}
	}
}

// respond appends the answer to a request.
func respond(out, req []byte, status, method, body string) []byte {
	out = append(append(append(out, "SIP/2.0 "...), status...), "\r\n"...)
	head, _, _ := bytes.Cut(req, []byte("\r\n\r\n"))
	_, head, _ = bytes.Cut(head, []byte("\r\n"))
	contact := []byte("<sip:600@" + peers.PBXAddr + ":5060>")
	for len(head) > 0 {
		var text []byte
		text, head, _ = bytes.Cut(head, []byte("\r\n"))
		name, value, _ := bytes.Cut(text, colon)
		switch string(name) {
		case "Via", "Record-Route", "From", "Call-ID", "CSeq", "To":
			out = append(out, text...)
			if string(name) == "To" && status != "100 Trying" && !bytes.Contains(text, []byte("tag=")) {
				out = append(out, ";tag=pbx"...)
			}
			out = append(out, "\r\n"...)
		case "Contact":
			if method == "REGISTER" {
				contact = append(bytes.TrimSpace(value), ";expires=3600"...)
			}
		}
	}
	if status != "100 Trying" && method != "BYE" {
		out = append(append(append(out, "Contact: "...), contact...), "\r\n"...)
	}
	if body != "" {
		out = append(out, "Content-Type: application/sdp\r\n"...)
	}
	return fmt.Appendf(out, "Content-Length: %d\r\n\r\n%s", len(body), body)
}
