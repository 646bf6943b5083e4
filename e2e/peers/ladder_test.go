package peers

import "testing"

func TestLadder(t *testing.T) {
	log := `{"time":"2026-01-02T03:04:05Z","msg":"edge runs"}
{"time":"2026-01-02T03:04:06Z","msg":"sip","side":"secure","dir":"in","peer":"203.0.113.11:4000","start":"INVITE sip:602@pbx.example.com SIP/2.0","cseq":"1 INVITE","call_id":"abcdefgh"}
not JSON
{"time":"2026-01-02T03:04:06.25Z","msg":"sip","side":"plain","dir":"out","peer":"10.0.0.5:5060","start":"INVITE sip:602@pbx.example.com SIP/2.0","cseq":"1 INVITE","call_id":"abcdefgh"}
{"time":"2026-01-02T03:04:06.5Z","msg":"sip","side":"plain","dir":"in","peer":"10.0.0.5:5060","start":"SIP/2.0 200 OK","cseq":"1 INVITE","call_id":"ab"}
{"time":"2026-01-02T03:04:07Z","msg":"sip","side":"secure","dir":"out","peer":"203.0.113.11:4000","start":"SIP/2.0 200 A reason that is far too long to be drawn in one line","cseq":"1 INVITE","call_id":"ab"}
`
	want := ` seconds  phone                                                                 edge
   0.000  203.0.113.11:4000     --> INVITE sip:602@pbx.example.com                 |  [abcdef]
   0.250                                                                           | --> INVITE sip:602@pbx.example.com                 10.0.0.5:5060 [abcdef]
   0.500                                                                           | <-- 200 OK (1 INVITE)                              10.0.0.5:5060 [ab]
   1.000  203.0.113.11:4000     <-- 200 A reason that is far too long to be drawn… |  [ab]
`
	if got := Ladder([]byte(log)); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
