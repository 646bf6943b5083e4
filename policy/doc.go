// Package policy says who may do what: Decide takes an event and answers with a
// verdict and its reason. It knows addresses, users and numbers, and nothing of
// SIP or TLS.
//
// It is asked at three moments: a connection, before any TLS; a request; a call.
// The rules are one ordered list and the first verdict wins:
//
//  1. policy.allow: these sources are never refused
//  2. policy.deny: these always are
//  3. policy.max_connections: connections in all
//  4. policy.max_connections_per_address: connections at once from one source
//  5. policy.new_connections_per_second: connections begun by one source
//
// and an event no rule speaks on is allowed. A source is one IPv4 address or one
// IPv6 /64, since whoever has one address of a /64 has all of them.
//
// What it refuses besides: an event without a valid source address.
//
// Who owns what: a Policy owns its counts, under one mutex, and starts no
// goroutine. The asker owns an allowed connection's Verdict and must Release it
// when the connection ends. Memory is bounded whatever the number of sources:
// those with open connections by the connections allowed in all, the others by a
// fixed number, the longest unseen forgotten first.
package policy
