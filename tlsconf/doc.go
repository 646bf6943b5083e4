// Package tlsconf holds the edge's certificates and yields the tls.Config its
// listeners serve with.
//
// They come from files the operator names, a pair for each, or, when none is
// named, from a self-signed pair made once and kept under the state directory. A
// handshake gets the one that carries the name asked for, or that of the edge's
// own domain; among several for a name, the first whose key the client can use.
// The self-signed file is its own trust anchor: a phone that is given it as its
// CA file needs nothing else. It carries name constraints, so that whoever
// steals its key can't use that trust to pose as any other name.
//
// What it refuses: TLS below 1.2, and cipher suites without forward secrecy or
// without an AEAD, unless the profile legacy asks for them; half a pair; a key
// that other users of the machine can read or change; a key that does not belong
// to its certificate; a certificate that has expired, is not valid yet, or may
// not be used by a server.
//
// Who owns what: a Source owns the certificates in force, behind one atomic
// pointer that each handshake reads. To replace one is to swap that pointer;
// handshakes already begun finish with the old one, and connections are not
// touched. Run looks at the files every few seconds, links included, and takes
// what is good when it has come to rest; a pair at fault is told, and the former
// one stays. A Source starts no goroutine; the caller's, in Run, ends with its
// context. Private keys never leave the package other than inside the
// tls.Config, and are in no log line and no error.
//
// RFC 8446 (TLS 1.3), RFC 9325 (recommendations for TLS), RFC 5280 (X.509),
// RFC 5922 (domain certificates in SIP).
package tlsconf
