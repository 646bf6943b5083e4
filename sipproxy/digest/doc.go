// Package digest checks digest credentials as a server does (RFC 7616, RFC 8760 for
// SIP): it challenges by SHA-256 and by MD5, and takes a nonce for a while, each of
// its counts once.
//
// A nonce says when it was made, under a key that only this process has: nobody can
// make one, and none is remembered before it is used. One that was used without
// counts (RFC 2617's older form) is good once.
//
// What it refuses: a nonce that is older than Lifetime, not ours, or whose count was
// seen; these are stale, and the sender may try again without asking anybody. The
// right answer to a stale nonce and a wrong one look the same from outside.
//
// Who owns what: a Verifier owns the counts of nonces in use, bounded in number;
// when there are too many the oldest are forgotten, and are stale.
package digest
