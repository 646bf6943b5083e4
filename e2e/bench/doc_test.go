// Package bench measures what relaying media and routing SIP costs: the same load
// goes through the edge and through what would be in its place, in one run.
//
// # Media
//
// The other is rtpengine without its kernel module.
//
// `make bench-media` runs it, some twelve minutes long; BENCH_QUICK=1 makes it
// a smoke test of a minute. It has a peers.Lab for its network. A generator on
// one thread plays all phones and the PBX: it sends SRTP packets that were
// encrypted before, and looks at what comes out at the far end.
//
// For each SRTP suite and number of calls it gives
//   - the processor time of the whole system for each relayed packet, beyond
//     what the same packets cost when the edge's kernel forwards them and
//     nobody relays;
//   - the time that the relay adds to a packet's way, again beside the kernel's;
//   - the relay's resident memory for each call.
//
// And for each suite the highest rate that the relay holds on one processor,
// with the generator on another.
//
// Systems take turns and each figure is a median over the rounds, as other
// work on the machine comes and goes. Processor time of other processes is
// known and subtracted; a window with much of it is measured again. A run
// fails if a relay lost more than a small part at the fixed rates, or if
// samples of what it sent do not open to what was sent to it.
//
// # SIP
//
// The other is Kamailio 5.6 as Debian 12 has it, a proxy from TLS to UDP that records
// its route; twice, as with several processes that read TLS it crashes on OpenSSL 3.
// `make bench-sip` runs it. The PBX answers all at once, and keeps no state. Both have
// the same certificate (ECDSA P-256), no session is resumed, and no policy is in the
// load's way. For each it gives
//   - registrations and calls a second over connections that there are, each phone
//     with one thing under way, and the processor time of the proxy's processes for one;
//   - how long a call's setup takes at half of what the slowest of them holds;
//   - new connections a second, with a REGISTER on each;
//   - the time until all of many phones that come at once are registered;
//   - the memory that idle connections hold, shared pages counted once.
//
// Phones, proxy and PBX share all processors. A run fails if one thing fails at the
// edge; what fails at the other is told beside its figures.
//
// # Trunk
//
// `make bench-trunk` has two sites, a PBX behind an edge at each, and 200 calls
// between them: protected call by call by the edges' trunk, or packet by packet by
// wireguard-go, or not at all, which is the baseline. What a packet is on the wire
// is worked out header by header. The run fails if one that was seen there is a
// byte longer or shorter than the paper says. ESP, which the kernels at hand do not
// have, is made by the test and opened by tshark.
package bench
