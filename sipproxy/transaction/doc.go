// Package transaction holds the four state machines of RFC 3261 section 17,
// with the INVITE corrections of RFC 6026, for a proxy that owns its
// connections.
//
// A Layer matches messages to transactions and calls back on the goroutine
// that brought the message: no goroutine and no channel stands between a flow
// and the proxy, so a flow's messages are handled in the order they came, and
// a 200 cannot be overtaken by the BYE behind it. Retransmissions are absorbed
// here. A transaction over a reliable flow is forgotten with its final
// response; one over UDP keeps only what it must say again.
//
// The layer answers nothing on its own except what section 17 demands: the
// ACK of a failed INVITE, and a repeated final response. It never answers a
// CANCEL, since only the proxy knows whether the call was taken meanwhile.
//
// What a flow can make it hold is bounded, by the flow and in all (Limits), and
// a request that is here already by another way is told from a repetition of it.
// Neither is answered here: such a transaction has a Fault, and is in no table.
// Messages come validated from package flow.
package transaction
