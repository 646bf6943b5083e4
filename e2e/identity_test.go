package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A phone is one thing outside and another inside: it registers and calls by a name
// of the edge's own, with a password of the edge's own, and Asterisk has an extension
// with its old password, which challenges as ever. Nothing that the phone is told
// names either.
func TestEdgeIdentity(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users.toml")
	begin := func() { // there is no user yet
		if err := os.WriteFile(file, []byte("realm = \"pbx.example.com\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	for _, version := range []int{16, 22} {
		t.Run(fmt.Sprintf("Asterisk %d", version), func(t *testing.T) {
			begin()
			cert := ""
			o := newOfficeWith(t, peers.AsteriskConfig{Version: version}, peers.EdgeConfig{
				Extra:  fmt.Sprintf("[sip]\ntls_client_cert = \"optional\"\n[users]\nfile = %q\nfor = \"[0-9]{4}\"\n", file),
				Before: func(e *peers.Edge) { cert, _ = e.Device(outsideName) },
			})
			o.hasAnIdentity(file, cert)
		})
	}
}

const outsideName, outsidePassword = "a4b1c2d3e4f5", "kitten-9-tractor"

// addUser has 1001 and 1002 be somebody else outside.
func (o *office) addUser(name, extension string) {
	o.t.Helper()
	own, inside := filepath.Join(o.Dir, "own"), filepath.Join(o.Dir, "inside")
	for path, text := range map[string]string{own: outsidePassword, inside: "secret-" + extension} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			o.t.Fatal(err)
		}
	}
	o.edge.Run("user", "add", name, "-extension", extension, "-password-file", own, "-pbx-password-file", inside)
}

func (o *office) hasAnIdentity(file, cert string) {
	t := o.t
	o.addUser(outsideName, "1001")
	o.addUser("ben", "1002")
	o.edge.WaitLog(`users read anew.*"users":2`, 20*time.Second)
	anna, ben := o.script(outsideName), o.script("ben")
	for _, p := range []*peers.Phone{anna, ben} {
		if m := p.Register(outsidePassword, 600, ""); m.Status() != 200 {
			t.Fatalf("%s's registration was answered %s", p.User, m.Start)
		}
	}
	if o.pbx.Contact("1001") == "" || o.pbx.Contact("1002") == "" {
		t.Fatal("Asterisk has not got the extensions")
	}
	// The ways in that there must not be: the extension with its own password, the
	// account with it, a wrong password.
	stranger := o.Phone("stranger")
	for user, password := range map[string]string{"1001": "secret-1001", outsideName: "secret-1001", "1003": "secret-1003"} {
		p := peers.NewPhone(stranger, o.edge, user)
		if m := p.Register(password, 600, ""); m.Status() != 403 {
			t.Errorf("%s with %s got in: %s", user, password, m.Start)
		}
		p.Close()
	}

	media := anna.NewMedia(suite)
	d := o.echo(anna, media, 700)
	media.Hears(700, 10*time.Second)
	media.Direction = "sendonly"
	o.change(d, media)
	media.Direction = "sendrecv"
	o.change(d, media)
	o.speaks(media, 900)
	o.hangUp(d, media)

	// With a certificate for its name a phone needs no password at all, and is nobody
	// else.
	keyed := peers.NewPhoneWith(stranger, o.edge, outsideName, cert)
	if m := keyed.Query(); m.Status() != 200 {
		t.Errorf("a phone with a certificate was answered %s", m.Start)
	}
	keyed.User = "ben"
	if m := keyed.Query(); m.Status() != 403 {
		t.Errorf("in another's name it was answered %s", m.Start)
	}
	keyed.User = outsideName
	if m := keyed.Register("", 0, ""); m.Status() != 200 {
		t.Errorf("unregistering was answered %s", m.Start)
	}
	keyed.Close()
	if m := anna.Register(outsidePassword, 600, ""); m.Status() != 200 { // one contact is all that chan_sip keeps
		t.Fatalf("registering again was answered %s", m.Start)
	}

	// They call one another by extension, as their users do.
	a, b := anna.NewMedia(suite), ben.NewMedia(suite)
	called := peers.Meanwhile(o.t, func() *peers.Dialog { return o.call(anna, "1002", a, 700) })
	o.answer(ben, b, 1300)
	d = called()
	hear(a, b)
	o.bye(d, a)
	o.hungUp(ben, b)
	o.idle()

	for _, told := range []string{`\b1001@`, `"1001"`, `secret-1001`} {
		if found := regexp.MustCompile(told).FindString(anna.Heard()); found != "" {
			t.Errorf("the phone was told %s", found)
		}
	}
	if !strings.Contains(anna.Heard(), outsideName) {
		t.Error("the control: what it was told has not even its own name")
	}
	if !strings.Contains(ben.Heard(), "1001@") { // he sees who calls
		t.Error("who is called is not told who calls")
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), outsidePassword) || strings.Contains(string(text), "secret-1001") {
		t.Errorf("the users file has a password in clear, or can't be read: %v", err)
	}
	if m := anna.Register(outsidePassword, 0, ""); m.Status() != 200 || o.pbx.Contact("1001") != "" {
		t.Errorf("unregistering was answered %s; Asterisk has %q", m.Start, o.pbx.Contact("1001"))
	}
}
