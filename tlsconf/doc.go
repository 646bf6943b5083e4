// Package tlsconf holds the edge's certificates and yields the tls.Config its
// listeners serve with.
//
// They come from files the operator names, a pair for each, or from a CA by ACME,
// or, when neither is asked for, from a self-signed pair made once and kept under
// the state directory. A handshake gets the one that carries the name asked for, or that of the edge's
// own domain; among several for a name, the first whose key the client can use.
// The self-signed file is its own trust anchor: a phone that is given it as its
// CA file needs nothing else. It carries name constraints, so that whoever
// steals its key can't use that trust to pose as any other name.
//
// By ACME one certificate is ordered, for the configured names and no others: what
// a client asks for orders nothing. The CA looks for its answers in the handshakes
// of the listeners (TLS-ALPN-01), or on port 80 (HTTP-01), which is open while
// there is a question. The certificate is replaced after two thirds of its life.
// When the CA gives none, what is in force stays so, expired or not; before the
// first there is the self-signed one. Attempts go further and further apart, and
// never in step with other edges'. Certificate and account key are kept in the
// state directory, one file each, open to nobody else.
//
// Phones may have to show certificates: by a CA of the operator's with its
// revocation lists, or by the device CA, which IssueDevice and RevokeDevice keep in
// the state directory. A handshake verifies chain and usage, and at every one, also
// one that resumes a session, that nothing of the chain is revoked and that it names
// a user. A list that is stale, or missing where others are, refuses.
//
// A trunk's peer is known by a SIP domain (RFC 5922) under a CA, by its key, or by a
// pairing, for which Pair makes the keys of both edges and a Token takes one to the
// other. It is judged by the same rules whoever dialled, and at sessions that resume.
// Where there are trunks their listener asks everybody for a certificate; what a phone
// shows then that it was not asked to is looked at by nobody.
//
// What it refuses: TLS below 1.2, and cipher suites without forward secrecy or
// without an AEAD, unless the profile legacy asks for them; half a pair; a key
// that other users of the machine can read or change; a key that does not belong
// to its certificate; a certificate that has expired, is not valid yet, or may
// not be used by a server.
//
// Who owns what: a Source owns the certificates in force, behind one atomic
// pointer that each handshake reads. To replace one is to swap that pointer;
// handshakes already begun finish with the old one, and connections are not
// touched; only where a client's certificate is revoked are they, by who listens
// to OnTaken. Session tickets are sealed by keys of the Source, for a day at most. Run looks at the files every few seconds, links included, and takes
// what is good when it has come to rest; a pair at fault is told, and the former
// one stays. A Source starts no goroutine but in Run: those of ACME and of OCSP, which end
// with Run's context, and which Run waits for. Private keys never leave the package other than inside the
// tls.Config, and are in no log line and no error.
//
// RFC 8446 (TLS 1.3), RFC 9325 (recommendations for TLS), RFC 5280 (X.509),
// RFC 5922 and 5924 (domain certificates in SIP, and what they are for), RFC 8555 (ACME), RFC 8737 (TLS-ALPN-01),
// RFC 6960, 6066 and 7633 (OCSP stapling), RFC 8446 section 2.2 and RFC 5077 (tickets), RFC 7292 (PKCS#12).
package tlsconf
