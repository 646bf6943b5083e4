package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// refresh sends the phone's REGISTER again; more are further lines.
func (p *phone) refresh(cseq int, contact string, more ...string) {
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", cseq, "", append([]string{"Contact: " + contact}, more...)...))
}

// throttled registers 1001 for a minute at an edge whose PBX shall see one
// refresh an hour; it returns what the PBX got.
func throttled(t *testing.T, granted int) (*bench, *phone, *message) {
	t.Helper()
	b := newBench(t)
	b.proxy.cfg.RefreshInterval = time.Hour
	p := b.phone()
	p.refresh(1, "<sip:1001@192.168.1.9>", "Expires: 60")
	reg := b.atPBX("REGISTER")
	ours, _, _ := strings.Cut(reg.h.Get("Contact"), ";")
	b.fromPBX(reply(reg, 200, "r", "", fmt.Sprintf("Contact: %s;expires=%d", ours, granted)))
	if c := p.next("200").h.Get("Contact"); c != fmt.Sprintf("<sip:1001@192.168.1.9>;expires=%d", min(60, granted)) {
		t.Fatalf("the phone is told %s", c)
	}
	return b, p, reg
}

func TestRefreshesAreSpared(t *testing.T) {
	b, p, reg := throttled(t, 3600)
	if !strings.HasSuffix(reg.h.Get("Contact"), ">;expires=3600") || reg.h.Get("Expires") != "3600" {
		t.Errorf("the PBX got Contact %s, Expires %s", reg.h.Get("Contact"), reg.h.Get("Expires"))
	}
	for cseq := 2; cseq < 6; cseq++ {
		before := b.binding().expires
		p.refresh(cseq, "<sip:1001@192.168.1.9>", "Expires: 60", `Authorization: Digest username="1001"`)
		if m := p.next("200"); m.h.Get("Contact") != "<sip:1001@192.168.1.9>;expires=60" || m.h.Get("Cseq") != fmt.Sprint(cseq, " REGISTER") {
			t.Errorf("the phone is told %v", m.h)
		}
		if now := b.binding(); !now.expires.After(before) || time.Until(now.expires) > time.Minute {
			t.Errorf("the binding is kept until %s", now.expires)
		}
	}
	if s := b.proxy.Stats(); s.RefreshesSpared != 4 {
		t.Errorf("%d refreshes are counted", s.RefreshesSpared)
	}
	// It leaves: that the PBX is told, as the phone said it.
	p.refresh(9, "<sip:1001@192.168.1.9>", "Expires: 0")
	gone := b.atPBX("REGISTER")
	if gone.h.Get("Cseq") != "9 REGISTER" || gone.h.Get("Expires") != "0" || strings.Contains(gone.h.Get("Contact"), "3600") {
		t.Errorf("the PBX got CSeq %s, Contact %s, Expires %s", gone.h.Get("Cseq"), gone.h.Get("Contact"), gone.h.Get("Expires"))
	}
	b.fromPBX(reply(gone, 200, "r", ""))
	p.next("200")
	if b.bindings() != 0 {
		t.Error("the binding is left")
	}
}

// binding is the only one.
func (b *bench) binding() *binding {
	b.t.Helper()
	list := b.proxy.bindings.of("1001@pbx.example.com")
	if len(list) != 1 {
		b.t.Fatalf("%d bindings", len(list))
	}
	return list[0]
}

// What is no number of seconds counts as an hour: below 0, its nanoseconds may be
// those of any time to come.
func TestExpiresBelowZero(t *testing.T) {
	for _, text := range []string{"-1", "-9223372037", "-9223372036854775808", "-99999999999999999999"} {
		b, p, _ := throttled(t, 3600)
		p.refresh(2, "<sip:1001@192.168.1.9:5070>;expires="+text, "Expires: 60")
		reg := b.atPBX("REGISTER")
		ours, _, _ := strings.Cut(reg.h.Get("Contact"), ";")
		b.fromPBX(reply(reg, 200, "r", "", "Contact: "+ours+";expires=3600"))
		p.next("200")
		if left := time.Until(b.binding().expires); left < 59*time.Minute || left > time.Hour {
			t.Errorf("expires=%s: the binding is kept for %s", text, left)
		}
	}
}

// Whatever says something new, or is not sure to be the phone that the PBX
// accepted, goes to the PBX.
func TestRefreshesThatThePBXSees(t *testing.T) {
	const same = "<sip:1001@192.168.1.9>"
	for _, c := range []struct {
		name    string
		change  func(*binding)
		contact string
		cseq    int
		more    string
	}{
		{"another contact", nil, "<sip:1001@192.168.1.9:5070>", 2, "Expires: 60"},
		{"another weight", nil, same + ";q=0.3", 2, "Expires: 60"},
		{"two contacts", nil, same + ", <sip:1001@192.168.1.10>", 2, "Expires: 60"},
		{"removal", nil, same + ";expires=0", 2, "Expires: 60"},
		{"removal of all", nil, "*", 2, "Expires: 0"},
		{"an old number", nil, same, 1, "Expires: 60"},
		{"longer than the PBX keeps it", nil, same, 2, "Expires: 4000"},
		{"more than is left of it", func(b *binding) { b.granted = time.Now().Add(59 * time.Second) }, same, 2, "Expires: 60"},
		{"the interval is over", func(b *binding) { b.refreshed = time.Now().Add(-time.Hour) }, same, 2, "Expires: 60"},
		{"the phone was late", func(b *binding) { b.expires = time.Now().Add(-time.Second) }, same, 2, "Expires: 60"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, p, _ := throttled(t, 3600)
			if c.change != nil {
				changed := *b.binding()
				c.change(&changed)
				b.proxy.bindings.put(&changed)
			}
			p.refresh(c.cseq, c.contact, c.more)
			b.fromPBX(reply(b.atPBX("REGISTER"), 401, "r", ""))
			p.next("401")
		})
	}
	b, p, _ := throttled(t, 3600)
	b.proxy.mask.off = true
	stranger := b.phone()
	stranger.refresh(2, same, "Expires: 60")
	b.fromPBX(reply(b.atPBX("REGISTER"), 403, "r", ""))
	stranger.next("403")
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 7, "")) // asks who is there
	b.fromPBX(reply(b.atPBX("REGISTER"), 200, "r", ""))
	p.next("200")
	b, p, _ = throttled(t, 3600) // one that is refused is no longer trusted
	p.refresh(2, same+";q=0.1", "Expires: 60")
	b.fromPBX(reply(b.atPBX("REGISTER"), 403, "r", ""))
	p.next("403")
	p.refresh(3, same, "Expires: 60")
	b.fromPBX(reply(b.atPBX("REGISTER"), 403, "r", ""))
	p.next("403")
	_, p, _ = throttled(t, 40) // a PBX that grants little
	p.refresh(2, same, "Expires: 30")
	p.next("200")
}

// A PBX that keeps one contact of a user (chan_sip, or max_contacts=1 with
// remove_existing=yes) lets go of a phone when his other one registers. That phone's next
// refresh goes to the PBX, which has it back, and so on, as without the edge.
func TestRefreshOfADroppedContact(t *testing.T) {
	b, p, first := throttled(t, 3600)
	q := b.phone()
	one, another := "<sip:1001@192.168.1.9>", "<sip:1001@192.168.1.10>"
	listed := func(reg *message, more ...string) string {
		ours, _, _ := strings.Cut(reg.h.Get("Contact"), ";")
		return reply(reg, 200, "r", "", append(more, "Contact: "+ours+";expires=3600")...)
	}
	again := func(from *phone, callID, contact string, cseq int) string {
		return from.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", callID, cseq, "", "Contact: "+contact, "Expires: 60")
	}
	q.send(again(q, "reg2", another, 1))
	second := b.atPBX("REGISTER")
	b.fromPBX(listed(second))
	q.next("200")
	q.send(again(q, "reg2", another, 2)) // is spared
	q.next("200")
	p.refresh(2, one, "Expires: 60")
	back := b.atPBX("REGISTER")
	if ours, _, _ := strings.Cut(first.h.Get("Contact"), ";"); !strings.HasPrefix(back.h.Get("Contact"), ours) {
		t.Errorf("the PBX got Contact %s", back.h.Get("Contact"))
	}
	ours, _, _ := strings.Cut(second.h.Get("Contact"), ";") // it has room for both by now
	b.fromPBX(listed(back, "Contact: "+ours+";expires=3600"))
	p.next("200")
	p.refresh(3, one, "Expires: 60")
	p.next("200")
	q.send(again(q, "reg2", another, 3))
	q.next("200")
	if s := b.proxy.Stats(); s.RefreshesSpared != 3 {
		t.Errorf("%d refreshes were spared, want 3", s.RefreshesSpared)
	}
}

func TestRefreshIntervalBounds(t *testing.T) {
	for interval, fault := range map[time.Duration]bool{0: false, time.Minute: false, 24 * time.Hour: false, time.Second: true, -time.Hour: true, 25 * time.Hour: true} {
		c := Defaults()
		c.RefreshInterval = interval
		if err := c.Validate(); strings.Contains(err.Error(), "sip.refresh_interval") != fault {
			t.Errorf("%s: %v", interval, err)
		}
	}
}

// The Expires header says what the contact does: phones go by either.
func TestExpiresHeader(t *testing.T) {
	b := newBench(t)
	b.proxy.cfg.RefreshInterval = time.Hour
	p := b.phone()
	for i, c := range []struct{ asked, granted, contact, header string }{
		{"60", "3600", "<sip:1001@192.168.1.9>;expires=60", "60"},
		{"7200", "300", "<sip:1001@192.168.1.9>;expires=300", "300"},
		{"0", "0", "", "0"},
	} {
		p.refresh(i+1, "<sip:1001@192.168.1.9>", "Expires: "+c.asked)
		reg := b.atPBX("REGISTER")
		ours, _, _ := strings.Cut(reg.h.Get("Contact"), ";")
		more := []string{"Expires: " + c.granted}
		if c.granted != "0" {
			more = append(more, "Contact: "+ours+";expires="+c.granted)
		}
		b.fromPBX(reply(reg, 200, "r", "", more...))
		if m := p.next("200"); m.h.Get("Contact") != c.contact || strings.Join(m.h.Values("Expires"), ",") != c.header {
			t.Errorf("the phone is told Contact %s, Expires %s", m.h.Get("Contact"), m.h.Values("Expires"))
		}
	}
}
