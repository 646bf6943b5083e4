// Package media relays RTP and RTCP between the legs of calls: SRTP on the
// secure side, where all calls of a worker share one UDP port pair, and plain
// RTP on the other, where each stream has a port pair of its own.
//
// # Workers
//
// A worker is one goroutine with one epoll set: its secure sockets, its
// streams' plain sockets, and a wake-up. It owns the crypto contexts, tables,
// buffers and counters of its sessions, under one mutex that it gives up only
// while it waits for packets: a packet takes no lock, and allocates nothing.
// Control takes the mutex and does what it has to between two batches; what
// may not wait for it, as a handshake's answers, goes into a queue, with a
// wake-up. Sessions are kept together on as few workers as can well have them:
// what costs most is not to relay a packet but to wake a thread for it. For the
// same reason a worker has no thread of its own, which would have to tell Go's
// scheduler of each wait.
//
// # Latching
//
// A packet from the secure side is looked up by (source, SSRC). If that is
// not known, its tag is tried under the keys of the streams it may belong to,
// in an order that finds honest phones first, with a budget that strangers
// cannot exceed. Only a tag that verifies changes anything: it latches the
// stream to the packet's source, and only for a packet newer than all before
// does a known stream follow to a new source. Before a phone was heard, its
// leg's packets go to the address that its own signalling connection comes
// from, which cannot be another's.
//
// # Many calls of one address
//
// Another edge sends the media of all its calls from one address and port. Each
// call declares its SSRC, and that names it: one verification tells whether it is
// right, and neither a search nor its budget are needed. Such a call may be Sole, so that
// nothing else is ever tried on it, and Fixed, so that nothing is sent but to the host
// that its description names, whoever sends its packets on from elsewhere. Two calls with one
// SSRC are told apart by their tags.
//
// # Changes of key
//
// Who offers a new key uses it when it has the answer; who answers, when the first
// packet under the offered one has verified (Await). The key before is accepted until
// then and a little longer, with its own record of what was seen, and then never
// again. Roll-over counters and SRTCP indexes go on (RFC 3711 sections 3.3.1 and 3.4),
// and are found where a phone begins them again. No MKI tells the keys apart: there are
// two to try for seconds, which costs less than its bytes in each packet.
//
// # Keys by DTLS
//
// A Transport is what streams share whose keys come by DTLS-SRTP, with ICE or
// without. Its handshakes are the only goroutines beside the worker: one each
// while it lasts, bounded in number, fed by the worker and heard by it. Keys
// count when the certificate that they come from is the one that the phone's
// description names. With ICE (of which we are the lite end), a path is one
// that a check with a valid MESSAGE-INTEGRITY came by, and the phone nominates.
// Without, the certificate tells whose handshake it is. The files: transport is
// the drawing, ice and stun the paths, handshake and dtls the keys, membership
// who is on a transport and for how long.
//
// # By TCP
//
// Where UDP is blocked, a phone with ICE connects to our passive candidate (RFC
// 6544). One listener serves all workers. A connection waits in the lobby, with
// a goroutine, a deadline and a bound, until its first frame is a check that
// verifies; its user fragment names the worker. From there on it is the worker's
// own: a path, told from all others by the connection and not by its address,
// that carries one transport. What it sends is deframed and goes the way of a
// datagram; what is sent to it is framed, and dropped if it takes too little. It
// ends with the phone's consent, its transport, or the phone's wish. The files:
// lobby until it is adopted, connection from there on, frame the bytes.
//
// # One source
//
// Where a description announces our SSRC, all that the PBX sends on a stream
// leaves under it (splice): browsers need that, and SDES phones do without.
//
// # Succession
//
// The secure sockets outlive the process. Heirlooms are what the next one inherits;
// once that has them, Yield has this one read no longer, while it sends by them as
// before; Resume has it read again, if that one is gone. What the reader finds no stream, no check and no handshake for, it passes on,
// as it came, to the process before it by a seam: so the calls of that one keep their
// sound. In a chain each passes on what is not its own, and the oldest drops it.
// inherit is all of that.
//
// # What it refuses
//
// On the secure side all that has no verified tag, or was seen before. On the
// plain side all that does not come from the address that the PBX named, and
// what is not RTP or RTCP. Each drop is counted by its reason.
//
// # Who owns what
//
// Engine.Run owns the workers, one goroutine that delivers events, and those of
// the lobby; all are gone, and all sockets closed, when it returns. A Session is
// used by one call; its methods may be called from any goroutine, and run there.
// Buffers belong to the worker; nothing outlives its batch.
//
// RFCs: 3550, 3551 (marker), 3711, 4568, 4571 (framing), 5576 (announced sources), 5761 (telling
// RTCP from RTP), 5763 and 5764 (DTLS-SRTP), 6188, 6347 (DTLS 1.2), 6544 (ICE-TCP),
// 7675 (consent), 7714, 7983 (telling RTP from DTLS and STUN), 8445 (ICE), 8489
// (STUN), 8843 (bundled streams).
package media
