package flow

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// web speaks HTTP on the connections of a Listener, until they are upgraded to
// WebSocket (RFC 7118 section 4.1) or have got another answer. Who connects is
// unauthenticated here: a connection has one deadline for all that comes
// before the upgrade.
type web struct {
	l      *Listener
	site   Site
	server *http.Server
	handed *handover
}

// Site is what browsers find at a WebSocket listener beside SIP.
type Site struct {
	Origins Origins      // the pages that may open a WebSocket
	Pages   http.Handler // has every path but / and /ws; nil: nothing is there. A connection brings it one request
}

// ListenWSS binds address for SIP over secure WebSocket (RFC 7118). Nothing is
// accepted before Run. Browsers may come from pages of the site's origins alone.
func ListenWSS(address netip.AddrPort, config *tls.Config, limits Limits, site Site, to Handler, admit Admit, log *slog.Logger) (*Listener, error) {
	ln, err := Listen(address)
	if err != nil {
		return nil, fmt.Errorf("sip.wss_listen: listen on %s: %w", address, err)
	}
	return NewWebListener(ln, config, limits, site, to, admit, log), nil
}

// NewWebListener serves WebSocket on a listener that exists. It is given away.
func NewWebListener(ln net.Listener, config *tls.Config, limits Limits, site Site, to Handler, admit Admit, log *slog.Logger) *Listener {
	if len(config.NextProtos) > 0 && !slices.Contains(config.NextProtos, "http/1.1") { // what a browser offers
		config = config.Clone()
		config.NextProtos = append(slices.Clone(config.NextProtos), "http/1.1")
	}
	l := NewListener(ln, config, limits, to, admit, log)
	l.web = newWeb(l, site)
	return l
}

func newWeb(l *Listener, site Site) *web {
	w := &web{l: l, site: site, handed: &handover{conns: make(chan net.Conn), ended: make(chan struct{}), addr: l.ln.Addr()}}
	w.server = &http.Server{
		Handler:           w,
		ReadHeaderTimeout: l.limits.HandshakeTimeout,
		ReadTimeout:       l.limits.HandshakeTimeout,
		WriteTimeout:      l.limits.HandshakeTimeout,
		IdleTimeout:       l.limits.HandshakeTimeout,
		MaxHeaderBytes:    l.limits.MaxHead,
		ErrorLog:          slog.NewLogLogger(l.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, webConnKey{}, nc)
		},
		ConnState: func(nc net.Conn, s http.ConnState) {
			if s == http.StateClosed { // of those not upgraded
				l.event("closed_without_upgrade")
				l.forget(nc.(*webConn).conn)
			}
		},
	}
	return w
}

type webConnKey struct{}

// serve begins to serve what is handed over; the function that it returns ends
// that, once no connection is left.
func (w *web) serve() (end func()) {
	done := make(chan struct{})
	go func() { // ends when the server is closed; end waits for it
		defer close(done)
		_ = w.server.Serve(w.handed)
	}()
	return func() {
		_ = w.server.Close()
		<-done
	}
}

// take gives a connection that has shaken hands to the HTTP server, which
// forgets it in the end.
func (w *web) take(c *conn) {
	w.handed.conns <- &webConn{conn: c, upgradeBy: time.Now().Add(w.l.limits.HandshakeTimeout)}
}

// handover is the listener from which the HTTP server has its connections.
type handover struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
	addr  net.Addr
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.ended:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.ended) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.addr }

// ServeHTTP answers one request. SIP is at / and at /ws, where the web phones
// of other PBXs look for it; the site's pages are elsewhere, and are bounded by
// the same deadlines: theirs is that of the upgrade.
func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(webConnKey{}).(*webConn)
	rw.Header().Set("Connection", "close") // a connection is for SIP; an upgrade overwrites it
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	wanted := slices.ContainsFunc(r.Header.Values("Upgrade"), func(v string) bool { return strings.EqualFold(strings.TrimSpace(v), "websocket") })
	switch {
	case r.URL.Path != "/" && r.URL.Path != "/ws":
		if w.site.Pages == nil || wanted {
			http.NotFound(rw, r)
			return
		}
		w.site.Pages.ServeHTTP(rw, r)
	case wanted:
		w.upgrade(rw, r, c)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		rw.Header().Set("Allow", "GET, HEAD")
		http.Error(rw, "method not allowed", http.StatusMethodNotAllowed)
	case r.URL.Path == "/ws":
		rw.Header().Set("Upgrade", "websocket")
		http.Error(rw, "SIP over WebSocket (RFC 7118) is spoken here", http.StatusUpgradeRequired)
	default:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(rw, "sallyport is up: SIP over WebSocket (RFC 7118) is spoken here\n")
	}
}

// upgrade makes a WebSocket of the connection, and gives it a reader of its
// own: the HTTP server's goroutine and buffers would cost as much as the rest.
func (w *web) upgrade(rw http.ResponseWriter, r *http.Request, c *webConn) {
	if status, why := w.refused(r); status != 0 {
		w.l.event("refused_upgrade")
		w.l.log.Info("WebSocket refused", "peer", c.remote.String(), "status", status, "reason", why)
		http.Error(rw, why, status)
		return
	}
	h := &hijacker{ResponseWriter: rw}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols:       []string{"sip"},
		InsecureSkipVerify: true, // the Origin passed a stricter list: the library takes any that is the Host
		OnPingReceived:     func(context.Context, []byte) bool { c.settled(); return true },
		OnPongReceived:     func(context.Context, []byte) { c.settled() },
	})
	if err != nil {
		w.l.event("refused_upgrade")
		w.l.log.Info("WebSocket refused", "peer", c.remote.String(), "reason", err)
		return
	}
	go c.run(ws, h.r, r.Header.Get("Origin") != "") // ends when the connection is closed; counted in wg
}

// refused tells why a request for a WebSocket is not granted, for the log and
// the page's developer; 0 if it may be.
func (w *web) refused(r *http.Request) (status int, why string) {
	origins := r.Header.Values("Origin")
	switch {
	case len(origins) > 1:
		return http.StatusBadRequest, "more than one Origin"
	case len(origins) == 1 && !w.site.Origins.allow(origins[0]):
		return http.StatusForbidden, "the page's origin is not in sip.wss_origins"
	case !offers(r.Header.Values("Sec-WebSocket-Protocol"), "sip"):
		return http.StatusBadRequest, "the subprotocol \"sip\" is required (RFC 7118 section 4.1)"
	}
	return 0, ""
}

func offers(lists []string, protocol string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(lists, ","), ","), func(v string) bool {
		return strings.TrimSpace(v) == protocol
	})
}

// hijacker notes the reader with which the WebSocket goes on, and gives it a
// writer that costs little: what is written is queued as it is.
type hijacker struct {
	http.ResponseWriter
	r *bufio.Reader
}

const webWriter = 256 // bytes: a frame's head, and what is small enough to join it

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err == nil {
		h.r, rw.Writer = rw.Reader, bufio.NewWriterSize(nc, webWriter)
	}
	return nc, rw, err
}
