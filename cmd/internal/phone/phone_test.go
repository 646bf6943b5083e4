package phone

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func ask(h http.Handler, method, path string, header ...string) (status int, said http.Header, body string) {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Header(), w.Body.String()
}

func TestPages(t *testing.T) {
	h := New("pbx.example.com")
	for name, c := range map[string]struct {
		method, path string
		status       int
		kind, holds  string
	}{
		"page":           {"GET", "/phone", 200, "text/html; charset=utf-8", `data-domain="pbx.example.com"`},
		"script":         {"GET", "/phone/phone.js", 200, "text/javascript; charset=utf-8", `"use strict"`},
		"style":          {"GET", "/phone/phone.css", 200, "text/css; charset=utf-8", "prefers-color-scheme"},
		"head":           {"HEAD", "/phone", 200, "text/html; charset=utf-8", ""},
		"slash":          {"GET", "/phone/", 308, "text/html; charset=utf-8", ""},
		"post":           {"POST", "/phone", 405, "text/plain; charset=utf-8", ""},
		"delete":         {"DELETE", "/phone/phone.js", 405, "text/plain; charset=utf-8", ""},
		"another path":   {"GET", "/phone/doc.go", 404, "text/plain; charset=utf-8", ""},
		"another prefix": {"GET", "/phones", 404, "text/plain; charset=utf-8", ""},
		"outside":        {"GET", "/phone/%2e%2e/%2e%2e/etc/passwd", 404, "text/plain; charset=utf-8", ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, header, text := ask(h, c.method, c.path)
			if status != c.status || header.Get("Content-Type") != c.kind || !strings.Contains(text, c.holds) {
				t.Errorf("%s %s: %d, %s, %.80q", c.method, c.path, status, header.Get("Content-Type"), text)
			}
			if c.status == 405 && header.Get("Allow") != "GET, HEAD" {
				t.Errorf("allowed is %q", header.Get("Allow"))
			}
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache", "Content-Security-Policy": policy,
			} {
				if got := header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// A browser that has a file is told so, and gets it when it is another.
func TestCaching(t *testing.T) {
	h := New("pbx.example.com")
	_, header, _ := ask(h, "GET", "/phone")
	tag := header.Get("ETag")
	if tag == "" {
		t.Fatal("the page has no ETag")
	}
	for _, c := range []struct {
		h      http.Handler
		status int
	}{{h, 304}, {New("other.example.com"), 200}} {
		status, header, _ := ask(c.h, "GET", "/phone", "If-None-Match", tag)
		if status != c.status || header.Get("Content-Security-Policy") != policy {
			t.Errorf("answered %d, want %d", status, c.status)
		}
	}
}

// The policy allows no script but the file, and the page has none.
func TestNoInline(t *testing.T) {
	for _, directive := range []string{"default-src 'none'", "script-src 'self';", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, directive) {
			t.Errorf("the policy lacks %s", directive)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy is %s", policy)
	}
	_, _, page := ask(New(`"><script>alert(1)</script>`), "GET", "/phone")
	for _, inline := range []string{`<script>`, `<script[^>]*>[^<]`, `\son\w+=`, `\sstyle=`, `javascript:`, `(src|href)="(https?:)?//`} {
		if found := regexp.MustCompile("(?i)" + inline).FindString(page); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
	for _, sink := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "localStorage"} {
		if strings.Contains(string(script), sink) {
			t.Errorf("the script uses %s", sink)
		}
	}
	kept := regexp.MustCompile(`Storage\.setItem\(.*?,`).FindAllString(string(script), -1)
	if len(kept) != 1 || kept[0] != `Storage.setItem("instance",` {
		t.Errorf("the script keeps %q, want the tab's name alone", kept)
	}
}
