package media

import (
	"net"
	"net/netip"
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
	limit := time.After(longest)
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
	if ev := c.event(Secured); ev.Remote != at(c.conn) {
		c.t.Errorf("keys are told of %s, the phone is at %s", ev.Remote, at(c.conn))
	}
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
				if !suite.DTLS() {
					continue
				}
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
					want := map[bool]string{true: "DTLS over ICE", false: "DTLS"}[ice]
					if st := c.s.Stats().Streams[0]; st.Keying != want || st.Suite != suite {
						t.Errorf("the figures say %s by %s", st.Suite, st.Keying)
					}
				})
			}
		}
	}
}

// Without rtcp-mux, RTCP has a handshake and keys of its own (RFC 5764 section 3).
func TestKeysByDTLSWithoutMux(t *testing.T) {
	e := runEngine(t, testConfig())
	for _, role := range []Role{Active, Passive} {
		c := newWeb(t, e, 1)
		secure := c.plain[0].Secure[0]
		rtcp := newBrowser(t, netip.AddrPortFrom(secure.Addr(), secure.Port()+1))
		rtcp.cert = c.cert
		c.startWith(TransportParams{Role: role, Fingerprints: []Fingerprint{c.cert.fingerprint}, Suites: allSuite, Hint: at(c.conn), RTCPHint: at(rtcp.conn)})
		for _, b := range []*browser{c.browser, rtcp} {
			if err := b.handshake(other(role), allSuite, c.tr.Fingerprint()); err != nil {
				t.Fatal(err)
			}
			c.event(Secured)
		}
		pbxRTCP := udp(t)
		if err := c.s.SetPlain(0, PlainParams{RTP: at(c.pbx[0]), RTCP: at(pbxRTCP)}); err != nil {
			t.Fatal(err)
		}
		c.says(0, "hello")
		wants(t, c.pbx[0], "hello")
		out, err := rtcp.seal.EncryptRTCP(nil, senderReport(9), nil)
		if err != nil {
			t.Fatal(err)
		}
		write(t, rtcp.conn, rtcp.to, out)
		if b, _ := read(pbxRTCP, longest); len(b) != 28 || b[1] != rtcpSR {
			t.Errorf("the PBX got %d bytes of RTCP", len(b))
		}
		write(t, pbxRTCP, netip.AddrPortFrom(c.plain[0].Plain.Addr(), c.plain[0].Plain.Port()+1), senderReport(10))
		buf := make([]byte, 200)
		_ = rtcp.media.SetReadDeadline(time.Now().Add(longest))
		n, _, err := rtcp.media.Read(buf, nil)
		if err != nil {
			t.Fatal("the phone got no RTCP")
		}
		if _, err := rtcp.open.DecryptRTCP(nil, buf[:n], nil); err != nil {
			t.Errorf("RTCP does not open under the keys of its own handshake: %v", err)
		}
	}
}

// Streams on one transport are told apart by payload type, and share its keys.
func TestBundle(t *testing.T) {
	c := newWeb(t, runEngine(t, testConfig()), 3)
	c.start(Active, true, AEADAES128GCM)
	c.nominate(c.tr.Credentials())
	if err := c.handshake(Passive, allSuite, c.tr.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	c.talks()
	// One SSRC of the PBX on two of its lines would use nonces twice.
	write(t, c.pbx[0], c.plain[0].Plain, rtpPacket(5000, 1, "the first"))
	c.hears("the first")
	write(t, c.pbx[1], c.plain[1].Plain, rtpPacket(5000, 1, "another"))
	write(t, c.pbx[1], c.plain[1].Plain, rtpPacket(5001, 1, "the next"))
	c.hears("the next")
	if n := c.s.Stats().Streams[1].Drops[DropSSRCLimit.String()]; n != 1 {
		t.Errorf("%d packets dropped for another stream's SSRC, want 1", n)
	}
}

// A handshake may be over before the description that says who is expected.
func TestHandshakeBeforeTheAnswer(t *testing.T) {
	e := runEngine(t, testConfig())
	for _, ice := range []bool{true, false} {
		c := newWeb(t, e, 1)
		if ice {
			c.nominate(c.tr.Credentials())
		}
		if err := c.handshake(Active, allSuite, c.tr.Fingerprint()); err != nil {
			t.Fatal(err)
		}
		c.start(Passive, ice, allSuite...)
		c.talks()
	}
}

// Whose certificate is another's is told, and hears nothing.
func TestWrongFingerprint(t *testing.T) {
	e := runEngine(t, testConfig())
	other, err := newCertificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, ice := range map[string]bool{"ICE": true, "no ICE": false} {
		for _, role := range []Role{Active, Passive} {
			c := newWeb(t, e, 1)
			c.startWith(TransportParams{Role: role, Fingerprints: []Fingerprint{other.fingerprint}, Suites: allSuite, ICE: ice, RTCPMux: true, Hint: at(c.conn)})
			if ice {
				c.nominate(c.tr.Credentials())
			}
			if err := c.handshake(Active-role, allSuite, c.tr.Fingerprint()); err != nil {
				t.Fatal(err)
			}
			if ev := c.event(Failed); !strings.Contains(ev.Cause, "certificate is not the one") {
				t.Errorf("%s, role %d: the cause is %q", name, role, ev.Cause)
			}
			c.says(0, "let me in")
			quiet(t, c.pbx[0], "the PBX")
			write(t, c.pbx[0], c.plain[0].Plain, rtpPacket(1, 1, "secret"))
			_ = c.media.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if n, _, err := c.media.Read(make([]byte, 2000), nil); err == nil && n > 0 {
				t.Errorf("%s: the stranger got %d bytes", name, n)
			}
		}
	}
}

// Two phones behind one NAT, without ICE, with handshakes at the same time, from
// ports that no description names: their certificates tell whose is whose.
func TestCertificateTellsWhoseHandshake(t *testing.T) {
	e := runEngine(t, testConfig())
	a, b := newWeb(t, e, 1), newWeb(t, e, 1)
	for _, c := range []*web{a, b} {
		c.startWith(TransportParams{Role: Passive, Fingerprints: []Fingerprint{c.cert.fingerprint}, Suites: allSuite, RTCPMux: true,
			Hint: netip.AddrPortFrom(loopback, 9)})
	}
	for _, c := range []*web{b, a} {
		if err := c.handshake(Active, allSuite, c.tr.Fingerprint()); err != nil {
			t.Fatal(err)
		}
	}
	a.talks()
	b.talks()
}

// Another certificate in a later description begins a new handshake; the sound
// goes on under the keys before until it is done.
func TestAnotherCertificate(t *testing.T) {
	e := runEngine(t, testConfig())
	for _, ice := range []bool{true, false} {
		for _, role := range []Role{Active, Passive} {
			t.Run(map[bool]string{true: "ICE", false: "no ICE"}[ice]+"/"+map[Role]string{Active: "we begin", Passive: "the phone begins"}[role], func(t *testing.T) {
				c := newWeb(t, e, 1)
				c.start(role, ice, AEADAES128GCM)
				if ice {
					c.nominate(c.tr.Credentials())
				}
				if err := c.handshake(other(role), allSuite, c.tr.Fingerprint()); err != nil {
					t.Fatal(err)
				}
				c.talks()
				before := c.cert
				cert, err := newCertificate(time.Now())
				if err != nil {
					t.Fatal(err)
				}
				c.cert = cert
				c.start(role, ice, AEADAES128GCM)
				c.says(0, "meanwhile")
				wants(t, c.pbx[0], "meanwhile")
				if err := c.handshake(other(role), allSuite, c.tr.Fingerprint()); err != nil {
					t.Fatal(err)
				}
				c.talks()
				if before.fingerprint == cert.fingerprint {
					t.Error("the control failed: one certificate")
				}
			})
		}
	}
}

// So does another role under the same certificate. Some phones say so and keep what they
// have: then it goes on, and after a while no handshake is waited for. Nor does it end by
// one of a stranger.
func TestAnotherRole(t *testing.T) {
	e := runEngine(t, testConfig())
	for name, then := range map[string]func(*web, Role){
		"another handshake": func(c *web, role Role) {
			if err := c.handshake(role, allSuite, c.tr.Fingerprint()); err != nil {
				c.t.Fatal(err)
			}
			c.talks()
		},
		"none": func(c *web, _ Role) {
			failed, waiting, w := int64(0), 0, c.s.worker
			w.do(func() {
				w.now += int64(setupLimit)
				w.sweepTransports()
				failed, waiting = c.tr.t.told, len(w.dtls.waiting)
			})
			if failed != 0 || waiting != 0 {
				c.t.Errorf("it has failed: %v; %d handshakes are waited for", failed != 0, waiting)
			}
		},
		"a stranger's": func(c *web, role Role) {
			cert, err := newCertificate(time.Now())
			if err != nil {
				c.t.Fatal(err)
			}
			mine, seal, open := c.cert, c.seal, c.open
			c.cert = cert
			if err := c.handshake(role, allSuite, c.tr.Fingerprint()); err != nil {
				c.t.Fatal(err)
			}
			c.cert, c.seal, c.open = mine, seal, open
			failed, cause, w := int64(0), "", c.s.worker
			for deadline := time.Now().Add(2 * time.Second); cause == "" && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				w.do(func() { failed, cause = c.tr.t.told, c.tr.t.cause })
			}
			if failed != 0 || !strings.Contains(cause, "not the one") {
				c.t.Errorf("it has failed: %v, and the cause is %q", failed != 0, cause)
			}
		},
	} {
		for _, ice := range []bool{true, false} {
			for _, role := range []Role{Active, Passive} {
				t.Run(map[bool]string{true: "ICE", false: "no ICE"}[ice]+"/"+map[Role]string{Active: "then we begin", Passive: "then the phone begins"}[role]+"/"+name, func(t *testing.T) {
					c := newWeb(t, e, 1)
					c.start(other(role), ice, AEADAES128GCM)
					if ice {
						c.nominate(c.tr.Credentials())
					}
					if err := c.handshake(role, allSuite, c.tr.Fingerprint()); err != nil {
						t.Fatal(err)
					}
					c.talks()
					c.start(role, ice, AEADAES128GCM)
					c.says(0, "meanwhile")
					wants(t, c.pbx[0], "meanwhile")
					then(c, other(role))
					c.says(0, "it goes on")
					wants(t, c.pbx[0], "it goes on")
				})
			}
		}
	}
}

// What looks like DTLS ends nothing, during the handshake or after it.
func TestDTLSGarbage(t *testing.T) {
	c := newWeb(t, runEngine(t, testConfig()), 1)
	hello := append([]byte{recordHandshake, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 40, clientHello, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 28}, random(28)...)
	garbage := [][]byte{
		{recordAlert, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40},
		{recordAlert, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0},
		{recordApplication, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0},
		append([]byte{recordApplication, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 99, 0, 64}, random(64)...),
		append([]byte{recordAlert, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 98, 0, 26}, random(26)...),
		append([]byte{recordHandshake, 0xfe, 0xfd}, random(100)...),
		{recordHandshake, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0},
		{recordHandshake}, hello,
	}
	throw := func() {
		for _, g := range garbage {
			write(t, c.conn, c.to, g)
		}
	}
	c.start(Active, true, AEADAES128GCM)
	c.nominate(c.tr.Credentials())
	throw()
	if err := c.handshake(Passive, allSuite, c.tr.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	throw()
	c.talks()
	throw()
	c.says(0, "still there")
	wants(t, c.pbx[0], "still there")
	if n := c.s.engine.Stats().Drops[DropDTLS.String()]; n < uint64(2*len(garbage)) {
		t.Errorf("%d dropped as DTLS: the garbage did not come", n)
	}
}
