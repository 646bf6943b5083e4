// Package seam carries datagrams from a process to the one that ran before it.
//
// When the edge is replaced, both processes have the same UDP sockets, and one
// reads: the new one. What is of a call that the former one still has, the new one
// passes on by a seam, as it came, with its source. The former process takes it as
// if its own socket had brought it, and answers by its own copy of that socket.
//
// A seam is one end each of a pair of unix sockets, for each UDP socket one. It
// never blocks, and drops what its buffer has no room for, as a network would.
//
// # Who owns what
//
// A Writer belongs to the goroutine that reads the UDP socket, and allocates
// nothing for a datagram. Descriptors belong to who has them; nothing here closes
// one, but Writer.Close.
package seam
