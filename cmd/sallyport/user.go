package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sallyport/sallyport/sipproxy/users"
)

// userCommands change the users file. The edge that runs takes a change by itself.
func userCommands() []command {
	return []command{
		{"add", "NAME -extension EXT [-config FILE] ...", "let a phone be an extension under another name, or change one (-h tells more)", userAdd},
		{"list", "[-config FILE]", "who there is, and as which extension", userList},
		{"remove", "NAME [-config FILE]", "let it be nobody", userRemove},
	}
}

// usersFile finds the file that the configuration names, and its realm.
func usersFile(c console, path string) (file, realm string, status int) {
	cfg, doc := load(path)
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return "", "", exitFault
	}
	if cfg.Users.File == "" {
		doc.add("users.file", "is not set; name a file, like \"/etc/sallyport/users.toml\"")
		report(c.err, doc.sorted())
		return "", "", exitFault
	}
	return cfg.Users.File, cfg.Edge.Domain, exitOK
}

func userAdd(c console, args []string) int {
	flags := newFlags("user add")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	extension := flags.String("extension", "", "what the phone is at the PBX, `EXT`")
	pbxRealm := flags.String("pbx-realm", "asterisk", "the `REALM` that the PBX names when it asks for a password")
	pbxFile := flags.String("pbx-password-file", "", "`FILE` whose first line is the extension's password at the PBX (default: it is read from standard input)")
	ownFile := flags.String("password-file", "", "`FILE` whose first line is the phone's password here (default: one is made, and printed)")
	modern := flags.Bool("sha256-only", false, "let the phone in by SHA-256 alone (RFC 8760), not by MD5")
	name, status, ok := parseNamed(c, flags, args)
	if !ok {
		return status
	}
	if *extension == "" {
		fmt.Fprintln(c.err, "sallyport user add: -extension is missing: what is the phone at the PBX?")
		return exitUsage
	}
	file, realm, status := usersFile(c, *path)
	if status != exitOK {
		return status
	}
	own, made, err := ownPassword(*ownFile)
	if err != nil {
		return userFault(c, err)
	}
	inside, err := pbxPassword(c, *pbxFile, *extension)
	if err != nil {
		return userFault(c, err)
	}
	a := users.Account{Name: name, Extension: *extension, PBXRealm: *pbxRealm}
	a.SHA256, a.MD5 = users.A1(name, realm, own)
	if *modern {
		a.MD5 = ""
	}
	_, a.PBXMD5 = users.A1(*extension, *pbxRealm, inside)
	if err := changeUsers(file, realm, func(b *users.Book) (*users.Book, error) { return b.With(a) }); err != nil {
		return userFault(c, err)
	}
	fmt.Fprintf(c.out, "the phone registers at %s as %s", realm, name)
	if made {
		fmt.Fprintf(c.out, ", with the password %s (it is not kept: write it down now)", own)
	}
	fmt.Fprintf(c.out, "; it is %s at the PBX\n", *extension)
	return exitOK
}

// changeUsers writes the file anew; without one it begins one.
func changeUsers(file, realm string, change func(*users.Book) (*users.Book, error)) error {
	b, err := users.Load(file, realm)
	if errors.Is(err, os.ErrNotExist) {
		b, err = &users.Book{Realm: realm}, nil
	}
	if err != nil {
		return err
	}
	if b, err = change(b); err != nil {
		return fmt.Errorf("users.file: %s: %w", file, err)
	}
	return b.Write(file)
}

// ownPassword is the phone's: given, or made of 130 random bits.
func ownPassword(file string) (password string, made bool, err error) {
	if file == "" {
		return strings.ToLower(rand.Text()), true, nil
	}
	password, err = passwordIn(file)
	return password, false, err
}

// pbxPassword is the extension's, from a file or asked for.
func pbxPassword(c console, file, extension string) (string, error) {
	if file != "" {
		return passwordIn(file)
	}
	fmt.Fprintf(c.err, "password of %s at the PBX: ", extension)
	line, err := bufio.NewReader(c.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the extension's password: %w", err)
	}
	return password(line, "standard input")
}

func passwordIn(file string) (string, error) {
	line, err := firstLine(file)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return password(line, file)
}

// password is a line without its end, which must not be empty.
func password(line, from string) (string, error) {
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", fmt.Errorf("the first line of %s is empty, and no password; put it there", from)
	}
	return line, nil
}

func userList(c console, args []string) int {
	flags := newFlags("user list")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	file, realm, status := usersFile(c, *path)
	if status != exitOK {
		return status
	}
	b, err := users.Load(file, realm)
	if err != nil {
		return userFault(c, err)
	}
	for _, a := range b.Accounts {
		by := "SHA-256 or MD5"
		if a.MD5 == "" {
			by = "SHA-256"
		}
		fmt.Fprintf(c.out, "%s is %s at the PBX, and logs in by %s\n", a.Name, a.Extension, by)
	}
	return exitOK
}

func userRemove(c console, args []string) int {
	flags := newFlags("user remove")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	name, status, ok := parseNamed(c, flags, args)
	if !ok {
		return status
	}
	file, realm, status := usersFile(c, *path)
	if status != exitOK {
		return status
	}
	err := changeUsers(file, realm, func(b *users.Book) (*users.Book, error) {
		without, was := b.Without(name)
		if !was {
			return nil, fmt.Errorf("there is no user %s; `sallyport user list` tells who there is", name)
		}
		return without, nil
	})
	if err != nil {
		return userFault(c, err)
	}
	fmt.Fprintf(c.out, "%s is removed; calls that are up go on, and its registration ends with its next refresh\n", name)
	return exitOK
}

func userFault(c console, err error) int {
	fmt.Fprintf(c.err, "sallyport user: %v\n", err)
	return exitFault
}
