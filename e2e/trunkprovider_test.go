package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// subscriber is a lab with foo's edge and PBX, which have an account at a provider. That
// has two servers, whose certificates are by a CA, and which ask for a password, but for
// no certificate.
type subscriber struct {
	*peers.Sites
	t             *testing.T
	phone         *peers.Phone
	pbx           *peers.Asterisk
	edge          *peers.Edge
	first, second *peers.Asterisk
	password      string // file
}

// account is the user of foo's at the provider.
const account = "1001"

func newSubscriber(t *testing.T) *subscriber {
	t.Helper()
	s := &subscriber{Sites: peers.NewSites(t, peers.SitesConfig{}), t: t}
	ca := peers.NewIssuer(t)
	start := func(h *peers.Host) *peers.Asterisk {
		cert := ca.Pair(s.Bar.Domain, false)
		h.Resolves(peers.Zone{})
		return peers.StartAsterisk(s.Lab, peers.AsteriskConfig{
			Version: 22, On: h, TLS: &peers.PBXTLS{At: netip.AddrPortFrom(h.Addr, 5061), Cert: cert.Cert, Key: cert.Key, CA: ca.CAFile()},
			Endpoint: "media_encryption=sdes\n", AOR: "max_contacts=1\nremove_existing=yes\nminimum_expiration=5\nmaximum_expiration=8\n",
			Trunk: &peers.Trunk{Account: account, Digit: "1", Own: "2"},
		})
	}
	other := s.Stranger("sip2", "192.0.2.2/24")
	s.first, s.second = start(s.Bar.Edge), start(other)
	s.Foo.Edge.Resolves(peers.Zone{
		Addrs: map[string]netip.Addr{"sip1.example.com": s.Bar.Public, "sip2.example.com": other.Addr},
		Services: map[string][]peers.Service{"_sips._tcp." + s.Bar.Domain: {
			{Priority: 20, Host: "sip2.example.com", Port: 5061}, {Priority: 10, Host: "sip1.example.com", Port: 5061},
		}},
	})
	s.password = filepath.Join(s.Dir, "password")
	s.knows("secret-" + account)
	s.edge = s.Foo.StartEdge(peers.EdgeConfig{Extra: fmt.Sprintf("[[trunk]]\nname = \"bar\"\npeer = %q\nidentity = [%q]\nca = %q\nlisten = %q\nregister = true\nuser = %q\npassword_file = %q\nregister_interval = \"1m\"\n",
		s.Bar.Domain, s.Bar.Domain, ca.CAFile(), s.Foo.Trunk, account, s.password)})
	s.pbx = s.Foo.StartAsterisk(s.Bar, s.Foo.Trunk, peers.AsteriskConfig{})
	s.edge.HasPBX()
	s.phone = s.Foo.Phone("1001", 5070)
	if m := s.phone.Register("secret-1001", 600, ""); m.Status() != 200 {
		t.Fatalf("registration at foo was answered %s", m.Start)
	}
	return s
}

// knows writes the password that the edge has.
func (s *subscriber) knows(password string) {
	s.t.Helper()
	if err := os.WriteFile(s.password, []byte(password+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// at waits until the account is registered with one server of the provider.
func (s *subscriber) at(server *peers.Asterisk) {
	s.t.Helper()
	peers.Until(s.t, 20*time.Second, "the registration", func() bool { return server.Contact(account) != "" })
	peers.Until(s.t, 20*time.Second, "foo's PBX to reach the provider", func() bool { return s.pbx.Reaches("bar") })
}

// out has foo's phone call the provider's echo.
func (s *subscriber) out(hz float64) {
	s.t.Helper()
	m := s.phone.NewPlainMedia()
	d := s.phone.Call("2600", m.Offer())
	ok := d.Await("INVITE", 200)
	d.Ack(ok, "")
	m.Start(ok.Body, hz)
	m.Hears(hz, 10*time.Second)
	if m := d.Request("BYE", ""); m.Status() != 200 {
		s.t.Errorf("BYE was answered %s", m.Start)
	}
	m.Stop()
}

// in has the provider call the account, which is foo's phone.
func (s *subscriber) in(server *peers.Asterisk, hz float64) {
	s.t.Helper()
	server.Originate(account, "610")
	inv := s.phone.Expect("INVITE", 10*time.Second)
	m := s.phone.NewPlainMedia()
	s.phone.Answer(inv, 200, "OK", m.Accept(inv.Body))
	s.phone.Expect("ACK", 10*time.Second)
	m.Start(inv.Body, hz)
	m.Hears(1004, 10*time.Second)
	server.Hears("heard", hz)
	server.Must("channel request hangup all")
	s.phone.Answer(s.phone.Expect("BYE", 10*time.Second), 200, "OK", "")
	m.Stop()
}

// An account at a provider, over one connection, which is ours.
func TestTrunkProviderRegister(t *testing.T) {
	s := newSubscriber(t)
	s.at(s.first)
	capture, inside := s.Net.Capture("provider"), peers.StartCapture(s.Foo.Edge, "inside")
	s.out(700)
	s.in(s.first, 800)
	inside.Stop()
	s.edge.WaitLog(`"dir":"in","peer":"203.0.113.1:5061","start":"SIP/2.0 401 Unauthorized","cseq":"\d+ INVITE"`, time.Second)
	if n := inside.Count(fmt.Sprintf("ip.src == %s && (sip.Status-Code == 401 || sip.Status-Code == 407)", s.Foo.Trunk.Addr())); n != 0 {
		t.Errorf("foo's PBX is challenged %d times", n)
	}
	s.edge.WaitLog(`"dir":"in","peer":"203.0.113.1:5061","start":"SIP/2.0 200 OK","cseq":"10 REGISTER"`, 20*time.Second) // the third, each challenged

	s.first.Stop()
	s.at(s.second)
	s.out(900)
	s.in(s.second, 1000)
	s.first.Start()
	s.second.Kill()
	s.at(s.first)
	s.in(s.first, 1100)
	capture.Stop()
	for _, what := range capture.Clear(peers.Spoken(700), peers.Spoken(1100), "1001@", "2600@") {
		t.Errorf("in clear between foo and the provider: %s", what)
	}

	s.edge.Stop()
	s.first.WaitLog("Removed contact .* from AOR '"+account+"' due to request", 5*time.Second)
	s.knows("guess")
	s.edge.Start()
	s.edge.WaitLog(`"level":"WARN","msg":"not registered with the provider; trying on".*the provider does not take user and password`, 10*time.Second)
	time.Sleep(3 * time.Second)
	log, _ := os.ReadFile(s.edge.Log)
	if n := strings.Count(string(log), "does not take user and password"); n > 2 { // of the registration, and of the PBX's check
		t.Errorf("the log tells %d times that the password is wrong", n)
	}
	if n := strings.Count(string(log), `"dir":"out","peer":"203.0.113.1:5061","start":"REGISTER`); n != 2 {
		t.Errorf("with a wrong password %d REGISTERs are sent", n)
	}
	if contact := s.first.Contact(account); contact != "" {
		t.Errorf("with a wrong password the account is at %s", contact)
	}
}
