package load

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A run leaves no process, no namespace and no file but its report: when it
// ends, when it fails, and when it is interrupted in the middle of a step. The
// control is one that is killed, after which nobody can clear up.
func TestNothingLeft(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal // sent while calls are up
		group  bool           // to its peers too, as a terminal does
		edge   string         // instead of the binary
		passes bool
		left   bool
	}{
		{name: "to its end", passes: true},
		{name: "failed", edge: "/bin/false"},
		{name: "interrupted", signal: syscall.SIGINT, group: true},
		{name: "terminated", signal: syscall.SIGTERM},
		{name: "killed", signal: syscall.SIGKILL, left: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := startRun(t, c.edge)
			if c.signal != 0 {
				peers.Until(t, time.Minute, "sound to come back to SIPp", run.sounds)
				pid := run.cmd.Process.Pid
				if c.group {
					pid = -pid
				}
				_ = syscall.Kill(pid, c.signal)
			}
			err := run.cmd.Wait()
			if passes := err == nil; passes != c.passes {
				t.Fatalf("the run ended with %v\n%s", err, run.out.String())
			}
			run.report(t, c.passes)
			// What is killed with its parent is gone a moment after it.
			peers.Until(t, 30*time.Second, "all processes to end", func() bool { return len(run.processes()) == 0 })
			left := run.left()
			if found := len(left) > 0; found != c.left {
				t.Errorf("the run left %q\n%s", left, run.out.String())
			}
			if c.left {
				for _, name := range run.namespaces() {
					_ = exec.Command("ip", "netns", "del", name).Run()
				}
			}
		})
	}
}

// aRun is a smoke test of the ladder in a process of its own, whose files are
// all in a folder, and whose processes say so in their environment.
type aRun struct {
	cmd       *exec.Cmd
	out       bytes.Buffer
	temp, dir string
}

func startRun(t *testing.T, edge string) *aRun {
	t.Helper()
	r := &aRun{temp: t.TempDir(), dir: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command(self, "-test.run", "^TestLoad$", "-test.timeout", "5m")
	r.cmd.Env = append(os.Environ(), "TMPDIR="+r.temp, "LOAD_QUICK=1", "LOAD_RATES=", "LOAD_SECONDS=", "LOAD_OUT="+r.dir)
	if edge != "" {
		r.cmd.Env = append(r.cmd.Env, "SALLYPORT_BIN="+edge)
	}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	// A process group of its own, as that of a command in a terminal. It ends
	// with the thread that started it, which is to be this test's.
	runtime.LockOSThread()
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	})
	return r
}

// report checks that a run that has passed wrote its report, and no other did.
func (r *aRun) report(t *testing.T, want bool) {
	t.Helper()
	for _, name := range []string{"load.json", "load.svg"} {
		if _, err := os.Stat(filepath.Join(r.dir, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it: %v", name, err, want)
		}
	}
}

// left lists what is there of the run.
func (r *aRun) left() []string {
	left := slices.Concat(slices.Collect(maps.Values(r.processes())), r.namespaces())
	_ = filepath.WalkDir(r.temp, func(path string, _ os.DirEntry, _ error) error {
		if path != r.temp {
			left = append(left, path)
		}
		return nil
	})
	return left
}

// processes are the command lines of those with the run's environment, without
// its own, by their folders in /proc.
func (r *aRun) processes() map[string]string {
	list := make(map[string]string)
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if filepath.Base(dir) == fmt.Sprint(r.cmd.Process.Pid) || !bytes.Contains(env, []byte("TMPDIR="+r.temp+"\x00")) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		list[dir] = strings.ReplaceAll(string(line), "\x00", " ")
	}
	return list
}

// sounds tells whether calls are up: SIPp's host gets datagrams.
func (r *aRun) sounds() bool {
	for dir, command := range r.processes() {
		if strings.Contains(command, "usr/bin/sipp ") {
			snmp, _ := os.ReadFile(filepath.Join(dir, "net", "snmp"))
			return datagrams(string(snmp)) > 10
		}
	}
	return false
}

// namespaces are those that its process made.
func (r *aRun) namespaces() (list []string) {
	all, _ := filepath.Glob(fmt.Sprintf("/run/netns/sp%d-*", r.cmd.Process.Pid))
	for _, path := range all {
		list = append(list, filepath.Base(path))
	}
	return list
}
