package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A list at fault is refused, at the start and when it changes, and says why; the
// former one stays.
func TestRevocationLists(t *testing.T) {
	own, other := newPhoneCA(t, "Phones", nil), newPhoneCA(t, "Others", nil)
	twin := newPhoneCA(t, "Phones", nil) // its name, and another key
	delta := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
	ca, _ := os.ReadFile(own.file)
	good := own.revokes(nil, big.NewInt(7))
	der, _ := pem.Decode(good)
	for _, tc := range []struct {
		name, data, words string
	}{
		{"PEM", string(good), ""},
		{"DER", string(der.Bytes), ""},
		{"stale", string(own.revokes(func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-time.Second) })), ""},
		{"empty", "", "holds no revocation list that can be read"},
		{"no list", "nothing of the kind", "holds no revocation list that can be read"},
		{"torn", string(good[:len(good)-60]), "holds no revocation list that can be read"},
		{"torn DER", string(der.Bytes[:len(der.Bytes)-4]), "holds no revocation list that can be read"},
		{"a certificate", string(ca), "holds a CERTIFICATE, which is no revocation list"},
		{"another CA's", string(other.revokes(nil)), "that none of tls.client_ca has signed"},
		{"another CA's of the name", string(twin.revokes(nil)), "that none of tls.client_ca has signed"},
		{"one good, one not", string(good) + string(other.revokes(nil)), "that none of tls.client_ca has signed"},
		{"from the future", string(own.revokes(func(l *x509.RevocationList) {
			l.ThisUpdate, l.NextUpdate = time.Now().Add(48*time.Hour), time.Now().Add(72*time.Hour)
		})), "is yet to come"},
		{"a delta", string(own.revokes(func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{delta} })), "is no complete one"},
		{"of another's certificates", string(own.revokes(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(9), RevocationTime: time.Now(),
				ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}}}
		})), "is no complete one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "list")
			writeLists(t, file, []byte(tc.data))
			cfg := config(t)
			cfg.Clients = Clients{CA: own.file, CRL: file, TLS: Required}
			_, err := inspect(cfg, time.Now())
			if (err == nil) != (tc.words == "") || err != nil && (!strings.Contains(err.Error(), tc.words) || !strings.HasPrefix(err.Error(), "tls.client_crl: "+file+" ")) {
				t.Fatalf("inspected: %v, want %q", err, tc.words)
			}
			if tc.words == "" {
				return
			}
			writeLists(t, file, own.revokes(nil, big.NewInt(7)))
			s, said := watchedAt(t, cfg, time.Now())
			had := s.clients.Load()
			writeLists(t, file, []byte(tc.data))
			now := time.Now()
			for range 40 { // looks, over more than a minute: it is told once
				now = now.Add(pollInterval)
				s.look(now)
			}
			if log := said(); strings.Count(log, "client CA or revocation list refused; those in force stay") != 1 || !strings.Contains(log, tc.words) {
				t.Errorf("the log says\n%s", log)
			}
			if s.clients.Load() != had {
				t.Error("the former list is not in force any longer")
			}
			writeLists(t, file, own.revokes(nil, big.NewInt(7), big.NewInt(8)))
			s.look(now.Add(pollInterval))
			s.look(now.Add(2 * pollInterval))
			if log := said(); !strings.Contains(log, "2 revoked") || s.clients.Load() == had {
				t.Errorf("a good one is not taken:\n%s", log)
			}
		})
	}
}

// A list of tens of thousands is read whole, for phones and for trunks; one without end
// is not, and the error says what the bound is.
func TestLongList(t *testing.T) {
	own := newPhoneCA(t, "Phones", nil)
	nth := func(n int) *big.Int {
		return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 120), big.NewInt(int64(n)))
	} // as long as CAs draw them
	phone := own.issue(func(c *x509.Certificate) { c.SerialNumber = nth(29_999) })
	other := own.issue(func(c *x509.Certificate) { c.SerialNumber = nth(30_001) })
	serials := make([]*big.Int, 30_000)
	for i := range serials {
		serials[i] = nth(i + 1)
	}
	crl := filepath.Join(t.TempDir(), "list")
	own.list(crl, nil, serials...)
	if info, err := os.Stat(crl); err != nil || info.Size() < 1<<20 {
		t.Fatalf("the list is of %d bytes, %v", info.Size(), err)
	}
	cfg := config(t)
	cfg.Clients = Clients{CA: own.file, CRL: crl, TLS: Required}
	s, log := mustSource(t, cfg, time.Now())
	if !strings.Contains(log, "30000 revoked") {
		t.Errorf("the log says\n%s", log)
	}
	for cert, want := range map[*tls.Certificate]string{&phone: "revoked", &other: ""} {
		if _, err := seenClient(t, s.ServerConfig(Required), clientOf(t, s, *cert)); refusedAs(err) != want {
			t.Errorf("serial %s: %v, want %q", cert.Leaf.SerialNumber, err, want)
		}
	}
	trunk := Trunk{Name: "bar", Identity: []string{"bar.example.com"}, CA: own.file, CRL: crl}
	if a, err := loadIssuers(trunk, time.Now()); err != nil || refusedAs(a.revoked([]*x509.Certificate{phone.Leaf, own.cert})) != "revoked" {
		t.Errorf("of a trunk: %v", err)
	}
	if err := os.Truncate(crl, 64<<20+1); err != nil {
		t.Fatal(err)
	}
	if _, err := inspect(cfg, time.Now()); err == nil || err.Error() != "tls.client_crl: read "+crl+": is larger than 67108864 bytes; no longer list is read" {
		t.Errorf("one without end: %v", err)
	}
}

// While a list is stale nobody of its CA gets in; and it is told before it is so.
func TestStaleList(t *testing.T) {
	own := newPhoneCA(t, "Phones", nil)
	crl := filepath.Join(t.TempDir(), "phones.crl")
	next := time.Now().Add(time.Hour)
	own.list(crl, func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = time.Now().AddDate(0, -1, 0), next })
	cfg := config(t)
	cfg.Clients = Clients{CA: own.file, CRL: crl, TLS: Required}
	s, log := mustSource(t, cfg, time.Now())
	if !strings.Contains(log, "the revocation list by CN=Phones expires in less than a day: put the CA's present one into "+crl) {
		t.Errorf("the log says\n%s", log)
	}
	for within, want := range map[int]bool{-1: false, 7: true} {
		if _, err := check(cfg, within, time.Now()); (err != nil && strings.Contains(err.Error(), "sip.tls_client_cert: the revocation list by CN=Phones ends on ")) != want {
			t.Errorf("checked for %d days: %v", within, err)
		}
	}
	phone := own.issue(nil)
	a := s.clients.Load()
	chain := []*x509.Certificate{phone.Leaf, own.cert}
	state := &tls.ConnectionState{PeerCertificates: chain[:1], VerifiedChains: [][]*x509.Certificate{chain}}
	if err := a.admits(state, next.Add(-time.Second)); err != nil {
		t.Errorf("before: %v", err)
	}
	if err := a.admits(state, next.Add(time.Second)); refusedAs(err) != "stale_crl" || !strings.Contains(err.Error(), "is stale since") {
		t.Errorf("after: %v", err)
	}
	a.listed, a.lists = false, nil // no list was asked for
	if err := a.admits(state, next.Add(time.Second)); err != nil {
		t.Errorf("without lists: %v", err)
	}
}

// A CA between that is itself trusted is revoked by its own CA's list.
func TestRevokedIssuer(t *testing.T) {
	root := newPhoneCA(t, "Root", nil)
	middle := newPhoneCA(t, "Middle", root)
	phone := middle.issue(nil)
	both := writeCopy(t, root.file)
	rootPEM, _ := os.ReadFile(root.file)
	middlePEM, _ := os.ReadFile(middle.file)
	writeLists(t, both, rootPEM, middlePEM)
	crl := filepath.Join(t.TempDir(), "lists")
	cfg := config(t)
	cfg.Clients = Clients{CA: both, CRL: crl, TLS: Required}
	for _, revoked := range []bool{false, true} {
		var serials []*big.Int
		if revoked {
			serials = append(serials, middle.cert.SerialNumber)
		}
		writeLists(t, crl, middle.revokes(nil), root.revokes(nil, serials...))
		s, _ := mustSource(t, cfg, time.Now())
		client := clientOf(t, s, phone)
		if _, err := seenClient(t, s.ServerConfig(Required), client); (refusedAs(err) == "revoked") != revoked || (err != nil) != revoked {
			t.Errorf("issuer revoked %v: %v", revoked, err)
		}
	}
}

func TestUsers(t *testing.T) {
	uris := func(all ...string) (out []*url.URL) {
		for _, s := range all {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, u)
		}
		return out
	}
	named := func(name string) pkix.Name { return pkix.Name{CommonName: name} }
	domains := []string{"pbx.example.com", "203.0.113.7", "2001:db8::7"}
	for _, tc := range []struct {
		name string
		cert x509.Certificate
		want []string
	}{
		{"URI", x509.Certificate{URIs: uris("sip:1001@pbx.example.com")}, []string{"1001"}},
		{"URIs", x509.Certificate{URIs: uris("sip:1001@PBX.example.com", "sips:1002@pbx.example.com:5061;transport=tls", "sip:1001@pbx.example.com")}, []string{"1001", "1002"}},
		{"escapes", x509.Certificate{URIs: uris("sip:%31001@pbx.example.com")}, []string{"1001"}},
		{"address", x509.Certificate{URIs: uris("sip:1001@203.0.113.7", "sip:1002@[2001:db8::7]:5061")}, []string{"1001", "1002"}},
		{"password", x509.Certificate{URIs: uris("sip:1001:secret@pbx.example.com")}, []string{"1001"}},
		{"domain alone", x509.Certificate{URIs: uris("sip:pbx.example.com"), Subject: named("1001")}, nil},
		{"other scheme", x509.Certificate{URIs: uris("https://1001@pbx.example.com/"), Subject: named("1001")}, nil},
		{"other domain", x509.Certificate{URIs: uris("sip:1001@example.com", "sip:1001@pbx.example.com.evil.example"), Subject: named("1001")}, nil},
		{"e-mail", x509.Certificate{EmailAddresses: []string{"anna@pbx.example.com", "anna@example.com"}}, []string{"anna"}},
		{"DNS", x509.Certificate{DNSNames: []string{"1001.pbx.example.com", "pbx.example.com", "*.pbx.example.com", "a.b.pbx.example.com"}}, []string{"1001"}},
		{"common name", x509.Certificate{Subject: named("1001")}, []string{"1001"}},
		{"common name with domain", x509.Certificate{Subject: named("1001@pbx.example.com")}, []string{"1001"}},
		{"common name of elsewhere", x509.Certificate{Subject: named("1001@elsewhere.example")}, nil},
		{"common name beside an address", x509.Certificate{Subject: named("1001"), IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}, nil},
		{"common name beside names of other kinds", x509.Certificate{Subject: named("1001"), Extensions: []pkix.Extension{{Id: subjectAltName, Value: []byte{0x30, 4, 0x88, 2, 0x2a, 3}}}}, nil},
		{"nothing", x509.Certificate{}, nil},
		{"all kinds", x509.Certificate{URIs: uris("sip:1@pbx.example.com"), EmailAddresses: []string{"2@pbx.example.com"}, DNSNames: []string{"3.pbx.example.com"}, Subject: named("4")}, []string{"1", "2", "3"}},
	} {
		if got := users(&tc.cert, domains); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
