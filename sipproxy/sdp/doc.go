// Package sdp reads session descriptions (RFC 8866) into a model and writes
// them anew. It is pure: no sockets, no keys made, nothing kept.
//
// What is not in the model does not cross: an attribute that is not known
// here is dropped, and every value that is known is checked character by
// character. A description outside of the grammar is refused whole, with the
// line and the reason.
//
// Names are never resolved: a c= line with a host name gives no address.
//
// Keys (RFC 4568) are in the model as bytes, and do not print: every way to
// format a Crypto or a Key shows a placeholder.
//
// RFCs: 3264 (directions and hold), 3551 (static payload types), 3605
// (a=rtcp), 4145 and 5763 (setup), 4568 (crypto), 5761 (rtcp-mux), 8122
// (fingerprint), 8839 (ICE), 8843 (BUNDLE), 8866.
package sdp
