// Package answer stands for a PBX behind an edge, where a real one would be the
// limit of what is measured: SIP over plain UDP, a registrar for everybody, an echo
// for every call.
//
// It asks for passwords if it is told one; its nonces are its own by an HMAC, so
// nothing is kept of a challenge. Of a registration nothing is kept either: nobody
// is called. Of a call, its 200 until the ACK (RFC 3261 section 13.3.1.4), or until
// 64*T1. An INVITE or anything else that is repeated is answered as before.
//
// Who reports to the echo (RTCP) is told at once what came of him, and of the way there
// and back.
//
// A few goroutines read one socket, and twice as many a socket each for sound and for
// reports, from Run until ctx ends; Run waits for them. It is for a plain network inside: it takes
// whatever comes, as plain text, and sends sound back to wherever it came from.
package answer
