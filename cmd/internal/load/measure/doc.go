// Package measure keeps what a run measures: latencies as HDR histograms, of
// all phones and of each, outcomes by cause, and all of it second by second.
//
// A latency begins when its request was due, not when the generator came to
// send it: a server that stalls is charged for all that waited meanwhile. The
// time from due to begun is kept too, as lag: where that is large, the
// generator or the number of its phones is the limit and not the server.
//
// A Recorder may be used by many goroutines. It holds a bounded amount: one
// point a second, and for each phone a few kilobytes.
package measure
