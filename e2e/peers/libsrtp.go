package peers

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed libsrtp/stack.c
var libsrtpSource []byte

// Libsrtp is the SRTP of libsrtp 2, in processes of its own: the edge and its
// tests are built without cgo. See libsrtp/stack.c for what is said to them.
func Libsrtp(p *Phone, k Key) (Guard, error) {
	l := p.Host.lab
	program, err := buildLibsrtp()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := packetPair()
	if err != nil {
		return nil, err
	}
	verb := "open"
	if k.Seals {
		verb = "seal"
	}
	args := []string{verb, k.Suite, hex.EncodeToString(k.KeySalt)}
	if k.MKI != nil {
		args = append(args, hex.EncodeToString(k.MKI))
	}
	cmd := exec.Command(program, args...)
	cmd.Stdin = theirs
	l.start("libsrtp-"+verb+"-"+p.User, cmd)
	theirs.Close() // the process has its own
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, fmt.Errorf("open the way to libsrtp: %w", err)
	}
	l.t.Cleanup(func() { conn.Close() })
	return func(packet []byte) ([]byte, error) { return askLibsrtp(conn, packet) }, nil
}

// askLibsrtp sends one packet and awaits its reply.
func askLibsrtp(conn net.Conn, packet []byte) ([]byte, error) {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write(packet); err != nil {
		return nil, fmt.Errorf("ask libsrtp: %w", err)
	}
	reply := make([]byte, 4096)
	n, err := conn.Read(reply)
	if err != nil {
		return nil, fmt.Errorf("await libsrtp: %w", err)
	}
	if n == 0 || reply[0] != 0 {
		return nil, fmt.Errorf("libsrtp refuses a packet: status %v of srtp_err_status_t", reply[:min(n, 1)])
	}
	return reply[1:n], nil
}

// buildLibsrtp compiles the program, unless one of this source is there.
// Tests that do so at the same time put the same file in its place.
func buildLibsrtp() (string, error) {
	sum := sha256.Sum256(libsrtpSource)
	dir := filepath.Join(cacheDir(), "bin")
	program := filepath.Join(dir, "libsrtp-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	tmp, err := os.MkdirTemp(cacheDir(), "libsrtp")
	if err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	source, built := filepath.Join(tmp, "stack.c"), filepath.Join(tmp, "stack")
	if err := os.WriteFile(source, libsrtpSource, 0o600); err != nil {
		return "", fmt.Errorf("write source: %w", err)
	}
	if out, err := exec.Command("gcc", "-O2", "-Wall", "-o", built, source, "-lsrtp2").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program of libsrtp: %w; run make peers\n%s", err, out)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	if err := os.Rename(built, program); err != nil {
		return "", fmt.Errorf("keep the program of libsrtp: %w", err)
	}
	return program, nil
}

// packetPair is two ends of a connection that keeps packets apart.
func packetPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "libsrtp"), os.NewFile(uintptr(fds[1]), "libsrtp"), nil
}
