// Package load climbs a ladder of call rates: SIPp calls the echo of a real
// Asterisk 16 over TLS with SRTP, through the edge, until a step fails.
//
// `make load` runs it, some three minutes long; LOAD_QUICK=1 makes it a smoke
// test of half a minute, with the proof that nothing of a run is left.
//
// All calls share one TLS connection, as those of a trunk or of a gateway do.
// Each answers a challenge, sends two seconds of SRTP as PCMA, gets them back
// from Asterisk, and hangs up. For each step the report has
//   - calls a second that were offered and that were completed, and why others
//     failed, by SIPp's word and by what the edge refused;
//   - the time from the INVITE to its 200, as SIPp measures it;
//   - processor time and resident memory of the edge, of Asterisk and of SIPp;
//   - the packets that went each way, counted where the edge verified or sent
//     them, and where SIPp's sockets took them.
//
// It climbs to the first step with a failed call, with sound that did not come
// back, or with a p99 beyond T1, where SIP over UDP begins to repeat itself
// (RFC 3261 section 17.1.1.1); or to where SIPp itself offers less than it was
// told to. That step is in the report, and the run passes: it fails only if
// calls or their sound failed in the very first. Each step is bounded in time, and so is the ladder.
package load
