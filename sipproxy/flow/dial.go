package flow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Attempts to reach a peer go further and further apart. A connection that lasted
// for steady was a good one: only then is the next attempt made soon. One that ends
// at once was refused, by a peer that looks at our certificate after we are done with
// the handshake (RFC 8446 section 4.6.2).
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
	steady     = 20 * time.Second
)

// Run dials, and keeps as many connections as it is to, until ctx ends and they are
// gone. Those that the peer dialled are the listener's.
func (t *Trunk) Run(ctx context.Context) error {
	if t.cfg.Locate == nil {
		<-ctx.Done()
		return nil
	}
	var slots sync.WaitGroup
	for range t.cfg.Connections {
		slots.Go(func() { t.keep(ctx) }) // ends with ctx; waited for below
	}
	slots.Wait()
	t.wg.Wait() // for writers
	return nil
}

// keep keeps one connection.
func (t *Trunk) keep(ctx context.Context) {
	p := backoff{}
	for ctx.Err() == nil {
		if !t.isWanted() || t.once(ctx) >= steady {
			p = backoff{}
		}
		select {
		case <-ctx.Done():
		case <-time.After(p.next()):
		}
	}
}

// backoff is the pauses between attempts.
type backoff struct{ last time.Duration }

// next is twice the pause before, up to maxPause, and up to a half less than that:
// edges that lost one peer together must not come back to it together.
func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, firstPause), maxPause)
	return b.last/2 + rand.N(b.last/2+1) // no secret
}

// once connects to the first target that takes us, and serves the connection until
// it ends. It tells how long it lasted.
func (t *Trunk) once(ctx context.Context) (lasted time.Duration) {
	finding, cancel := context.WithTimeout(ctx, t.limits.HandshakeTimeout)
	targets, err := t.cfg.Locate(finding)
	cancel()
	if err == nil && len(targets) == 0 {
		err = errors.New("the peer's name has no address")
	}
	if err != nil {
		t.failed(ctx, "lookup", err.Error())
		return 0
	}
	var faults []string
	for _, target := range t.ranked(targets) {
		c, err := t.dial(ctx, target)
		if err == nil {
			return t.serve(ctx, c)
		}
		if ctx.Err() != nil {
			return 0
		}
		cause, text := dialFault(err)
		faults = append(faults, fmt.Sprintf("%s: %s", target.Addr, text))
		t.count(cause)
	}
	t.tell(strings.Join(faults, "; "))
	return 0
}

// serve reads from a connection until it ends. It returns before that if another is to
// take its place.
func (t *Trunk) serve(ctx context.Context, c *conn) time.Duration {
	f, replaced, ended := c.flow(c), make(chan struct{}), make(chan struct{})
	t.mu.Lock()
	t.dialled[c] = replaced
	t.mu.Unlock()
	t.wg.Go(func() { // ends with the connection, or with ctx; Run waits for it
		defer close(ended)
		stop := context.AfterFunc(ctx, func() { f.Close(ErrDone) })
		defer stop()
		t.gained(f)
		if t.cfg.OnUp != nil {
			t.cfg.OnUp(f)
		}
		t.recheck(c) // withdrawn since the handshake, when Recheck did not find it
		c.serve(f)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.dialled, c)
	})
	select {
	case <-ended:
	case <-replaced:
	}
	return time.Since(c.began)
}

// mostReplaced bounds how many connections there are for each that is to be kept: a far
// end may be replaced several times while it has calls, but not without end.
const mostReplaced = 8

// replace has a connection that we dialled give its place to another.
func (t *Trunk) replace(f *Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.dialled) >= mostReplaced*t.cfg.Connections {
		return
	}
	for c, replaced := range t.dialled {
		if c.made.Load() == f {
			close(replaced)
		}
	}
}

// dial connects and shakes hands.
func (t *Trunk) dial(ctx context.Context, to Target) (*conn, error) {
	t.mu.Lock()
	t.dials++
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, t.limits.HandshakeTimeout)
	defer cancel()
	d := net.Dialer{KeepAliveConfig: tcpKeepAlive}
	raw, err := d.DialContext(ctx, "tcp", to.Addr.String())
	if err != nil {
		return nil, err
	}
	userTimeout(raw)
	config := t.cfg.TLS
	if t.cfg.ServerName != nil {
		config = config.Clone()
		config.ServerName = t.cfg.ServerName()
	}
	c := &conn{service: &t.service, raw: raw, remote: addrPort(raw.RemoteAddr()), trunk: t, tls: tls.Client(raw, config)}
	if err := c.tls.HandshakeContext(ctx); err != nil {
		c.close()
		return nil, err
	}
	state := c.tls.ConnectionState()
	c.state = &state
	return c, nil
}

// failed counts and tells an attempt that came to nothing.
func (t *Trunk) failed(ctx context.Context, cause, text string) {
	if ctx.Err() != nil {
		return
	}
	t.count(cause)
	t.tell(text)
}

func (t *Trunk) count(cause string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures[cause]++
}

// tell logs why no connection came about, once until it is for another reason.
func (t *Trunk) tell(reason string) {
	t.mu.Lock()
	known := t.told == reason
	t.told, t.reason = reason, reason
	t.mu.Unlock()
	if known {
		t.log.Debug("trunk not reached", "reason", reason)
		return
	}
	t.log.Warn("trunk not reached; trying on", "reason", reason)
}

// dialFault names what kept a connection from coming about, in a word to count by
// and in an operator's words.
func dialFault(err error) (cause, text string) {
	var refused interface{ Refused() string }
	var slow interface{ Timeout() bool }
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &refused):
		return "certificate", err.Error()
	case refusedWord(err) != "":
		return "certificate", fmt.Sprintf("the peer's certificate does not hold: %v", err)
	case errors.As(err, &notTLS):
		return "not_tls", "the peer speaks no TLS there: name its TLS port"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused", "nothing listens there: is the peer running, and is that its TLS port?"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable", "this machine has no way there: " + err.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return "timeout", "no answer within sip.handshake_timeout: a firewall in between, perhaps"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "closed", "the peer hung up during the handshake: it speaks no TLS there, or turns our address away"
	}
	if text := alert(err); text != "" {
		return "turned_away", text
	}
	return "tls", err.Error()
}

// A peer that does not take our certificate may end the connection without an alert, as
// Asterisk does, whose OpenSSL wants one that is good for clients.
const (
	hungUp        = "the peer closed the connection"
	hungUpHastily = hungUp + " before it said anything: it may not take our certificate, by who issued it, or as it lacks clientAuth"
	hasty         = 2 * time.Second
)

// parting says in an operator's words why a connection ended.
func parting(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return hungUp
	case err == nil:
		return ""
	}
	if text := alert(err); text != "" {
		return text
	}
	return err.Error()
}

// alert tells what a peer's TLS alert means of us; empty for anything else. With TLS
// 1.3 it comes after the handshake, when we read.
func alert(err error) string {
	text := err.Error()
	for _, known := range []struct{ words, reason string }{
		{"remote error: tls: certificate required", "the peer asks for a certificate and took none of ours: it must know our CA, or our pin"},
		{"remote error: tls: unknown certificate authority", "the peer does not know who issued our certificate: give it our CA or our pin"},
		{"remote error: tls: expired certificate", "the peer holds our certificate for expired: see `sallyport cert show`, and the peer's clock"},
		{"remote error: tls: revoked certificate", "the peer holds our certificate for revoked: get a new one"},
		{"remote error: tls: bad certificate", "the peer refused our certificate: its log says why"},
		{"remote error: tls: unknown certificate", "the peer refused our certificate: its log says why"},
		{"remote error: tls: unsupported certificate", "the peer refused our certificate for its use or its kind of key: does it ask for client authentication (clientAuth), which public CAs no longer grant?"},
		{"remote error: tls: protocol version not supported", "the peer speaks none of our TLS versions: see tls.profile"},
		{"remote error: tls: handshake failure", "the peer found no common ground with us: see tls.profile"},
		{"remote error: tls: access denied", "the peer knows our certificate and lets it do nothing"},
	} {
		if strings.Contains(text, known.words) {
			return known.reason
		}
	}
	return ""
}
