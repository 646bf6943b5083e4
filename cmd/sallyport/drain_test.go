package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/cmd/internal/demo"
)

const patience = 20 * time.Second // longer than any call below

// TestDrain tells the edge to stop during a call. Told once, it takes nothing
// new and the call goes on to its end; told twice, it ends the call.
func TestDrain(t *testing.T) {
	for _, tc := range []struct {
		name string
		call time.Duration
		soon bool // a second signal
	}{
		{name: "told once", call: 3 * time.Second},
		{name: "told twice", call: patience, soon: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, before) }) // after the PBX's own
			e, p := edgeWithPBX(t)
			stop, tell := context.WithCancel(t.Context())
			hurry, insist := context.WithCancel(t.Context())
			defer insist()
			ended := make(chan error, 1)
			go func() { ended <- e.run(stop, hurry) }() // ends with stop; waited for below
			phone := dial(t, e, p)
			defer phone.Close()

			calling, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			heard, failed := make(chan demo.Heard, 1), make(chan error, 1)
			go func() { // ends with the call; waited for below
				h, err := phone.Call(calling, demo.ToneCall, demo.AESGCM, 700, tc.call)
				failed <- err
				heard <- h
			}()
			until(t, func() bool { return e.proxy.Stats().Calls == 1 && e.media.Stats().Outward.RTP > 0 })
			tell()
			until(t, func() bool { return e.health() != nil })
			until(t, func() bool { return refused(p.listen[0]) })
			if tc.soon {
				insist()
			} else if err, h := <-failed, <-heard; err != nil || !h.Sound.Is(1004) {
				t.Errorf("the call under way heard %+v, %v", h, err)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("run: %v", err)
				}
			case <-time.After(patience / 2):
				t.Error("it did not end")
			}
			hangUp()
			if tc.soon {
				<-heard
			}
		})
	}
}

func edgeWithPBX(t *testing.T) (*edge, plan) {
	t.Helper()
	pbx, err := demo.StartPBX(netip.AddrPortFrom(loopback, 0), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pbx.Close)
	s := spec(t)
	s.PBX = pbx.Addr()
	p := mustPlan(t, s)
	p.drain = patience
	e, err := p.build(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return e, p
}

func dial(t *testing.T, e *edge, p plan) *demo.Phone {
	t.Helper()
	pem, err := os.ReadFile(e.certificate.Describe()[0].File)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	phone, err := demo.DialPhone(t.Context(), p.listen[0], "101", "edge.test", &tls.Config{RootCAs: roots, ServerName: "edge.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := phone.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	return phone
}

func until(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition never came")
		}
	}
}

// refused reports whether nobody listens any more.
func refused(at netip.AddrPort) bool {
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		return true
	}
	c.Close()
	return false
}
