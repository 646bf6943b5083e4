package users

import (
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
)

// Store is a users file and the Book that is in use of it.
type Store struct {
	path, realm string
	log         *slog.Logger
	book        atomic.Pointer[Book]
	seen        os.FileInfo // Refresh's alone
}

// Open reads a users file.
func Open(path, realm string, log *slog.Logger) (*Store, error) {
	s := &Store{path: path, realm: realm, log: log}
	s.seen, _ = os.Stat(path)
	b, err := Load(path, realm)
	if err != nil {
		return nil, err
	}
	s.book.Store(b)
	return s, nil
}

// Book returns the users in use; nil of a nil Store.
func (s *Store) Book() *Book {
	if s == nil {
		return nil
	}
	return s.book.Load()
}

// Refresh reads the file again if it is another. It is called by one goroutine.
func (s *Store) Refresh() {
	if s == nil {
		return
	}
	now, err := os.Stat(s.path)
	if err == nil && s.seen != nil && now.ModTime().Equal(s.seen.ModTime()) && now.Size() == s.seen.Size() && os.SameFile(now, s.seen) ||
		err != nil && s.seen == nil {
		return
	}
	s.seen = now
	if err != nil {
		s.seen = nil
	}
	b, err := Load(s.path, s.realm)
	if err != nil {
		s.log.Error("users stay as they were", "reason", err)
		return
	}
	s.book.Store(b)
	s.log.Info("users read anew", "users", len(b.Accounts))
}

// likeOwner gives a file the owner of another.
func likeOwner(f *os.File, of os.FileInfo) error {
	if st, ok := of.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
		return f.Chown(int(st.Uid), int(st.Gid))
	}
	return nil
}
