package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/tlsconf"
)

// parseNamed reads the arguments of a command about one thing: its name comes first
// or last.
func parseNamed(c console, flags *flag.FlagSet, args []string) (name string, status int, ok bool) {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if n := len(args) - 1; n >= 0 && !strings.HasPrefix(args[n], "-") && (n == 0 || !takesValue(flags, args[n-1])) {
		name, args = args[n], args[:n]
	}
	if status, ok = parse(c, flags, args); ok && name == "" {
		fmt.Fprintf(c.err, "sallyport %s: the name is missing\n", flags.Name())
		return "", exitUsage, false
	}
	return name, status, ok
}

// takesValue tells whether an argument is a flag that the next one belongs to.
func takesValue(flags *flag.FlagSet, arg string) bool {
	f := flags.Lookup(strings.TrimLeft(arg, "-"))
	if f == nil || !strings.HasPrefix(arg, "-") {
		return false
	}
	boolean, ok := f.Value.(interface{ IsBoolFlag() bool })
	return !ok || !boolean.IsBoolFlag()
}

func certDevice(c console, args []string) int {
	flags := newFlags("cert device")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	out := flags.String("out", ".", "`FOLDER` for NAME.pem and NAME.p12, which must not be there yet")
	user := flags.String("user", "", "the `USER` whom the phone may be (default NAME)")
	days := flags.Int("days", 730, "the certificate holds for `N` days")
	key := flags.String("key", string(tlsconf.ECDSA), "kind of `KEY`: ecdsa, or rsa for old phones")
	legacy := flags.Bool("p12-legacy", false, "encrypt NAME.p12 as phones of before 2020 or so need it, with 3DES and SHA-1")
	passphrase := flags.String("passphrase-file", "", "`FILE` whose first line is the passphrase of NAME.p12 (default: one is made, and printed)")
	name, status, ok := parseNamed(c, flags, args)
	if !ok {
		return status
	}
	_, t, doc := certConfig(*path)
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return exitFault
	}
	fail := func(err error) int {
		doc.addError(err)
		report(c.err, doc.sorted())
		return exitFault
	}
	secret, given, err := deviceSecret(*passphrase)
	if err != nil {
		return fail(err)
	}
	issued, files, err := issueDevice(t, tlsconf.DeviceRequest{Name: name, User: *user, Days: *days, Key: tlsconf.KeyType(*key)}, *out, secret, *legacy)
	if err != nil {
		return fail(err)
	}
	row := func(name, format string, args ...any) {
		fmt.Fprintf(c.out, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(c.out, "issued; put one of the files into the phone, and remove both here:\n")
	row("files", "%s, with its key unencrypted, or", files[0])
	row("", "%s", files[1])
	if given {
		row("passphrase", "that of %s", *passphrase)
	} else {
		row("passphrase", "%s  (is shown this once)", secret)
	}
	row("user", "%s, and nobody else", issued.User)
	row("serial", "%s", issued.Serial)
	row("valid", "until %s", issued.NotAfter.UTC().Format(time.DateOnly))
	if !t.Clients.Asked() {
		row("", "note: no listener asks for it yet; set sip.tls_client_cert to \"optional\" or \"required\"")
	}
	return exitOK
}

// deviceSecret is the passphrase that a file gives, or a new one: 80 bits, in letters
// and digits that can be typed into a phone.
func deviceSecret(file string) (secret string, given bool, err error) {
	if file == "" {
		return rand.Text()[:16], false, nil
	}
	if secret, err = firstLine(file); err != nil {
		return "", true, fmt.Errorf("read the passphrase: %w", err)
	}
	if len(secret) < tlsconf.MinPassphrase {
		return "", true, fmt.Errorf("read the passphrase: the first line of %s has %d bytes; give %d at least, or leave the file out and one is made", file, len(secret), tlsconf.MinPassphrase)
	}
	return secret, true, nil
}

// firstLine is that of a file with a secret.
func firstLine(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, rootCause(err))
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

// issueDevice makes the files first, and a certificate only if nothing is there
// that they would overwrite.
func issueDevice(t tlsconf.Config, r tlsconf.DeviceRequest, folder, secret string, legacy bool) (issued tlsconf.IssuedDevice, files []string, err error) {
	if r.Name != filepath.Base(r.Name) {
		return issued, nil, fmt.Errorf("the name %q is a path; give a name, and the folder by -out", r.Name)
	}
	var open []*os.File
	defer func() {
		for _, f := range open {
			err = errors.Join(err, f.Close())
			if err != nil {
				_ = os.Remove(f.Name())
			}
		}
	}()
	for _, ending := range []string{".pem", ".p12"} {
		f, err := os.OpenFile(filepath.Join(folder, r.Name+ending), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			return issued, nil, fmt.Errorf("%s is there already; move it away, or name another folder by -out", filepath.Join(folder, r.Name+ending))
		}
		if err != nil {
			return issued, nil, fmt.Errorf("keep the certificate: %w", err)
		}
		open, files = append(open, f), append(files, f.Name())
	}
	if issued, err = tlsconf.IssueDevice(t, r); err != nil {
		return issued, nil, err
	}
	text, err := issued.PEM()
	if err == nil {
		_, err = open[0].Write(text)
	}
	var packed []byte
	if err == nil {
		packed, err = issued.PKCS12(secret, legacy)
	}
	if err == nil {
		_, err = open[1].Write(packed)
	}
	if err != nil {
		return issued, nil, fmt.Errorf("keep the certificate: %w; revoke it, it was issued: sallyport cert revoke %s", err, issued.Serial)
	}
	return issued, files, nil
}

func certDevices(c console, args []string) int {
	flags := newFlags("cert devices")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	_, t, doc := certConfig(*path)
	var list []tlsconf.Device
	if len(doc.faults) == 0 {
		var err error
		list, err = tlsconf.Devices(t)
		doc.addError(err)
	}
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return exitFault
	}
	for _, d := range list {
		state := "until " + d.NotAfter.UTC().Format(time.DateOnly)
		switch {
		case !d.Revoked.IsZero():
			state = "revoked " + d.Revoked.UTC().Format(time.DateOnly)
		case time.Now().After(d.NotAfter):
			state = "expired " + d.NotAfter.UTC().Format(time.DateOnly)
		}
		fmt.Fprintf(c.out, "%-20s user %-20s %-20s %s\n", d.Name, d.User, state, d.Serial)
	}
	if len(list) == 0 {
		fmt.Fprintln(c.out, "none were issued")
	}
	return exitOK
}

func certRevoke(c console, args []string) int {
	flags := newFlags("cert revoke")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	name, status, ok := parseNamed(c, flags, args)
	if !ok {
		return status
	}
	_, t, doc := certConfig(*path)
	var d tlsconf.Device
	if len(doc.faults) == 0 {
		var err error
		d, err = tlsconf.RevokeDevice(t, name)
		doc.addError(err)
	}
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return exitFault
	}
	fmt.Fprintf(c.out, "revoked: %s, user %s, serial %s; an edge that runs cuts the phone off within seconds\n", d.Name, d.User, d.Serial)
	return exitOK
}
