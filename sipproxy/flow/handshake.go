package flow

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
)

// why says in an operator's words what ended a handshake, and what to do where
// something can be done. crypto/tls exports an error for one case alone, so its
// words are what there is to go by; what they don't match is told as it came.
func why(err error) string {
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &notTLS):
		return plainWords(notTLS.RecordHeader)
	case errors.Is(err, errNoPlace):
		return "too many handshakes at a time: raise sip.max_handshakes, or see who connects so often"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "the peer did not finish within sip.handshake_timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the peer hung up: a port scan, or a phone that does not trust the certificate and won't say so"
	}
	if word := refusedWord(err); word != "" {
		return whyRefused(word, err)
	}
	text := err.Error()
	for _, known := range []struct{ words, reason string }{
		{"remote error: tls: unknown certificate authority", "the phone does not know who issued our certificate: give it that CA's file, or our intermediates are missing"},
		{"remote error: tls: expired certificate", "the phone holds our certificate for expired: see `sallyport cert show`, and the phone's clock"},
		{"remote error: tls: bad certificate", "the phone refused our certificate: it does not trust the issuer, or connects by a name the certificate lacks"},
		{"remote error: tls: unknown certificate", "the phone refused our certificate: it does not trust the issuer, or connects by a name the certificate lacks"},
		{"remote error: tls: unsupported certificate", "the phone can't use our certificate's kind of key: serve an RSA one beside it"},
		{"remote error: tls: revoked certificate", "the phone holds our certificate for revoked: get a new one"},
		{"remote error: tls: protocol version not supported", "the phone speaks none of our TLS versions: see tls.profile"},
		{"remote error: tls: handshake failure", "the phone found no common ground with us: see tls.profile"},
		{"remote error: tls: insufficient security level", "the phone finds our key or suites too weak"},
		{"client offered only unsupported versions", "no shared TLS version: the phone's are too old for tls.profile"},
		{"no cipher suite supported by both", "no shared cipher suite: the phone's are too old for tls.profile, or need an RSA certificate"},
		{"peer doesn't support any of the certificate's signature algorithms", "the phone can't use our certificate's kind of key: serve an RSA one beside it"},
		{"incompatible point formats", "the phone shares no elliptic curve with us"},
	} {
		if strings.Contains(text, known.words) {
			return known.reason
		}
	}
	return text
}

// plainWords tells what else the first five bytes look like. They are the
// peer's, unauthenticated, and so are not repeated.
func plainWords(head [5]byte) string {
	start := string(head[:])
	for _, method := range []string{"REGIS", "INVIT", "OPTIO", "SUBSC", "PUBLI", "NOTIF", "MESSA", "SIP/2", "\r\n\r\n"} {
		if strings.HasPrefix(start, method) {
			return "the peer speaks SIP without TLS: set the phone's transport to TLS"
		}
	}
	for _, method := range []string{"GET ", "POST ", "HEAD ", "PUT "} {
		if strings.HasPrefix(start, method) {
			return "the peer speaks HTTP without TLS"
		}
	}
	return "the peer speaks no TLS"
}
