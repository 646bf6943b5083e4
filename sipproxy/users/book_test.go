package users

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const realm = "pbx.example.com"

func anna(t *testing.T) Account {
	t.Helper()
	a := Account{Name: "a4b1c2d3e4f5", Extension: "100", PBXRealm: "asterisk"}
	a.SHA256, a.MD5 = A1(a.Name, realm, "outside")
	_, a.PBXMD5 = A1("100", "asterisk", "inside")
	return a
}

// RFC 7616 section 3.9.1, and what md5sum and sha256sum say of it.
func TestA1(t *testing.T) {
	sha, md := A1("Mufasa", "http-auth@example.org", "Circle of Life")
	if md != "3d78807defe7de2157e2b0b6573a855f" || sha != "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232" {
		t.Errorf("A1 is %s and %s", sha, md)
	}
}

func TestBook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users.toml")
	a := anna(t)
	b, err := (&Book{Realm: realm}).With(a)
	if err != nil {
		t.Fatal(err)
	}
	b, err = b.With(a) // in its own place
	if err != nil || len(b.Accounts) != 1 {
		t.Fatalf("%d accounts, %v", len(b.Accounts), err)
	}
	ben := a
	ben.Name, ben.Extension, ben.MD5 = "0ben", "101", ""
	if b, err = b.With(ben); err != nil || b.Accounts[0].Name != "0ben" {
		t.Fatalf("%+v, %v", b.Accounts, err)
	}
	if err := b.Write(file); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(file); info.Mode().Perm() != 0o600 {
		t.Errorf("a new file has mode %04o", info.Mode().Perm())
	}
	text, _ := os.ReadFile(file)
	for _, secret := range []string{"outside", "inside"} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("the file holds %q", secret)
		}
	}
	read, err := Load(file, realm)
	if err != nil {
		t.Fatal(err)
	}
	if got := read.Named("a4b1c2d3e4f5"); got == nil || *got != a || read.Owner("100") != got || read.Named("100") != nil || read.Owner("a4b1c2d3e4f5") != nil {
		t.Errorf("read %+v", got)
	}
	var none *Book
	if none.Named("x") != nil || none.Owner("x") != nil {
		t.Error("nobody is somebody")
	}
	without, was := read.Without("0ben")
	if _, again := without.Without("0ben"); !was || again || len(without.Accounts) != 1 {
		t.Errorf("removed: %v, and again: %v", was, again)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := without.Write(file); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(file); info.Mode().Perm() != 0o640 {
		t.Errorf("a file of mode 0640 becomes %04o", info.Mode().Perm())
	}
}

func TestFaults(t *testing.T) {
	good := func() string {
		a := anna(t)
		return "realm = \"" + realm + "\"\n[[user]]\nname = \"" + a.Name + "\"\nextension = \"100\"\nsha256 = \"" + a.SHA256 +
			"\"\nmd5 = \"" + a.MD5 + "\"\npbx_realm = \"asterisk\"\npbx_md5 = \"" + a.PBXMD5 + "\"\n"
	}()
	for _, tc := range []struct {
		name, text, says string
		mode             os.FileMode
	}{
		{name: "good", text: good},
		{name: "open to all", text: good, mode: 0o644, says: "chmod 640"},
		{name: "another realm", text: strings.Replace(good, realm, "old.example.com", 1), says: "add the users anew"},
		{name: "an unknown key", text: good + "passwort = \"geheim\"\n", says: `line 9: there is no key "user.passwort"`},
		{name: "no TOML", text: good + "secret geheim\n", says: "line 9"},
		{name: "a digest cut short", text: strings.Replace(good, "sha256 = \"", "sha256 = \"0", 1), says: "a digest is missing"},
		{name: "no extension", text: strings.Replace(good, `"100"`, `""`, 1), says: "is no extension"},
		{name: "a name with a blank", text: strings.Replace(good, "a4b1", "a b1", 1), says: "is no user name"},
		{name: "no PBX realm", text: strings.Replace(good, `"asterisk"`, `""`, 1), says: "pbx_realm is missing"},
		{name: "twice", text: good + good[strings.Index(good, "[["):], says: "is there twice"},
		{name: "one extension", text: good + strings.Replace(good[strings.Index(good, "[["):], "a4b1", "b4b1", 1), says: "have one extension"},
		{name: "an extension's name", text: good + strings.NewReplacer("a4b1c2d3e4f5", "100", `"100"`, `"101"`).Replace(good[strings.Index(good, "[["):]), says: "has the name of a4b1c2d3e4f5's extension"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "users.toml")
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if tc.mode != 0 {
				if err := os.Chmod(file, tc.mode); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Load(file, realm)
			if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
				t.Fatalf("error %v, want %q", err, tc.says)
			}
			if err != nil && (strings.Contains(err.Error(), "geheim") || !strings.HasPrefix(err.Error(), "users.file: ")) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), realm); err == nil || !strings.Contains(err.Error(), "sallyport user add") {
		t.Errorf("no file: %v", err)
	}
}

// A changed file is taken; one at fault is not, and what was stays.
func TestStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users.toml")
	b, err := (&Book{Realm: realm}).With(anna(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Write(file); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	s, err := Open(file, realm, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.Refresh()
	if said.Len() > 0 {
		t.Errorf("the same file is read again: %s", said.String())
	}
	ben := anna(t)
	ben.Name, ben.Extension = "ben", "101"
	more, err := b.With(ben)
	if err != nil {
		t.Fatal(err)
	}
	if err := more.Write(file); err != nil {
		t.Fatal(err)
	}
	if s.Refresh(); s.Book().Named("ben") == nil {
		t.Error("the new user is not there")
	}
	if err := os.WriteFile(file, []byte("realm"), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Chtimes(file, time.Now(), time.Now().Add(time.Second))
	said.Reset()
	if s.Refresh(); s.Book().Named("ben") == nil || !strings.Contains(said.String(), "users stay as they were") {
		t.Errorf("after a fault: %s", said.String())
	}
	said.Reset()
	if s.Refresh(); said.Len() > 0 {
		t.Errorf("the same fault is told again: %s", said.String())
	}
	_ = os.Remove(file)
	if s.Refresh(); s.Book().Named("ben") == nil {
		t.Error("without a file nobody is left")
	}
	if (*Store)(nil).Book() != nil {
		t.Error("no store has a book")
	}
}
