package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// edgeAlone is an office without a PBX, for what ends with the handshake.
func edgeAlone(t *testing.T, c peers.EdgeConfig) *office {
	t.Helper()
	l := peers.NewLab(t)
	return &office{Lab: l, t: t, edge: peers.StartEdge(l, c)}
}

// openssl shakes hands with the edge as OpenSSL does, the library of most phones.
// It returns the certificate that it got, if it got one, and what it said, which is
// an error if the handshake failed or the verification, by the CA file, did.
func (o *office) openssl(from *peers.Host, caFile string, args ...string) (*x509.Certificate, error) {
	o.t.Helper()
	args = append([]string{"s_client", "-connect", peers.EdgeOutside + ":5061", "-CAfile", caFile, "-no-CApath", "-no-CAstore", "-verify_return_error"}, args...)
	out, err := from.Command("openssl", args...).CombinedOutput() // without input, it hangs up after the handshake
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	block, _ := pem.Decode(out)
	if block == nil {
		return nil, err
	}
	cert, parseErr := x509.ParseCertificate(block.Bytes)
	return cert, errors.Join(err, parseErr)
}

// Without a word about certificates, the edge makes one that OpenSSL and baresip
// take for it, by name and by address, when they are given the file, and keeps it.
func TestSelfSigned(t *testing.T) {
	o := newOffice(t)
	other := o.Phone("other")
	first, err := o.openssl(other, o.edge.CAFile(), "-servername", "pbx.example.com", "-verify_hostname", "pbx.example.com")
	if err != nil {
		t.Fatalf("by name: %v", err)
	}
	if left := time.Until(first.NotAfter); left < 3600*24*time.Hour {
		t.Errorf("it ends in %s, want ten years", left)
	}
	if _, err := o.openssl(other, o.edge.CAFile(), "-noservername", "-verify_ip", peers.EdgeOutside); err != nil {
		t.Errorf("by address: %v", err)
	}
	if _, err := o.openssl(other, peers.NewIssuer(t).CAFile()); err == nil || !strings.Contains(err.Error(), "self-signed certificate") {
		t.Errorf("with the file of another CA: %v, want a refusal", err)
	}
	if _, err := o.openssl(other, o.edge.CAFile(), "-verify_hostname", "other.example.com"); err == nil || !strings.Contains(err.Error(), "hostname mismatch") {
		t.Errorf("for another name: %v, want a refusal", err)
	}
	baresip := o.phone("1001", 700)
	baresip.Dial("600")
	baresip.Event("CALL_ESTABLISHED", 10*time.Second)
	baresip.Hears(700, 10*time.Second)
	baresip.Hangup()
	baresip.Event("CALL_CLOSED", 5*time.Second)
	o.idle()

	o.edge.Stop()
	o.edge.Start()
	if again, err := o.openssl(other, o.edge.CAFile()); err != nil || !again.Equal(first) {
		t.Errorf("after a restart it is another: %v", err)
	}
}

// Each phone gets the certificate that carries the name it asks for, and whose key
// it can use; one that asks for no name, or for none that is here, gets that of
// the domain.
func TestSni(t *testing.T) {
	ca := peers.NewIssuer(t)
	second := ca.Pair("second.example.net", false)
	rsa := ca.Pair("pbx.example.com", true)
	ecdsa := ca.Pair("pbx.example.com", false)
	o := edgeAlone(t, peers.EdgeConfig{
		CAFile: ca.CAFile(),
		Extra: fmt.Sprintf("[tls]\ncert = [%q, %q, %q]\nkey = [%q, %q, %q]\n",
			second.Cert, rsa.Cert, ecdsa.Cert, second.Key, rsa.Key, ecdsa.Key),
	})
	host := o.Phone("phone")
	old := []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"}
	for _, tc := range []struct {
		name string
		args []string
		want int64 // serial; 0: none
	}{
		{"the domain", []string{"-servername", "pbx.example.com", "-verify_hostname", "pbx.example.com"}, ecdsa.Serial},
		{"the domain, TLS 1.2", []string{"-servername", "pbx.example.com", "-tls1_2"}, ecdsa.Serial},
		{"the domain, RSA alone", append([]string{"-servername", "pbx.example.com"}, old...), rsa.Serial},
		{"the domain, TLS 1.3, RSA signatures alone", []string{"-servername", "pbx.example.com", "-tls1_3", "-sigalgs", "RSA-PSS+SHA256"}, rsa.Serial},
		{"another", []string{"-servername", "second.example.net", "-verify_hostname", "second.example.net"}, second.Serial},
		{"another, RSA alone", append([]string{"-servername", "second.example.net"}, old...), 0},
		{"no name", []string{"-noservername"}, ecdsa.Serial},
		{"no name, RSA alone", append([]string{"-noservername"}, old...), rsa.Serial},
		{"an unknown name", []string{"-servername", "third.example.org"}, ecdsa.Serial},
		{"an unknown name, verified", []string{"-servername", "third.example.org", "-verify_hostname", "third.example.org"}, 0},
	} {
		cert, err := o.openssl(host, ca.CAFile(), tc.args...)
		switch {
		case tc.want == 0:
			if err == nil {
				t.Errorf("%s: gets serial %d, want none", tc.name, cert.SerialNumber)
			}
		case err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case cert.SerialNumber.Int64() != tc.want:
			t.Errorf("%s: gets serial %d, want %d", tc.name, cert.SerialNumber, tc.want)
		}
	}
	o.says("no shared cipher suite: the phone's are too old for tls.profile, or need an RSA certificate")
}

// A phone that sends no name gets the certificate of the domain, whichever is first in
// the file, and takes it by name and by address; it registers and calls.
func TestNoSni(t *testing.T) {
	ca := peers.NewIssuer(t)
	second, home := ca.Pair("second.example.net", false), ca.Pair("pbx.example.com", false)
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{
		CAFile: ca.CAFile(), Extra: fmt.Sprintf("[tls]\ncert = [%q, %q]\nkey = [%q, %q]\n", second.Cert, home.Cert, second.Key, home.Key),
	})
	host := o.Phone("phone")
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		cert, err := o.openssl(host, ca.CAFile(), "-noservername", version, "-verify_hostname", "pbx.example.com")
		if err != nil || cert.SerialNumber.Int64() != home.Serial {
			t.Errorf("%s without a name: %v, want serial %d", version, err, home.Serial)
		}
		cert, err = o.openssl(host, ca.CAFile(), "-servername", "second.example.net", version) // the control
		if err != nil || cert.SerialNumber.Int64() != second.Serial {
			t.Errorf("%s by the other name: %v, want serial %d", version, err, second.Serial)
		}
	}
	phone := peers.NewPhoneNameless(host, o.edge, "1001")
	if m := phone.Register("secret-1001", 600, ""); m.Status() != 200 {
		t.Fatalf("registration answered %s", m.Start)
	}
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)
	o.hangUp(d, media)
}

// A folder of certificates that is swapped as a whole, by the link to it, as
// Kubernetes does, is noticed.
func TestFileRotation(t *testing.T) {
	ca := peers.NewIssuer(t)
	dir := t.TempDir()
	use := func(p peers.Pair) {
		t.Helper()
		folder := filepath.Join(dir, fmt.Sprint(p.Serial))
		data := filepath.Join(dir, "..data")
		if err := errors.Join(os.Mkdir(folder, 0o755), os.Rename(p.Cert, filepath.Join(folder, "tls.crt")), os.Rename(p.Key, filepath.Join(folder, "tls.key")),
			os.Symlink(folder, data+".new"), os.Rename(data+".new", data)); err != nil {
			t.Fatal(err)
		}
	}
	first, second := ca.Pair("pbx.example.com", false), ca.Pair("pbx.example.com", true)
	use(first)
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := errors.Join(os.Symlink("..data/tls.crt", cert), os.Symlink("..data/tls.key", key)); err != nil {
		t.Fatal(err)
	}
	o := edgeAlone(t, peers.EdgeConfig{CAFile: ca.CAFile(), Extra: fmt.Sprintf("[tls]\ncert = %q\nkey = %q\n", cert, key)})
	host := o.Phone("phone")
	if got := o.edge.Serial(host); got != first.Serial {
		t.Fatalf("the edge begins with serial %d, want %d", got, first.Serial)
	}
	use(second)
	o.serves(host, second.Serial)
}

// A key that others on the machine can read is refused with what to type: while
// the edge runs, which goes on with what it has, and at a start.
func TestKeyPermissions(t *testing.T) {
	ca := peers.NewIssuer(t)
	pair := ca.Pair("pbx.example.com", false)
	o := edgeAlone(t, peers.EdgeConfig{CAFile: ca.CAFile(), Extra: fmt.Sprintf("[tls]\ncert = %q\nkey = %q\n", pair.Cert, pair.Key)})
	host := o.Phone("phone")
	chmod := func(mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(pair.Key, mode); err != nil {
			t.Fatal(err)
		}
	}
	words := fmt.Sprintf("tls.key: the private key is open to other users: %s has mode 0644; type: chmod 640 %[1]s", pair.Key)
	chmod(0o644)
	o.says(words)
	if got := o.edge.Serial(host); got != pair.Serial {
		t.Errorf("the edge serves serial %d, want %d still", got, pair.Serial)
	}
	o.edge.Stop()
	if said := o.edge.StartFails(); !strings.Contains(said, words) {
		t.Errorf("the edge ends with\n%s\nwant %s", said, words)
	}
	chmod(0o640)
	o.edge.Start()
	if got := o.edge.Serial(host); got != pair.Serial {
		t.Errorf("the edge serves serial %d, want %d", got, pair.Serial)
	}
}

// A desk phone that knows TLS 1.0 and RSA key exchange alone is served by the
// profile legacy, which warns at each start, and by no other; each profile serves
// what is newer.
func TestProfileLegacy(t *testing.T) {
	old := []string{"-tls1", "-cipher", "AES128-SHA:@SECLEVEL=0"}
	for _, tc := range []struct {
		profile             string
		old, fair, forwards bool // TLS 1.0; TLS 1.2; TLS 1.3
	}{{"legacy", true, true, true}, {"compatible", false, true, true}, {"modern", false, false, true}} {
		t.Run(tc.profile, func(t *testing.T) {
			o := edgeAlone(t, peers.EdgeConfig{Extra: fmt.Sprintf("[tls]\nprofile = %q\nself_signed_key = \"rsa\"\n", tc.profile)})
			host := o.Phone("phone")
			for _, phone := range []struct {
				args   []string
				served bool
			}{{old, tc.old}, {[]string{"-tls1_2"}, tc.fair}, {[]string{"-tls1_3"}, tc.forwards}} {
				if _, err := o.openssl(host, o.edge.CAFile(), phone.args...); (err == nil) != phone.served {
					t.Errorf("a phone with %q: %v, want it served: %v", phone.args, err, phone.served)
				}
			}
			for words, want := range map[string]bool{
				"tls.profile is legacy: ": tc.profile == "legacy",
				"no shared TLS version: the phone's are too old for tls.profile": !tc.old,
			} {
				if want {
					o.says(words)
				} else if strings.Contains(o.edgeLog(), words) {
					t.Errorf("the log says %q", words)
				}
			}
		})
	}
}
