package peers

import (
	"os"
	"os/exec"
	"path/filepath"
)

// forky is a command from the root of SIPp and rtpengine.
func (h *Host) forky(program string, args ...string) *exec.Cmd {
	h.lab.t.Helper()
	return h.fromRoot("forky", "usr/bin/"+program, args...)
}

// fromRoot is a command from a root of Debian's testing suite, run in the
// namespace by that root's own loader: so no chroot is needed, and files are
// where they are.
func (h *Host) fromRoot(name, binary string, args ...string) *exec.Cmd {
	h.lab.t.Helper()
	root := filepath.Join(cacheDir(), name)
	loaders, _ := filepath.Glob(filepath.Join(root, "usr/lib/*/ld-linux-*.so.*"))
	if len(loaders) == 0 {
		h.lab.t.Fatalf("find %s in %s: run make peers", binary, root)
	}
	return h.Command(loaders[0], append([]string{"--library-path", filepath.Dir(loaders[0]), filepath.Join(root, binary)}, args...)...)
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
