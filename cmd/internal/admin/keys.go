package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// keeper gives the keys of calls to who may have them, and logs who asked.
type keeper struct {
	secrets Secrets
	log     *slog.Logger

	mu   sync.Mutex // guards what follows
	pid  int32      // who asked last
	last time.Time  // and when
}

// again is after how long a process that goes on to ask is logged once more.
const again = time.Minute

// ServeHTTP tells them to root, and to the user that the edge runs as. The
// socket's mode keeps others out; its owner may change that, and keys are not
// to go with it.
func (k *keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	peer, ok := r.Context().Value(peerKey{}).(*unix.Ucred)
	if !ok || peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		http.Error(w, "keys are told to root and to the user that the edge runs as, and to nobody else", http.StatusForbidden)
		if ok {
			k.log.Warn("keys of calls refused", "uid", peer.Uid, "pid", peer.Pid)
		}
		return
	}
	if k.isNew(peer.Pid) {
		k.log.Info("keys of calls are asked for, to prove what crosses the secure side", "uid", peer.Uid, "pid", peer.Pid)
	}
	w.Header().Set("Cache-Control", "no-store")
	answer(w, k.secrets.Secure())
}

// isNew tells whether a process that asks is to be logged: it has not just been.
func (k *keeper) isNew(pid int32) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); pid != k.pid || now.Sub(k.last) >= again {
		k.pid, k.last = pid, now
		return true
	}
	return false
}

// peerKey is the context's key of who is at the other end of the control socket.
type peerKey struct{}

// withPeer notes who connected: the kernel's word for it (SO_PEERCRED), as of then.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	peer, err := peerOf(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer)
}

func peerOf(c net.Conn) (peer *unix.Ucred, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.New("not a socket of this machine")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return nil, e
	}
	return peer, err
}
