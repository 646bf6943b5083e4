// Package users keeps the edge's own users: who a phone is outside, by a name and
// a secret that are worth nothing to the PBX, and which extension that is inside.
//
// A Book is what a users file says, in TOML, and never changes. Secrets are kept as
// digests' A1 alone (RFC 7616 section 3.4.2, RFC 8760), which is as good as the
// secret for who can read the file, and is not the secret: so a file that others can
// read is refused. A1 binds the realm, edge.domain: a file made for another is
// refused too.
//
// A Store owns the Book in use, and replaces it when the file has changed; one at
// fault leaves the former in use. Its methods may be called from any goroutine.
package users
