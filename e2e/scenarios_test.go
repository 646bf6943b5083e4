package e2e

import (
	"testing"

	"github.com/sallyport/sallyport/e2e/peers"
)

// sippCase is a case of everyday SIP as SIPp says it: the scenarios of its
// phones, which tell whether it passes. The control is one of them with another
// expectation, and must fail.
type sippCase struct {
	name   string
	called map[string]string              // scenarios by the users that they answer for, who register
	watch  string                         // of a phone that is ready before the first begins, if any
	ready  func(o *office) bool           // tells that it is
	first  string                         // of the phone that begins
	args   []string                       // of its SIPp
	amid   func(o *office) (again func()) // what happens before it begins, and what again and again until all have ended
	wrong  wrong
	only   int // the version of Asterisk that has it, if not both
}

// wrong is what a scenario must not get away with: instead of what is right.
type wrong struct{ file, right, wrong string }

// sippOffice has what some cases need.
type sippOffice struct {
	name  string
	pbx   peers.AsteriskConfig
	edge  peers.EdgeConfig
	cases []sippCase
}

// oneContact has chan_pjsip forget a phone whose user registers another, as
// chan_sip does: a control leaves its phones registered.
const oneContact = "max_contacts=1\nremove_existing=yes\n"

var sippOffices = []sippOffice{
	{
		name: "in one office",
		pbx: peers.AsteriskConfig{
			Open: true, Mailboxes: true, General: "session-timers=accept\nsession-expires=90\nsession-minse=90\n",
			Endpoint: "timers=yes\ntimers_min_se=90\ntimers_sess_expires=90\n100rel=peer_supported\n", AOR: oneContact,
		},
		edge: peers.EdgeConfig{PBX: "check_interval = \"1s\"\n"},
		cases: []sippCase{
			{name: "Hold", first: "hold.xml", wrong: wrong{"hold.xml", "a=(recvonly|inactive)", "a=(sendonly)"}},
			{name: "SessionTimer", first: "session-timer.xml", wrong: wrong{"session-timer.xml", "90;refresher=uac$", "90;refresher=uas$"}},
			{name: "Prack", first: "prack.xml", only: 22, wrong: wrong{"prack.xml", `<recv response="183"`, `<recv response="182"`}},
			{name: "Prack", first: "prack-unknown.xml", only: 16, wrong: wrong{"prack-unknown.xml", "100rel$", "timer$"}},
			{name: "Update", first: "update-phone.xml", only: 22, wrong: wrong{"update-phone.xml", "+ RTP/SAVP ", "+ RTP/AVP "}},
			{name: "CancelRace", first: "cancel-race.xml", args: []string{"-m", "60", "-r", "30"}, wrong: wrong{"cancel-race.xml", `response="487"`, `response="486"`}},
			{name: "LostAck", first: "lost-ack.xml", amid: losesTwoACKs, wrong: wrong{"lost-ack.xml", `ontimeout="once"`, ""}},
			{
				name: "BlindTransfer", first: "blind-transfer.xml", called: map[string]string{"1002": "answers.xml", "1003": "answers-hangs-up.xml"},
				wrong: wrong{"blind-transfer.xml", `response="202"`, `response="603"`},
			},
			{
				name: "AttendedTransfer", first: "attended-transfer.xml", called: map[string]string{"1002": "answers.xml", "1003": "answers-hangs-up.xml"},
				wrong: wrong{"attended-transfer.xml", "to-tag=[$totag]", "to-tag=[$totag]x"},
			},
			{
				name: "Blf", watch: "blf.xml", ready: func(o *office) bool { return o.pbx.Subscriptions() == 1 },
				first: "calls.xml", called: map[string]string{"1002": "answers.xml"}, wrong: wrong{"blf.xml", "early", "trying"},
			},
			{
				name: "Mwi", watch: "mwi.xml", ready: func(o *office) bool { return o.pbx.Subscriptions() == 1 },
				first: "voicemail.xml", wrong: wrong{"mwi.xml", "Voice-Message: [1-9]", "Voice-Message: none"},
			},
			{
				name: "Message", first: "message.xml", called: map[string]string{"1002": "message-callee.xml"},
				wrong: wrong{"message-callee.xml", "zwölf", "elf"},
			},
			{name: "DtmfRfc4733", first: "dtmf-rfc4733.xml", wrong: wrong{"dtmf-rfc4733.xml", "1590", "1591"}},
			{name: "DtmfInfo", first: "dtmf-info.xml", wrong: wrong{"dtmf-info.xml", "4072", "4073"}},
			{
				name: "Forking", first: "forking.xml", called: map[string]string{"1001": "forking-missed.xml", "1002": "forking-taken.xml"},
				wrong: wrong{"forking-missed.xml", "completed elsewhere", "nobody was there"},
			},
			{name: "PbxDown", first: "pbx-down.xml", amid: stopsPBX, wrong: wrong{"pbx-down.xml", "[1-9]", "soon"}},
		},
	},
	{
		name: "direct media by re-INVITE", pbx: peers.AsteriskConfig{Open: true, DirectMedia: "yes", AOR: oneContact},
		cases: []sippCase{
			{
				name: "ReinviteBothWays", first: "reinvite.xml", called: map[string]string{"1002": "reinvite-callee.xml"},
				wrong: wrong{"reinvite-callee.xml", "+ RTP/SAVP ", "+ RTP/AVP "},
			},
			{
				name: "Glare", first: "glare.xml", called: map[string]string{"1002": "glare-callee.xml"},
				wrong: wrong{"glare-callee.xml", `response="491"`, `response="200"`},
			},
		},
	},
	{
		name: "direct media by UPDATE", pbx: peers.AsteriskConfig{Open: true, DirectMedia: "update", AOR: oneContact},
		cases: []sippCase{{
			name: "Update", only: 16, first: "update.xml", called: map[string]string{"1002": "update-callee.xml"},
			wrong: wrong{"update-callee.xml", "+ RTP/SAVP ", "+ RTP/AVP "},
		}},
	},
	{
		name: "passwords", edge: peers.EdgeConfig{Extra: "[sip]\nrefresh_interval = \"1h\"\n"},
		cases: []sippCase{{name: "RefreshThrottle", first: "refresh-throttle.xml", wrong: wrong{"refresh-throttle.xml", "expires=60$", "expires=3600$"}}},
	},
}

// Everyday SIP in SIPp's words, beside the cases that have it with sound.
func TestSippScenarios(t *testing.T) {
	t.Parallel()
	for _, place := range sippOffices {
		t.Run(place.name, func(t *testing.T) {
			eachPBXWith(t, place.pbx, place.edge, func(o *office) {
				for _, c := range place.cases {
					if c.only == 0 || c.only == o.pbx.Version {
						o.t.Run(c.name, func(t *testing.T) { o.within(t).tries(c) })
					}
				}
			})
		})
	}
}
