package flow

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// writer13 is the sending half of a TLS 1.3 connection (RFC 8446 sections 5.2, 7.2 and
// 7.3): crypto/tls sends no KeyUpdate.
type writer13 struct {
	t      *testing.T
	suite  uint16
	secret []byte
	seq    uint64
}

// expand is HKDF-Expand-Label without a context (section 7.1).
func (w *writer13) expand(label string, length int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(info, byte(len("tls13 "+label)))
	info = append(append(info, "tls13 "+label...), 0)
	out, err := hkdf.Expand(sha256.New, w.secret, string(info), length)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// record seals what is of one content type.
func (w *writer13) record(kind byte, b ...byte) []byte {
	var aead cipher.AEAD
	var err error
	switch w.suite {
	case tls.TLS_AES_128_GCM_SHA256:
		var block cipher.Block
		if block, err = aes.NewCipher(w.expand("key", 16)); err == nil {
			aead, err = cipher.NewGCM(block)
		}
	case tls.TLS_CHACHA20_POLY1305_SHA256: // on a processor without AES
		aead, err = chacha20poly1305.New(w.expand("key", 32))
	default:
		w.t.Fatalf("the suite is %s", tls.CipherSuiteName(w.suite))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	nonce := w.expand("iv", 12)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^w.seq)
	w.seq++
	head := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(b)+1+aead.Overhead()))
	return aead.Seal(head, nonce, append(b, kind), head)
}

// update is a KeyUpdate that asks for one (section 4.6.3); what follows has the next key.
func (w *writer13) update() []byte {
	out := w.record(22, 24, 0, 0, 1, 1)
	w.secret, w.seq = w.expand("traffic upd", sha256.Size), 0
	return out
}

// A peer that changes its keys long after we wrote to it is answered, and served on.
func TestKeyUpdate(t *testing.T) {
	limits := DefaultLimits()
	limits.WriteTimeout = 50 * time.Millisecond
	ln := serve(t, limits, newInbox(), nil)
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(longest))
	var keys bytes.Buffer
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, KeyLogWriter: &keys})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(keys.String(), "CLIENT_TRAFFIC_SECRET_0 ")
	w, random := &writer13{t: t, suite: c.ConnectionState().CipherSuite}, []byte(nil)
	if _, err := fmt.Sscanf(line, "%x %x", &random, &w.secret); err != nil {
		t.Fatal(err)
	}
	answered := func(asked []byte) {
		t.Helper()
		_, _ = raw.Write(asked)
		got := make([]byte, len(pong))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != pong {
			t.Fatalf("a ping is answered %q, %v", got, err)
		}
	}
	answered(w.record(23, []byte(ping)...))
	time.Sleep(3 * limits.WriteTimeout) // that of the answer is over
	answered(append(w.update(), w.record(23, []byte(ping)...)...))
	time.Sleep(3 * limits.WriteTimeout)
	answered(append(w.update(), w.record(23, []byte(ping)...)...))
}

// deadlines is a connection that notes the deadlines that it is given.
type deadlines struct {
	mu  sync.Mutex
	all []time.Time
}

func (d *deadlines) Write(b []byte) (int, error) { return len(b), nil }

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, t)
	return nil
}

// No deadline outlives what it is for, nor is one taken from what is written next.
func TestDeadlineIsCleared(t *testing.T) {
	conn, wg := &deadlines{}, &sync.WaitGroup{}
	q := &queue{conn: conn, limits: DefaultLimits(), wg: wg, onError: func(error) {}}
	for range 3 {
		_ = q.push([]byte("message"))
		wg.Wait()
	}
	if len(conn.all) != 6 {
		t.Fatalf("%d deadlines were set, want 6", len(conn.all))
	}
	for i, at := range conn.all {
		if at.IsZero() != (i%2 == 1) {
			t.Errorf("deadline %d is %s", i, at)
		}
	}
}
