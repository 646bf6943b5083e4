package e2e

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// impostor is somebody at bar's address, with certificates that he has.
type impostor struct {
	t    *testing.T
	host *peers.Host
	bar  *peers.Site

	mu    sync.Mutex // guards what follows
	cert  tls.Certificate
	met   int // who were shown it
	heard int // bytes that came by TLS
}

// newImpostor listens where bar's edge does.
func (s *trunks) newImpostor() *impostor {
	s.t.Helper()
	i := &impostor{t: s.t, host: s.Impostor(s.Bar), bar: s.Bar}
	var ln net.Listener
	err := i.host.Do(func() (err error) {
		ln, err = net.Listen("tcp", netip.AddrPortFrom(s.Bar.Public, 5061).String())
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { // ends when the test closes the listener; waited for there
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			i.serve(conn)
		}
	})
	s.t.Cleanup(func() { ln.Close(); served.Wait() })
	return i
}

// config shows the certificate of the moment, and takes everybody's.
func (i *impostor) config() *tls.Config {
	i.mu.Lock()
	defer i.mu.Unlock()
	return &tls.Config{
		Certificates: []tls.Certificate{i.cert}, ClientAuth: tls.RequireAnyClientCert,
		InsecureSkipVerify: true, // he cares for nobody's name
	}
}

// serve takes what is said to him within a while.
func (i *impostor) serve(raw net.Conn) {
	defer raw.Close()
	conn := tls.Server(raw, i.config())
	_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	_ = conn.Handshake() // if it fails, so does the first Read
	i.mu.Lock()
	i.met++
	i.mu.Unlock()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		i.mu.Lock()
		i.heard += n
		i.mu.Unlock()
	}
}

// shows has him show another certificate from now on.
func (i *impostor) shows(pair peers.Pair) {
	i.t.Helper()
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cert, i.met = cert, 0
}

// counts tells how many were shown the certificate of the moment, and how many bytes
// came since ever.
func (i *impostor) counts() (met, heard int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.met, i.heard
}

// calls dials a branch's edge, shows his certificate, calls a number there, and
// returns what he gets for it: the first line of the final answer, or how the connection
// ended.
func (i *impostor) calls(to *peers.Site, number string) string {
	i.t.Helper()
	at := netip.AddrPortFrom(to.Public, 5061)
	var raw net.Conn
	err := i.host.Do(func() (err error) { raw, err = net.Dial("tcp", at.String()); return err })
	if err != nil {
		i.t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, i.config())
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte(invite(netip.AddrPortFrom(i.bar.Public, 5061), at, "TLS", number))); err != nil {
		return err.Error()
	}
	for r := bufio.NewReader(conn); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		if strings.HasPrefix(line, "SIP/2.0 ") && line[8] >= '2' {
			return strings.TrimSpace(line)
		}
	}
}

// Somebody else at the far end's address, with a certificate of his own, is told
// nothing and calls nobody.
func TestTrunkImpostor(t *testing.T) {
	s := newTrunks(t)
	i := s.newImpostor()
	failures := `sallyport_trunk_dial_failures_total{cause="certificate",trunk="bar"}`
	for _, c := range []struct {
		name string
		pair peers.Pair
	}{
		{"another CA's", peers.NewIssuer(t).Pair(s.Bar.Domain, false)},
		{"another name's", s.ca.Pair("bar.example.net", false)},
		{"our own", s.certFoo},
	} {
		before := s.atFoo.Metrics()[failures]
		i.shows(c.pair)
		peers.Until(t, 60*time.Second, c.name+" certificate to be refused", func() bool {
			met, _ := i.counts()
			return met > 0 && s.atFoo.Metrics()[failures] > before
		})
		s.up(s.atFoo, s.Bar, 0)
		got := i.calls(s.Foo, "1001")
		t.Logf("a call with %s certificate got %q", c.name, got)
		if strings.HasPrefix(got, "SIP/2.0 2") || s.foo.phone.Within(300*time.Millisecond) != nil {
			t.Errorf("a call with %s certificate got %q", c.name, got)
		}
	}
	if _, n := i.counts(); n != 0 {
		t.Errorf("with certificates that are not bar's he was told %d bytes", n)
	}
	s.refusedCall()

	i.shows(s.certB) // the control: the very key of bar
	s.up(s.atFoo, s.Bar, 1)
	done := make(chan string, 1)
	go func() { done <- i.calls(s.Foo, "1001") }() // ends with the call's answer; waited for below
	s.foo.rings("a call with bar's certificate")
	if got := <-done; !strings.HasPrefix(got, "SIP/2.0 486") {
		t.Errorf("a call with bar's certificate got %q", got)
	}
	peers.Until(t, 10*time.Second, "him to be told something", func() bool { _, n := i.counts(); return n > 0 })
}
