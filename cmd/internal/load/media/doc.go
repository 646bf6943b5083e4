// Package media is the sound of calls: descriptions (SDP), SRTP by SDES or by
// DTLS over ICE, a tone that is sent and a tone that is listened for.
//
// A Session is one end of a call, on a UDP port of its own, with one goroutine
// that reads it until Close; DTLS has two more, pion's. All sessions' packets are
// sent by the Engine's pacers, a goroutine for each processor, 20 ms apart for
// each and spread over that time between them. A Session's mutex guards it; who
// sends and who reads share it.
//
// Its ICE is a full agent's, with one candidate of its own: it controls what it
// offers, and lite agents (RFC 8445); of a full one that offers it takes the
// nomination. It does not gather by STUN, and takes no TCP.
//
// It refuses a description without a key that it can use: no sound leaves, and
// none is heard, that is not SRTP. RFC 3550, 3551, 3711, 4568, 5763, 5764, 7983,
// 8445, 8839.
package media
