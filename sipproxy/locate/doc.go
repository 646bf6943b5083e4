// Package locate finds the servers that a name stands for, in the order in which
// they want to be tried (RFC 3263, for UDP and for TLS).
//
// A name without a port is looked up by SRV, `_sip._udp.<name>` or
// `_sips._tcp.<name>`, whose priorities
// and weights are kept (RFC 2782); if there is no such record, and for a name with
// a port, by its addresses. An address is what it is.
//
// What it refuses: an SRV record that says the service is not offered (target "."),
// more than MaxServers servers.
//
// It owns nothing, and remembers nothing but in a Memory. It asks the resolver that it
// is given, within the context's time.
package locate
