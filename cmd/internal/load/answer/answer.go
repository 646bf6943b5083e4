package answer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/sallyport/sallyport/cmd/internal/load/media"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// Config says how to answer.
type Config struct {
	Listen   netip.AddrPort
	Password string        // that is asked for, where %s is the user; empty: none is
	SHA256   bool          // by SHA-256, not by MD5
	Ring     time.Duration // from 180 to 200
	Readers  int           // goroutines for each socket
	Codecs   []string      // that the echo takes; none: all
}

// Counts are what came: registrations that are not taken back, calls without what changes
// them, packets.
type Counts struct{ Registers, Invites, Byes, Options, Packets, Reports, Refused int64 }

// Server answers.
type Server struct {
	config Config
	secret [32]byte
	conn   *net.UDPConn
	sound  []*echo
	counts struct{ registers, invites, byes, options, packets, reports, refused atomic.Int64 }
	mu     sync.Mutex         // guards calls
	calls  map[string]*answer // that were not acknowledged, by Call-ID
}

const (
	buffer   = 4 << 20 // of sockets, bytes
	maxCalls = 100_000 // that await their ACK
)

// New opens the sockets.
func New(c Config) (*Server, error) {
	if len(c.Codecs) == 0 {
		c.Codecs = media.Codecs()
	}
	s := &Server{config: c, calls: make(map[string]*answer)}
	_, _ = rand.Read(s.secret[:]) // never fails (crypto/rand)
	var err error
	if s.conn, err = listen(c.Listen); err != nil {
		return nil, err
	}
	for range max(1, c.Readers) {
		e, err := newEcho(c.Listen.Addr())
		if err != nil {
			return nil, err
		}
		s.sound = append(s.sound, e)
	}
	return s, nil
}

func listen(at netip.AddrPort) (*net.UDPConn, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	_ = conn.SetReadBuffer(buffer) // a smaller one loses more under load
	_ = conn.SetWriteBuffer(buffer)
	return conn, nil
}

// Addr is where it listens.
func (s *Server) Addr() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Run answers until ctx ends.
func (s *Server) Run(ctx context.Context) {
	var all sync.WaitGroup
	for range max(1, s.config.Readers) {
		all.Go(s.read)
	}
	for _, e := range s.sound {
		all.Go(func() { s.echo(e, e.rtp) })
		all.Go(func() { s.echo(e, e.rtcp) })
	}
	<-ctx.Done()
	s.conn.Close()
	for _, e := range s.sound {
		e.rtp.Close()
		e.rtcp.Close()
	}
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.calls {
		a.timer.Stop()
	}
}

// Counts are what came so far.
func (s *Server) Counts() Counts {
	c := &s.counts
	return Counts{c.registers.Load(), c.invites.Load(), c.byes.Load(), c.options.Load(), c.packets.Load(), c.reports.Load(), c.refused.Load()}
}

// read answers what comes to the socket, until that is closed.
func (s *Server) read() {
	buf := make([]byte, message.MaxSize)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if closed(err) {
				return
			}
			continue // an ICMP message of before
		}
		m, err := message.Parse(buf[:n])
		if err != nil {
			continue // a keep-alive, or nothing that could be answered
		}
		if r, ok := m.(*sip.Request); ok {
			s.request(r, from)
		}
	}
}

// request answers one.
func (s *Server) request(r *sip.Request, from netip.AddrPort) {
	tag := s.tag(message.Get(r, "Call-ID"))
	switch r.Method {
	case sip.ACK:
		s.acknowledged(message.Get(r, "Call-ID"))
		return
	case sip.REGISTER, sip.INVITE:
		if s.config.Password != "" && nameaddr.Tag(message.Get(r, "To")) == "" && !s.authenticated(r) {
			s.counts.refused.Add(1)
			s.send(s.challenge(message.Answer(r, 401, "Unauthorized", tag)), r, from)
			return
		}
	}
	ok := message.Answer(r, 200, "OK", tag)
	switch r.Method {
	case sip.REGISTER:
		if bind(r, ok); ok.Get("Contact") != "" {
			s.counts.registers.Add(1)
		}
		s.send(ok, r, from)
	case sip.INVITE:
		s.called(r, ok, tag, from)
	case sip.CANCEL:
		s.send(ok, r, from)
		s.cancelled(message.Get(r, "Call-ID"))
	case sip.BYE:
		s.counts.byes.Add(1)
		s.send(ok, r, from)
	case sip.OPTIONS:
		s.counts.options.Add(1)
		s.send(ok.Add("Allow", allow), r, from)
	case sip.INFO, sip.MESSAGE, sip.NOTIFY, sip.UPDATE:
		s.send(ok, r, from)
	default:
		s.send(message.Answer(r, 405, "Method Not Allowed", tag).Add("Allow", allow), r, from)
	}
}

const allow = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, MESSAGE, NOTIFY, REGISTER"

// bind answers a registration with the contacts that it had.
func bind(r *sip.Request, ok *message.Draft) {
	all := message.Get(r, "Expires")
	if all == "" {
		all = "3600"
	}
	for _, c := range message.All(r, "Contact") {
		own := nameaddr.Param(c, "expires")
		if own == "" {
			own = all
			c += ";expires=" + all
		}
		if n, _ := strconv.Atoi(own); n > 0 && c != "*" {
			ok.Add("Contact", c)
		}
	}
	ok.Add("Expires", all)
}

// tag is that of a call, the same each time.
func (s *Server) tag(callID string) string {
	sum := sha256.Sum256(append(s.secret[:], callID...))
	return hex.EncodeToString(sum[:6])
}

// send answers where a request came from, and says in its Via where that was (RFC
// 3581 section 4).
func (s *Server) send(d *message.Draft, r *sip.Request, from netip.AddrPort) []byte {
	via := message.All(r, "Via")[0]
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	seen := ";received=" + from.Addr().String()
	if nameaddr.Param(via, "rport") == "" {
		via = strings.Replace(via, ";rport", ";rport="+strconv.Itoa(int(from.Port())), 1)
	}
	b := d.Set("Via", via+seen).Bytes()
	_, _ = s.conn.WriteToUDPAddrPort(b, from) // lost, it is asked again
	return b
}
