// Package media is the sound of calls: descriptions (SDP), SRTP by SDES or by
// DTLS over ICE, a tone that is sent and a tone that is listened for, by PCMU or
// PCMA, and the RTCP that tells of both.
//
// A Session is one end of a call, on a UDP port of its own, with one goroutine
// that reads it until Close; DTLS has two more, pion's, and SDES one for the port of
// RTCP, unless both ends have it on RTP's. All sessions' packets are
// sent by the Engine's pacers, a goroutine for each processor, 20 ms apart for
// each and spread over that time between them. A Session's mutex guards it; who
// sends and who reads share it.
//
// Its ICE is a full agent's, with one candidate of its own: it controls what it
// offers, and lite agents (RFC 8445); of a full one that offers it takes the
// nomination. It does not gather by STUN, and takes no TCP.
//
// Reports have no feedback of AVPF's. DTLS without rtcp-mux has none: that would be
// a second handshake, for what RFC 8834 section 4.5 does away with.
//
// It refuses a description without a key that it can use: no sound leaves, and
// none is heard, that is not SRTP, and no report that is not SRTCP. RFC 3550, 3551,
// 3605, 3711, 4568, 5761, 5763, 5764, 7983, 8122, 8445, 8839.
package media
