package peers

import (
	"os"
	"os/exec"
	"path/filepath"
)

// forky is a command from the root of Debian's testing suite, run in the
// namespace by that root's own loader: so no chroot is needed, and files are
// where they are.
func (h *Host) forky(program string, args ...string) *exec.Cmd {
	h.lab.t.Helper()
	root := filepath.Join(cacheDir(), "forky")
	loaders, _ := filepath.Glob(filepath.Join(root, "usr/lib/*/ld-linux-*.so.*"))
	if len(loaders) == 0 {
		h.lab.t.Fatalf("find %s in %s: run make peers", program, root)
	}
	binary := filepath.Join(root, "usr/bin", program)
	return h.Command(loaders[0], append([]string{"--library-path", filepath.Dir(loaders[0]), binary}, args...)...)
}

func cacheDir() string {
	if d := os.Getenv("SALLYPORT_CACHE"); d != "" {
		return d
	}
	if d := os.Getenv("XDG_CACHE_HOME"); d != "" {
		return filepath.Join(d, "sallyport")
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, ".cache", "sallyport")
}
