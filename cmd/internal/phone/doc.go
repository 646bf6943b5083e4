// Package phone is the test phone: a web page with which a browser registers
// at the edge and calls, to see and hear that all is well. It is a page, a
// style sheet and a script of our own, a SIP user agent over WebSocket with the
// browser's WebRTC, embedded in the binary; nothing comes from elsewhere.
//
// What it refuses: any method but GET and HEAD, any path but its own. The page
// may load nothing but its own files and talk to nobody but the edge that
// served it, and no other page may frame it (Content-Security-Policy). A
// password is held in the page's memory while it is registered, and nowhere
// else.
//
// Who owns what: New returns a handler without state, which the WebSocket
// listener serves.
//
// The script: RFC 3261 (SIP), 3262 (PRACK), 3264 (offer/answer), 3311 (UPDATE),
// 4733 (DTMF), 5626 (outbound), 6026 (INVITE transactions), 7118 (WebSocket),
// 7616 (digest), 8829 (WebRTC).
package phone
