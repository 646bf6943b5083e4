package phone

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/wire"
)

// A phone that comes back resumes its TLS session if it is to, and no other phone
// does; without that each handshake is a full one.
func TestResume(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	resumed := make(chan bool)
	go func() { // ends with the listener; waited for below
		defer close(resumed)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			server := conn.(*tls.Conn)
			if server.Handshake() == nil {
				_, _ = conn.Write([]byte("\r\n")) // a keep-alive: behind it are no tickets
				resumed <- server.ConnectionState().DidResume
				_, _ = conn.Read(make([]byte, 1))
			}
			conn.Close()
		}
	}()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	for _, resume := range []bool{false, true} {
		c := &Config{Resume: resume, Target: &wire.Target{Addr: ln.Addr().String(), TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"}}}
		phones := []*Phone{New(c, 0, "1001", "1001", ""), New(c, 1, "1002", "1002", "")}
		for round := range 2 {
			for _, p := range phones {
				if round > 0 && resume {
					hasTicket(t, p)
				}
				_, told, err := p.Connect(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				want := resume && round > 0
				if did := <-resumed; did != want || told != want {
					t.Errorf("resume %v, connection %d of %s: the server says %v, the phone %v", resume, round+1, p.User, did, told)
				}
				if resume {
					hasTicket(t, p)
				}
				p.Close()
			}
		}
	}
	ln.Close()
	for range resumed {
	}
}

// hasTicket waits until the phone's reader had the ticket.
func hasTicket(t *testing.T, p *Phone) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, ok := p.sessions.Get("example.com"); ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no ticket came")
		}
	}
}
