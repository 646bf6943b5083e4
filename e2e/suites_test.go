package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// Each suite alone is offered by phones, and by the edge to phones, and sound
// and reports go both ways, against three implementations of SRTP that are not
// the edge's: libsrtp, rtpengine's and, where it knows the suite, libre's.
func TestSuites(t *testing.T) {
	for _, c := range []struct {
		suite string
		libre bool // baresip's library knows it
	}{
		{"AES_CM_128_HMAC_SHA1_80", true},
		{"AES_CM_128_HMAC_SHA1_32", true},
		{"AES_256_CM_HMAC_SHA1_80", false},
		{"AES_256_CM_HMAC_SHA1_32", false},
		{"AEAD_AES_128_GCM", true},
		{"AEAD_AES_256_GCM", true},
	} {
		t.Run(c.suite, func(t *testing.T) {
			t.Parallel() // it has a network of its own, and mostly waits
			s := newSuiteOffice(t, c.suite)
			s.libsrtp()
			s.rtpengine()
			s.honest()
			s.wrongKey()
			if c.libre {
				s.baresip()
			}
		})
	}
}

const authFailed = `sallyport_media_drops_total{reason="auth_failed"}`

// suiteOffice is an office whose edge has one suite turned on.
type suiteOffice struct {
	*office
	suite           string
	inside, outside *peers.Capture
	names           []string // of the phones' reports
}

func newSuiteOffice(t *testing.T, suite string) *suiteOffice {
	t.Helper()
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Extra: fmt.Sprintf("[media]\nsuites = [%q]\n", suite)})
	return &suiteOffice{
		office: o, suite: suite, inside: peers.StartCapture(o.Edge, "inside"), outside: peers.StartCapture(o.Edge, "outside"),
	}
}

func (s *suiteOffice) libsrtp() {
	s.t.Helper()
	phone := s.registered("1001")
	media := func() *peers.Media {
		m := phone.NewMedia(s.suite)
		m.Stack = peers.Libsrtp
		s.names = append(s.names, m.CNAME)
		return m
	}
	s.talkOut(phone, media(), 500)
	s.talkIn(phone, media(), 600)
	m := media()
	m.MKI = []byte{0, 0, 0, 1}
	s.talkOut(phone, m, 700)
}

func (s *suiteOffice) rtpengine() {
	s.t.Helper()
	phone := s.registered("1002")
	engine := peers.StartRTPEngine(phone.Host, nil)
	media := func() *peers.Media {
		m := phone.NewMedia(s.suite)
		m.Through(engine)
		s.names = append(s.names, m.CNAME)
		return m
	}
	s.talkOut(phone, media(), 800)
	s.talkIn(phone, media(), 900)
	log, err := os.ReadFile(engine.Log)
	if err != nil {
		s.t.Fatal(err)
	}
	if strings.Contains(string(log), "Discarded") { // as it says of what it cannot verify
		s.t.Errorf("rtpengine complains:\n%s", log)
	}
}

// honest checks that no packet of all calls so far was refused, and that each
// phone's reports came to Asterisk and were not to be read outside.
func (s *suiteOffice) honest() {
	s.t.Helper()
	s.inside.Stop()
	s.outside.Stop()
	for _, name := range s.names {
		if !s.inside.Contains(name) {
			s.t.Errorf("the reports of %s did not reach Asterisk", name)
		}
		if s.outside.Contains(name) {
			s.t.Errorf("the reports of %s are to be read outside", name)
		}
	}
	for name, n := range s.edge.Metrics() {
		if n > 0 && strings.HasPrefix(name, "sallyport_media_drops_total{") {
			s.t.Errorf("%s is %v after calls without a fault", name, n)
		}
	}
}

// wrongKey is the control: what libsrtp sealed under another key goes nowhere.
func (s *suiteOffice) wrongKey() {
	s.t.Helper()
	phone := s.registered("1004")
	m := phone.NewMedia(s.suite)
	m.Stack = peers.Libsrtp
	m.UseKey = append([]byte(nil), m.Key...)
	m.UseKey[0] ^= 1
	s.unheard(phone, m, 1300)
}

// inward is what was relayed from phones, RTP and RTCP.
func (o *office) inward() float64 {
	o.t.Helper()
	return o.edge.Metric(`sallyport_media_packets_total{direction="inward"`)
}

// baresip is called: as a caller it offers AES_CM_128_HMAC_SHA1_80 alone. It
// comes last: its goodbye is in clear, which the edge counts as a failure.
func (s *suiteOffice) baresip() {
	s.t.Helper()
	phone := s.phone("1003", 1500)
	s.forget()
	s.pbx.Originate("1003", "610")
	phone.Event("CALL_ESTABLISHED", 10*time.Second)
	phone.Hears(1004, 10*time.Second)
	s.pbxHeard(1500)
	s.pbx.Must("channel request hangup all")
	phone.Event("CALL_CLOSED", 5*time.Second)
	s.idle()
}

// talkOut calls extension 610, and checks that both ends hear each other.
func (o *office) talkOut(phone *peers.Phone, m *peers.Media, hz float64) {
	o.t.Helper()
	o.talkWith(phone, m, hz, m.Offer(), "a=crypto:1 "+m.Suite+" ")
}

// talkWith does so with an offer of the test's own; the answer must be to the
// crypto line that is wanted.
func (o *office) talkWith(phone *peers.Phone, m *peers.Media, hz float64, offer, want string) {
	o.t.Helper()
	o.forget()
	d, answer := phone.Invite("610", offer)
	if answer.Status() != 200 {
		o.t.Fatalf("the call was answered %s", answer.Start)
	}
	if !strings.Contains(answer.Body, want) {
		o.t.Fatalf("the answer has no %q:\n%s", want, answer.Body)
	}
	m.Start(answer.Body, hz)
	o.bothHear(m, hz)
	o.hangup(d, m)
}

// talkIn lets Asterisk call the phone from extension 610, with the same check.
func (o *office) talkIn(phone *peers.Phone, m *peers.Media, hz float64) {
	o.t.Helper()
	o.answers610(phone, m, hz, func(offer string) { m.Start(onlySuite(offer, m.Suite), hz) })
}

// answers610 is a call from extension 610, whose media the phone starts by its
// offer.
func (o *office) answers610(phone *peers.Phone, m *peers.Media, hz float64, start func(offer string)) {
	o.t.Helper()
	o.forget()
	o.pbx.Originate(phone.User, "610")
	inv := phone.Expect("INVITE", 5*time.Second)
	phone.Answer(inv, 200, "OK", m.Accept(inv.Body))
	phone.Expect("ACK", 5*time.Second)
	start(inv.Body)
	o.bothHear(m, hz)
	m.Stop() // first: what comes after a call is counted as a stranger's
	o.drained()
	o.pbx.Must("channel request hangup all")
	phone.Answer(phone.Expect("BYE", 5*time.Second), 200, "OK", "")
	o.idle()
}

// bothHear checks the sound in both directions while a call is up, and that
// the phone could open all that came, reports among it.
func (o *office) bothHear(m *peers.Media, hz float64) {
	o.t.Helper()
	if !m.Relayed() { // else not yet: rtpengine loses what comes before it has taken up the call
		m.Report()
	}
	m.Hears(1004, 10*time.Second)
	if m.Relayed() {
		m.Report()
	}
	o.pbxHeard(hz)
	peers.Until(o.t, 5*time.Second, "a report from Asterisk", func() bool {
		_, reports, _ := m.Counts()
		return reports > 0
	})
	if packets, reports, bad := m.Counts(); bad > 0 {
		o.t.Errorf("the phone opened %d packets and %d reports, and could not open %d", packets, reports, bad)
	}
}

// unheard calls extension 610, which must hear nothing of a phone that seals
// its packets otherwise than it signalled.
func (o *office) unheard(phone *peers.Phone, m *peers.Media, hz float64) {
	o.t.Helper()
	o.forget()
	failed, relayed := o.edge.Metric(authFailed), o.inward()
	d, answer := phone.Invite("610", m.Offer())
	if answer.Status() != 200 {
		o.t.Fatalf("the call was answered %s", answer.Start)
	}
	m.Start(answer.Body, hz)
	m.Report()
	m.Hears(1004, 10*time.Second) // the other direction is whole
	peers.Until(o.t, 5*time.Second, "the phone's packets to fail", func() bool { return o.edge.Metric(authFailed)-failed > 40 })
	o.hangup(d, m)
	if samples, rate, err := o.pbx.Recording("heard"); err == nil && len(samples) > 0 {
		if got, share := peers.Tone(samples, rate); share > 0.5 {
			o.t.Errorf("Asterisk heard %.1f Hz from a phone that seals otherwise than it said", got)
		}
	}
	if n := o.inward() - relayed; n != 0 {
		o.t.Errorf("%v packets of a phone that seals otherwise than it said were relayed", n)
	}
}

func (o *office) hangup(d *peers.Dialog, m *peers.Media) {
	o.t.Helper()
	m.Stop()
	o.drained()
	if bye := d.Request("BYE", ""); bye.Status() != 200 {
		o.t.Fatalf("BYE was answered %s", bye.Start)
	}
	o.idle()
}

// drained waits until the edge has relayed what a phone that is silent now has sent.
func (o *office) drained() {
	o.t.Helper()
	last := o.inward()
	peers.Until(o.t, 10*time.Second, "the last of the phone's packets", func() bool {
		time.Sleep(50 * time.Millisecond)
		now := o.inward()
		defer func() { last = now }()
		return now == last
	})
}

// forget removes what 610 recorded in a call before.
func (o *office) forget() { _ = os.Remove(filepath.Join(o.pbx.Dir, "heard.wav")) }
