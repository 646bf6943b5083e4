package e2e

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// spare is what the edge's memory may grow by, for whatever is tried.
const spare = 24 << 20

// What says that it is longer than anything, or otherwise long than it is, or never
// ends, ends its connection, and costs nothing; what is hidden behind it does not
// get through, as what follows a good message does.
func TestHugeLengths(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{Tapped: true}, peers.EdgeConfig{PBX: peers.Unchecked, Extra: peers.WSS + "message_timeout = \"2s\"\n" + quiet})
	call := o.talks("1002")
	host := o.Phone("sender")
	flat := func(what string, held int) {
		t.Helper()
		if grown := o.edge.MostMemory() - held; grown > spare {
			t.Errorf("%s: the edge's memory grew by %d kB", what, grown>>10)
		}
	}
	tries, reached := 0, 0
	begun := o.edge.LeastMemory()
	for what, lines := range map[string]string{
		"2^32-1": "Content-Length: 4294967295", "2^32": "Content-Length: 4294967296", "2^32+32": "Content-Length: 4294967328",
		"2^63-1": "Content-Length: 9223372036854775807", "2^63": "Content-Length: 9223372036854775808", "2^64+32": "Content-Length: 18446744073709551648",
		"400 digits": "Content-Length: " + strings.Repeat("9", 400), "negative": "Content-Length: -1", "signed": "Content-Length: +0",
		"of nothing": "Content-Length:", "in hexadecimal": "Content-Length: 0x10", "twice in a line": "Content-Length: 0, 300",
		"conflicting": "Content-Length: 0\r\nContent-Length: 300", "conflicting the other way": "Content-Length: 300\r\nContent-Length: 0",
		"conflicting, one compact": "l: 0\r\nContent-Length: 300", "conflicting, one with a space": "Content-Length : 300\r\nContent-Length: 0",
		"duplicate": "Content-Length: 0\r\nContent-Length: 0",
	} {
		phone := peers.NewPhone(host, o.edge, "1001")
		bad := strings.Replace(good(phone.Host, "OPTIONS", "bearer"), "Content-Length: 0", lines, 1)
		held := o.edge.LeastMemory()
		got, wires := o.torture(phone, bad+good(phone.Host, "MESSAGE", "hidden"))
		phone.Close()
		tries++
		reached += len(wires)
		if !got.closed || got.status != 400 && got.status != 413 || len(wires) > 0 {
			t.Errorf("a length %s: %+v, want 400, the connection's end, and nothing at the PBX", what, got)
		}
		flat(what, held)
	}
	phone := peers.NewPhone(host, o.edge, "1001") // the control
	if got, wires := o.torture(phone, good(phone.Host, "OPTIONS", "bearer")+good(phone.Host, "MESSAGE", "hidden")); got.closed || len(wires) < 2 {
		t.Errorf("of two good messages the PBX got %s", got.pbx)
	}
	phone.Close()
	t.Logf("%d lengths, %d messages reached the PBX", tries, reached)

	o.tap.Take()
	for what, c := range map[string]struct{ begin, piece string }{
		"a header block without end": {"OPTIONS sip:600@pbx.example.com SIP/2.0\r\nX-Long: ", strings.Repeat("a", 1024)},
		"100,000 headers":            {"OPTIONS sip:600@pbx.example.com SIP/2.0\r\n", strings.Repeat("X-Many: a\r\n", 1000)},
		"a start line without end":   {"OPTIONS sip:", strings.Repeat("6", 1024)},
		"empty lines without end":    {"OPTIONS sip:600@pbx.example.com SIP/2.0\r\nX-Long: a", strings.Repeat("\r\n ", 400)},
	} {
		phone := peers.NewPhone(host, o.edge, "1001")
		o.endless(what, phone.Write, c.begin, c.piece, flat)
		phone.Close()
	}
	for what, c := range map[string]struct{ begin, piece string }{
		"a frame of 2^63-1":                {frame(0x81, 1<<63-1), strings.Repeat("a", 1024)},
		"a frame of 2^63":                  {frame(0x81, 1<<63), strings.Repeat("a", 1024)},
		"a frame of 2^64-1":                {frame(0x82, 1<<64-1), strings.Repeat("a", 1024)},
		"a ping of 2^63-1":                 {frame(0x89, 1<<63-1), strings.Repeat("a", 1024)},
		"fragments without end":            {frame(0x01, 1024) + strings.Repeat("a", 1024), frame(0x00, 1024) + strings.Repeat("a", 1024)},
		"fragments of nothing without end": {frame(0x01, 0), strings.Repeat(frame(0x00, 0), 100)},
	} {
		phone := peers.NewWebPhone(host, o.edge, "1001")
		o.endless(what, func(s string) error { return phone.Frame([]byte(s)) }, c.begin, c.piece, flat)
		phone.Reset()
	}
	if wires := o.tap.Take(); len(wires) > 0 {
		t.Errorf("the PBX got %q", wires)
	}
	web := peers.NewWebPhone(host, o.edge, "1001") // the control
	if m := web.Register("secret-1001", 600, webDevice); m.Status() != 200 {
		t.Errorf("a good WebSocket's registration is answered %s", m.Start)
	}
	t.Logf("in all the edge's memory grew by %d kB at most", (o.edge.MostMemory()-begun)>>10)
	call.keepsSound(t, "lengths")
	call.ends()
}

// frame is the head of a masked frame, whose mask is zeros (RFC 6455 section 5.2).
func frame(opcode byte, length uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{opcode, 0xff}, length)) + "\x00\x00\x00\x00"
}

// endless writes on and on, until the edge closes: at once, or where a message has
// not grown too long when its time is over, or a second is left for the WebSocket's
// close (RFC 6455 section 7.1.1), in which what comes is thrown away.
func (o *office) endless(what string, write func(string) error, begin, piece string, flat func(string, int)) {
	o.t.Helper()
	held := o.edge.LeastMemory()
	written, err := len(begin), write(begin)
	for deadline := time.Now().Add(20 * time.Second); err == nil; written += len(piece) {
		if time.Now().After(deadline) {
			o.t.Errorf("%s: the edge took %d bytes", what, written)
			return
		}
		time.Sleep(time.Millisecond) // the line is not what is tried
		err = write(piece)
	}
	o.t.Logf("%s: closed within %d kB", what, written>>10)
	flat(what, held)
}
