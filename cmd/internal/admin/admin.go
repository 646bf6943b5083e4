package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// Limits of a connection. A scrape is one short request.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 15 * time.Second
	idleTimeout  = 2 * time.Minute
	stopTimeout  = 2 * time.Second
	maxHeader    = 16 << 10
)

// Config says what admin serves, and where.
type Config struct {
	Listen    netip.AddrPort
	Inherited net.Listener // already bound there by another process; nil: it is to be bound

	// Health returns nil while the edge serves, or why it does not.
	Health  func() error
	Sources []Source
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	if !c.Listen.Addr().IsLoopback() {
		return fmt.Errorf("admin.listen: %s is %w; give an address like 127.0.0.1:9060", c.Listen, ErrNotLoopback)
	}
	return nil
}

// Server is the operator's HTTP server.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// New listens; Run serves. The listener is closed when Run returns.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := cfg.Inherited
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", cfg.Listen.String()); err != nil {
			return nil, fmt.Errorf("admin.listen: listen on %s: %w", cfg.Listen, err)
		}
	}
	return serveOn(l, handler(cfg), log), nil
}

func serveOn(l net.Listener, h http.Handler, log *slog.Logger) *Server {
	return &Server{listener: l, http: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// Addr is where the server listens.
func (s *Server) Addr() netip.AddrPort { return s.listener.Addr().(*net.TCPAddr).AddrPort() }

// Heirloom is the listener, for a process after this one. The descriptor stays ours.
func (s *Server) Heirloom() (fd int, err error) {
	c, ok := s.listener.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("hand on %s: it has no descriptor", s.listener.Addr())
	}
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(d uintptr) { fd = int(d) })
	}
	if err != nil {
		return 0, fmt.Errorf("hand on %s: %w", s.listener.Addr(), err)
	}
	return fd, nil
}

// Yield leaves the listener to the process after this one: what is in the file system
// stays when Run ends.
func (s *Server) Yield() {
	if l, ok := s.listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
}

// Close gives up a server that was never run.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends, and then gives requests under way a moment.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }() // ends with Shutdown or Close; waited for below
	select {
	case err := <-served:
		return fmt.Errorf("serve admin: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := s.http.Shutdown(stop); err != nil {
		_ = s.http.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin: %w", err)
	}
	return nil
}

// handler is what is served: two paths, read only.
func handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err := cfg.Health(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.Handle("/metrics", metricsHandler(cfg.Sources))
	return guard(mux)
}

// guard turns away what is not a plain read from this machine.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		case !localHost(r.Host):
			// DNS rebinding: a name of someone else's that leads here.
			http.Error(w, "ask for 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" || host == "" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
