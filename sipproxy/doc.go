// Package sipproxy routes SIP between the secure side (phones, each on a flow
// of its own) and the plain side (the PBX, over UDP). It holds the bindings
// that tell which flow leads to a registered phone, and owns each call's life
// from the INVITE to the last media counter.
//
// # What it does
//
// A request is read as a chain: validated (package flow), judged (package
// policy), matched to a transaction, routed, written anew, sent. Every message
// that leaves is built from the parsed model: our Via alone, our Contact, our
// SDP; only headers that mean something end to end are copied. Call-ID, tags
// and CSeq stay as they are, so transfers and third-party control work; but
// where the PBX writes its address into a Call-ID, phones see a seal. Addresses
// and names of the plain side do not leave in any header or in what events tell;
// only a digest's realm stays what it is, as passwords are checked against it.
//
// A REGISTER goes to the PBX with a Contact of ours, sip:<token>@<plain
// address>. The token is an HMAC of the user and the device, so a phone that
// reconnects keeps its one contact there, and a device with several connections
// (RFC 5626) has one. Only a 200 of the PBX makes, changes or removes a binding;
// a refresh that says nothing new may be answered here, within what the PBX
// granted (Config.RefreshInterval). What the PBX says to a contact before that
// 200 waits for it.
//
// There may be several PBXs (pool): a new request is hunted, from the best that is
// up to the next while one says nothing, or 503. A dialog is with one of them.
//
// A call is a dialog (RFC 3261 section 12) with two legs, and a media session
// while it has SDP. It is known by Call-ID and the tags of each side, so that
// a PBX which is itself a proxy can send the same dialog through us twice.
//
// A subscription (RFC 6665) is a dialog too, without media: each end speaks to
// the other's Contact by ours, and what a NOTIFY tells of dialogs, presence and
// mailboxes is read for addresses of the inside.
//
// Each kind of phone is offered what it takes: a browser's page UDP/TLS/RTP/SAVPF
// with ICE, bundled; any other phone RTP/SAVP with both SDES and DTLS to choose
// from, and a web phone that is no browser ICE with it. negotiate is the drawing
// of offer and answer; sdes and link are the two ways to keys.
//
// When another process follows (succession), this one keeps its phones' connections and
// their calls. IsForeign tells what the PBX says to the process before: it goes there
// as it came. Yield leaves checking the PBXs and registering with providers to the
// process after.
//
// # What it refuses
//
// Media that is not encrypted on the secure side (488 with a Warning), a
// request inside a dialog that comes on another flow than the dialog's (481),
// a body that could carry SDP past us (415), a request that is here already by
// another way (482), more requests than may wait for their answer (503), anything in
// another user's name than the certificate's that a phone showed (403), a stray
// response. A loop is seen by 482 and by Max-Forwards, not by Via: no Via but our
// own is on a message that leaves. Of a call that nobody here knows, as it is older
// than we are, a BYE alone goes on, of a phone that the PBX has accepted on its
// connection.
//
// # Who owns what
//
// The flow's reader goroutine runs everything a message causes, in order.
// A call's state is guarded by its own mutex; a goroutine holds one call's
// mutex at most, or one subscription's, and tables' mutexes only inside it.
// Proxy.Run owns the goroutine that checks the PBXs, expires bindings and
// subscriptions, and ends abandoned calls, and one that looks a name up.
//
// RFCs: 3261, 3263 (several PBXs), 3264 (offer/answer), 3327 and 3608 (Path,
// Service-Route), 3581 (rport), 3966 (tel), 4320 (requests other than INVITE), 4568
// (SDES), 5626 (flows), 5763 and 8842 (DTLS-SRTP), 6026 (INVITE transactions), 6665
// (events), 7118 (WebSocket), 8839 (ICE), 8843 (BUNDLE).
package sipproxy
