package peers

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Scan is what a tool of SIPVicious found, and how.
type Scan struct {
	Found  []string // users, passwords or devices
	Output string
	Took   time.Duration
	Shut   time.Duration // until a connection was refused; 0: none was
}

// Svwar looks for users, in a range like "1000-1020".
func Svwar(h *Host, target, users string, s *Shim) Scan {
	return scan(h, s, regexp.MustCompile(`(?m)^\|\s*(\d+)\s*\|\s*(?:reqauth|noauth|weird)\s*\|`),
		"svwar", "--force", "--maximumtime=3", "-x", h.Addr.String(), "--domain=pbx.example.com", "-e", users, target)
}

// Svcrack looks for a user's password in a list.
func Svcrack(h *Host, target, user string, passwords []string, s *Shim) Scan {
	file := filepath.Join(h.lab.Dir, "dictionary-"+Random(4))
	if err := os.WriteFile(file, []byte(strings.Join(passwords, "\n")+"\n"), 0o600); err != nil {
		h.lab.t.Fatal(err)
	}
	return scan(h, s, regexp.MustCompile(`(?m)^\|\s*`+user+`\s*\|\s*(\S+)\s*\|`),
		"svcrack", "--maximumtime=3", "-x", h.Addr.String(), "--domain=pbx.example.com", "-u", user, "-d", file, target)
}

// Svmap looks for SIP devices.
func Svmap(h *Host, target string, s *Shim) Scan {
	return scan(h, s, regexp.MustCompile(`(?m)^\|\s*([0-9.]+:\d+)\s*\|`), "svmap", "-x", h.Addr.String(), target)
}

// scan runs a tool to its end. Its own port is another than a Shim's.
func scan(h *Host, s *Shim, found *regexp.Regexp, tool string, args ...string) Scan {
	t := h.lab.t
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Fatalf("find %s: %v; run make peers", tool, err)
	}
	began := time.Now()
	cmd := h.Command("timeout", append([]string{"60", tool, "-P", "5070", "-v", "-v"}, args...)...)
	cmd.Dir = h.lab.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run %s: %v\n%s", tool, err, out)
	}
	result := Scan{Output: string(out), Took: time.Since(began)}
	for _, m := range found.FindAllStringSubmatch(result.Output, -1) {
		result.Found = append(result.Found, m[1])
	}
	if s != nil {
		result.Shut = s.shutAfter(began)
	}
	return result
}
