package media

import (
	"net"
	"strings"
	"testing"
	"time"
)

// web is a call with a browser: streams on one transport.
type web struct {
	*browser
	s      *Session
	tr     *Transport
	events chan Event
	pbx    []*net.UDPConn
	plain  []StreamAddrs
}

// newWeb opens a session with streams of one payload type each, from 0.
func newWeb(t testing.TB, e *Engine, streams int) *web {
	t.Helper()
	c := &web{events: make(chan Event, 100)}
	s, err := e.Open(func(ev Event) {
		select {
		case c.events <- ev:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if c.tr, err = s.AddTransport(loopback, allSuite); err != nil {
		t.Fatal(err)
	}
	c.s = s
	for i := range streams {
		addrs, err := s.AddStream()
		if err != nil {
			t.Fatal(err)
		}
		c.pbx, c.plain = append(c.pbx, udp(t)), append(c.plain, addrs)
		if err := s.SetPlain(i, PlainParams{RTP: at(c.pbx[i])}); err != nil {
			t.Fatal(err)
		}
	}
	c.browser = newBrowser(t, c.plain[0].Secure[0])
	return c
}

// start sets the call up as an offer and its answer would.
func (c *web) start(role Role, ice bool, suites ...Suite) {
	c.t.Helper()
	p := TransportParams{Role: role, Fingerprints: []Fingerprint{c.cert.fingerprint}, Suites: suites, ICE: ice, RTCPMux: true}
	if !ice {
		p.Hint = at(c.conn)
	}
	c.startWith(p)
}

func (c *web) startWith(p TransportParams) {
	c.t.Helper()
	if err := c.tr.Start(p); err != nil {
		c.t.Fatal(err)
	}
	for i := range c.pbx {
		if err := c.s.SetSecure(i, SecureParams{Transport: c.tr, Formats: []Format{{PayloadType: uint8(i), ClockRate: 8000}}}); err != nil {
			c.t.Fatal(err)
		}
	}
}

// event waits for a kind of event.
func (c *web) event(kind EventKind) Event {
	c.t.Helper()
	limit := time.After(5 * time.Second)
	for {
		select {
		case ev := <-c.events:
			if ev.Kind == kind {
				return ev
			}
		case <-limit:
			c.t.Fatalf("event %d did not come", kind)
		}
	}
}

// talks proves each stream both ways.
func (c *web) talks() {
	c.t.Helper()
	c.event(Secured)
	for i := range c.pbx {
		say := strings.Repeat(string(rune('a'+i)), 20)
		c.says(byte(i), say)
		wants(c.t, c.pbx[i], say)
		write(c.t, c.pbx[i], c.plain[i].Plain, rtpPacket(uint32(77+i), c.seq, "from the PBX "+say))
		c.hears("from the PBX " + say)
	}
}

func other(r Role) Role { return Active - r }

func TestKeysByDTLS(t *testing.T) {
	e := runEngine(t, testConfig())
	for _, ice := range []bool{true, false} {
		for _, role := range []Role{Active, Passive} {
			for _, suite := range allSuite {
				t.Run(map[bool]string{true: "ICE", false: "no ICE"}[ice]+"/"+map[Role]string{Active: "we begin", Passive: "the phone begins"}[role]+"/"+suite.String(), func(t *testing.T) {
					c := newWeb(t, e, 1)
					c.start(role, ice, suite)
					if ice {
						c.nominate(c.tr.Credentials())
					}
					if err := c.handshake(other(role), []Suite{suite}, c.tr.Fingerprint()); err != nil {
						t.Fatal(err)
					}
					if c.suite != suite {
						t.Errorf("agreed on %s", c.suite)
					}
					c.talks()
				})
			}
		}
	}
}
