// Package flow owns the connections: the TLS listener that phones reach, the
// WebSocket listener that browsers reach, trunks that either end dials, and the
// UDP sockets towards the PBX.
//
// A Flow is one connection (RFC 5626), written to by identity. Nothing is ever
// dialled to deliver a message, and no connection is looked up by an address
// that a message names: a flow that is gone is gone. A Trunk keeps connections to
// one peer, whether there is something to deliver or not.
//
// Each flow's bytes are framed here with bounds in size and time, taken apart
// by a lexer that knows no leniency, checked, and put together again as a
// sipgo message. What a peer and a PBX could read differently (RFC 4475, and
// the attacks that grew from it) does not get past this package: a message
// that fails is answered 400, or whatever fits better, and its connection is
// closed, because its framing cannot be trusted any longer. Only a request to
// a foreign URI scheme leaves it open.
//
// Refused: bare CR or LF, NUL and other control characters, white space where
// a token is due, two of a header that may come once, a Content-Length that is
// no plain number or not the length of the body, a CSeq whose method is not
// the request's, a version other than SIP/2.0, a missing From, To, Call-ID,
// CSeq or Via, a URI outside of the grammar, an Event that is no event type. And
// what is within the grammar, but something else to chan_sip: a known method in
// lower case, a tag where no tag is due or longer than it keeps one, a From or To
// of a scheme without users, a Request-URI longer than it has room for.
//
// # Who owns what
//
// Listener.Run owns its goroutines: one that accepts, and one reader for each
// connection; a writer lives only while there is something to write. The
// reader calls the Handler, one message after the other. Run returns when all
// are gone. PlainSocket.Run reads the PBX's socket in the same way.
//
// Trunk.Run owns one goroutine for each connection that it is to keep: it dials,
// and is the reader then. A trunk's connections that its peer dialled are the
// Listener's own. Quiet ones stay, as a vigil's pings tell whether they live.
//
// Behind a balancer a connection first tells whose it is, and is admitted as that
// one's (HAProxy's PROXY protocol, version 2). The balancer's own, to see whether we
// live, are served unasked.
//
// Sockets outlive the process (inherit): a Listener can serve on one that another
// process has bound, and a PlainSocket too. Then exactly one of them reads. What the
// Handler of that one calls foreign goes, as it came, by a seam to the process before
// it, which answers by its own copy of the socket. TLS connections stay where they are;
// Dismiss closes those that nothing needs.
//
// A browser's connection is given to net/http after its TLS handshake, and to
// the WebSocket library after its upgrade. What the library writes is queued,
// as what a flow sends is. Deadlines, limits and the Origin are ours to check.
// Before an upgrade the same HTTP server has the site's pages, one to a
// connection.
//
// RFCs: 3261 (grammar in section 25), 3581, 4475, 5118, 5626 (keep-alive in
// sections 4.4.1 and 5.4), 6454 (Origin), 6455 (WebSocket), 7118 (SIP over it).
package flow
