// Package sdp reads session descriptions (RFC 8866) into a model and writes
// them anew. It is pure: no sockets, no keys made, nothing kept between calls.
//
// What is not in the model does not cross: an attribute that is not known
// here is dropped, and every value that is known is checked character by
// character. What decides where media go, whom we trust or how lines are cut
// is refused whole when it is off, with its line and the reason; any other
// attribute that is off is dropped alone, so that a call does not fail for a
// detail that nobody needs. Of an attribute that may stand once, the first
// counts, but of directions the last.
//
// Lines end in CRLF or LF, the last one may lack it. Control characters are
// refused everywhere, tabs among them: a PBX that reads them as white space
// would see another description than we do.
//
// Names are never resolved: a c= line with a host name gives no address.
//
// Keys (RFC 4568) and ICE passwords are in the model as values, and do not
// print: fmt, log/slog and encoding/json show a placeholder. fmt can't ask a
// value that sits in an unexported field of another struct, so who keeps one
// there must not print that struct.
//
// A Session belongs to who parsed or built it; nothing in it aliases the
// bytes it was read from, and no two of its Media share a slice.
//
// RFCs: 3264 (directions and hold), 3551 (static payload types), 3556
// (bandwidth of RTCP), 3605 (a=rtcp), 4145 and 5763 (setup), 4568 (crypto),
// 4574 (label), 4585 (feedback), 4796 (content), 5576 (ssrc), 5761 (rtcp-mux),
// 5888 (groups), 8122 (fingerprint), 8285 (extmap), 8830 (msid), 8839 and 8840
// (ICE), 8866.
package sdp
