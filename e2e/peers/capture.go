package peers

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Capture records all packets of an interface, both ways, to a file that
// tshark reads. It reads a packet socket itself: dumpcap reports ready before
// it is, and loses what waits in its ring when it is stopped.
type Capture struct {
	lab  *Lab
	File string
	fd   int
	out  *os.File
	stop chan struct{}
	done chan struct{}
}

// StartCapture records a host's interface from now on.
func StartCapture(h *Host, dev string) *Capture {
	l := h.lab
	l.t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		l.t.Fatalf("find tshark: %v; run make peers", err)
	}
	c := &Capture{lab: l, File: filepath.Join(l.Dir, h.Name+"-"+dev+".pcap"), stop: make(chan struct{}), done: make(chan struct{})}
	var err error
	if c.out, err = os.Create(c.File); err != nil {
		l.t.Fatal(err)
	}
	if err := h.Do(func() error { return c.open(dev) }); err != nil {
		l.t.Fatalf("capture %s: %v", dev, err)
	}
	header := make([]byte, 24)
	binary.LittleEndian.PutUint32(header, 0xa1b2c3d4)
	binary.LittleEndian.PutUint16(header[4:], 2)
	binary.LittleEndian.PutUint16(header[6:], 4)
	binary.LittleEndian.PutUint32(header[16:], 65535)
	binary.LittleEndian.PutUint32(header[20:], 1) // Ethernet
	_, _ = c.out.Write(header)
	go c.read() // ends with Stop, which waits
	l.t.Cleanup(c.Stop)
	return c
}

func (c *Capture) open(dev string) error {
	const all = 0x0300 // ETH_P_ALL in network order
	iface, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: iface.Index})
}

func (c *Capture) read() {
	defer close(c.done)
	buf := make([]byte, 65536+16)
	stopping := false
	for {
		n, _, err := unix.Recvfrom(c.fd, buf[16:], 0)
		if err != nil { // nothing waits
			if stopping {
				return
			}
			select {
			case <-c.stop:
				stopping = true
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		now := time.Now()
		binary.LittleEndian.PutUint32(buf, uint32(now.Unix()))
		binary.LittleEndian.PutUint32(buf[4:], uint32(now.Nanosecond()/1000))
		binary.LittleEndian.PutUint32(buf[8:], uint32(n))
		binary.LittleEndian.PutUint32(buf[12:], uint32(n))
		_, _ = c.out.Write(buf[:16+n])
	}
}

// Stop ends the recording, with all that came before in it. It may be called
// again.
func (c *Capture) Stop() {
	select {
	case <-c.stop:
		return
	default:
	}
	close(c.stop)
	<-c.done
	_ = unix.Close(c.fd)
	_ = c.out.Close()
}

// Fields reads fields of the packets that a display filter selects, one row a
// packet. decodeAs are tshark's -d rules.
func (c *Capture) Fields(filter string, fields []string, decodeAs ...string) [][]string {
	c.lab.t.Helper()
	args := []string{"-n", "-r", c.File, "-Y", filter, "-T", "fields"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	for _, d := range decodeAs {
		args = append(args, "-d", d)
	}
	cmd := exec.Command("tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.lab.t.Fatalf("read capture with tshark: %v\n%s", err, stderr.String())
	}
	var rows [][]string
	for _, line := range strings.Split(strings.TrimRight(string(out), "\n"), "\n") {
		if line != "" {
			rows = append(rows, strings.Split(line, "\t"))
		}
	}
	return rows
}

// Count counts the packets that a display filter selects.
func (c *Capture) Count(filter string, decodeAs ...string) int {
	c.lab.t.Helper()
	return len(c.Fields(filter, []string{"frame.number"}, decodeAs...))
}

// Contains tells whether bytes occur anywhere in what was captured.
func (c *Capture) Contains(b string) bool {
	c.lab.t.Helper()
	all, err := os.ReadFile(c.File)
	if err != nil {
		c.lab.t.Fatalf("read capture: %v", err)
	}
	return bytes.Contains(all, []byte(b))
}

// Unhex reads tshark's hexadecimal, with or without colons.
func Unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil {
		return nil
	}
	return b
}
