package admin

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/tlsconf"
)

// Names and labels are what dashboards and alerts are made of: a change here
// breaks those of every operator.
func TestSources(t *testing.T) {
	flows := flow.Stats{Open: 1, Accepted: 2, Handshakes: 3, Events: map[string]uint64{"handshake_failed": 4}}
	sources := []Source{
		Policy(func() policy.Stats {
			return policy.Stats{Connections: 5, Sources: 6, Rules: []policy.RuleStats{{Rule: "policy.deny", Allowed: 7, Refused: 8}}}
		}),
		Flows("127.0.0.1:5061", func() flow.Stats { return flows }),
		Flows("127.0.0.1:5060", func() flow.Stats { return flows }),
		Trunk("bar", func() flow.TrunkStats {
			return flow.TrunkStats{Connections: 2, Dials: 101, Failures: map[string]uint64{"refused": 102}, Events: map[string]uint64{"closed_no_pong": 103}}
		}),
		Trunk("baz", func() flow.TrunkStats { return flow.TrunkStats{} }),
		SIP(func() sipproxy.Stats {
			return sipproxy.Stats{
				Calls: 9, Bindings: 10, Transactions: 11, CallsFromPhones: 12, CallsToPhones: 13, StrayResponses: 14, Faults: 97, RefreshesSpared: 99, OptionsDropped: 98,
				Requests: map[sipproxy.RequestKind]uint64{{Side: "secure", Method: "INVITE"}: 15},
				Refused:  map[int]uint64{403: 16}, Ended: map[string]uint64{"phone hung up": 17},
			}
		}),
		Media(func() media.Stats {
			return media.Stats{
				Sessions: 18, Streams: 19, Handshakes: 28, TCP: media.TCPStats{Open: 29, Waiting: 30, Accepted: 31, Refused: map[string]uint64{"integrity": 32}},
				Inward: media.Counts{RTP: 20, RTCP: 21, Bytes: 22}, Outward: media.Counts{RTP: 23},
				Drops: map[string]uint64{"auth_failed": 24},
			}
		}),
	}
	sources = append(sources, Certificates(func() tlsconf.Stats {
		return tlsconf.Stats{Renewed: 25, Refused: 26, Certificates: []tlsconf.Lifetime{{File: "/x.pem", Name: "pbx.example.com", Key: "RSA 2048", Left: 27 * time.Second}},
			ACME: &tlsconf.ACMEStats{Fetched: 28, Failures: 29, InARow: 30, Next: 31 * time.Second}}
	}))
	w := httptest.NewRecorder()
	metricsHandler(sources).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	for _, want := range []string{
		`policy_connections 5`, `policy_sources 6`,
		`policy_verdicts_total{rule="policy.deny",verdict="allow"} 7`, `policy_verdicts_total{rule="policy.deny",verdict="refuse"} 8`,
		`flows{socket="127.0.0.1:5061"} 1`, `flows{socket="127.0.0.1:5060"} 1`, `flows_accepted_total{socket="127.0.0.1:5061"} 2`,
		`flow_handshakes{socket="127.0.0.1:5061"} 3`, `flow_events_total{event="handshake_failed",socket="127.0.0.1:5061"} 4`,
		`trunk_up{trunk="bar"} 1`, `trunk_up{trunk="baz"} 0`, `trunk_connections{trunk="bar"} 2`, `trunk_dials_total{trunk="bar"} 101`,
		`trunk_dial_failures_total{cause="refused",trunk="bar"} 102`, `trunk_events_total{event="closed_no_pong",trunk="bar"} 103`,
		`calls 9`, `bindings 10`, `transactions 11`, `calls_total{caller="phone"} 12`, `calls_total{caller="pbx"} 13`,
		`stray_responses_total 14`, `faults_total 97`, `refreshes_spared_total 99`, `options_dropped_total 98`, `requests_total{method="INVITE",side="secure"} 15`, `requests_refused_total{status="403"} 16`,
		`calls_ended_total{reason="phone hung up"} 17`, `media_sessions 18`, `media_streams 19`,
		`media_packets_total{direction="inward",protocol="rtp"} 20`, `media_packets_total{direction="inward",protocol="rtcp"} 21`,
		`media_bytes_total{direction="inward"} 22`, `media_packets_total{direction="outward",protocol="rtp"} 23`,
		`media_drops_total{reason="auth_failed"} 24`, `media_handshakes 28`,
		`media_tcp_connections{state="open"} 29`, `media_tcp_connections{state="waiting"} 30`, `media_tcp_accepted_total 31`,
		`media_tcp_refused_total{cause="integrity"} 32`,
		`certificate_reloads_total{result="taken"} 25`, `certificate_reloads_total{result="refused"} 26`,
		`certificate_expiry_seconds{file="/x.pem",key="RSA 2048",name="pbx.example.com"} 27`,
		`acme_orders_total{result="fetched"} 28`, `acme_orders_total{result="failed"} 29`, `acme_failures_in_a_row 30`, `acme_next_order_seconds 31`,
	} {
		if !strings.Contains(w.Body.String(), "\nsallyport_"+want+"\n") {
			t.Errorf("no line sallyport_%s", want)
		}
	}
}
