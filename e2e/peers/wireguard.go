package peers

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// wireguardVersion is that of e2e/peers/install.sh.
const wireguardVersion = "ecfc5a8d5446"

// WireGuardPort is the UDP port of both ends of a tunnel.
const WireGuardPort = 51820

// WireGuard is one end of a tunnel by wireguard-go: in a process, not in the
// kernel.
type WireGuard struct {
	*Process
	Dev string // the tunnel's interface
}

// StartTunnel joins two sites: what one's edge forwards to the other's inside
// goes through the tunnel, while that runs. It returns when both ends are configured.
func StartTunnel(a, b *Site) [2]*WireGuard {
	l := a.lab
	l.t.Helper()
	sites, keys := [2]*Site{a, b}, [2]*ecdh.PrivateKey{}
	for i := range sites {
		var err error
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			l.t.Fatalf("make a key: %v", err)
		}
	}
	var ends [2]*WireGuard
	for i, s := range sites {
		other, theirs := sites[1-i], keys[1-i].PublicKey().Bytes()
		// The control socket's name is the interface's, in a folder that all namespaces share.
		w := &WireGuard{Dev: fmt.Sprintf("sp%d-%d", os.Getpid(), i)}
		socket := "/var/run/wireguard/" + w.Dev + ".sock"
		w.Process = l.start("wireguard-"+s.Name, s.Edge.Command(wireguardGo(), "--foreground", w.Dev))
		l.t.Cleanup(func() { os.Remove(socket) })
		Until(l.t, 10*time.Second, "wireguard-go to listen", func() bool {
			if !w.Running() {
				l.t.Fatalf("wireguard-go ended: %v", w.err)
			}
			c, err := net.Dial("unix", socket)
			if err != nil {
				return false
			}
			defer c.Close()
			err = configure(c, fmt.Sprintf("private_key=%x", keys[i].Bytes()), fmt.Sprintf("listen_port=%d", WireGuardPort),
				fmt.Sprintf("public_key=%x", theirs), "allowed_ip="+other.network().String(),
				"endpoint="+netip.AddrPortFrom(other.Edge.Addr, WireGuardPort).String())
			if err != nil {
				l.t.Fatalf("configure wireguard-go: %v", err)
			}
			return true
		})
		l.ip(s.Edge, "link set "+w.Dev+" up", fmt.Sprintf("route add %s dev %s", other.network(), w.Dev))
		ends[i] = w
	}
	return ends
}

// configure speaks WireGuard's cross-platform interface.
func configure(c net.Conn, lines ...string) error {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(c, "set=1\n%s\n\n", strings.Join(lines, "\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && answer != "errno=0\n" {
		err = fmt.Errorf("it answered %q", answer)
	}
	return err
}

func wireguardGo() string {
	return filepath.Join(cacheDir(), "bin", "wireguard-go-"+wireguardVersion, "wireguard")
}
