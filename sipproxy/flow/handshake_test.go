package flow

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// said is a log that a test can read while it is written.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) has(words string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.b.String(), words)
}

// Each way to fail a handshake leaves its plain reason in the log.
func TestHandshakeReasons(t *testing.T) {
	speaks := func(config *tls.Config) func(net.Conn) {
		return func(c net.Conn) { _ = tls.Client(c, config).Handshake() }
	}
	writes := func(text string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, text) }
	}
	alerts := func(code tls.AlertError) func(net.Conn) {
		return func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12,
				VerifyConnection: func(tls.ConnectionState) error {
					_, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, byte(code)}) // in clear: no keys are in use yet
					return errors.New("told by hand")
				}}).Handshake()
		}
	}
	for _, tc := range []struct {
		name   string
		peer   func(net.Conn)
		reason string
	}{
		{"unknown CA", speaks(&tls.Config{RootCAs: x509.NewCertPool(), ServerName: "pbx.example.com"}), "refused our certificate"},
		{"alert unknown CA", alerts(48), "does not know who issued our certificate"},
		{"alert expired", alerts(45), "holds our certificate for expired"},
		{"alert unknown", alerts(46), "refused our certificate"},
		{"old version", speaks(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}), "no shared TLS version"},
		{"RSA suites alone", speaks(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}), "no shared cipher suite"},
		{"plain SIP", writes(options), "SIP without TLS"},
		{"plain HTTP", writes("GET / HTTP/1.1\r\n\r\n"), "HTTP without TLS"},
		{"noise", writes("\x00\x01\x02\x03\x04\x05\x06"), "speaks no TLS"},
		{"hangs up", func(c net.Conn) { c.Close() }, "hung up"},
		{"silent", func(c net.Conn) { _, _ = io.ReadAll(c) }, "handshake_timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			limits, log := DefaultLimits(), new(said)
			if tc.name == "silent" {
				limits.HandshakeTimeout = 100 * time.Millisecond
			}
			ln, err := ListenTLS(netip.MustParseAddrPort("127.0.0.1:0"), serverConfig(t), limits, newInbox(), nil, slog.New(slog.NewTextHandler(log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			run(t, ln.Run)
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			tc.peer(c)
			until(t, "the reason "+tc.reason, func() bool { return log.has(tc.reason) })
		})
	}
	if text := "something new"; why(errors.New(text)) != text {
		t.Error("an error that is not known is not told as it came")
	}
}

// A CA's question about a name ends with the handshake (RFC 8737 section 3): no
// flow comes of it, and no complaint.
func TestChallengeIsNoFlow(t *testing.T) {
	for _, tc := range []struct {
		protocols []string
		flow      bool
	}{{[]string{"acme-tls/1"}, false}, {nil, true}} {
		config := serverConfig(t)
		config.NextProtos = tc.protocols
		log := new(said)
		h := newInbox()
		ln, err := ListenTLS(netip.MustParseAddrPort("127.0.0.1:0"), config, DefaultLimits(), h, nil, slog.New(slog.NewTextHandler(log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		run(t, ln.Run)
		c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: tc.protocols})
		if err != nil {
			t.Fatal(err)
		}
		if tc.flow {
			send(t, c, options)
			until(t, "the message", func() bool { n, _ := h.count(); return n == 1 })
		} else if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after the handshake: %v, want the end", err)
		}
		c.Close()
		until(t, "the connection to be gone", func() bool { return ln.Stats().Open == 0 })
		if _, closed := h.count(); closed != 0 != tc.flow {
			t.Errorf("protocols %q: %d flows were closed", tc.protocols, closed)
		}
		if n := ln.Stats().Events["acme_challenge"]; n != 0 == tc.flow {
			t.Errorf("protocols %q: counted %v", tc.protocols, ln.Stats().Events)
		}
		if log.has("handshake failed") {
			t.Errorf("protocols %q: the log complains", tc.protocols)
		}
	}
}
