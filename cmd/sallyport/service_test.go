package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The unit must hold the edge as tightly as it says.
func TestServiceUnit(t *testing.T) {
	data, err := os.ReadFile("sallyport.service")
	if err != nil {
		t.Fatal(err)
	}
	settings := make(map[string]string)
	section := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
		case !ok || section == "":
			t.Errorf("line %q is no setting", line)
		default:
			settings[section+"."+name] = value
		}
	}
	for name, want := range map[string]string{
		"Service.DynamicUser":           "yes",
		"Service.StateDirectory":        "sallyport",
		"Service.ProtectSystem":         "strict",
		"Service.NoNewPrivileges":       "yes",
		"Service.AmbientCapabilities":   "CAP_NET_BIND_SERVICE",
		"Service.CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
		"Service.LimitNOFILE":           "65536",
		"Service.ExecStart":             "/usr/bin/sallyport run",
		"Service.ExecReload":            "/bin/kill -HUP $MAINPID",
		"Service.Type":                  "notify", // which process is watched changes with an upgrade
		"Service.NotifyAccess":          "all",
		"Service.KillMode":              "mixed", // the one that serves tells the one before to end
	} {
		if settings[name] != want {
			t.Errorf("%s is %q, want %q", name, settings[name], want)
		}
	}
}

// systemd's own opinion, where it is installed; the test above is asked always.
func TestServiceUnitBySystemd(t *testing.T) {
	bin, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd is not installed")
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("sallyport.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "sallyport.service")
	text := strings.ReplaceAll(string(data), "/usr/bin/sallyport", self)
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin, "verify", "--man=no", "--recursive-errors=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "sallyport.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
