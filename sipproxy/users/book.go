package users

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Account is one user of the edge.
type Account struct {
	Name      string `toml:"name"`      // by which the phone registers
	Extension string `toml:"extension"` // what that is at the PBX
	// A1 of Name in the Book's realm, in hexadecimal. Without MD5, only phones that
	// know SHA-256 (RFC 8760) get in.
	SHA256 string `toml:"sha256"`
	MD5    string `toml:"md5,omitempty"`
	// A1 by MD5 of Extension in PBXRealm.
	PBXRealm string `toml:"pbx_realm"`
	PBXMD5   string `toml:"pbx_md5"`
}

// Book is all of them.
type Book struct {
	Realm    string    `toml:"realm"`
	Accounts []Account `toml:"user"`

	byName, byExtension map[string]*Account
}

// A1 returns the two digests of a secret.
func A1(user, realm, secret string) (sha, md string) {
	text := []byte(user + ":" + realm + ":" + secret)
	s, m := sha256.Sum256(text), md5.Sum(text)
	return hex.EncodeToString(s[:]), hex.EncodeToString(m[:])
}

// names are what a user part may be without escapes (RFC 3261 section 25.1), and
// short enough for any driver.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$`)

// Load reads a users file for a realm.
func Load(path, realm string) (*Book, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("users.file: %w; make it by `sallyport user add`", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("users.file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return nil, fmt.Errorf("users.file: %s has mode %04o, open to every user of this machine; type: chmod 640 %s", path, mode, path)
	}
	b := &Book{}
	if err := toml.NewDecoder(f).DisallowUnknownFields().Decode(b); err != nil {
		return nil, fmt.Errorf("users.file: %s: %s", path, described(err))
	}
	if err := b.index(realm); err != nil {
		return nil, fmt.Errorf("users.file: %s: %w", path, err)
	}
	return b, nil
}

// described is a decoder's error with its line, and without the line itself, which
// may hold a secret.
func described(err error) string {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		row, _ := strict.Errors[0].Position()
		return fmt.Sprintf("line %d: there is no key %q", row, strings.Join(strict.Errors[0].Key(), "."))
	}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		row, _ := at.Position()
		return fmt.Sprintf("line %d: %s", row, strings.TrimPrefix(at.Error(), "toml: "))
	}
	return err.Error()
}

// index checks a book and makes it ready for look-ups.
func (b *Book) index(realm string) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if b.Realm != realm {
		fault("its secrets are for realm %q, and edge.domain is %q: add the users anew", b.Realm, realm)
	}
	b.byName, b.byExtension = make(map[string]*Account, len(b.Accounts)), make(map[string]*Account, len(b.Accounts))
	for i := range b.Accounts {
		a := &b.Accounts[i]
		switch {
		case !names.MatchString(a.Name):
			fault("user %d: %q is no user name: letters, digits and .-_+, 64 at most", i+1, a.Name)
		case !names.MatchString(a.Extension):
			fault("user %s: %q is no extension", a.Name, a.Extension)
		case !isHex(a.SHA256, sha256.Size) || !isHex(a.PBXMD5, md5.Size) || a.MD5 != "" && !isHex(a.MD5, md5.Size):
			fault("user %s: a digest is missing or cut short; add the user anew", a.Name)
		case a.PBXRealm == "":
			fault("user %s: pbx_realm is missing; an Asterisk says \"asterisk\" unless told otherwise", a.Name)
		case b.byName[a.Name] != nil:
			fault("user %s is there twice", a.Name)
		case b.byExtension[a.Extension] != nil:
			fault("users %s and %s have one extension", b.byExtension[a.Extension].Name, a.Name)
		}
		b.byName[a.Name], b.byExtension[a.Extension] = a, a
	}
	for name, a := range b.byName {
		if other := b.byExtension[name]; other != nil && other != a {
			fault("user %s has the name of %s's extension", name, other.Name)
		}
	}
	return errors.Join(faults...)
}

func isHex(s string, size int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == size
}

// Named returns the account of a name, or nil.
func (b *Book) Named(name string) *Account {
	if b == nil {
		return nil
	}
	return b.byName[name]
}

// Owner returns the account that has an extension, or nil.
func (b *Book) Owner(extension string) *Account {
	if b == nil {
		return nil
	}
	return b.byExtension[extension]
}

// With returns a book with an account added, or in the place of the one of its name.
func (b *Book) With(a Account) (*Book, error) {
	list := slices.DeleteFunc(slices.Clone(b.Accounts), func(o Account) bool { return o.Name == a.Name })
	list = append(list, a)
	slices.SortFunc(list, func(a, b Account) int { return cmp.Compare(a.Name, b.Name) })
	out := &Book{Realm: b.Realm, Accounts: list}
	return out, out.index(b.Realm)
}

// Without returns a book with an account removed, and whether it was there.
func (b *Book) Without(name string) (*Book, bool) {
	list := slices.DeleteFunc(slices.Clone(b.Accounts), func(o Account) bool { return o.Name == name })
	return &Book{Realm: b.Realm, Accounts: list}, len(list) < len(b.Accounts)
}

// Write puts a book in a file's place, whole at any time. A new file is for its
// owner alone; one that was there keeps its mode and its owner.
func (b *Book) Write(path string) error {
	text, err := toml.Marshal(b)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	text = append([]byte("# Written by `sallyport user`. Who can read it can be each of these users.\n"), bytes.TrimLeft(text, "\n")...)
	f, err := os.CreateTemp(filepath.Dir(path), ".users-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // fails harmlessly once renamed
	_, err = f.Write(text)
	if before, fault := os.Stat(path); fault == nil {
		err = errors.Join(err, f.Chmod(before.Mode().Perm()), likeOwner(f, before))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
