package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/coder/websocket"

	"github.com/sallyport/sallyport/cmd/internal/load/message"
)

// errPin is a certificate other than the pinned one.
var errPin = errors.New("the server's certificate is not the pinned one")

// Cause is why a connection could not be made, or ended, in words that are few
// enough to be counted by.
func Cause(err error) string {
	var verify *tls.CertificateVerificationError
	var name x509.HostnameError
	var op *net.OpError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, message.ErrFormat):
		return message.ErrFormat.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "no file descriptors left"
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EADDRINUSE): // of connections, and of sound
		return "no source address or port"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "no route"
	case errors.Is(err, errPin), errors.As(err, &verify), errors.As(err, &name):
		return "certificate not trusted"
	case errors.As(err, &op) && op.Op == "remote error": // crypto/tls names the server's alerts so
		return "TLS alert: " + strings.TrimPrefix(op.Err.Error(), "tls: ")
	case errors.As(err, &record):
		return "no TLS is spoken there"
	case errors.As(err, &dns):
		return "name not found"
	case errors.Is(err, context.Canceled):
		return "given up"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), websocket.CloseStatus(err) != -1:
		return "connection closed"
	case err != nil && strings.Contains(err.Error(), "WebSocket"):
		return "WebSocket refused"
	}
	return "other"
}
