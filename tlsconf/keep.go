package tlsconf

import (
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// kept is a file of ours in a folder under the state directory.
type kept struct {
	name string
	data []byte
	mode os.FileMode
}

func encode(block string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der})
}

// keep writes files into the folder "tls".
func (c Config) keep(files ...kept) error { return c.keepIn("tls", files...) }

// keepIn writes files into a folder, in order, each so that a reader finds the old
// one or the new one, whole. What root keeps goes to the owner of the
// state directory: the user the edge runs as, who could not read it otherwise.
// That user may have been taken over, so no link of his leads root elsewhere.
func (c Config) keepIn(folder string, files ...kept) error {
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(c.StateDir)
	if err != nil {
		return err
	}
	defer root.Close()
	uid, gid := -1, -1 // as they are
	if os.Geteuid() == 0 {
		var dir unix.Stat_t
		if err := unix.Stat(c.StateDir, &dir); err != nil {
			return err
		}
		uid, gid = int(dir.Uid), int(dir.Gid)
	}
	switch err := root.Mkdir(folder, 0o700); {
	case err == nil:
		if err := root.Lchown(folder, uid, gid); err != nil {
			return err
		}
	case !errors.Is(err, os.ErrExist):
		return err
	}
	for _, f := range files {
		if err := f.put(root, folder, uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// put makes the file beside its place, open to nobody else, and moves it there.
func (k kept) put(root *os.Root, folder string, uid, gid int) error {
	beside := path.Join(folder, ".new-"+rand.Text())
	f, err := root.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = root.Remove(beside) }() // fails harmlessly once renamed
	_, err = f.Write(k.data)
	if err := errors.Join(err, f.Chown(uid, gid), f.Chmod(k.mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return root.Rename(beside, path.Join(folder, k.name))
}
