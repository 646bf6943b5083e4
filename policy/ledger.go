package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

const (
	ledgerVersion = 1
	// ledgerMax bounds what is read: twice what can be kept.
	ledgerMax = 32 << 20
)

// Memory is a Ledger that lasts as long as the process.
type Memory struct {
	mu   sync.Mutex // guards what follows
	kept Kept
}

// Load implements Ledger.
func (m *Memory) Load() (Kept, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept, nil
}

// Save implements Ledger.
func (m *Memory) Save(k Kept) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = k
	return nil
}

// File is a Ledger in a file, by its path.
type File string

// ledger is what the file holds.
type ledger struct {
	Version int `json:"version"`
	Kept
}

// Load implements Ledger. A file that is not there holds nothing.
func (f File) Load() (Kept, error) {
	file, err := os.Open(string(f))
	if errors.Is(err, os.ErrNotExist) {
		return Kept{}, nil
	}
	if err != nil {
		return Kept{}, fmt.Errorf("read the bans: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, ledgerMax+1))
	if err != nil {
		return Kept{}, fmt.Errorf("read the bans: %w", err)
	}
	if len(text) > ledgerMax {
		return Kept{}, fmt.Errorf("read the bans: %s has more than %d bytes", string(f), ledgerMax)
	}
	var l ledger
	if err := json.Unmarshal(text, &l); err != nil {
		return Kept{}, fmt.Errorf("read the bans: %s is damaged: %w", string(f), err)
	}
	if l.Version != ledgerVersion {
		return Kept{}, fmt.Errorf("read the bans: %s has version %d, and %d is known", string(f), l.Version, ledgerVersion)
	}
	l.Bans, l.Phones, l.Abroad = first(l.Bans, maxBans), first(l.Phones, maxSuspects/2), first(l.Abroad, maxAccounts)
	return l.Kept, nil
}

func first[T any](list []T, n int) []T { return list[:min(len(list), n)] }

// Save implements Ledger. The file is whole at any time, the former one or this.
func (f File) Save(k Kept) error {
	text, err := json.Marshal(ledger{ledgerVersion, k})
	if err != nil {
		return fmt.Errorf("write the bans: %w", err)
	}
	if err := replace(string(f), text); err != nil {
		return fmt.Errorf("write the bans: %w", err)
	}
	return nil
}

// replace puts a file's new content in place at once.
func replace(path string, text []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // there is none left once it was renamed
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	return err
}
