// Package load puts a server for secure SIP under load: thousands of phones in
// one process register, call, hold and hang up at a set rate, and tell how long
// each answer took and what they heard.
//
// Arrivals are an open loop: they come when they are due, however slow the server
// is, and every latency counts from then. The phones take them in turn. One that
// finds no phone free waits for one, and that counts; when too many wait, or one waits
// for longer than a phone may be busy with one call, it fails as "no phone free".
//
// Run owns all: the phones and their connections, the Recorder, the Engine of
// their media. A registered phone is one goroutine, a call one more, and one for each
// end's sound; beside that DTLS has two for each end, and SDES one where RTCP has a
// port of its own.
// A run ends by itself after its duration; when ctx ends, calls are hung up and
// registrations taken back, within a bounded time.
package load
