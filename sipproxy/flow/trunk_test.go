package flow

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// peers takes every certificate for that of one trunk.
type peers struct{ trunk string }

func (p peers) Users(*tls.ConnectionState) []string  { return nil }
func (p peers) Trunk(*tls.ConnectionState) string    { return p.trunk }
func (p peers) Withdrawn(*tls.ConnectionState) error { return nil }

func located(addrs ...netip.AddrPort) func(context.Context) ([]Target, error) {
	return func(context.Context) ([]Target, error) {
		var out []Target
		for _, a := range addrs {
			out = append(out, Target{a})
		}
		return out, nil
	}
}

// dialling is how a trunk dials; it takes any peer.
func dialling(t *testing.T) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, Certificates: serverConfig(t).Certificates}
}

// accepting is a listener for which each client is the trunk that it returns.
func accepting(t *testing.T, name string, limits Limits) (*Listener, *Trunk, *inbox) {
	t.Helper()
	config, h := serverConfig(t), newInbox()
	config.ClientAuth = tls.RequestClientCert
	ln, err := ListenTLS(netip.MustParseAddrPort("127.0.0.1:0"), config, limits, h, nil, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	trunk := NewTrunk(TrunkConfig{Name: name}, limits, h, quietLog)
	ln.Know(peers{name})
	ln.Accept(trunk)
	run(t, ln.Run)
	return ln, trunk, h
}

// dialled is a trunk that runs.
func dialled(t *testing.T, cfg TrunkConfig, limits Limits) (*Trunk, *inbox, *said) {
	t.Helper()
	log, h := new(said), newInbox()
	if cfg.TLS == nil {
		cfg.TLS = dialling(t)
	}
	trunk := NewTrunk(cfg, limits, h, slog.New(slog.NewTextHandler(log, nil)))
	run(t, trunk.Run)
	return trunk, h, log
}

func message(t *testing.T) sip.Message {
	t.Helper()
	m, err := sip.ParseMessage([]byte(optionsText))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const optionsText = "OPTIONS sip:bar.example.com SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.1:5061;branch=z9hG4bK1\r\n" +
	"From: <sip:foo.example.com>;tag=1\r\nTo: <sip:bar.example.com>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"

// A connection that is to be spared is the last that is used, and if we dialled it,
// another takes its place; but not without end, whatever the far end asks for.
func TestTrunkSpares(t *testing.T) {
	ln, there, _ := accepting(t, "foo", DefaultLimits())
	here, _, _ := dialled(t, TrunkConfig{Name: "bar", Locate: located(ln.Addr())}, DefaultLimits())
	until(t, "both ends to be up", func() bool { return here.Flow() != nil && there.Flow() != nil })
	first := here.Flow()
	there.Flow().Spare() // nobody but the peer dials it
	if there.Flow() == nil {
		t.Error("the only connection is not used as it is spared")
	}
	first.Spare()
	first.Spare()
	if here.Flow() == nil {
		t.Error("nothing is left until there is another connection")
	}
	until(t, "another connection", func() bool { return len(here.Flows()) == 2 && len(there.Flows()) == 2 })
	for range 4 {
		if here.Flow() == first {
			t.Error("a connection is used that is to be spared")
		}
	}
	if first.Err() != nil {
		t.Errorf("the connection was closed: %v", first.Err())
	}
	for _, f := range here.Flows() {
		if f != first {
			f.Close(ErrDone)
		}
	}
	if f := here.Flow(); f != first {
		t.Error("the connection that is to be spared is not used where there is no other")
	}

	here.mu.Lock() // as many as there may be
	for range mostReplaced {
		here.dialled[&conn{}] = make(chan struct{})
	}
	c := &conn{}
	replaced := make(chan struct{})
	here.dialled[c] = replaced
	here.mu.Unlock()
	f := newFlow(Secure, "TLS", ln.Addr(), ln.Addr(), nil, nil)
	f.trunk = here
	c.made.Store(f)
	f.Spare()
	select {
	case <-replaced:
		t.Error("connections are replaced without end")
	default:
	}
}

// Each end sends to the other over the one connection, and knows whose it is.
func TestTrunkBothWays(t *testing.T) {
	ln, there, heardThere := accepting(t, "foo", DefaultLimits())
	var mu sync.Mutex
	var up []*Flow
	here, heardHere, _ := dialled(t, TrunkConfig{
		Name: "bar", Locate: located(ln.Addr()),
		OnUp: func(f *Flow) { mu.Lock(); defer mu.Unlock(); up = append(up, f) },
	}, DefaultLimits())
	until(t, "both ends to be up", func() bool { return here.Flow() != nil && there.Flow() != nil })
	ours, theirs := here.Flow(), there.Flow()
	if ours.Trunk() != here || theirs.Trunk() != there || here.Name() != "bar" {
		t.Error("a flow is of another trunk")
	}
	if ours.Remote() != ln.Addr() || theirs.Remote() != ours.Local() || ours.Local() != theirs.Remote() || ours.Transport() != "TLS" {
		t.Errorf("dialled %s to %s, accepted %s from %s", ours.Local(), ours.Remote(), theirs.Local(), theirs.Remote())
	}
	if ours.Side() != Secure || !ours.Reliable() || ours.TLS() == nil {
		t.Error("a dialled flow is not one of the secure side")
	}
	for _, f := range []*Flow{ours, theirs} {
		if err := f.Send(message(t)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "both messages", func() bool {
		a, _ := heardThere.count()
		b, _ := heardHere.count()
		return a == 1 && b == 1
	})
	if s := here.State(); !s.Up || s.Connections != 1 || s.Reason != "" {
		t.Errorf("state %+v", s)
	}
	if to := here.Peers(); len(to) != 1 || to[0] != ln.Addr() {
		t.Errorf("connects to %v", to)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(up) != 1 || up[0] != ours {
		t.Errorf("told of %d connections", len(up))
	}
}
