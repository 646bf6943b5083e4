// Package media is the sound of calls: descriptions (SDP), SRTP by SDES or by
// DTLS over ICE, a tone sent and a tone listened for.
package media
