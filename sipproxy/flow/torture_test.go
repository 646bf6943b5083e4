package flow

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTortureX(t *testing.T) {
	files, _ := filepath.Glob("testdata/torture/*.dat")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		s := &PlainSocket{}
		_ = s
		end := bytes.Index(b, []byte("\r\n\r\n"))
		name := strings.TrimSuffix(filepath.Base(f), ".dat")
		if end < 0 { t.Log(name, "no end"); continue }
		m, fault := lex(b[:end+4])
		if fault == nil {
			var n int
			n, fault = m.bodyLength(65000)
			if fault == nil {
				body := b[end+4:]
				if n > len(body) { fault = malformed("Content-Length", "short") } else if n >= 0 { body = body[:n] }
				if fault == nil { _, fault = m.build(body) }
			}
		}
		if fault != nil { t.Logf("%-12s %d %v", name, fault.Code, fault) } else { t.Logf("%-12s ok", name) }
	}
}
