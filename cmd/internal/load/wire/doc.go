// Package wire connects phones: SIP over TLS (RFC 3261, RFC 5923) and over
// secure WebSocket (RFC 7118).
//
// A Conn carries whole messages. One goroutine may read while others write; the
// reader is the caller's. Nothing leaves but by TLS, whose certificate is
// verified against a CA, a pin or the system's roots, unless the caller says
// that it is not to be.
//
// Cause tells in a word why a connection failed, for counting.
package wire
