// Package policy says who may do what: Decide takes an event and answers with a
// verdict and its reason; Observe takes what became of it. It knows addresses,
// users and numbers, and nothing of SIP or TLS.
//
// It is asked at three moments: a connection, before any TLS; a request; a call.
// The rules are one ordered list, Policy.chain, and the first verdict wins:
//
//  1. policy.allow: these sources are never refused
//  2. policy.deny: these always are
//  3. policy.bans: these are, for some time
//  4. policy.countries: sources in countries where no phones are
//  5. policy.max_connections: connections in all
//  6. policy.max_connections_per_address: connections at once from one source
//  7. policy.calls.emergency: calls for help are never refused
//  8. policy.scanners: programs that nobody calls with
//  9. policy.auth_failures: connections, users and devices that failed too often
//  10. policy.caller_id: users who call as another
//  11. policy.new_connections_per_second: connections begun by one source
//  12. policy.calls.numbers: what a group of users may call
//  13. policy.calls.closed_to: what nobody calls at night and at weekends
//  14. policy.calls: how much a user calls, and all do
//
// Those before the twelfth speak on connections and requests; the seventh, the tenth
// and the last three on calls. An event no rule speaks on is allowed. A source is one IPv4
// address or one IPv6 /64, since whoever has one address of a /64 has all of them.
// With policy.dry_run a refusal is logged and counted, and the next rule is asked.
//
// What was observed adds to the scores of a connection, a source, a user and a
// device, which leak: what is long ago weighs nothing. A source at its limit is
// banned, each time for twice as long. But a source where users have
// authenticated, over connections that live or lived ten minutes ago, is not, nor
// is it while its phones come back to an edge that was restarted: its
// bad connections end, further guesses are let through one by one, and its
// phones go on. A user whose password many sources guess is let in only from
// where it was before.
//
// A call counts once, for the user whose password the PBX took: a Call that is
// allowed is a tab, which begins with the PBX's first answer to nobody but who may
// call, and is closed by Release. Until then it takes a place from those who claim
// to be the user at the same source alone, so that nobody uses up another's calls.
//
// What it refuses besides: an event without a valid source address.
//
// Who owns what: a Policy owns its counts, bans and scores, under a mutex each,
// of which none is taken inside another, but that of connections around all and
// that of alarms inside all. Run owns the two goroutines that keep what is to outlive
// a restart in the Ledger, and read the countries. The asker owns the Verdict of an
// allowed connection or call, must Release it when that ends, and must Observe that
// a connection is gone. Memory is bounded whatever the number of sources, users and
// devices: those with open connections by the connections allowed in all, the
// others by a fixed number, the longest unseen forgotten first.
package policy
