package phone

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/load/wire"
)

// Config is what all phones share. It is not changed while there are any.
type Config struct {
	Target  *wire.Target
	Domain  string        // that users are at
	Expires time.Duration // of registrations, as asked for
	Timeout time.Duration // of a transaction without any answer: 64*T1 (RFC 3261 section 17)
	Agent   string        // of User-Agent
	Resume  bool          // TLS sessions, of the phone's connection before

	// Answer tells what to do with a call: take it with Media after a while of
	// ringing, or refuse it with a status if there is none.
	Answer func(p *Phone, from string) (m Media, ring time.Duration, status int)
	// Answered is told of a call that was taken, when its ACK came.
	Answered func(p *Phone, c *Call)
	// Lost is told when a connection has ended that nobody closed.
	Lost func(p *Phone, err error)
}

// Media describes a call's sound. It is told of one description at a time.
type Media interface {
	Offer() (string, error)                 // ours, as it is to be now
	Answer(offer string) (string, error)    // to theirs, which is in force with it
	Accept(answer string, final bool) error // puts theirs in force; until one is final another may follow
	Close()
}

// Phone is one user's.
type Phone struct {
	Number int // among all phones
	User   string

	config   *Config
	tag      string                 // of its registrations
	callID   string                 // likewise
	instance string                 // RFC 5626 section 4.1
	sessions tls.ClientSessionCache // its own; nil: none is resumed

	mu       sync.Mutex // guards what follows
	conn     wire.Conn
	down     chan struct{} // closed when conn has ended
	closing  bool          // conn is ended by us
	host     string        // what it calls itself by
	dials    int
	cseq     uint32
	expires  time.Duration // what is asked for
	auth     answers
	route    []string // RFC 3608
	refresh  time.Time
	pending  map[string]*transaction
	calls    map[string]*Call // by Call-ID
	received map[string]*incoming
}

// New makes a phone that is not connected. The user that its password belongs to
// may be another than the one it registers.
func New(c *Config, number int, user, authUser, password string) *Phone {
	p := &Phone{
		Number: number, User: user, config: c, tag: word(), callID: word(), expires: c.Expires,
		instance: instance(user),
		auth:     answers{user: authUser, password: password},
		pending:  make(map[string]*transaction), calls: make(map[string]*Call), received: make(map[string]*incoming),
	}
	if c.Resume {
		p.sessions = tls.NewLRUClientSessionCache(1)
	}
	return p
}

// instance is a user's, the same in each run: a UUID (RFC 4122 section 4.1) of what
// looks random.
func instance(user string) string {
	id := sha256.Sum256([]byte(user))
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("<urn:uuid:%x-%x-%x-%x-%x>", id[:4], id[4:6], id[6:8], id[8:10], id[10:16])
}

// word is one that nobody guesses.
func word() string { return rand.Text()[:16] }

// Connect opens the phone's connection, and returns how long that took, and whether
// it resumed the TLS session of the one before. There must be none.
func (p *Phone) Connect(ctx context.Context) (took time.Duration, resumed bool, err error) {
	p.mu.Lock()
	p.dials++
	n := p.Number + p.dials - 1
	p.mu.Unlock()
	begun := time.Now()
	conn, resumed, err := p.config.Target.Dial(ctx, n, p.sessions)
	if err != nil {
		return 0, false, fmt.Errorf("connect: %w", err)
	}
	took = time.Since(begun)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn, p.down, p.closing = conn, make(chan struct{}), false
	p.host = conn.Local().String()
	if p.web() {
		p.host = strings.ToLower(word()) + ".invalid" // RFC 7118 appendix B.1
	}
	p.auth.forget()
	go p.read(conn, p.down) // ends with the connection; Close waits for it
	return took, resumed, nil
}

func (p *Phone) web() bool { return p.config.Target.Path != "" }

// Connected tells whether there is a connection.
func (p *Phone) Connected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn != nil
}

// Close ends the connection, and with it all calls. It may be called at any time.
func (p *Phone) Close() {
	p.mu.Lock()
	conn, down := p.conn, p.down
	p.closing = true
	p.mu.Unlock()
	if conn != nil {
		conn.Close()
		<-down
	}
}

// Ping keeps the connection alive.
func (p *Phone) Ping() {
	p.mu.Lock()
	conn := p.conn
	p.mu.Unlock()
	if conn != nil {
		_ = conn.Ping() // the reader hears of it
	}
}

// read takes messages until the connection ends.
func (p *Phone) read(conn wire.Conn, down chan struct{}) {
	var err error
	for {
		var b []byte
		if b, err = conn.Read(); err != nil {
			break
		}
		m, parsed := message.Parse(b)
		if parsed != nil {
			err = parsed
			break
		}
		switch m := m.(type) {
		case *sip.Response:
			p.response(m)
		case *sip.Request:
			p.request(m)
		}
	}
	conn.Close()
	p.mu.Lock()
	p.conn, p.refresh = nil, time.Time{}
	closing := p.closing
	calls := make([]*Call, 0, len(p.calls))
	for _, c := range p.calls {
		calls = append(calls, c)
	}
	for _, in := range p.received {
		in.stop()
	}
	clear(p.received)
	p.mu.Unlock()
	for _, c := range calls {
		c.end(ErrDown)
	}
	close(down)
	if !closing && p.config.Lost != nil {
		p.config.Lost(p, err)
	}
}

// send writes a message to the connection that is there.
func (p *Phone) send(b []byte) error {
	p.mu.Lock()
	conn := p.conn
	p.mu.Unlock()
	if conn == nil {
		return ErrDown
	}
	if err := conn.Write(b); err != nil {
		conn.Close() // the reader ends, and with it all that waits
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	return nil
}

// aor is the phone's address of record.
func (p *Phone) aor() string { return "sip:" + p.User + "@" + p.config.Domain }

// contact is where it is reached. p.mu is held.
func (p *Phone) contact() string {
	if p.web() {
		return "<sip:" + p.User + "@" + p.host + ";transport=ws>"
	}
	return "<sip:" + p.User + "@" + p.host + ";transport=tls>"
}

// via is a fresh Via of a branch. p.mu is held.
func (p *Phone) via(branch string) string {
	if p.web() {
		return "SIP/2.0/WSS " + p.host + ";branch=" + branch + ";rport"
	}
	return "SIP/2.0/TLS " + p.host + ";branch=" + branch + ";rport;alias"
}

// Local is the near end of the connection; invalid if there is none.
func (p *Phone) Local() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return netip.AddrPort{}
	}
	return p.conn.Local()
}
