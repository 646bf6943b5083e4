package tlsconf

import (
	"crypto/x509"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheck(t *testing.T) {
	later := start.AddDate(5, 0, 0)
	root, rootKey := ca(t, "Root", later, nil, nil)
	leaf, key := ca(t, "leaf", later, root, rootKey)
	stranger, strangerKey := pairOf(t, func(c *x509.Certificate) { c.DNSNames = []string{"www.example.org"} })
	ending, endingKey := pairOf(t, func(c *x509.Certificate) { c.NotAfter = start.AddDate(0, 0, 5) })
	later12, laterKey := pairOf(t, func(c *x509.Certificate) { c.NotAfter = start.AddDate(0, 0, 12) })
	expired, expiredKey := pairOf(t, func(c *x509.Certificate) { c.NotAfter = start.AddDate(0, 0, -1) })
	for _, tc := range []struct {
		name  string
		files []Files // none: self-signed
		note  string
		fault string
	}{
		{"self-signed, to be made", nil, "no certificate was made yet", ""},
		{"a CA of one's own", []Files{chainFiles(t, key, leaf, root)}, "knows no CA that leads to it", ""},
		{"without intermediates", []Files{chainFiles(t, key, leaf)}, "(the file holds 0 of them)", ""},
		{"out of order", []Files{chainFiles(t, key, leaf, leaf)}, "", "tls.cert: certificate 2 in "},
		{"other name", []Files{{stranger, strangerKey}}, "", "edge.domain: no certificate carries pbx.example.com"},
		{"one of two has the name", []Files{{stranger, strangerKey}, {ending, endingKey}}, "", "tls.cert: " + ending + " expires in 5 days"},
		{"ends in twelve days", []Files{{later12, laterKey}}, "expires in 12 days", ""},
		{"expired", []Files{{expired, expiredKey}}, "", "tls.cert: the certificate is outside its validity"},
		{"missing", []Files{{"/nonexistent", key2(t)}}, "", "tls.cert: read /nonexistent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := config(t)
			cfg.Files = tc.files
			notes, err := check(cfg, 7, start)
			if (err != nil) != (tc.fault != "") || err != nil && !strings.Contains(err.Error(), tc.fault) {
				t.Errorf("faults %v, want %q", err, tc.fault)
			}
			if !strings.Contains(strings.Join(notes, "\n"), tc.note) {
				t.Errorf("notes %q, want %q", notes, tc.note)
			}
		})
	}
}

func key2(t *testing.T) string {
	t.Helper()
	_, key := pairOf(t, nil)
	return key
}

func TestMakeSelfSigned(t *testing.T) {
	cfg := config(t)
	d, made, err := MakeSelfSigned(cfg, false)
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	for path, want := range map[string]os.FileMode{cfg.selfSignedKey(): 0o600, cfg.selfSignedCrt(): 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %04o", path, info.Mode(), err, want)
		}
	}
	again, made, err := MakeSelfSigned(cfg, false)
	if err != nil || made || again.Fingerprint != d.Fingerprint {
		t.Errorf("it is not kept: made %v, %v", made, err)
	}
	anew, made, err := MakeSelfSigned(cfg, true)
	if err != nil || !made || anew.Fingerprint == d.Fingerprint {
		t.Errorf("it is not made anew: made %v, %v", made, err)
	}
	crt, key := pairOf(t, nil)
	cfg.Files = []Files{{crt, key}}
	if _, _, err := MakeSelfSigned(cfg, true); err == nil || !strings.HasPrefix(err.Error(), "tls.cert: names "+crt) {
		t.Errorf("beside files of the operator's: %v", err)
	}
}

func TestViews(t *testing.T) {
	cfg := config(t)
	if views, err := Views(cfg); err != nil || views != nil {
		t.Errorf("before there is a certificate: %v, %v", views, err)
	}
	if _, _, err := MakeSelfSigned(cfg, false); err != nil {
		t.Fatal(err)
	}
	cfg.Profile = Modern
	views, err := Views(cfg)
	if err != nil || len(views) != 2*4 {
		t.Fatalf("%d views, %v; want those of four phones with a name and without", len(views), err)
	}
	for _, v := range views {
		if (v.Fault == nil) != (v.Phone == "TLS 1.3") {
			t.Errorf("under modern, a phone with %s that asks for %q gets %q, %v", v.Phone, v.Name, v.Suite, v.Fault)
		}
	}
}

// What root makes is the edge's own to read: it belongs to whom the state folder
// does. Who is not root owns both anyway.
func TestSelfSignedIsHandedOver(t *testing.T) {
	cfg := config(t)
	if os.Geteuid() == 0 {
		if err := os.Chown(cfg.StateDir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := MakeSelfSigned(cfg, false); err != nil {
		t.Fatal(err)
	}
	var want, got unix.Stat_t
	if err := unix.Stat(cfg.StateDir, &want); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{cfg.selfSignedDir(), cfg.selfSignedKey(), cfg.selfSignedCrt()} {
		if err := unix.Stat(path, &got); err != nil || got.Uid != want.Uid || got.Gid != want.Gid {
			t.Errorf("%s belongs to %d:%d (%v), want %d:%d", path, got.Uid, got.Gid, err, want.Uid, want.Gid)
		}
	}
}

// A link that whom the state folder belongs to left there leads nobody elsewhere.
func TestSelfSignedFollowsNoLink(t *testing.T) {
	cfg, elsewhere := config(t), t.TempDir()
	if err := os.Symlink(elsewhere, cfg.selfSignedDir()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := MakeSelfSigned(cfg, false); err == nil || !strings.Contains(err.Error(), "edge.state_dir: keep the self-signed certificate: ") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
		t.Errorf("elsewhere there is %v (%v)", left, err)
	}
}
