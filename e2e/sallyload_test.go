package e2e

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// accounts are those of the PBX, as sallyload's arguments.
var accounts = []string{"--domain", "pbx.example.com", "--users", "%d", "--first", "1001", "--password", "secret-%s", "--phones", "20"}

// Twenty phones of sallyload call one another through the edge and a real
// Asterisk, by TLS with SDES and by WSS with DTLS, and each hears the tone of the
// phone that it speaks with. One that is told to expect another tone must fail.
func TestSallyloadEdge(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Extra: peers.WSS})
	host := o.Phone("load")
	tls := []string{"--target", peers.EdgeOutside + ":5061", "--media", "sdes"}
	wss := []string{"--target", "wss://" + peers.EdgeOutside + ":" + peers.WSSPort + "/", "--media", "dtls"}
	for _, c := range []struct {
		name  string
		by    []string
		mix   []string
		hears bool
	}{
		{"TLS and SDES", tls, []string{"--mix", "call=4,hold=2,register=1,options=1,cancel=1"}, true},
		{"WSS and DTLS", wss, nil, true},
		{"PCMA alone", tls, []string{"--codecs", "pcma", "--duration", "1s"}, true},
		{"another tone", tls, []string{"--hear", "1234", "--duration", "1s"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o.Within(t)
			loads(t, host, o.edge.CAFile(), append(c.by, c.mix...), c.hears)
			o.idle()
		})
	}
	for name, by := range map[string][]string{"SDES": tls, "DTLS": wss} {
		t.Run("reports by "+name, func(t *testing.T) {
			o.Within(t)
			reported(t, host, o.edge.CAFile(), by, peers.StartCapture(o.Edge, "inside"), peers.PBXAddr)
			o.idle()
		})
	}
	for name, more := range map[string][]string{"storm": nil, "storm that resumes": {"--resume"}} {
		t.Run(name, func(t *testing.T) {
			o.Within(t)
			args := append([]string{"storm", "--ca", o.edge.CAFile(), "--cut", "--retry", "1s", "--duration", "20s", "--ramp", "100"}, accounts...)
			r := peers.StartSallyload(host, append(append(args, tls[:2]...), more...)...).Result(time.Minute)
			if !r.Passed || r.Storm.Registered != 20 || r.Storm.AllAfter <= 0 {
				t.Errorf("of 20 phones that were cut off %+v came back: %+v", r.Storm, r.Operations)
			}
			if got, want := r.Latency["connect_resumed"].Count, len(more)*20; got != want {
				t.Errorf("%d of 20 resumed their TLS sessions, want %d", got, want)
			}
		})
	}
	t.Run("Ctrl-C", func(t *testing.T) {
		o.Within(t)
		args := append([]string{"call", "--ca", o.edge.CAFile(), "--rate", "10", "--talk", "1h", "--ramp", "100"}, accounts...)
		run := peers.StartSallyload(host, append(args, tls...)...)
		peers.Until(t, 30*time.Second, "Asterisk to have calls", func() bool { return o.pbx.Channels() >= 4 })
		run.Signal(os.Interrupt)
		if r := run.Result(time.Minute); r.Operations["call"].Due < 2 || r.Operations["call"].Failed > 0 {
			t.Errorf("it was told to stop, and says %+v", r.Operations)
		}
		o.idle()
		if n := o.pbx.Registered(); n != 0 {
			t.Errorf("%d phones are registered still", n)
		}
	})
}

// reported runs calls that are long enough for reports to go both ways: each end must
// be told what the other one has of it, and how far that is. That is each to which Asterisk
// reports: it begins with the first packet that it reads itself, and where it has joined
// both ends before that, it reads none.
func reported(t *testing.T, host *peers.Host, ca string, by []string, capture *peers.Capture, pbx string) {
	t.Helper()
	args := append([]string{"call", "--ca", ca, "--rate", "6", "--arrivals", "even", "--duration", "500ms", "--talk", "12s", "--ramp", "100"}, accounts...)
	r := peers.StartSallyload(host, append(args, by...)...).Result(time.Minute)
	capture.Stop()
	ends := make(map[string]bool)
	for _, row := range capture.Fields("ip.src == "+pbx+" && !icmp && (udp.payload[1] == c8 || udp.payload[1] == c9)", []string{"udp.dstport"}) {
		ends[row[0]] = true
	}
	c := r.Media.RTCP
	if !r.Passed || r.Media.Ends < 4 || c.Sent < r.Media.Ends || len(ends) < r.Media.Ends/2 || c.Told != len(ends) || c.RoundTrip.Count == 0 || c.Bad > 0 || c.Lost != 0 {
		t.Errorf("of %d ends of calls, %d of which Asterisk reported to, the reports are %+v: %+v", r.Media.Ends, len(ends), c, r)
	}
}

// loads runs calls of twenty phones, which are as they should be or not.
func loads(t *testing.T, host *peers.Host, ca string, args []string, want bool) {
	t.Helper()
	all := append([]string{"mix", "--ca", ca, "--rate", "6", "--arrivals", "even", "--duration", "2500ms", "--talk", "1500ms", "--ramp", "100", "--mix", "call=1"}, accounts...)
	r := peers.StartSallyload(host, append(all, args...)...).Result(time.Minute)
	t.Logf("%+v", r)
	if r.Passed != want || (r.Exit == 0) != want {
		t.Errorf("it passed: %v, and ended with %d; want %v", r.Passed, r.Exit, want)
	}
	if want && (r.Media.Right == 0 || r.Media.Right != r.Media.Ends) {
		t.Errorf("of %d ends of calls %d heard what they should", r.Media.Ends, r.Media.Right)
	}
}

// The same with an Asterisk 22 that speaks TLS and WSS itself, with no edge between:
// sallyload is not made for one server.
func TestSallyloadAsterisk(t *testing.T) {
	l := peers.NewLab(t)
	issuer, at := peers.NewIssuer(t), l.Phone("asterisk")
	cert := issuer.Pair("pbx.example.com", false)
	pbx := peers.StartAsterisk(l, peers.AsteriskConfig{Version: 22, On: at, Secure: &peers.SecureAsterisk{Cert: cert.Cert, Key: cert.Key}})
	host := l.Phone("load")
	for _, c := range []struct {
		name string
		by   []string
	}{
		{"TLS and SDES", []string{"--target", at.Addr.String() + ":5061", "--media", "sdes", "--mix", "call=2,hold=1,options=1,cancel=1"}},
		{"WSS and DTLS", []string{"--target", "wss://" + at.Addr.String() + ":8089/ws", "--media", "dtls", "--mix", "call=2,hold=1", "--first", "1011"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.Within(t)
			loads(t, host, issuer.CAFile(), append(c.by, "--phones", "10", "--rate", "3"), true)
			peers.Until(t, 10*time.Second, "Asterisk to have no channel", func() bool { return pbx.Channels() == 0 })
		})
	}
	t.Run("WSS without sound", func(t *testing.T) { // it asks for DTLS there, and must be offered it
		l.Within(t)
		args := append([]string{"call", "--ca", issuer.CAFile(), "--target", "wss://" + at.Addr.String() + ":8089/ws", "--rate", "5", "--duration", "1s", "--talk", "100ms", "--ramp", "100"}, accounts...)
		if r := peers.StartSallyload(host, append(args, "--first", "1011", "--phones", "10")...).Result(time.Minute); !r.Passed || r.Operations["call"].Done == 0 {
			t.Errorf("the calls went so: %+v", r.Operations)
		}
	})
	for name, by := range map[string][]string{
		"SDES": {"--target", at.Addr.String() + ":5061", "--media", "sdes", "--first", "1001"},
		"DTLS": {"--target", "wss://" + at.Addr.String() + ":8089/ws", "--media", "dtls", "--first", "1011"},
	} {
		t.Run("early media by "+name, func(t *testing.T) {
			l.Within(t)
			for hertz, want := range map[int]bool{peers.MusicHz: true, 600: false} {
				args := append([]string{"call", "--ca", issuer.CAFile(), "--rate", "4", "--arrivals", "even", "--duration", "1s", "--talk", "1500ms", "--ramp", "100"}, accounts...)
				args = append(args, "--phones", "5", "--callee", "609", "--early", strconv.Itoa(hertz))
				r := peers.StartSallyload(host, append(args, by...)...).Result(time.Minute)
				m, calls := r.Media, r.Operations["call"].Due
				if r.Passed != want || calls == 0 || m.Right != calls || m.Early.Ends != calls || want && m.Early.Right != calls || !want && m.Early.Wrong != calls {
					t.Errorf("with %d Hz to come before the answer it passed: %v; of %d calls the sound is %+v", hertz, r.Passed, calls, m)
				}
			}
		})
	}
	t.Run("reports", func(t *testing.T) {
		l.Within(t)
		reported(t, host, issuer.CAFile(), []string{"--target", at.Addr.String() + ":5061", "--media", "sdes", "--phones", "10"},
			peers.StartCapture(at, "outside"), at.Addr.String())
	})
}

// The same with Kamailio as registrar and proxy, whose rtpengine writes keys as neither
// the edge nor Asterisk does.
func TestSallyloadKamailio(t *testing.T) {
	l := peers.NewLab(t)
	issuer := peers.NewIssuer(t)
	cert := issuer.Pair("pbx.example.com", false)
	peers.StartRTPEngine(l.Edge, []string{peers.EdgeOutside})
	peers.StartKamailio(l, peers.KamailioConfig{Registrar: true, Children: 2, Readers: 2, Shared: 64, CertFile: cert.Cert, KeyFile: cert.Key, WebSocket: true})
	host := l.Phone("load")
	tls := []string{"--target", peers.EdgeOutside + ":5061", "--media", "sdes", "--phones", "10", "--rate", "3"}
	wss := []string{"--target", "wss://" + peers.EdgeOutside + ":" + peers.WSSPort + "/", "--media", "dtls", "--phones", "10", "--rate", "3"}
	for _, c := range []struct {
		name  string
		by    []string
		more  []string
		hears bool
	}{
		{"TLS and SDES", tls, []string{"--mix", "call=3,hold=2,cancel=1"}, true},
		{"GCM alone", tls, []string{"--suites", "AEAD_AES_256_GCM", "--duration", "1s"}, true},
		{"WSS and DTLS", wss, []string{"--mix", "call=2,hold=1"}, true},
		{"another tone", tls, []string{"--hear", "1234", "--duration", "1s"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.Within(t)
			loads(t, host, issuer.CAFile(), slices.Concat(c.by, c.more), c.hears)
		})
	}
}
