// Package prove watches an interface and proves that nothing of SIP or media
// crossed it in clear: it accounts for every packet.
//
// # What proves
//
// A packet to or from the edge counts as proved when what it is was verified,
// not when it looks so: SRTP and SRTCP by their tags under the key of a live
// call, of the packet's own direction; STUN by its MESSAGE-INTEGRITY under a
// call's password; TLS and DTLS by their records, which are followed through the
// TCP stream, in order, whatever was repeated or overtaken. Media by TCP (RFC
// 6544) is taken out of its frames and verified like datagrams. The keys are
// told by the running edge. A packet that comes before its key is known is held,
// and judged when the edge was asked some seconds later.
//
// # What is a leak
//
// SIP in clear, by UDP, TCP or WebSocket, at any port and between whomever. RTP
// and RTCP that verify under no key of a call: at the edge's ports each packet,
// elsewhere what behaves as RTP does. Bytes on the edge's TLS connections that
// are no records. All that the edge's own sockets send and that is none of the
// above.
//
// # What is not ours
//
// Strangers send what they like to a public address, and the edge drops it. What
// comes from a host that has no call, goes to the edge's own address, and is not
// answered in kind, is listed as "inbound, not ours", by its own name, and is no
// leak. From the host of a call it is one: that is a phone of ours that speaks
// in clear. Strict makes it one from anybody.
//
// # What cannot be proved
//
// Packets that the kernel dropped, bytes of a stream that were not seen, fragments
// without their rest, an edge that does not say its keys, or has not those of calls
// that a process before an upgrade goes on with: the proof is incomplete, and says so. SIP and media are not looked for inside other tunnels than IP in IP,
// GRE and PPPoE, nor RTP in TCP streams that are not the edge's.
//
// # Who owns what
//
// Watch owns the capture, and the goroutine that reads it, which is gone when it
// returns. An Account is used by one goroutine. Frames are borrowed until Take
// returns; what is held is copied, within bounds. Nothing that was decrypted is
// kept or printed, nor any content, number or user of what leaked.
//
// RFCs: 3261 (SIP's first lines), 3550 (RTP and RTCP), 3711 and 7714 (tags), 4571
// (framing), 5246 and 8446 (TLS records), 6347 and 9147 (DTLS records), 7118 (SIP
// over WebSocket), 7983 (telling them apart), 8489 (STUN).
package prove
