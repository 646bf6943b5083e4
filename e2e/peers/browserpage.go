package peers

import (
	"embed"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// PageOrigin is where a browser's page comes from, unless its configuration
// says so: the edge must have it in sip.wss_origins.
const PageOrigin = "http://localhost"

//go:embed browser/*.html browser/*.js
var browserFiles embed.FS

// servePage is the web server of the page, in the browser's own namespace: a
// page of localhost may use the microphone without TLS.
func servePage(h *Host, c BrowserConfig) {
	l := h.lab
	l.t.Helper()
	name := strings.ToLower(strings.ReplaceAll(c.Stack, ".", "")) + ".js"
	stack := filepath.Join(cacheDir(), "browser", name)
	if _, err := os.Stat(stack); err != nil {
		l.t.Fatalf("find %s: %v; run make peers", c.Stack, err)
	}
	mux := http.NewServeMux()
	for path, file := range map[string]string{"/{$}": "page.html", "/common.js": "common.js", "/adapter.js": name} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, browserFiles, "browser/"+file)
		})
	}
	mux.HandleFunc("/stack.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, stack) })
	_, port, found := strings.Cut(strings.TrimPrefix(c.Page, "http://"), ":")
	if !found {
		port = "80"
	}
	var ln net.Listener
	err := h.Do(func() (err error) { ln, err = net.Listen("tcp", "127.0.0.1:"+port); return err })
	if err != nil {
		l.t.Fatalf("serve the page: %v", err)
	}
	server, done := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, make(chan struct{})
	go func() { // ends when the server is closed; waited for below
		defer close(done)
		_ = server.Serve(ln)
	}()
	l.t.Cleanup(func() { _ = server.Close(); <-done })
}

// ownAdapter is what the edge's own page is driven by.
func ownAdapter() string {
	common, _ := browserFiles.ReadFile("browser/common.js") // is embedded
	adapter, _ := browserFiles.ReadFile("browser/sallyport.js")
	return string(common) + string(adapter)
}
