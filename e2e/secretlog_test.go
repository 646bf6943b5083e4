package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// fragments are what a secret of a file would be known by in a log: pieces of its
// PEM, and of its bytes in base64, in hexadecimal, and as Go prints them.
func fragments(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(file) == ".json" {
		var account struct{ Key string }
		if err := json.Unmarshal(data, &account); err != nil {
			t.Fatalf("read %s: %v", file, err)
		}
		data = []byte(account.Key)
	}
	var out []string
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			for line := range strings.Lines(string(pem.EncodeToMemory(block))) {
				if line = strings.TrimSpace(line); len(line) >= 16 && !strings.HasPrefix(line, "-----") {
					out = append(out, line[:16], line[len(line)-16:])
				}
			}
			out = append(out, pieces(block.Bytes)...)
		}
	}
	return out
}

// pieces are those of bytes that tell one secret from another: not the head that all
// keys of a kind share.
func pieces(b []byte) []string {
	var out []string
	for at := min(40, len(b)/2); at+12 <= len(b); at += 12 {
		piece := b[at : at+12]
		out = append(out, hex.EncodeToString(piece), base64.StdEncoding.EncodeToString(piece), strings.Trim(fmt.Sprintf("%d", piece), "[]"), fmt.Sprintf("%q", string(piece)))
	}
	return out
}

// leaked are the secrets that a log holds a piece of, by file.
func leaked(log string, secrets map[string][]string) []string {
	var out []string
	for name, all := range secrets {
		for _, f := range all {
			if strings.Contains(log, f) {
				out = append(out, name)
				break
			}
		}
	}
	return out
}

// stateSecrets are those of every file in the edge's state folder that holds any.
func (o *office) stateSecrets(secrets map[string][]string) {
	o.t.Helper()
	err := filepath.WalkDir(o.edge.State, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		switch name := d.Name(); {
		case strings.HasSuffix(name, ".pem"), strings.HasSuffix(name, ".key"), strings.HasSuffix(name, "-account.json"):
			if secrets[path] = append(secrets[path], fragments(o.t, path)...); len(secrets[path]) == 0 {
				o.t.Errorf("no secret is found in %s", path)
			}
		case name == "contacts.secret":
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			secrets[path] = append(append(secrets[path], pieces(data)...), string(data[:16]))
		}
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

// No key of the edge, of its account with the CA or of a phone, and no passphrase, is
// in its log at level debug, whatever happens to the certificates.
func TestKeysStayOutOfLogs(t *testing.T) {
	secrets := make(map[string][]string)
	l := peers.NewLab(t)
	ca := peers.NewPebble(l, peers.PebbleConfig{})
	ca.Start(peers.EdgeOutside)
	o := &office{Lab: l, t: t}
	device := func(e *peers.Edge, name string) string {
		file, passphrase := e.Device(name)
		secrets[file] = fragments(t, file)
		secrets["passphrase of "+name] = []string{passphrase}
		return file
	}
	var file string
	o.edge = peers.StartEdge(l, peers.EdgeConfig{
		CAFile: ca.Root(), Extra: "[tls]\n" + ca.Settings() + "acme_http = \":80\"\n[sip]\ntls_client_cert = \"optional\"\n",
		Before: func(e *peers.Edge) { file = device(e, "1001") },
	})
	o.fetched(1)
	o.stateSecrets(secrets) // before what follows replaces them
	host := o.Phone("phone")
	knock := func(file string) {
		t.Helper()
		if _, err := peers.NewResumer(host, o.edge, file, false).Knock(); err != nil {
			t.Errorf("with %q: %v", file, err)
		}
	}
	knock(file)
	o.edge.Run("cert", "renew")
	o.fetched(2)
	device(o.edge, "1002")
	o.edge.Run("cert", "revoke", "1002")
	o.says("1 revoked")
	o.stateSecrets(secrets)
	kept, _ := filepath.Glob(filepath.Join(o.edge.State, "tls", "acme-*.pem"))
	if len(kept) != 1 {
		t.Fatalf("kept are %q, want one certificate", kept)
	}
	whole, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, spoilt := range [][]byte{whole[:len(whole)-100], []byte(strings.ReplaceAll(string(whole), "CERTIFICATE", "PRIVATE KEY"))} {
		refused := o.edge.Metric(`sallyport_certificate_reloads_total{result="refused"}`)
		if err := os.WriteFile(kept[0], spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		o.edge.Signal(syscall.SIGHUP)
		peers.Until(t, 10*time.Second, "a torn file to be refused", func() bool {
			return o.edge.Metric(`sallyport_certificate_reloads_total{result="refused"}`) > refused
		})
	}
	if err := os.WriteFile(kept[0], whole, 0o600); err != nil {
		t.Fatal(err)
	}
	ca.Stop()
	o.edge.Run("cert", "renew")
	o.says("no certificate from the CA; the one in force goes on")
	knock("")
	if len(secrets) < 9 { // three keys of the state folder, the account's, the token secret, two phones' and their passphrases
		t.Errorf("only %d secrets were looked for", len(secrets))
	}
	log := o.edgeLog()
	for _, name := range leaked(log, secrets) {
		t.Errorf("a piece of %s is in the log", name)
	}
	for name, all := range secrets { // the control: each is found where it is
		for _, f := range all {
			if found := leaked(log+"\n"+f+"\n", map[string][]string{name: all}); len(found) != 1 {
				t.Fatalf("a piece of %s in the log is not found", name)
			}
		}
	}
}
