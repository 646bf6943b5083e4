package peers

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// ScriptPBX is a PBX that takes every call and challenges nobody. It shares no
// code with the edge.
type ScriptPBX struct {
	addr   netip.Addr
	conn   *net.UDPConn
	answer func(number, offer string) (string, error)
	fault  func(error)
}

// StartScriptPBX listens in the place of a PBX. answer is given the number
// that was called and the description, and returns the description of the 200;
// an error is logged and refuses the call. It is called on the PBX's goroutine,
// one call after the other.
func StartScriptPBX(h *Host, answer func(number, offer string) (string, error)) *ScriptPBX {
	l := h.lab
	l.t.Helper()
	p := &ScriptPBX{addr: h.Addr, answer: answer, fault: func(err error) { l.t.Logf("the scripted PBX: %v", err) }}
	err := h.Do(func() (err error) {
		p.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.Addr, 5060)))
		return err
	})
	if err != nil {
		l.t.Fatalf("listen as the PBX: %v", err)
	}
	done := make(chan struct{})
	go func() { // ends when the test closes the socket; waited for there
		defer close(done)
		p.serve()
	}()
	l.t.Cleanup(func() { p.conn.Close(); <-done })
	return p
}

func (p *ScriptPBX) serve() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		m, err := readMessage(bufio.NewReader(bytes.NewReader(buf[:n])))
		if err != nil || m.Status() != 0 || m.Method() == "ACK" {
			continue
		}
		_, _ = p.conn.WriteToUDPAddrPort([]byte(p.respond(m)), from) // lost, it is asked again
	}
}

// respond answers a request with 200.
func (p *ScriptPBX) respond(req *Message) string {
	status, sdp := "200 OK", ""
	user, _, _ := strings.Cut(strings.TrimPrefix(strings.Fields(req.Start)[1], "sip:"), "@")
	if req.Method() == "INVITE" {
		var err error
		if sdp, err = p.answer(user, req.Body); err != nil {
			p.fault(err)
			status, sdp = "404 Not Found", ""
		}
	}
	lines := []string{"SIP/2.0 " + status}
	for _, name := range []string{"Via", "Record-Route"} {
		for _, v := range req.Header.Values(name) {
			lines = append(lines, name+": "+v)
		}
	}
	to := req.Get("To")
	if !strings.Contains(to, "tag=") {
		to += ";tag=" + Random(4)
	}
	lines = append(lines, "From: "+req.Get("From"), "To: "+to, "Call-ID: "+req.Get("Call-ID"), "CSeq: "+req.Get("CSeq"),
		fmt.Sprintf("Contact: <sip:%s@%s:5060>", user, p.addr)) // by which a re-INVITE tells which call it is of
	if sdp != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	return compose(sdp, lines...)
}
