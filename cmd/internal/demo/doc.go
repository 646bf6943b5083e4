// Package demo shows the edge at work on one machine, without Asterisk and
// without privileges: a PBX in plain text, a phone that speaks only TLS and SRTP,
// and a wire between the phone and the edge that keeps what an eavesdropper would
// see.
//
// The phone registers and makes two calls, one in each of two SRTP suites. Each
// result is of content: a tone's frequency at the far end, TLS records and not one
// word of SIP on the wire, noise where the audio should be; and as the control,
// the same eyes and ears on the plain side, which read and hear everything.
//
// Then the edge stays, and with it the test phone's page, for a call from the
// browser.
//
// What it refuses: nothing of its phone ever leaves in plain text, and it takes
// no answer that is not SRTP. Its PBX is bound to loopback, since it lets anyone
// register.
//
// Who owns what: Run starts all parts and ends them in the reverse order; each
// part's Close waits for its goroutines. The edge itself is the caller's: Run is
// handed a function that starts it.
//
// RFC 3261 (SIP), RFC 4568 (SDES), RFC 3711 and 7714 (SRTP), RFC 3551 (PCMU).
package demo
