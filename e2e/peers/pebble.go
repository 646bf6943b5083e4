package peers

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Pebble is Let's Encrypt's ACME server for tests, with its own DNS server. It
// checks names as a public CA does: over the network, on ports 80 and 443.
type Pebble struct {
	*Process
	lab    *Lab
	host   *Host
	config string
	own    *Issuer // of its HTTPS
	dns    *Process
}

// PebbleConfig chooses what differs from test to test.
type PebbleConfig struct {
	Lifetime time.Duration // of certificates; 0: three months
	EABKey   string        // accounts need this key in base64url, under the name "kid-1"
}

// NewPebble prepares one on a host of its own. Nothing runs before Start.
func NewPebble(l *Lab, c PebbleConfig) *Pebble {
	l.t.Helper()
	p := &Pebble{lab: l, host: l.Phone("ca"), config: filepath.Join(l.Dir, "pebble.json"), own: NewIssuer(l.t)}
	cert, key := p.own.Server(p.host.Addr)
	if c.Lifetime == 0 {
		c.Lifetime = 90 * 24 * time.Hour
	}
	settings := map[string]any{
		"listenAddress": p.addr(14000), "managementListenAddress": p.addr(15000),
		"certificate": cert, "privateKey": key, "httpPort": 80, "tlsPort": 443, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "default", "validityPeriod": int(c.Lifetime / time.Second)}},
	}
	if c.EABKey != "" {
		settings["externalAccountBindingRequired"] = true
		settings["externalAccountMACKeys"] = map[string]string{"kid-1": c.EABKey}
	}
	text, err := json.Marshal(map[string]any{"pebble": settings})
	if err == nil {
		err = os.WriteFile(p.config, text, 0o600)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// DNSControl is where its DNS server is told of records, by HTTP.
func (p *Pebble) DNSControl() string { return p.addr(8055) }

func (p *Pebble) addr(port int) string { return fmt.Sprintf("%s:%d", p.host.Addr, port) }

// program finds one that make peers has built.
func program(t testing.TB, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if dir := os.Getenv("SALLYPORT_CACHE"); dir != "" {
		cache, err = filepath.Dir(dir), nil
	}
	found, _ := filepath.Glob(filepath.Join(cache, "sallyport", "bin", "pebble-*", name))
	if err != nil || len(found) == 0 {
		t.Fatalf("find %s: it is not in %s; run make peers", name, cache)
	}
	return found[len(found)-1]
}

// Start runs it, where every name leads to the address; Stop of the Process ends
// it. Whatever it knew before, accounts and its root too, is forgotten.
func (p *Pebble) Start(names string) {
	p.lab.t.Helper()
	if p.dns == nil {
		p.dns = p.lab.start("pebble-dns", p.host.Command(program(p.lab.t, "pebble-challtestsrv"), "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
			"-management", p.DNSControl(), "-dnsserver", "127.0.0.1:8053", "-defaultIPv4", names, "-defaultIPv6", ""))
	}
	cmd := p.host.Command(program(p.lab.t, "pebble"), "-config", p.config, "-dnsserver", "127.0.0.1:8053")
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	p.Process = p.lab.start("pebble", cmd)
	Until(p.lab.t, 10*time.Second, "pebble to answer", func() bool {
		if !p.Running() {
			p.lab.t.Fatal("pebble ended")
		}
		_, err := p.get(15000, "/roots/0")
		return err == nil
	})
	root, err := p.get(15000, "/roots/0")
	if err == nil {
		err = os.WriteFile(p.Root(), root, 0o644)
	}
	if err != nil {
		p.lab.t.Fatalf("get pebble's root: %v", err)
	}
}

func (p *Pebble) get(port int, path string) ([]byte, error) {
	pem, err := os.ReadFile(p.own.CAFile())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	var body []byte
	err = p.host.Do(func() error {
		raw, err := net.DialTimeout("tcp", p.addr(port), 2*time.Second)
		if err != nil {
			return err
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(5 * time.Second))
		conn := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: p.host.Addr.String()})
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialTLS: func(string, string) (net.Conn, error) { return conn, nil }}}
		res, err := client.Get("https://" + p.addr(port) + path)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if body, err = io.ReadAll(res.Body); err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("get %s: %s", path, res.Status)
		}
		return err
	})
	return body, err
}

// Root is the file of what phones must trust.
func (p *Pebble) Root() string { return filepath.Join(p.lab.Dir, "pebble-root.pem") }

// OwnRoot is the file of what vouches for its HTTPS, and for no certificate that
// it issues.
func (p *Pebble) OwnRoot() string { return p.own.CAFile() }

// Settings are those of an edge's section [tls] that lead to it.
func (p *Pebble) Settings() string {
	return fmt.Sprintf("acme = true\nacme_ca = \"https://%s/dir\"\nacme_ca_root = %q\n", p.addr(14000), p.own.CAFile())
}
