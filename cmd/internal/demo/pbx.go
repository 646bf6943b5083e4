package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// Numbers the PBX answers.
const (
	Echo     = "600" // and any other: what is said comes back
	ToneCall = "602" // a tone of 1004 Hz, the test tone of telephony

	testTone = 1004.0 // Hz
	maxCalls = 64
)

// PBX answers calls over UDP in plain text, as an Asterisk behind the edge
// would. It lets anyone register and asks for no password: it is bound to
// loopback, and the edge is all that can reach it.
//
// It answers a repeated INVITE again, and repeats nothing by itself: between it
// and the edge no datagram is lost.
type PBX struct {
	log  *slog.Logger
	sock *net.UDPConn
	done sync.WaitGroup // the reader and every call's goroutines

	mu         sync.Mutex // guards what follows
	calls      map[string]*pbxCall
	texts      int    // SIP messages that came in plain text
	invite     string // the first line of the last INVITE
	ear        *ear   // what came on the last call
	registered []string
	closed     bool
}

// StartPBX begins to serve at an address; Close ends it.
func StartPBX(at netip.AddrPort, log *slog.Logger) (*PBX, error) {
	sock, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen for the PBX: %w", err)
	}
	p := &PBX{log: log, sock: sock, calls: make(map[string]*pbxCall), ear: new(ear)}
	p.done.Go(p.read) // ends when Close closes the socket; Close waits
	return p, nil
}

// Addr is where the PBX serves.
func (p *PBX) Addr() netip.AddrPort { return p.sock.LocalAddr().(*net.UDPAddr).AddrPort() }

// Close ends every call and waits for all goroutines.
func (p *PBX) Close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.calls {
		c.close()
	}
	p.mu.Unlock()
	p.sock.Close()
	p.done.Wait()
}

// Inside is what anyone on the plain side could see and hear.
type Inside struct {
	Messages int         // SIP messages in plain text
	Invite   string      // the first line of one
	Sound    sound.Pitch // on the last call, without any key
	Packets  int
}

// Inside reports what came to the PBX.
func (p *PBX) Inside() Inside {
	p.mu.Lock()
	in := Inside{Messages: p.texts, Invite: p.invite}
	e := p.ear
	p.mu.Unlock()
	in.Sound, in.Packets = e.sound()
	return in
}

func (p *PBX) read() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := p.sock.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		m, err := parseMessage(buf[:n])
		if err != nil || m.method() == "" {
			continue
		}
		reply := p.serve(m)
		if reply == nil {
			continue
		}
		if _, err := p.sock.WriteToUDPAddrPort(reply.bytes(), from); err != nil {
			p.log.Debug("answer", "peer", from, "reason", err)
		}
	}
}

// serve answers a request, or returns nil for one that has no answer.
func (p *PBX) serve(m *message) *message {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.texts++
	callID := m.get("Call-ID")
	switch m.method() {
	case "ACK":
		return nil
	case "REGISTER":
		return p.register(m)
	case "INVITE":
		p.invite = m.start
		return p.answerCall(callID, m)
	case "BYE":
		c := p.calls[callID]
		if c == nil {
			return answer(m, 481, "Call Does Not Exist")
		}
		c.close()
		delete(p.calls, callID)
		return answer(m, 200, "OK")
	case "OPTIONS", "CANCEL", "INFO", "UPDATE":
		// A call is answered at once, so a CANCEL always comes too late and
		// changes nothing (RFC 3261 section 9.2).
		return withTag(answer(m, 200, "OK"), callID)
	case "SUBSCRIBE", "PUBLISH":
		return withTag(answer(m, 489, "Bad Event"), callID)
	}
	return withTag(answer(m, 501, "Not Implemented"), callID)
}

func (p *PBX) register(m *message) *message {
	user := nameaddr.User(nameaddr.URI(m.get("To")))
	if !slices.Contains(p.registered, user) && len(p.registered) < maxCalls {
		p.registered = append(p.registered, user)
		p.log.Info("registered at the demo's PBX", "user", user)
	}
	r := withTag(answer(m, 200, "OK"), m.get("Call-ID"))
	expires := m.get("Expires")
	if expires == "" {
		expires = "300"
	}
	for _, f := range m.fields {
		if f.name == "Contact" && f.value != "*" && expires != "0" {
			value := f.value
			if !strings.Contains(value, ";expires=") {
				value += ";expires=" + expires
			}
			r.add("Contact", value)
		}
	}
	return r.add("Expires", expires)
}

// answerCall answers an INVITE, and again when it is repeated or comes anew
// within its call.
func (p *PBX) answerCall(callID string, m *message) *message {
	offer, err := parseSDP(m.body)
	if err != nil {
		return withTag(answer(m, 488, "Not Acceptable Here"), callID)
	}
	c := p.calls[callID]
	if c == nil {
		if len(p.calls) >= maxCalls || p.closed {
			return withTag(answer(m, 503, "Service Unavailable"), callID)
		}
		if c, err = p.startCall(nameaddr.User(m.uri()), offer); err != nil {
			p.log.Warn("call refused by the demo's PBX", "call_id", callID, "reason", err)
			return withTag(answer(m, 488, "Not Acceptable Here"), callID)
		}
		p.calls[callID] = c
		p.ear = c.ear
	}
	c.sendTo(offer)
	r := withTag(answer(m, 200, "OK"), callID)
	r.add("Contact", fmt.Sprintf("<sip:pbx@%s>", p.Addr()))
	r.add("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE")
	return r.withSDP(c.describe(offer))
}

// withTag completes the To of a response: a tag of the call, the same each time.
func withTag(m *message, callID string) *message {
	if to := m.get("To"); !strings.Contains(to, ";tag=") {
		m.set("To", to+";tag=pbx-"+shortHash(callID))
	}
	return m
}

// startCall opens a call's media; its goroutines end with close or with the PBX.
func (p *PBX) startCall(number string, offer sdpMedia) (*pbxCall, error) {
	c := &pbxCall{ear: new(ear), format: offer.formats[0]}
	if number == ToneCall || slices.Contains(offer.formats, "0") {
		c.format = "0"
	}
	if c.codec = offer.rtpmaps[c.format]; c.format == "0" {
		c.codec = "PCMU/8000"
	}
	if number == ToneCall && !slices.Contains(offer.formats, "0") {
		return nil, errors.New("the tone is PCMU, which was not offered")
	}
	var err error
	c.sock, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Addr().Addr(), 0)))
	if err != nil {
		return nil, fmt.Errorf("open media socket: %w", err)
	}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	c.ssrc = randomUint32()
	if number == ToneCall {
		p.done.Go(func() { c.play(ctx) })
	}
	p.done.Go(func() { c.listen(number != ToneCall) })
	return c, nil
}

func randomUint32() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
