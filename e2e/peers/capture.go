package peers

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Capture records packets to a file that tshark reads.
type Capture struct {
	lab  *Lab
	File string
	out  *pcapFile
	halt func() // after it, nothing more is written
	over bool   // it was stopped
}

// newCapture begins a file. Whoever fills it sets halt.
func (l *Lab) newCapture(name string, link uint32) *Capture {
	l.t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		l.t.Fatalf("find tshark: %v; run make peers", err)
	}
	c := &Capture{lab: l, File: filepath.Join(l.Dir, fmt.Sprintf("%s-%d.pcap", name, l.captures.Add(1)))}
	var err error
	if c.out, err = createPcap(c.File, link); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(c.Stop)
	return c
}

// Stop ends the recording, with all that came before in it. It may be called
// again.
func (c *Capture) Stop() {
	if c.over {
		return
	}
	c.over = true
	c.halt()
	if err := c.out.close(); err != nil {
		c.lab.t.Errorf("write capture: %v", err)
	}
}

// stopped fails the test if what was captured is not all in the file yet.
func (c *Capture) stopped() {
	c.lab.t.Helper()
	if !c.over {
		c.lab.t.Fatalf("read %s: stop the capture first", c.File)
	}
}

// Packets are the packets that were captured, from their IP headers on.
func (c *Capture) Packets() []Packet {
	c.lab.t.Helper()
	c.stopped()
	all, err := readPcap(c.File)
	if err != nil {
		c.lab.t.Fatalf("read capture: %v", err)
	}
	return all
}

// sniffer reads all packets of an interface, both ways. It reads a packet
// socket itself: dumpcap reports ready before it is, and loses what waits in
// its ring when it is stopped.
type sniffer struct {
	fd   int
	out  *pcapFile
	stop chan struct{}
	done chan struct{}
}

// StartCapture records a host's interface from now on.
func StartCapture(h *Host, dev string) *Capture {
	l := h.lab
	l.t.Helper()
	s := &sniffer{stop: make(chan struct{}), done: make(chan struct{})}
	link := uint32(linkEthernet)
	if err := h.Do(func() error { return s.open(dev, &link) }); err != nil {
		l.t.Fatalf("capture %s: %v", dev, err)
	}
	c := l.newCapture(h.Name+"-"+dev, link)
	s.out = c.out
	go s.read() // ends with halt, which waits
	c.halt = func() {
		close(s.stop)
		<-s.done
		_ = unix.Close(s.fd)
	}
	return c
}

// open binds to an interface, and tells if its packets have no frame around them.
func (s *sniffer) open(dev string, link *uint32) error {
	const all = 0x0300 // ETH_P_ALL in network order
	iface, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return err
	}
	if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: iface.Index}); err != nil {
		return err
	}
	at, err := unix.Getsockname(s.fd)
	if ll, ok := at.(*unix.SockaddrLinklayer); ok && ll.Hatype == unix.ARPHRD_NONE { // a tun
		*link = linkIP
	}
	return err
}

func (s *sniffer) read() {
	defer close(s.done)
	buf, oob := make([]byte, 65536), make([]byte, 64)
	stopping := false
	for {
		n, m, _, _, err := unix.Recvmsg(s.fd, buf, oob, 0)
		if err != nil { // nothing waits
			if stopping {
				return
			}
			select {
			case <-s.stop:
				stopping = true
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		s.out.write(when(oob[:m]), buf[:n])
	}
}

// when is the kernel's time of a packet, which all who watch an interface are told.
func when(oob []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 || len(messages[0].Data) < 16 {
		return time.Now()
	}
	b := messages[0].Data // struct timespec
	return time.Unix(int64(binary.NativeEndian.Uint64(b)), int64(binary.NativeEndian.Uint64(b[8:])))
}

// Fields reads fields of the packets that a display filter selects, one row a
// packet. decodeAs are tshark's -d rules.
func (c *Capture) Fields(filter string, fields []string, decodeAs ...string) [][]string {
	c.lab.t.Helper()
	c.stopped()
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

// Requests counts the requests that a display filter selects. What is sent again because
// nobody answered in time is none.
func (c *Capture) Requests(filter string) int {
	c.lab.t.Helper()
	branches := make(map[string]bool)
	for _, row := range c.Fields(filter, []string{"sip.Method", "sip.Via.branch"}) {
		branches[strings.Join(row, " ")] = true
	}
	return len(branches)
}

// CountBetween counts those of a time, to the microsecond.
func (c *Capture) CountBetween(from, to time.Time, filter string) (n int) {
	c.lab.t.Helper()
	for _, row := range c.Fields(filter, []string{"frame.time_epoch"}) {
		seconds, err := strconv.ParseFloat(row[0], 64)
		if err != nil {
			c.lab.t.Fatalf("read a packet's time: %v", err)
		}
		if at := time.UnixMicro(int64(math.Round(seconds * 1e6))); !at.Before(from.Truncate(time.Microsecond)) && !at.After(to) {
			n++
		}
	}
	return n
}

// Contains tells whether bytes occur anywhere in what was captured.
func (c *Capture) Contains(b string) bool {
	c.lab.t.Helper()
	c.stopped()
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
