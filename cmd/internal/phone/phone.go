package phone

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's files
	"encoding/hex"
	"html/template"
	"net/http"
	"time"
)

// Path is where the page is.
const Path = "/phone"

//go:embed index.html
var index string

//go:embed phone.css
var style []byte

//go:embed phone.js
var script []byte

// policy lets the page have its own files and its own edge, and a script do
// nothing with text but show it. 'self' covers wss of the same host and port
// (CSP level 3, section 6.7.2.8).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// New returns the page's handler. domain is what phones register at.
func New(domain string) http.Handler {
	var page bytes.Buffer
	if err := template.Must(template.New("phone").Parse(index)).Execute(&page, struct{ Domain string }{domain}); err != nil {
		panic(err) // of a template that is our own
	}
	mux := http.NewServeMux()
	mux.Handle(Path+"/{$}", http.RedirectHandler(Path, http.StatusPermanentRedirect)) // its links are under Path too
	mux.Handle(Path, static("text/html; charset=utf-8", page.Bytes()))
	mux.Handle(Path+"/phone.css", static("text/css; charset=utf-8", style))
	mux.Handle(Path+"/phone.js", static("text/javascript; charset=utf-8", script))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guard(w.Header())
		mux.ServeHTTP(w, r)
	})
}

func guard(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Permissions-Policy", "microphone=(self), camera=(), geolocation=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// A new binary brings a new script: browsers ask each time, and are mostly
	// told that nothing changed.
	h.Set("Cache-Control", "no-cache")
}

// static serves one file, known by a hash of what is in it.
func static(kind string, data []byte) http.Handler {
	sum := sha256.Sum256(data)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
}
