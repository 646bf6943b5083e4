package admin

import (
	"strconv"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/tlsconf"
)

var (
	policyConnections = &Metric{Name: "policy_connections", Help: "Connections that policy admitted and that are open.", Kind: Gauge}
	policySources     = &Metric{Name: "policy_sources", Help: "Sources whose connections or rate are remembered.", Kind: Gauge}
	policyBans        = &Metric{Name: "policy_bans", Help: "Sources banned now.", Kind: Gauge}
	policyBanned      = &Metric{Name: "policy_bans_total", Help: "Bans since the start."}
	policyWatched     = &Metric{Name: "policy_watched", Help: "Connections, sources, users and devices whose failures are remembered.", Kind: Gauge, Labels: []string{"what"}}
	policyOutcomes    = &Metric{Name: "policy_outcomes_total", Help: "What became of what was let through.", Labels: []string{"outcome"}}
	policyVerdicts    = &Metric{Name: "policy_verdicts_total", Help: "Verdicts by the rule that gave them.", Labels: []string{"rule", "verdict"}}
)

// Policy reports what policy counts.
func Policy(snapshot func() policy.Stats) Source {
	return func(emit func(Sample)) {
		s := snapshot()
		emit(Sample{Metric: policyConnections, Value: float64(s.Connections)})
		emit(Sample{Metric: policySources, Value: float64(s.Sources)})
		emit(Sample{Metric: policyBans, Value: float64(s.Bans)})
		emit(Sample{Metric: policyBanned, Value: float64(s.Banned)})
		for what, n := range s.Watched {
			emit(Sample{policyWatched, []string{what}, float64(n)})
		}
		for outcome, n := range s.Outcomes {
			emit(Sample{policyOutcomes, []string{outcome}, float64(n)})
		}
		for _, r := range s.Rules {
			emit(Sample{policyVerdicts, []string{r.Rule, "allow"}, float64(r.Allowed)})
			emit(Sample{policyVerdicts, []string{r.Rule, "refuse"}, float64(r.Refused)})
			emit(Sample{policyVerdicts, []string{r.Rule, "would_refuse"}, float64(r.Spared)})
		}
	}
}

var (
	flowsOpen      = &Metric{Name: "flows", Help: "Connections open.", Kind: Gauge, Labels: []string{"socket"}}
	flowsAccepted  = &Metric{Name: "flows_accepted_total", Help: "Connections accepted.", Labels: []string{"socket"}}
	flowHandshakes = &Metric{Name: "flow_handshakes", Help: "TLS handshakes under way.", Kind: Gauge, Labels: []string{"socket"}}
	flowEvents     = &Metric{Name: "flow_events_total", Help: "Refusals, failures and endings of connections, and datagrams dropped.", Labels: []string{"socket", "event"}}
)

// Flows reports what one listener, or the plain socket, counts.
func Flows(socket string, snapshot func() flow.Stats) Source {
	return func(emit func(Sample)) {
		s := snapshot()
		emit(Sample{flowsOpen, []string{socket}, float64(s.Open)})
		emit(Sample{flowsAccepted, []string{socket}, float64(s.Accepted)})
		emit(Sample{flowHandshakes, []string{socket}, float64(s.Handshakes)})
		for event, n := range s.Events {
			emit(Sample{flowEvents, []string{socket, event}, float64(n)})
		}
	}
}

var (
	trunkUp       = &Metric{Name: "trunk_up", Help: "Whether a trunk has a connection: 1, or 0 if it has none.", Kind: Gauge, Labels: []string{"trunk"}}
	trunkFlows    = &Metric{Name: "trunk_connections", Help: "Connections of a trunk, begun by either end.", Kind: Gauge, Labels: []string{"trunk"}}
	trunkDials    = &Metric{Name: "trunk_dials_total", Help: "Attempts to connect to a trunk's peer.", Labels: []string{"trunk"}}
	trunkFailures = &Metric{Name: "trunk_dial_failures_total", Help: "Those that brought no connection, by cause.", Labels: []string{"trunk", "cause"}}
	trunkEvents   = &Metric{Name: "trunk_events_total", Help: "Endings of connections that we dialled.", Labels: []string{"trunk", "event"}}
)

// Trunk reports what one trunk counts.
func Trunk(name string, snapshot func() flow.TrunkStats) Source {
	return func(emit func(Sample)) {
		s := snapshot()
		emit(Sample{trunkUp, []string{name}, float64(min(s.Connections, 1))})
		emit(Sample{trunkFlows, []string{name}, float64(s.Connections)})
		emit(Sample{trunkDials, []string{name}, float64(s.Dials)})
		for cause, n := range s.Failures {
			emit(Sample{trunkFailures, []string{name, cause}, float64(n)})
		}
		for event, n := range s.Events {
			emit(Sample{trunkEvents, []string{name, event}, float64(n)})
		}
	}
}

var (
	sipCalls        = &Metric{Name: "calls", Help: "Calls now.", Kind: Gauge}
	sipBindings     = &Metric{Name: "bindings", Help: "Registered contacts now.", Kind: Gauge}
	sipTransactions = &Metric{Name: "transactions", Help: "SIP transactions now.", Kind: Gauge}
	sipStarted      = &Metric{Name: "calls_total", Help: "Calls begun, by the side that called.", Labels: []string{"caller"}}
	sipEnded        = &Metric{Name: "calls_ended_total", Help: "Calls ended, by reason.", Labels: []string{"reason"}}
	sipRequests     = &Metric{Name: "requests_total", Help: "Requests, by the side they came from.", Labels: []string{"side", "method"}}
	sipRefused      = &Metric{Name: "requests_refused_total", Help: "Requests that we refused, by status.", Labels: []string{"status"}}
	sipSpared       = &Metric{Name: "refreshes_spared_total", Help: "Refreshed registrations that the PBX did not see (sip.refresh_interval)."}
	sipPBX          = &Metric{Name: "pbx_up", Help: "Whether a PBX answers: 1, or 0 if it is down.", Kind: Gauge, Labels: []string{"pbx"}}
	sipDropped      = &Metric{Name: "options_dropped_total", Help: "OPTIONS of the PBX that were left without an answer, as their phone is not there."}
	sipFaults       = &Metric{Name: "faults_total", Help: "Messages that met a fault of sallyport itself: each is in the log, at ERROR, with what to report."}
	sipStray        = &Metric{Name: "stray_responses_total", Help: "Responses to nothing we had sent."}
)

// SIP reports what the proxy counts.
func SIP(snapshot func() sipproxy.Stats) Source {
	return func(emit func(Sample)) {
		s := snapshot()
		emit(Sample{Metric: sipCalls, Value: float64(s.Calls)})
		emit(Sample{Metric: sipBindings, Value: float64(s.Bindings)})
		emit(Sample{Metric: sipTransactions, Value: float64(s.Transactions)})
		emit(Sample{sipStarted, []string{"phone"}, float64(s.CallsFromPhones)})
		emit(Sample{sipStarted, []string{"pbx"}, float64(s.CallsToPhones)})
		emit(Sample{Metric: sipFaults, Value: float64(s.Faults)})
		emit(Sample{Metric: sipStray, Value: float64(s.StrayResponses)})
		emit(Sample{Metric: sipSpared, Value: float64(s.RefreshesSpared)})
		for addr, up := range s.PBXs {
			value := 0.0
			if up {
				value = 1
			}
			emit(Sample{sipPBX, []string{addr}, value})
		}
		emit(Sample{Metric: sipDropped, Value: float64(s.OptionsDropped)})
		for reason, n := range s.Ended {
			emit(Sample{sipEnded, []string{reason}, float64(n)})
		}
		for kind, n := range s.Requests {
			emit(Sample{sipRequests, []string{kind.Side, kind.Method}, float64(n)})
		}
		for status, n := range s.Refused {
			emit(Sample{sipRefused, []string{strconv.Itoa(status)}, float64(n)})
		}
	}
}

var (
	mediaSessions = &Metric{Name: "media_sessions", Help: "Media sessions now.", Kind: Gauge}
	mediaStreams  = &Metric{Name: "media_streams", Help: "Media streams now.", Kind: Gauge}
	mediaShakes   = &Metric{Name: "media_handshakes", Help: "DTLS handshakes under way, or done and not yet followed by media.", Kind: Gauge}
	mediaConns    = &Metric{Name: "media_tcp_connections", Help: "TCP connections of media now: those of calls, and those that wait for their first check.", Kind: Gauge, Labels: []string{"state"}}
	mediaAccepted = &Metric{Name: "media_tcp_accepted_total", Help: "TCP connections of media that were given a place to wait in."}
	mediaRefused  = &Metric{Name: "media_tcp_refused_total", Help: "TCP connections of media that became no call's, by cause.", Labels: []string{"cause"}}
	mediaPackets  = &Metric{Name: "media_packets_total", Help: "Packets relayed: inward is from the phone to the PBX.", Labels: []string{"direction", "protocol"}}
	mediaBytes    = &Metric{Name: "media_bytes_total", Help: "Bytes relayed, as plain RTP and RTCP.", Labels: []string{"direction"}}
	mediaDrops    = &Metric{Name: "media_drops_total", Help: "Packets that went no further, by reason.", Labels: []string{"reason"}}
)

// Media reports what the media engine counts.
func Media(snapshot func() media.Stats) Source {
	return func(emit func(Sample)) {
		s := snapshot()
		emit(Sample{Metric: mediaSessions, Value: float64(s.Sessions)})
		emit(Sample{Metric: mediaStreams, Value: float64(s.Streams)})
		emit(Sample{Metric: mediaShakes, Value: float64(s.Handshakes)})
		emit(Sample{mediaConns, []string{"open"}, float64(s.TCP.Open)})
		emit(Sample{mediaConns, []string{"waiting"}, float64(s.TCP.Waiting)})
		emit(Sample{Metric: mediaAccepted, Value: float64(s.TCP.Accepted)})
		for cause, n := range s.TCP.Refused {
			emit(Sample{mediaRefused, []string{cause}, float64(n)})
		}
		for direction, c := range map[string]media.Counts{"inward": s.Inward, "outward": s.Outward} {
			emit(Sample{mediaPackets, []string{direction, "rtp"}, float64(c.RTP)})
			emit(Sample{mediaPackets, []string{direction, "rtcp"}, float64(c.RTCP)})
			emit(Sample{mediaBytes, []string{direction}, float64(c.Bytes)})
		}
		for reason, n := range s.Drops {
			emit(Sample{mediaDrops, []string{reason}, float64(n)})
		}
	}
}

var (
	certExpiry  = &Metric{Name: "certificate_expiry_seconds", Help: "Time until a certificate in force expires; negative once it has.", Kind: Gauge, Labels: []string{"file", "name", "key"}}
	certReloads = &Metric{Name: "certificate_reloads_total", Help: "Certificates whose files changed: taken, or refused for the old one.", Labels: []string{"result"}}

	clientCerts = &Metric{Name: "client_certificates_refused_total", Help: "Client certificates refused, or missing where one is required, by reason; other_user: requests in another user's name.", Labels: []string{"reason"}}

	acmeOrders = &Metric{Name: "acme_orders_total", Help: "Attempts to get a certificate from the CA.", Labels: []string{"result"}}
	acmeInARow = &Metric{Name: "acme_failures_in_a_row", Help: "Attempts that brought none since the last that did.", Kind: Gauge}
	acmeNext   = &Metric{Name: "acme_next_order_seconds", Help: "Time until the next attempt: a renewal, or one after a failure.", Kind: Gauge}
)

// Certificates reports what the listeners' certificates count.
func Certificates(snapshot func() tlsconf.Stats) Source {
	return func(emit func(Sample)) {
		s := snapshot()
		for _, c := range s.Certificates {
			emit(Sample{certExpiry, []string{c.File, c.Name, c.Key}, c.Left.Seconds()})
		}
		emit(Sample{certReloads, []string{"taken"}, float64(s.Renewed)})
		emit(Sample{certReloads, []string{"refused"}, float64(s.Refused)})
		if a := s.ACME; a != nil {
			emit(Sample{acmeOrders, []string{"fetched"}, float64(a.Fetched)})
			emit(Sample{acmeOrders, []string{"failed"}, float64(a.Failures)})
			emit(Sample{acmeInARow, nil, float64(a.InARow)})
			emit(Sample{acmeNext, nil, a.Next.Seconds()})
		}
	}
}

// Clients reports the refusals of clients' certificates, of all listeners.
func Clients(snapshot func() map[string]uint64) Source {
	return func(emit func(Sample)) {
		for reason, n := range snapshot() {
			emit(Sample{clientCerts, []string{reason}, float64(n)})
		}
	}
}
