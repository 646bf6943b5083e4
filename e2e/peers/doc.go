// Package peers starts the real peers of the end-to-end tests, each in a
// network namespace of its own: Asterisk, baresip, Chromium, Firefox, SIPp,
// rtpengine, Kamailio, pebble, SIPVicious, wireguard-go, tshark, and the edge under test;
// and it plays a phone by script, whose SRTP is pion's, libsrtp's or rtpengine's,
// and whose DTLS and STUN are pion's. It imports nothing of sallyport: the edge
// is the built binary.
//
// Chromium is driven over a pipe, Firefox over a WebSocket. Its page has a phone
// of JsSIP or SIP.js and is served in the browser's own namespace, or is the
// edge's own; its microphone is a file or a tone, and what its user hears is
// measured by WebAudio.
//
// For the differential test, Mutants spoils requests by seeds, a Tap in the
// PBX's place sees what the edge sends there, ReadWire reads that strictly, and
// ReadUnderstood reads from Asterisk's debug log what chan_sip made of it, and
// Asterisk.Understood from its history of messages what chan_pjsip did.
//
// Sites are two branches with a PBX and an edge each. What lies between is a cable, a
// tunnel of WireGuard (StartTunnel), or Hostile: a network that this process carries
// itself, by a TUN to each host, and in which an enemy records, loses, delays, repeats
// and forges packets as a test tells him to. Capture.Clear reads what passed there as
// one who has no keys.
//
// Edge.Upgrade has the edge replaced while it runs; the process before is then a
// Process of its own.
//
// SIPVicious speaks UDP alone: a Shim brings what it says to the edge by TLS.
//
// A Lab is made for one test. It owns namespaces and processes, and takes all
// down at the test's end, or when it is interrupted; if the test failed, it first prints the SIP ladder
// and each peer's log. A peer that is missing fails the test, with the command
// that installs it. Processes are stopped by their pid, and die with the test.
package peers
