package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ofBar issues a server's certificate as public CAs do: by DNS, and not for clients.
func ofBar(ca *phoneCA, change func(*x509.Certificate)) tls.Certificate {
	return ca.issue(func(c *x509.Certificate) {
		c.URIs, c.DNSNames, c.ExtKeyUsage = nil, []string{"bar.example.com"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if change != nil {
			change(c)
		}
	})
}

// dialledBy shakes hands with the edge as client of its trunk.
func dialledBy(t *testing.T, s *Source, trunk string, server *tls.Config) error {
	t.Helper()
	config := s.DialConfig(trunk)
	config.ServerName = s.ServerName(trunk)
	a, b := tcpPair(t)
	deadline := time.Now().Add(10 * time.Second)
	_, _ = a.SetDeadline(deadline), b.SetDeadline(deadline)
	done := make(chan struct{})
	go func() { // ends with the exchange or the deadline; waited for below
		defer close(done)
		srv := tls.Server(a, server)
		if srv.Handshake() == nil {
			_, _ = srv.Read(make([]byte, 1))
		}
		a.Close()
	}()
	err := tls.Client(b, config).Handshake()
	b.Close()
	<-done
	return err
}

// The peer of a trunk is who it should be in both directions, or is told why not.
func TestTrunkPeers(t *testing.T) {
	own, foreign := newPhoneCA(t, "Ours", nil), newPhoneCA(t, "Others", nil)
	middle := newPhoneCA(t, "Middle", own)
	revoked := ofBar(own, nil)
	crl := filepath.Join(t.TempDir(), "ours.crl")
	own.list(crl, nil, revoked.Leaf.SerialNumber)
	pinned := ofBar(foreign, func(c *x509.Certificate) { c.DNSNames = nil })
	late := ofBar(foreign, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	under := ofBar(middle, nil)
	alone := under
	under.Certificate = append([][]byte{}, under.Certificate[0], middle.cert.Raw)
	byName := Trunk{Name: "bar", Peer: "bar.example.com", Identity: []string{"bar.example.com", "bar2.example.com"}, CA: own.file}
	byPin := Trunk{Name: "bar", Peer: "bar.example.com", Pins: []string{PinOf(own.cert).String(), PinOf(pinned.Leaf).String()}}
	listed, system := byName, byName
	listed.CRL, system.CA = crl, ""
	for _, tc := range []struct {
		name   string
		trunk  Trunk
		cert   tls.Certificate
		reason string // of the one who dials; empty: it is taken
		words  string
		taken  bool // as a phone, by the listener, if it is no trunk's
	}{
		{name: "the right one", trunk: byName, cert: ofBar(own, nil)},
		{name: "for clients", trunk: byName, cert: ofBar(own, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })},
		{name: "a SIP domain", trunk: byName, cert: ofBar(own, func(c *x509.Certificate) {
			c.DNSNames, c.URIs = []string{"host.example.com"}, []*url.URL{sipURI("bar.example.com")}
		})},
		{name: "the second name", trunk: byName, cert: ofBar(own, func(c *x509.Certificate) { c.DNSNames = []string{"bar2.example.com"} })},
		{name: "with an intermediate", trunk: byName, cert: under},
		{name: "without it", trunk: byName, cert: alone, reason: "unknown_ca", words: "have the peer send its intermediates"},
		{name: "another CA's", trunk: byName, cert: ofBar(foreign, nil), reason: "unknown_ca", words: `issued by "CN=Others", leads to none of ` + own.file},
		{name: "not of the system's CAs", trunk: system, cert: ofBar(own, nil), reason: "unknown_ca", words: "leads to none of the system's CAs"},
		{name: "another name", trunk: byName, cert: ofBar(own, func(c *x509.Certificate) { c.DNSNames = []string{"baz.example.com", "www.example.com"} }),
			reason: "name", words: `is for "baz.example.com", "www.example.com", and not for bar.example.com or bar2.example.com`, taken: true},
		{name: "a wildcard", trunk: byName, cert: ofBar(own, func(c *x509.Certificate) { c.DNSNames = []string{"*.example.com"} }), reason: "name", words: `is for "*.example.com"`, taken: true},
		{name: "a user of the domain", trunk: byName, cert: own.issue(func(c *x509.Certificate) { c.URIs = []*url.URL{sipURI("1001@bar.example.com")} }),
			reason: "name", words: "is for no domain at all", taken: true},
		{name: "expired", trunk: byName, cert: ofBar(own, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }), reason: "expired", words: "expired on "},
		{name: "early", trunk: byName, cert: ofBar(own, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), reason: "expired", words: "is valid from "},
		{name: "for signing code", trunk: byName, cert: ofBar(own, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }),
			reason: "usage", words: "was issued for something else than TLS or SIP"},
		{name: "not revoked", trunk: listed, cert: ofBar(own, nil)},
		{name: "revoked", trunk: listed, cert: revoked, reason: "revoked", words: `trunk "bar": `},
		{name: "pinned", trunk: byPin, cert: pinned},
		{name: "pinned, and expired", trunk: Trunk{Name: "bar", Pins: []string{PinOf(late.Leaf).String()}}, cert: late, reason: "expired", words: "expired on "},
		{name: "of the same CA, and not pinned", trunk: byPin, cert: ofBar(foreign, nil), reason: "pin", words: "the peer's key is another than the one we know: it showed sha256:", taken: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := config(t)
			cfg.Trunks = []Trunk{tc.trunk}
			s, _ := mustSource(t, cfg, time.Now())
			err := dialledBy(t, s, "bar", &tls.Config{Certificates: []tls.Certificate{tc.cert}})
			if refusedAs(err) != tc.reason || (err != nil) != (tc.reason != "") || err != nil && !strings.Contains(err.Error(), tc.words) {
				t.Errorf("dialled: %v, want the reason %q and %q", err, tc.reason, tc.words)
			}
			listener := s.Audience(Off, true)
			for version, v := range versions {
				client := clientOf(t, s)
				client.MaxVersion = v
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tc.cert, nil } // whatever is asked for
				state, err := seenClient(t, listener.Config(), client)
				switch {
				case tc.reason == "":
					if err != nil || listener.Trunk(&state) != "bar" || listener.Users(&state) != nil {
						t.Errorf("%s: accepted as %q, with users %q: %v", version, listener.Trunk(&state), listener.Users(&state), err)
					}
				case tc.taken:
					if err != nil || listener.Trunk(&state) != "" || listener.Users(&state) != nil {
						t.Errorf("%s: taken for %q, with users %q: %v", version, listener.Trunk(&state), listener.Users(&state), err)
					}
				case refusedAs(err) != tc.reason:
					t.Errorf("%s: accepted: %v, want the reason %q", version, err, tc.reason)
				}
			}
		})
	}
}

// Who shows nothing is a phone. What a phone shows where it is not asked for it speaks
// for nobody, whoever issued it; where it is asked for, it is judged as without trunks.
func TestPhonesBesideTrunks(t *testing.T) {
	own, trunks, foreign := newPhoneCA(t, "Phones", nil), newPhoneCA(t, "Trunks", nil), newPhoneCA(t, "Others", nil)
	revoked := own.issue(nil)
	crl := filepath.Join(t.TempDir(), "phones.crl")
	own.list(crl, nil, revoked.Leaf.SerialNumber)
	cfg := config(t)
	cfg.Trunks = []Trunk{{Name: "bar", Identity: []string{"bar.example.com"}, CA: trunks.file}}
	cfg.Clients = Clients{CA: own.file, CRL: crl, TLS: Optional, WSS: Required}
	s, _ := mustSource(t, cfg, time.Now())
	for _, tc := range []struct {
		name          string
		certs         []tls.Certificate
		demand        Demand
		trunk, users  string
		reason, words string
	}{
		{name: "nothing", demand: Off},
		{name: "a phone's", demand: Off, certs: []tls.Certificate{own.issue(nil)}},
		{name: "a stranger's with a user's name", demand: Off, certs: []tls.Certificate{foreign.issue(nil)}},
		{name: "the trunk's", demand: Off, certs: []tls.Certificate{ofBar(trunks, nil)}, trunk: "bar"},
		{name: "nothing", demand: Optional},
		{name: "a phone's", demand: Optional, certs: []tls.Certificate{own.issue(nil)}, users: "1001"},
		{name: "a stranger's", demand: Optional, certs: []tls.Certificate{foreign.issue(nil)}, words: "unknown authority"},
		{name: "a revoked phone's", demand: Optional, certs: []tls.Certificate{revoked}, reason: "revoked", words: "is revoked since"},
		{name: "a phone's of the trunks' CA", demand: Optional, certs: []tls.Certificate{trunks.issue(nil)}, words: "unknown authority"},
		{name: "the trunk's", demand: Optional, certs: []tls.Certificate{ofBar(trunks, nil)}, trunk: "bar"},
		{name: "the trunk's name by the phones' CA", demand: Optional, certs: []tls.Certificate{ofBar(own, nil)}, reason: "unknown_ca", words: `trunk "bar"`},
		{name: "nothing", demand: Required, words: "client didn't provide a certificate"},
		{name: "a phone's", demand: Required, certs: []tls.Certificate{own.issue(nil)}, users: "1001"},
		{name: "the trunk's", demand: Required, certs: []tls.Certificate{ofBar(trunks, nil)}, trunk: "bar"},
	} {
		for version, v := range versions {
			t.Run(string(tc.demand)+", "+tc.name+", "+version, func(t *testing.T) {
				listener := s.Audience(tc.demand, true)
				client := clientOf(t, s)
				client.MaxVersion, client.ClientSessionCache = v, tls.NewLRUClientSessionCache(1)
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(tc.certs) == 0 {
						return new(tls.Certificate), nil
					}
					return &tc.certs[0], nil
				}
				for _, resumed := range []bool{false, true} {
					state, err := seenClient(t, listener.Config(), client)
					if refusedAs(err) != tc.reason || (err != nil) != (tc.words != "") || err != nil && !strings.Contains(err.Error(), tc.words) {
						t.Fatalf("resumed %v: %v, want the reason %q and %q", resumed, err, tc.reason, tc.words)
					}
					if err != nil {
						return
					}
					if len(state.PeerCertificates) > 0 && (listener.Trunk(&state) != tc.trunk || strings.Join(listener.Users(&state), " ") != tc.users) {
						t.Errorf("resumed %v: of trunk %q with users %q", resumed, listener.Trunk(&state), listener.Users(&state))
					}
					if state.DidResume != resumed {
						t.Errorf("resumed: %v", state.DidResume)
					}
					if listener.Withdrawn(&state) != nil {
						t.Errorf("withdrawn at once: %v", listener.Withdrawn(&state))
					}
				}
			})
		}
	}
}

// The CAs that we name to clients keep none from showing what we would take.
func TestTrunkHints(t *testing.T) {
	phones, trunks := newPhoneCA(t, "Phones", nil), newPhoneCA(t, "Trunks", nil)
	byCA := Trunk{Name: "bar", Identity: []string{"bar.example.com"}, CA: trunks.file}
	byPin := Trunk{Name: "baz", Pins: []string{PinOf(phones.cert).String()}}
	for _, tc := range []struct {
		name   string
		trunks []Trunk
		demand Demand
		want   int
	}{
		{"a CA", []Trunk{byCA}, Off, 1},
		{"a CA, and that of phones", []Trunk{byCA}, Optional, 2},
		{"a pin", []Trunk{byCA, byPin}, Optional, 0},
		{"the system's", []Trunk{{Name: "bar", Identity: []string{"bar.example.com"}}}, Off, 0},
	} {
		cfg := config(t)
		cfg.Trunks, cfg.Clients = tc.trunks, Clients{CA: phones.file, TLS: Optional}
		s, _ := mustSource(t, cfg, time.Now())
		client, got := clientOf(t, s), -1
		client.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			got = len(r.AcceptableCAs)
			return new(tls.Certificate), nil
		}
		if _, err := seenClient(t, s.Audience(tc.demand, true).Config(), client); err != nil || got != tc.want {
			t.Errorf("%s: %d CAs are named, want %d: %v", tc.name, got, tc.want, err)
		}
	}
}

// Files of a trunk are taken anew, and who is connected is judged again.
func TestTrunkReload(t *testing.T) {
	own, other := newPhoneCA(t, "Ours", nil), newPhoneCA(t, "Others", nil)
	crl := filepath.Join(t.TempDir(), "ours.crl")
	own.list(crl, nil)
	cfg := config(t)
	cfg.Trunks = []Trunk{{Name: "bar", Identity: []string{"bar.example.com"}, CA: writeCopy(t, own.file), CRL: crl}}
	s, said := watchedAt(t, cfg, time.Now())
	taken := 0
	s.OnTaken(func() { taken++ })
	bar := ofBar(own, nil)
	listener := s.Audience(Off, true)
	state, err := seenClient(t, listener.Config(), clientOf(t, s, bar))
	if err != nil || listener.Trunk(&state) != "bar" {
		t.Fatal(err)
	}
	withdrawn := s.TrunkWithdrawn("bar")
	for _, step := range []struct {
		name   string
		do     func()
		reason string // for which who is connected is withdrawn
		taken  int
		says   string
	}{
		{name: "nothing", do: func() {}},
		{name: "a stale list", taken: 1, do: func() { own.list(crl, func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-time.Second) }) }},
		{name: "revoked", taken: 2, reason: "revoked", do: func() { own.list(crl, nil, bar.Leaf.SerialNumber) }},
		{name: "no list", taken: 2, reason: "revoked", says: `trunk \"bar\": crl: `, do: func() { _ = os.WriteFile(crl, []byte("x"), 0o644) }},
		{name: "good again", taken: 3, do: func() { own.list(crl, nil) }},
		{name: "another CA", taken: 4, reason: "unknown_ca", do: func() {
			data, _ := os.ReadFile(other.file)
			_ = os.WriteFile(cfg.Trunks[0].CA, data, 0o644)
			other.list(crl, nil)
		}},
	} {
		step.do()
		s.Reload()
		if err := withdrawn(&state); refusedAs(err) != step.reason || (err != nil) != (step.reason != "") {
			t.Errorf("%s: %v, want the reason %q", step.name, err, step.reason)
		}
		if taken != step.taken {
			t.Errorf("%s: taken %d times, want %d", step.name, taken, step.taken)
		}
		if log := said(); !strings.Contains(log, step.says) {
			t.Errorf("%s: the log says %s", step.name, log)
		}
	}
}

// Of two trunks that a certificate fits the first is taken, and that is told once.
func TestDoubleTrunk(t *testing.T) {
	own := newPhoneCA(t, "Ours", nil)
	bar := ofBar(own, nil)
	cfg := config(t)
	cfg.Trunks = []Trunk{{Name: "pinned", Pins: []string{PinOf(bar.Leaf).String()}}, {Name: "named", Identity: []string{"bar.example.com"}, CA: own.file}}
	s, said := watchedAt(t, cfg, time.Now())
	listener := s.Audience(Off, true)
	for range 3 {
		if state, err := seenClient(t, listener.Config(), clientOf(t, s, bar)); err != nil || listener.Trunk(&state) != "pinned" {
			t.Errorf("taken for %q: %v", listener.Trunk(&state), err)
		}
	}
	if log := said(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "trunk=pinned other=named") {
		t.Errorf("the log says %s", log)
	}
}
