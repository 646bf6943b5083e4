package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

const pbxContact = "Contact: <sip:602@127.0.0.1:5060>"

// invites sends an INVITE, with credentials if there is a user for them.
func (p *phone) invites(callID, number, login string) {
	more := []string{contact}
	if login != "" {
		more = append(more, fmt.Sprintf(`Authorization: Digest username="%s", realm="asterisk", nonce="n", uri="sip:x", response="0"`, login))
	}
	p.send(p.request("INVITE", "sip:"+number+"@pbx.example.com", "<sip:"+number+"@pbx.example.com>", callID, p.n+1, secureSDP, more...))
}

func (p *phone) refused(t *testing.T, rule string) {
	t.Helper()
	if w := p.next("403").h.Get("Warning"); !strings.Contains(w, rule) {
		t.Errorf("Warning is %q, want %q in it", w, rule)
	}
}

// An INVITE passes twice, without credentials and with: that is one call. A second
// is refused before the PBX hears of it, until the first is over.
func TestCallIsCountedOnce(t *testing.T) {
	b := newBenchUnder(t, func(c *policy.Config) { c.Calls.MaxCallsPerUser = 1 })
	p := b.phone()
	for i := range 3 {
		id := fmt.Sprint("c", i)
		p.invites(id, "602", "")
		b.fromPBX(reply(b.atPBX("INVITE"), 401, "pbx", ""))
		p.next("401")
		p.invites(id, "602", "1001")
		inv := b.atPBX("INVITE")
		b.fromPBX(reply(inv, 180, "pbx", "", pbxContact))
		p.next("180")
		p.invites("second"+id, "603", "1001")
		p.refused(t, "the limit for such calls is reached")
		b.fromPBX(reply(inv, 200, "pbx", plainSDP, pbxContact))
		p.next("200")
		p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", id, 2, ""))
		b.atPBX("ACK")
		p.send(p.request("BYE", "sip:602@pbx.example.com", to602+";tag=pbx", id, 100, ""))
		b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
		p.next("200")
		b.noCallLeft()
	}
}

// Calls of a user whose PBX asks for no password are known to be too many when the
// PBX has taken them: those that ring are cancelled, those answered hung up.
func TestOneCallTooMany(t *testing.T) {
	b := newBenchUnder(t, func(c *policy.Config) { c.Calls.MaxCallsPerUser = 1 })
	p := b.phone()
	var at []*message
	for i := range 3 {
		p.invites(fmt.Sprint("c", i), "602", "")
		at = append(at, b.atPBX("INVITE"))
	}
	b.fromPBX(reply(at[0], 180, "pbx", "", pbxContact))
	p.next("180")
	b.fromPBX(reply(at[1], 180, "pbx", "", pbxContact))
	p.refused(t, "the limit")
	b.fromPBX(reply(b.atPBX("CANCEL"), 200, "pbx", ""))
	b.fromPBX(reply(at[1], 487, "pbx", ""))
	b.atPBX("ACK")
	b.fromPBX(reply(at[2], 200, "pbx", plainSDP, pbxContact))
	p.refused(t, "the limit")
	b.atPBX("ACK")
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	b.fromPBX(reply(at[0], 200, "pbx", plainSDP, pbxContact)) // the first goes on
	p.next("200")
	if n := b.proxy.Stats().Calls; n != 1 {
		t.Errorf("%d calls are left", n)
	}
}

// A call whose time is used up is hung up, at both ends.
func TestCallOutOfTime(t *testing.T) {
	b := newBenchUnder(t, func(c *policy.Config) { c.Calls.Abroad.PerUser, c.Calls.EndCalls = time.Millisecond, true })
	p := b.phone()
	for _, number := range []string{"602", "0044602"} {
		p.invites(number, number, "1001")
		inv := b.atPBX("INVITE")
		b.fromPBX(reply(inv, 200, "pbx", plainSDP, pbxContact))
		p.next("200")
		p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", number, p.n+1, ""))
		b.atPBX("ACK")
	}
	time.Sleep(2 * time.Millisecond) // the time that there is
	b.proxy.sweep(time.Now())
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	bye := p.next("BYE")
	if bye.h.Get("Call-Id") != "0044602" {
		t.Errorf("hung up was %s", bye.h.Get("Call-Id"))
	}
	p.send(reply(bye, 200, "", ""))
	if n := b.proxy.Stats().Calls; n != 1 {
		t.Errorf("%d calls are left", n)
	}
	p.invites("again", "0044602", "1001")
	p.refused(t, "the limit")
}

func deny(t *testing.T, rule string) func(*policy.Config) {
	return func(c *policy.Config) {
		var r policy.NumberRule
		if err := r.UnmarshalText([]byte(rule)); err != nil {
			t.Fatal(err)
		}
		c.Calls.Numbers = []policy.NumberRule{r}
	}
}

// Whom a phone has the PBX call, by a transfer or by forwarding, it must be allowed
// to call.
func TestNoWayRoundTheNumberRules(t *testing.T) {
	b := newBenchUnder(t, deny(t, "deny * 0900"))
	p := b.phone()
	token := b.register(p)
	p.invites("c1", "09001", "")
	p.refused(t, "may not be called")
	p.invites("c2", "0-900(1)", "")
	p.refused(t, "may not be called")
	b.callOut(p, "c3")
	for i, target := range []string{"<sip:09001@pbx.example.com>", "<tel:0900-1>", "sip:%309001@pbx.example.com", "<sips:09001@elsewhere>"} {
		p.send(p.request("REFER", "sip:602@pbx.example.com", to602+";tag=pbx", "c3", 10+i, "", contact, "Refer-To: "+target))
		p.refused(t, "may not be called")
	}
	p.send(p.request("REFER", "sip:602@pbx.example.com", to602, "out", 1, "", contact, "Refer-To: <sip:09001@pbx.example.com>"))
	p.refused(t, "may not be called")
	p.send(p.request("REFER", "sip:602@pbx.example.com", to602+";tag=pbx", "c3", 20, "", contact, "Refer-To: <sip:603@pbx.example.com>")) // the control
	b.fromPBX(reply(b.atPBX("REFER"), 202, "", ""))
	p.next("202")

	for number, status := range map[string]string{"09001": "403", "603": "302"} {
		b.fromPBX(b.inviteTo(token, "in"+number, plainSDP))
		inv := p.next("INVITE")
		p.send(reply(inv, 302, "phone", "", "Contact: <sip:"+number+"@pbx.example.com>"))
		b.atPBX(status)
	}
}

// Rules know a user of the edge's own by his name alone, whatever way he calls.
func TestNumberRulesOfAnAccount(t *testing.T) {
	const name = "a4b1c2d3e4f5"
	b := newLoginBenchUnder(t, nil, func(c *policy.Config) {
		deny(t, "deny guest 0900")(c)
		c.Calls.Groups = []policy.Group{{Name: "guest", Users: []string{name}}}
	})
	p := b.phone()
	token := b.logIn(p)
	invite := func(id, number string) {
		uri := "sip:" + number + "@pbx.example.com"
		p.send(p.as(name, "INVITE", uri, "<"+uri+">", id, 1, secureSDP, contact))
		asked := p.next("407")
		p.send(p.as(name, "INVITE", uri, "<"+uri+">", id, 2, secureSDP, contact, credentialsFor(t, asked, "INVITE", uri, name, "outside")))
	}
	invite("c1", "09001")
	p.refused(t, "may not be called")
	invite("c2", "602")
	inv := b.atPBX("INVITE")
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, pbxContact))
	p.next("200")
	p.send(p.as(name, "ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c2", 2, ""))
	b.atPBX("ACK")
	refer := func(cseq int, from, number string, more ...string) {
		more = append(more, contact, "Refer-To: <sip:"+number+"@pbx.example.com>")
		p.send(p.as(from, "REFER", "sip:602@pbx.example.com", to602+";tag=pbx", "c2", cseq, "", more...))
	}
	for i, from := range []string{name, "100", "nobody", "anonymous"} {
		refer(10+i, from, "09001")
		p.refused(t, "may not be called")
	}
	refer(15, name, "09001", digestLine(`username="somebody", `+otherParams))
	p.refused(t, "may not be called")
	refer(20, name, "603") // the control
	b.fromPBX(reply(b.atPBX("REFER"), 202, "", ""))
	p.next("202")

	for number, status := range map[string]string{"09001": "403", "603": "302"} {
		b.fromPBX(b.inviteTo(token, "in"+number, plainSDP))
		p.send(reply(p.next("INVITE"), 302, "phone", "", "Contact: <sip:"+number+"@pbx.example.com>"))
		b.atPBX(status)
	}
}
