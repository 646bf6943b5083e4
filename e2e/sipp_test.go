package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// scenario is a SIPp scenario of testdata.
func scenario(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "sipp", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// held is what the edge holds on to, by metric.
func (o *office) held() map[string]float64 {
	o.t.Helper()
	all := o.edge.Metrics()
	held := map[string]float64{"descriptors": float64(o.edge.Descriptors())}
	for name, v := range all {
		for _, of := range []string{"sallyport_calls", "sallyport_bindings", "sallyport_transactions", "sallyport_media_sessions",
			"sallyport_media_streams", "sallyport_flows{", "sallyport_flow_handshakes", "go_goroutines"} {
			if name == of || strings.HasSuffix(of, "{") && strings.HasPrefix(name, of) {
				held[name] = v
			}
		}
	}
	return held
}

// A hundred calls over TLS with SRTP at ten a second; afterwards nothing of
// them is left. SIPp verifies the tag of each packet that Asterisk's echo
// sends back; its comparison of contents works only where the far end keeps
// SIPp's own SSRC, which Asterisk does not and TestSippPattern's PBX does.
func TestSippHundred(t *testing.T) {
	o := newOffice(t)
	before := o.held()
	inside := peers.StartCapture(o.Edge, "inside")
	run := peers.StartSIPp(o.Phone("sipp"), scenario(t, "echo.xml"), "-t", "l1", "-r", "10", "-m", "100", "-timeout", "60s", "-timeout_error", peers.SIPpNotes)
	if r := run.Result(90 * time.Second); (r.Exit != 0 && r.Exit != peers.SIPpSoundDiffers) || r.Successful != 100 || r.Failed != 0 {
		t.Fatalf("SIPp exit %d: %d calls succeeded, %d failed; want 100 and 0", r.Exit, r.Successful, r.Failed)
	}
	if good, bad := run.Verified(); good < 100*90 || bad > 0 {
		t.Errorf("SIPp verified %d SRTP packets and refused %d; want two seconds of each call, and none", good, bad)
	}
	o.idle()
	inside.Stop()
	pattern := strings.Repeat("aa", 160) // of SIPp's apattern 1
	echoed := 0
	for _, row := range inside.Fields("ip.src == "+peers.PBXAddr+" && udp.length == 180", []string{"udp.payload"}) {
		if strings.HasSuffix(row[0], pattern) {
			echoed++
		}
	}
	if echoed < 100*90 {
		t.Errorf("Asterisk echoed SIPp's pattern in %d packets, want two seconds of each call", echoed)
	}
	// Transactions over UDP must outlive their retransmissions: 32 s.
	var after map[string]float64
	peers.Until(t, 40*time.Second, "everything to be let go", func() bool {
		after = o.held()
		for name, v := range before {
			if after[name] > v {
				return false
			}
		}
		return true
	})
	t.Logf("held before: %v", before)
	t.Logf("held after:  %v", after)
}

// SIPp compares what comes back with what it sent, bit by bit, through the
// edge to a PBX that echoes. The control, a PBX that does not, must fail.
func TestSippPattern(t *testing.T) {
	for _, c := range []struct {
		name string
		echo []string
		want bool
	}{{"echo", []string{"-rtp_echo"}, true}, {"silent PBX", nil, false}} {
		t.Run(c.name, func(t *testing.T) {
			l := peers.NewLab(t)
			peers.StartSIPpPBX(l, scenario(t, "answer.xml"), c.echo...)
			peers.StartEdge(l, peers.EdgeConfig{})
			run := peers.StartSIPp(l.Phone("sipp"), scenario(t, "pattern.xml"), "-t", "l1", "-r", "10", "-m", "10",
				"-audiotolerance", "0.1", "-timeout", "30s", "-timeout_error")
			r := run.Result(60 * time.Second)
			if r.Successful != 10 || r.Failed != 0 {
				t.Fatalf("%d calls succeeded, %d failed; want 10 and 0", r.Successful, r.Failed)
			}
			if got := r.Exit == 0; got != c.want {
				t.Fatalf("SIPp's check of the sound passed: %v, want %v", got, c.want)
			}
		})
	}
}
