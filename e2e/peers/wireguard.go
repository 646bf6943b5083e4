package peers

import (
	"bufio"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"io"
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
	Dev    string // the tunnel's interface
	socket string // of control
}

// StartTunnel joins two sites: what one's edge forwards to the other's inside
// goes through the tunnel, while that runs. It returns when it is up.
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
		other := sites[1-i]
		w := startWireGuard(s, i)
		w.control("set=1", fmt.Sprintf("private_key=%x", keys[i].Bytes()), fmt.Sprintf("listen_port=%d", WireGuardPort),
			fmt.Sprintf("public_key=%x", keys[1-i].PublicKey().Bytes()), "allowed_ip="+other.network().String(),
			"endpoint="+netip.AddrPortFrom(other.Public, WireGuardPort).String())
		l.ip(s.Edge, "link set "+w.Dev+" up", fmt.Sprintf("route add %s dev %s", other.network(), w.Dev))
		ends[i] = w
	}
	ends[0].wake(a, b)
	return ends
}

// startWireGuard runs the program, and returns when it can be controlled. The
// control socket's name is the interface's, in a folder that all namespaces share.
func startWireGuard(s *Site, end int) *WireGuard {
	l := s.lab
	l.t.Helper()
	w := &WireGuard{Dev: fmt.Sprintf("sp%d-%d", os.Getpid(), end)}
	w.socket = "/var/run/wireguard/" + w.Dev + ".sock"
	w.Process = l.start("wireguard-"+s.Name, s.Edge.Command(filepath.Join(cacheDir(), "bin", "wireguard-go-"+wireguardVersion, "wireguard"), "--foreground", w.Dev))
	l.t.Cleanup(func() { os.Remove(w.socket) })
	Until(l.t, 10*time.Second, "wireguard-go to listen", func() bool {
		if !w.Running() {
			l.t.Fatalf("wireguard-go ended: %v", w.err)
		}
		c, err := net.Dial("unix", w.socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return w
}

// wake has one end alone begin: two that begin at once may each wait for the
// other, for seconds.
func (w *WireGuard) wake(from, to *Site) {
	l := from.lab
	l.t.Helper()
	err := from.Edge.Do(func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(to.PBX.Addr, 9).String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("wake"))
		return err
	})
	if err != nil {
		l.t.Fatalf("use the tunnel: %v", err)
	}
	Until(l.t, 20*time.Second, "the tunnel to be up", func() bool {
		state := w.control("get=1")
		return strings.Contains(state, "last_handshake_time_sec=") && !strings.Contains(state, "last_handshake_time_sec=0\n")
	})
}

// control speaks WireGuard's cross-platform interface, and returns its answer.
func (w *WireGuard) control(lines ...string) string {
	w.t.Helper()
	answer, err := func() (string, error) {
		c, err := net.Dial("unix", w.socket)
		if err != nil {
			return "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := fmt.Fprintf(c, "%s\n\n", strings.Join(lines, "\n")); err != nil {
			return "", err
		}
		var answer strings.Builder
		for r := bufio.NewReader(c); ; {
			line, err := r.ReadString('\n')
			if line == "\n" || err == io.EOF {
				return answer.String(), nil
			}
			if err != nil {
				return "", err
			}
			answer.WriteString(line)
		}
	}()
	if err == nil && !strings.HasSuffix(answer, "errno=0\n") {
		err = fmt.Errorf("it answered %q", answer)
	}
	if err != nil {
		w.t.Fatalf("control wireguard-go: %v", err)
	}
	return answer
}
