package peers

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// Kamailio is a running Kamailio 5.6 in the edge's place: for signalling alone, TLS outside
// and UDP to the PBX; or as a registrar, with an rtpengine of the edge's host for media.
type Kamailio struct {
	*Process
	lab *Lab
}

// KamailioConfig chooses what differs.
type KamailioConfig struct {
	Children  int    // processes for what comes by UDP
	Readers   int    // processes for what comes by TLS
	Shared    int    // MB of memory that they share; it is reserved, not taken, at the start
	CertFile  string // the certificate and key, in PEM
	KeyFile   string
	WebSocket bool // listen for these too, at WSSPort
	Registrar bool // of users by the password secret-USER, in the PBX's place
}

//go:embed kamailio/kamailio.cfg
var kamailioConfig string

//go:embed kamailio/registrar.cfg
var registrarConfig string

// StartKamailio runs Kamailio on the edge's host, and returns when it listens.
func StartKamailio(l *Lab, c KamailioConfig) *Kamailio {
	l.t.Helper()
	dir, err := os.MkdirTemp(l.Dir, "kamailio")
	if err != nil {
		l.t.Fatal(err)
	}
	web := ""
	if c.WebSocket {
		web = WSSPort
	}
	source := kamailioConfig
	if c.Registrar {
		source = registrarConfig
	}
	var text bytes.Buffer
	err = template.Must(template.New("kamailio.cfg").Parse(source)).Execute(&text, map[string]any{
		"Children": c.Children, "Connections": c.Readers, "Inside": EdgeInside, "Outside": EdgeOutside, "PBX": PBXAddr, "Cert": c.CertFile, "Key": c.KeyFile, "WSSPort": web,
		"RTPEngine": ngAddr,
	})
	config := filepath.Join(dir, "kamailio.cfg")
	if err == nil {
		err = os.WriteFile(config, text.Bytes(), 0o600)
	}
	if err != nil {
		l.t.Fatalf("write the configuration of Kamailio: %v", err)
	}
	// Its many processes end with the first one's namespace of processes, whatever
	// ends that.
	k := &Kamailio{lab: l, Process: l.start("kamailio", l.Edge.Command("unshare", "--pid", "--fork", "--kill-child=SIGKILL",
		"/usr/sbin/kamailio", "-DD", "-E", "--atexit=no", "-f", config, "-Y", dir, "-w", dir, "-m", fmt.Sprint(c.Shared), "-M", "32"))}
	Until(l.t, 10*time.Second, "Kamailio to listen", func() bool {
		if !k.Running() {
			l.t.Fatalf("Kamailio ended: %v", k.err)
		}
		return l.Edge.Do(func() error {
			conn, err := net.DialTimeout("tcp", netip.MustParseAddrPort(EdgeOutside+":5061").String(), time.Second)
			if err == nil {
				conn.Close()
			}
			return err
		}) == nil
	})
	return k
}

// Kill ends all its processes.
func (k *Kamailio) Kill() {
	k.lab.t.Helper()
	family := k.Family()
	k.Process.Kill()
	Until(k.lab.t, 10*time.Second, "Kamailio's processes to end", func() bool {
		for _, pid := range family {
			if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
				return false
			}
		}
		return true
	})
}

// Crash is what it said when a process of it crashed, or nothing.
func (k *Kamailio) Crash() string {
	b, err := os.ReadFile(k.Log)
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(b), "\n") {
		if _, said, found := strings.Cut(line, "handle_sigs(): "); found && strings.Contains(said, "exited by a signal") {
			return said
		}
	}
	return ""
}
