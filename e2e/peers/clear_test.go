package peers

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var (
	clearA = netip.MustParseAddrPort("198.51.100.1:40000")
	clearB = netip.MustParseAddrPort("203.0.113.1:5061")
)

// connection is a stream in segments, from before its SYN on if whole.
func connection(from, to netip.AddrPort, b []byte, whole bool) (all []Packet) {
	seq := uint32(1<<32 - 100) // wraps
	if whole {
		all = append(all, segment(from, to, seq-1, tcpSYN, nil))
	}
	for ; len(b) > 0; b = b[min(len(b), 1000):] {
		part := b[:min(len(b), 1000)]
		all = append(all, segment(from, to, seq, 0, part), segment(from, to, seq, 0, part[:len(part)/2])) // and a part again
		seq += uint32(len(part))
	}
	return all
}

// tlsStream is what a client says by TLS.
func tlsStream(t *testing.T, said []byte) []byte {
	t.Helper()
	i := NewIssuer(t)
	pair := i.Pair("bar.example.com", false)
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() { // ends with the connection; waited for below
		server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{cert}})
		_, err := io.Copy(io.Discard, server)
		done <- err
	}()
	var wire strings.Builder
	roots := trust(t, i.CAFile())
	roots.ServerName = "bar.example.com"
	client := tls.Client(tee{near, &wire}, roots)
	if _, err := client.Write(said); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return []byte(wire.String())
}

// tee is a connection whose written bytes are kept.
type tee struct {
	net.Conn
	w io.Writer
}

func (c tee) Write(b []byte) (int, error) {
	_, _ = c.w.Write(b)
	return c.Conn.Write(b)
}

func TestClear(t *testing.T) {
	invite := []byte("INVITE sip:2001@bar.example.com SIP/2.0\r\nCall-ID: x\r\n\r\n")
	stream := tlsStream(t, slices.Repeat(invite, 200))
	rtp := func(body string) Packet {
		return Datagram(clearA, clearB, append([]byte{0x80, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4}, body...))
	}
	rtcp := func(body string) Packet {
		return Datagram(clearA, clearB, append([]byte{0x80, 200, 0, 1, 1, 2, 3, 4}, body...))
	}
	many := func(p func() Packet) (all []Packet) {
		for range 50 {
			all = append(all, p())
		}
		return all
	}
	for name, c := range map[string]struct {
		packets []Packet
		want    string // in one of the faults; nothing: there is none
	}{
		"TLS":                         {connection(clearA, clearB, stream, true), ""},
		"TLS from amidst":             {connection(clearA, clearB, stream[len(stream)/2:], false), ""},
		"SRTP":                        {many(func() Packet { return rtp(string(random(170))) }), ""},
		"SRTCP":                       {many(func() Packet { return rtcp(string(random(60)) + "\x80\x00\x00\x01" + string(random(10))) }), ""},
		"DTLS":                        {[]Packet{Datagram(clearA, clearB, append([]byte{22, 0xfe, 0xfd}, make([]byte, 20)...))}, ""},
		"SIP over UDP":                {[]Packet{Datagram(clearA, clearB, invite)}, `"SIP/2.0" is said by 198.51.100.1`},
		"other UDP":                   {[]Packet{Datagram(clearA, clearB, []byte("hello"))}, "neither DTLS nor SRTP"},
		"SIP over TCP":                {connection(clearA, clearB, invite, true), "no TLS"},
		"SIP over TCP from amidst":    {connection(clearA, clearB, slices.Repeat(invite, 300), false), "no TLS"},
		"SIP in TLS that is none":     {connection(clearA, clearB, append([]byte{22, 3, 1, 0, byte(len(invite))}, invite...), true), "is said"},
		"SIP behind TLS":              {connection(clearA, clearB, append(slices.Clone(stream), invite...), true), "no TLS"},
		"TLS whose content is a text": {connection(clearA, clearB, slices.Concat([]byte{22, 3, 1, 0, 1, 0}, []byte{23, 3, 3, 8, 0}, []byte(strings.Repeat("etaoin", 342))[:2048]), true), "chance"},
		"TLS with a hole":             {slices.Delete(connection(clearA, clearB, stream, true), 3, 5), "hole"},
		"RTP":                         {many(func() Packet { return rtp(Spoken(700)) }), "chance"},
		"RTP of a known tone":         {[]Packet{rtp(Spoken(700))}, "is said"},
		"RTCP":                        {many(func() Packet { return rtcp(strings.Repeat("phone@10.1.0.3", 6)) }), "chance"},
		"a fragment":                  {[]Packet{fragment(rtp(string(random(100))))}, "fragment"},
		"ICMP that quotes its sender": {[]Packet{unreachable(clearA, clearB, Datagram(clearA, clearB, invite))}, "is said"},
		"ICMP that quotes another":    {[]Packet{unreachable(clearA, clearB, Datagram(clearB, clearA, invite))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := inClear(c.packets, Spoken(700))
			if c.want == "" && len(got) > 0 || c.want != "" && !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, c.want) }) {
				t.Errorf("in clear is %q, want %q", got, c.want)
			}
		})
	}
}

func unreachable(from, to netip.AddrPort, quoted Packet) Packet {
	return packet(ICMP, from.Addr(), to.Addr(), append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, quoted.Data...))
}

func fragment(p Packet) Packet {
	p.Data[6] = 0x20
	return p
}

// What is forged has checksums that a host takes, and a reset the number that
// follows.
func TestForged(t *testing.T) {
	first := segment(clearA, clearB, 1000, 0, []byte("hello"))
	reset := first.Reset()
	seq, flags := reset.sequence()
	if seq != 1005 || flags != tcpRST || reset.Source() != clearA || reset.Destination() != clearB {
		t.Errorf("the reset is %d, flags %d, from %s to %s", seq, flags, reset.Source(), reset.Destination())
	}
	for name, p := range map[string]Packet{"a reset": reset, "a datagram": Datagram(clearA, clearB, []byte("odd")), "from another port": Datagram(clearA, clearB, []byte("even")).FromPort(9)} {
		pseudo := uint32(p.Data[9]) + uint32(len(p.segment()))
		for i := 12; i < 20; i += 2 {
			pseudo += uint32(p.Data[i])<<8 + uint32(p.Data[i+1])
		}
		if internetSum(0, p.Data[:ipHead]) != 0 || internetSum(pseudo, p.segment()) != 0 {
			t.Errorf("%s has wrong checksums: %x", name, p.Data)
		}
	}
}
