// Package admin is the operator's HTTP, on loopback: /healthz tells whether the
// edge serves, /metrics what it counts, for Prometheus.
//
// What it refuses: a listen address that is not loopback, for it asks for no
// password; methods other than GET and HEAD; requests that are slow, large or name
// a host that is not this machine (a web page the operator visits must not read
// it by pointing its own name here). It serves no profiles and no secrets.
//
// The control socket is another server, of a path in the state folder that its
// owner alone may open. It lists and changes bans, tells which trunks are up, has the
// edge upgraded, and tells root and the edge's own user the keys of calls, for
// `sallyport prove`.
//
// Who owns what: the packages keep their own counters and give snapshots; a
// Source turns one into samples at each scrape. Nothing below admin knows
// Prometheus. Run owns the listener and its connections and ends them before it
// returns.
package admin
