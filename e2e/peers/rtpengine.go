package peers

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// ngAddr is where rtpengine takes commands, in its own namespace.
const ngAddr = "127.0.0.1:2223"

// RTPEngine is a running rtpengine 26 without its kernel module, from a root
// of Debian's testing suite.
type RTPEngine struct {
	*Process
	lab *Lab

	mu     sync.Mutex // guards what follows: one command at a time
	conn   net.Conn
	cookie int
}

// StartRTPEngine runs rtpengine on a host, and returns when it answers. Each
// of interfaces is an --interface, as "10.0.0.1" or "name/10.0.0.1"; none
// stands for the host's own address. extra are further options.
func StartRTPEngine(h *Host, interfaces []string, extra ...string) *RTPEngine {
	l := h.lab
	l.t.Helper()
	if len(interfaces) == 0 {
		interfaces = []string{h.Addr.String()}
	}
	args := []string{
		"--config-file=none", "--foreground", "--log-stderr", "--log-level=4", "--table=-1", "--listen-ng=" + ngAddr,
		"--port-min=30000", "--port-max=39999", "--timeout=3600", "--silent-timeout=3600",
	}
	for _, i := range interfaces {
		args = append(args, "--interface="+i)
	}
	r := &RTPEngine{lab: l, Process: l.start("rtpengine", h.forky("rtpengine", append(args, extra...)...))}
	err := h.Do(func() (err error) {
		r.conn, err = net.Dial("udp", ngAddr)
		return err
	})
	if err != nil {
		l.t.Fatalf("open the way to rtpengine: %v", err)
	}
	l.t.Cleanup(func() { r.conn.Close() })
	Until(l.t, 10*time.Second, "rtpengine to answer", func() bool {
		if !r.Running() {
			l.t.Fatalf("rtpengine ended: %v", r.err)
		}
		reply, err := r.command(NG{"command": "ping"}, 200*time.Millisecond)
		return err == nil && reply["result"] == "pong"
	})
	return r
}

// Offer gives rtpengine a caller's description and returns the one for the
// callee. options are further keys, as rtpengine's documentation of its
// control protocol has them: "direction", "transport-protocol", "SDES", "ICE".
func (r *RTPEngine) Offer(callID, fromTag, sdp string, options NG) string {
	r.lab.t.Helper()
	return r.describe(NG{"command": "offer", "call-id": callID, "from-tag": fromTag, "sdp": sdp}, options)
}

// Answer gives it the callee's description and returns the one for the caller.
func (r *RTPEngine) Answer(callID, fromTag, toTag, sdp string, options NG) string {
	r.lab.t.Helper()
	return r.describe(NG{"command": "answer", "call-id": callID, "from-tag": fromTag, "to-tag": toTag, "sdp": sdp}, options)
}

// Delete ends a call at once.
func (r *RTPEngine) Delete(callID string) {
	r.lab.t.Helper()
	r.Do(NG{"command": "delete", "call-id": callID, "delete-delay": 0})
}

func (r *RTPEngine) describe(command, options NG) string {
	r.lab.t.Helper()
	for key, value := range options {
		command[key] = value
	}
	sdp, _ := r.Do(command)["sdp"].(string)
	return sdp
}

// Do runs any command; one that is refused fails the test.
func (r *RTPEngine) Do(command NG) NG {
	r.lab.t.Helper()
	reply, err := r.command(command, 2*time.Second)
	if err != nil {
		r.lab.t.Fatalf("ask rtpengine to %v: %v", command["command"], err)
	}
	if result := reply["result"]; result != "ok" && result != "pong" {
		r.lab.t.Fatalf("ask rtpengine to %v: it answered %v: %v", command["command"], result, reply["error-reason"])
	}
	return reply
}

// command sends one command and awaits its reply, which carries its cookie.
// Under the same cookie rtpengine repeats a reply rather than act again, so
// one that was lost may be asked for.
func (r *RTPEngine) command(command NG, timeout time.Duration) (NG, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cookie++
	cookie := fmt.Sprintf("%d ", r.cookie)
	request := cookie + bencode(command)
	buf := make([]byte, 64<<10)
	var err error
	for range 3 {
		if _, err = r.conn.Write([]byte(request)); err != nil {
			return nil, fmt.Errorf("send: %w", err)
		}
		_ = r.conn.SetReadDeadline(time.Now().Add(timeout))
		for {
			var n int
			if n, err = r.conn.Read(buf); err != nil {
				break
			}
			if body, ours := strings.CutPrefix(string(buf[:n]), cookie); ours {
				return bdecode(body)
			}
		}
	}
	return nil, fmt.Errorf("await the reply: %w", err)
}
