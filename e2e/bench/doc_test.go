// Package bench measures what relaying media costs: the same load goes through
// the edge and through rtpengine without its kernel module, in one run.
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
package bench
