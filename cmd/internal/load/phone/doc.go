// Package phone is a SIP user agent over one TLS or WebSocket connection: it
// registers, calls, answers, holds and hangs up, as any server may ask of it.
//
// A Phone has one goroutine, which reads its connection from Connect until the
// connection ends, and answers requests; it never waits for anything but the
// connection. What calls a Phone waits on its own goroutine. A Phone's mutex
// guards all of it and its calls.
//
// What sound is made of is not the phone's: a Media describes it. Nothing is
// repeated but a 200 without its ACK, and a 180 without its PRACK, since the transport
// is reliable (RFC 3261 sections 13.3.1.4 and 17).
//
// A call that is moved (302) is followed by the same connection, provisional answers
// are acknowledged where they are to be (PRACK), at either end, and what rings in several
// places is taken where it is answered first. Until then the description that came last
// is in force (early media).
//
// It refuses extensions that it does not know (420), a change while one of its own is
// under way (491), and a second call while it has one (486).
//
// RFC 3261, RFC 3262, RFC 3264, RFC 4028 (session timers), RFC 5626 section 4.5 (when to
// come back), RFC 8760 (digest).
package phone
