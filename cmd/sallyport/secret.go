package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	secretFile = "contacts.secret"
	secretSize = 32 // bytes
)

// loadSecret returns the key of the tokens that stand for phones at the PBX,
// and makes it at the first start. Who has it can guess phones' contacts, hence
// the mode; who loses it leaves a stale contact at the PBX for each phone.
func loadSecret(stateDir string) ([]byte, error) {
	path := filepath.Join(stateDir, secretFile)
	secret, err := readSecret(path)
	if !errors.Is(err, os.ErrNotExist) {
		return secret, err
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("edge.state_dir: %w; let the user sallyport runs as write there", err)
	}
	secret = make([]byte, secretSize)
	rand.Read(secret) // never fails (crypto/rand)
	if err := writeSecret(path, secret); err != nil {
		return nil, fmt.Errorf("edge.state_dir: keep the contacts' secret: %w; let the user sallyport runs as write there", err)
	}
	// Of two that start at once the first has won: both use its secret.
	return readSecret(path)
}

func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("edge.state_dir: read the contacts' secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("edge.state_dir: read the contacts' secret: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("edge.state_dir: %s has mode %04o, open to other users; type: chmod 600 %s, or remove it to have a new one made", path, mode, path)
	}
	secret := make([]byte, secretSize)
	if _, err := io.ReadFull(f, secret); err != nil {
		return nil, fmt.Errorf("edge.state_dir: %s is cut short; remove it to have a new one made", path)
	}
	return secret, nil
}

// writeSecret puts the whole file in place at once, unless there is one.
func writeSecret(path string, secret []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(secret)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}
