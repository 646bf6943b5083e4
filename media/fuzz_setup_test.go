package media

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/recordlayer"
	"github.com/pion/stun/v3"
)

// This file is what strangers can send that is no media: STUN and DTLS.

// FuzzDemux tells protocols apart: one first byte is one protocol, whatever
// follows, as RFC 7983 section 7 draws it.
func FuzzDemux(f *testing.F) {
	for _, first := range []byte{0, 3, 4, 15, 16, 19, 20, 63, 64, 79, 80, 127, 128, 191, 192, 255} {
		f.Add([]byte{first})
		f.Add([]byte{first, 200, 0, 1, 0, 0, 0, 7, 0, 0, 0, 7})
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		got := demux(p)
		if len(p) == 0 {
			if got != protoUnknown {
				t.Fatalf("nothing is protocol %d", got)
			}
			return
		}
		want := protoUnknown
		for proto, span := range map[protocol][2]int{protoSTUN: {0, 3}, protoDTLS: {20, 63}, protoRTP: {128, 191}} {
			if int(p[0]) >= span[0] && int(p[0]) <= span[1] {
				want = proto
			}
		}
		if got != want || demux(p[:1]) != want {
			t.Fatalf("%x is protocol %d, want %d", p, got, want)
		}
		if _, _, ok := classify(p); ok && want != protoRTP {
			t.Fatalf("%x can be RTP or RTCP, and is protocol %d", p, want)
		}
	})
}

// FuzzAdmissible filters datagrams for a handshake: what passes is whole records
// to its end, as pion's own parser finds them, with no alert in clear and no
// message in clear that our end sends.
func FuzzAdmissible(f *testing.F) {
	for _, p := range flights(f) {
		f.Add(p, true)
		f.Add(p, false)
	}
	f.Add([]byte{recordAlert, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40}, false)
	f.Add([]byte{recordChangeCipherSpec, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, recordHandshake, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9}, true)
	f.Add([]byte{recordApplication, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 1}, true)
	ours := map[Role][]byte{Active: {clientHello}, Passive: {helloRequest, serverHello, helloVerifyRequest}}
	f.Fuzz(func(t *testing.T, p []byte, active bool) {
		a := &association{}
		if active {
			a.role = Active
		}
		before := bytes.Clone(p)
		ok := a.admissible(p)
		if !bytes.Equal(p, before) {
			t.Fatalf("%x was changed to %x", before, p)
		}
		if hello := helloOf(p); hello != 0 { // its second one is told by the same, and begins nothing
			second := bytes.Clone(p)
			second[recordHeader+5] |= 1
			if helloOf(second) != hello || isClientHello(second) || demux(p) != protoDTLS || isClientHello(p) && len(p) < recordHeader+12+34 {
				t.Fatalf("%x is the hello %x, its repetition %x", p, hello, helloOf(second))
			}
		} else if isClientHello(p) {
			t.Fatalf("%x begins a handshake that nothing tells from others", p)
		}
		if !ok || len(p) == 0 {
			return
		}
		records, err := recordlayer.UnpackDatagram(p)
		if err != nil {
			t.Fatalf("%x passes, and is no datagram of records: %v", p, err)
		}
		for _, r := range records {
			clear, body := r[3] == 0 && r[4] == 0, r[recordHeader:]
			switch {
			case len(body) == 0 || r[0] < recordChangeCipherSpec || r[0] > recordApplication:
				t.Fatalf("record %x passes", r)
			case clear && (r[0] == recordAlert || r[0] == recordApplication):
				t.Fatalf("record %x passes in clear", r)
			case clear && r[0] == recordHandshake && slices.Contains(ours[a.role], body[0]):
				t.Fatalf("message %d of our own end passes", body[0])
			}
		}
	})
}

// flights are the datagrams of a whole handshake, as both ends send them.
func flights(f *testing.F) (all [][]byte) {
	f.Helper()
	client, server := newBrowser(f, netip.AddrPort{}), newBrowser(f, netip.AddrPort{})
	client.to, server.to = at(server.conn), at(client.conn)
	log := &recorder{shaker: client.shaker()}
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	a, err := dtls.ClientWithOptions(log, log.LocalAddr(), dtls.WithCertificates(client.cert.tls), dtls.WithInsecureSkipVerify(true),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM))
	if err != nil {
		f.Fatal(err)
	}
	b, err := dtls.ServerWithOptions(server.shaker(), server.LocalAddr(), dtls.WithCertificates(server.cert.tls), dtls.WithInsecureSkipVerify(true),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM), dtls.WithClientAuth(dtls.RequireAnyClientCert))
	if err != nil {
		f.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.HandshakeContext(ctx) }() // ends with the handshake; waited for below
	if err := a.HandshakeContext(ctx); err != nil {
		f.Fatal(err)
	}
	if err := <-done; err != nil {
		f.Fatal(err)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if len(log.all) < 6 {
		f.Fatalf("a handshake of %d datagrams", len(log.all))
	}
	return slices.Clone(log.all)
}

// recorder keeps what goes by one end of a handshake.
type recorder struct {
	shaker
	mu  sync.Mutex // guards all
	all [][]byte
}

func (r *recorder) keep(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, bytes.Clone(p))
}

// ReadFrom reads and keeps.
func (r *recorder) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := r.shaker.ReadFrom(p)
	if err == nil {
		r.keep(p[:n])
	}
	return n, from, err
}

// WriteTo keeps and writes.
func (r *recorder) WriteTo(p []byte, to net.Addr) (int, error) {
	r.keep(p)
	return r.shaker.WriteTo(p, to)
}

// FuzzSTUN gives the secure side checks. What a stranger makes gets no answer
// and changes nothing. What is signed gets one, signed as well and no longer
// than a datagram may be, and only a success is a path.
func FuzzSTUN(f *testing.F) {
	d := newDoor(f)
	creds := Credentials{Ufrag: "AAfuzzed", Pwd: "a-password-that-is-always-the-same"} // so that seeds keep their sense
	d.tr.t.creds = []Credentials{creds}
	d.table.agents[creds.Ufrag] = agent{d.tr.t, creds}
	conn := udp(f)
	sign := func(p []byte) []byte {
		m := &stun.Message{Raw: bytes.Clone(p)}
		if len(p) < 20 || m.Decode() != nil {
			return nil
		}
		m.WriteLength()
		if stun.NewShortTermIntegrity(creds.Pwd).AddTo(m) != nil {
			return nil
		}
		return m.Raw
	}
	base := []stun.Setter{stun.BindingRequest, stun.NewTransactionIDSetter([12]byte{1, 2, 3}), stun.NewUsername(creds.Ufrag + ":them")}
	for _, more := range [][]stun.Setter{
		{prio(100)}, {prio(100), useCandidate}, {prio(1), flagged(stun.AttrICEControlled)}, {flagged(0x7777), prio(1)},
		{prio(100), stun.NewShortTermIntegrity(creds.Pwd), stun.Fingerprint}, {stun.NewShortTermIntegrity("guess")}, {stun.Fingerprint},
	} {
		m, err := stun.Build(append(base[:len(base):len(base)], more...)...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Raw, true)
		f.Add(m.Raw, false)
	}
	// RFC 5769 section 2.1.
	f.Add(unhex(f, "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36"+
		"000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"), false)
	f.Fuzz(func(t *testing.T, p []byte, signs bool) {
		if signs {
			if p = sign(p); p == nil {
				return
			}
		} else if m := (&stun.Message{Raw: bytes.Clone(p)}); m.Decode() == nil {
			signs = stun.NewShortTermIntegrity(creds.Pwd).Check(m) == nil // a seed that is
		}
		for len(d.tr.t.paths) > 0 {
			d.leave(d.tr.t, d.tr.t.paths[0])
		}
		d.batch.Fill(0, p, at(conn))
		if d.batch.Truncated(0) || demux(p) != protoSTUN {
			return
		}
		dropped := d.counts.drops[DropSTUN]
		d.fromPhone(d.secure[0], 0)
		answered, paths := d.secure[0].out.Queued() > 0, len(d.tr.t.paths)
		d.secure[0].flush()
		if answered == (d.counts.drops[DropSTUN] > dropped) {
			t.Fatalf("%x: answered %v, dropped %v", p, answered, d.counts.drops[DropSTUN]-dropped)
		}
		if !answered {
			if paths > 0 {
				t.Fatalf("%x gets no answer, and is a path", p)
			}
			return
		}
		if !signs {
			t.Fatalf("%x of a stranger is answered", p)
		}
		out, _ := read(conn, longest)
		m := &stun.Message{Raw: out}
		if err := m.Decode(); err != nil {
			t.Fatalf("%x is answered by %x: %v", p, out, err)
		}
		if stun.Fingerprint.Check(m) != nil || stun.NewShortTermIntegrity(creds.Pwd).Check(m) != nil || !bytes.Equal(m.TransactionID[:], p[8:20]) {
			t.Fatalf("%x is answered by %s, which does not verify", p, m)
		}
		if success := m.Type == bindingSuccess; success != (paths == 1) || !success && m.Type != bindingError {
			t.Fatalf("%x is answered by %s, with %d paths", p, m, paths)
		}
	})
}
