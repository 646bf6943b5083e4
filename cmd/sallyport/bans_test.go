package main

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestUnanswered(t *testing.T) {
	left := filepath.Join(t.TempDir(), controlSocket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	err = askSocket(t.Context(), left, http.MethodGet, "bans", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "no edge runs with this configuration") {
		t.Errorf("a socket that a process left behind: %v", err)
	}
	denied := &url.Error{Op: "Get", URL: "http://control/bans", Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}}
	if err := unanswered(denied); !strings.Contains(err.Error(), "run this as one of them") {
		t.Errorf("another user: %v", err)
	}
}
