// Package e2e drives the built binary between real peers.
//
// Each test is a case: `make e2e CASE=CallOut` runs TestCallOut. It has a
// network of its own (peers.Lab) with an Asterisk inside, the edge, and phones
// outside. That is Asterisk 16 with chan_sip, unless the case says otherwise. Sound
// is proved by a tone's frequency at the far end.
package e2e
