package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/flow"
)

// maxControl bounds a request of the operator, in bytes.
const maxControl = 4 << 10

// Bans is what an operator may see and change while the edge runs.
type Bans interface {
	Bans() []policy.Ban
	AddBan(source netip.Prefix, span time.Duration, reason string) (policy.Ban, error)
	RemoveBan(source netip.Prefix) bool
}

// NewBan is what POST /bans takes.
type NewBan struct {
	Source netip.Prefix  `json:"source"`
	For    time.Duration `json:"for"` // in nanoseconds; 0: for good
	Reason string        `json:"reason"`
}

// TrunkState is what GET /trunks tells of each.
type TrunkState struct {
	Name string
	flow.TrunkState
}

// Secure is what crosses the secure side, and the keys that verify it. It holds
// secrets.
type Secure struct {
	Listeners []netip.AddrPort // of SIP, over TLS
	Trunks    []netip.AddrPort // others' listeners, that the edge connects to
	Keys      media.Keys
	Former    bool // calls of a process before this one go on by the same sockets, with keys of their own
}

// Secrets are asked by who proves what crosses the secure side.
type Secrets interface{ Secure() Secure }

// Operations are what an operator may see and do by the control socket.
type Operations struct {
	Bans   Bans
	Trunks func() []TrunkState
	Keys   Secrets

	Upgrade func() error // returns when another process has taken over, or why none has
}

// TakeControl serves on a control socket that another process has bound. It is given
// away.
func TakeControl(l net.Listener, o Operations, log *slog.Logger) *Server {
	s := serveOn(l, control(o, &keeper{secrets: o.Keys, log: log}), log)
	s.http.ConnContext = withPeer
	return s
}

// NewControl listens on a socket in the file system, of mode 0600: who may open
// it may change things. A socket that an edge left behind is replaced.
func NewControl(path string, o Operations, log *slog.Logger) (*Server, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("edge.state_dir: %s is in use: another edge runs with the same state", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("edge.state_dir: replace the control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("edge.state_dir: listen on the control socket: %w; let the user sallyport runs as write there", err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // until then the folder's mode keeps others out
		l.Close()
		return nil, fmt.Errorf("edge.state_dir: keep the control socket to ourselves: %w", err)
	}
	return TakeControl(l, o, log), nil
}

func control(o Operations, keys http.Handler) http.Handler {
	bans, trunks := o.Bans, o.Trunks
	mux := http.NewServeMux()
	mux.Handle("GET /keys", keys)
	mux.HandleFunc("GET /trunks", func(w http.ResponseWriter, _ *http.Request) { answer(w, trunks()) })
	mux.HandleFunc("POST /upgrade", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // it takes what it takes
		if err := o.Upgrade(); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		answer(w, "upgraded")
	})
	mux.HandleFunc("GET /bans", func(w http.ResponseWriter, _ *http.Request) { answer(w, bans.Bans()) })
	mux.HandleFunc("POST /bans", func(w http.ResponseWriter, r *http.Request) {
		var b NewBan
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControl)).Decode(&b); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		made, err := bans.AddBan(b.Source, b.For, b.Reason)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, made)
	})
	mux.HandleFunc("DELETE /bans", func(w http.ResponseWriter, r *http.Request) {
		source, err := netip.ParsePrefix(r.URL.Query().Get("source"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if !bans.RemoveBan(source) {
			http.Error(w, source.String()+" is not banned", http.StatusNotFound)
			return
		}
		answer(w, source)
	})
	return mux
}

func answer(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(what) // an operator who has gone misses nothing
}

// ControlClient speaks to the control socket of an edge.
func ControlClient(path string) *http.Client {
	return &http.Client{Timeout: readTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
}
