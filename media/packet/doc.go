// Package packet moves UDP packets between sockets and buffers in batches, and
// bytes of TCP connections, without allocating. It knows addresses and bytes,
// not what they mean.
//
// A Batch is a set of slots, each with room for one datagram and for the tag
// that encryption adds. Packets are received into slots, changed in place by
// the caller, and sent from the same memory. A Poller tells which sockets are
// ready, and can be woken from any goroutine. All else here belongs to one
// goroutine at a time.
//
// This package and media/seam alone use unsafe: recvmmsg and sendmmsg have no
// wrapper that does not allocate for every packet.
package packet
