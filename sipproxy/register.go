package sipproxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// maxGranted bounds how long a contact is kept, in seconds.
const maxGranted = 24 * 3600

// maxContacts bounds what one REGISTER may ask for.
const maxContacts = 8

// registration is one REGISTER on its way through us.
type registration struct {
	flow     *flow.Flow
	in       *sip.Request
	aor      string // as aorKey writes it
	uri      string // the address of record as the phone wrote it
	contacts []registrant
	star     bool // Contact: *, remove all (RFC 3261 section 10.2.2)
}

// registrant is one contact of a REGISTER.
type registrant struct {
	phone flow.NameAddr
	token string
	least int // seconds that the PBX is asked for at least; 0: as the phone says
}

// register forwards a REGISTER with contacts of ours. The digest is the
// phone's and the PBX's own business.
func (p *Proxy) register(f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	reg, err := p.readRegister(f, in)
	if err != nil {
		return refuse(sip.StatusBadRequest, "Bad Request", "%v", err)
	}
	if r := reg.unsupported(); r != nil {
		return r
	}
	if !p.mayRegister(reg) {
		return p.leaving()
	}
	now := time.Now()
	if p.answerRefresh(reg, tx, now) {
		return nil
	}
	p.bindings.doubt(reg.aor, func(b *binding) bool { return b.flow == reg.flow })
	p.stretch(reg, now)
	b := bodyOf(in)
	if bodyRefused(b) != nil { // some makers' phones say more in it, to PBXs of the same maker
		b = body{}
	}
	req := p.request(in, outgoing{
		uri: p.inwardURI(in.Recipient), contact: p.contactsForPBX(reg), body: b,
		from: p.inwardParties(in.GetHeader("From").Value()), dest: p.inwardParties(in.GetHeader("To").Value()),
	})
	reg.stretchHeader(req)
	setTags(req, "Supported", []string{"outbound", "gruu"}, nil)
	setTags(req, "Require", []string{"outbound"}, nil)
	p.writePath(reg, req)
	p.asking.begin(reg)
	_, err = p.ask(reg.aor, p.keeper(reg), req, hearer{on: func(at *flow.Flow, res *sip.Response, err error) {
		p.registered(reg, tx, at, res, err)
		p.answered(reg)
	}})
	if err != nil {
		p.answered(reg)
		return p.unreachable(nil, flow.Plain, err)
	}
	return nil
}

func (p *Proxy) readRegister(f *flow.Flow, in *sip.Request) (*registration, error) {
	to, err := flow.Address(in, "To")
	if err != nil {
		return nil, err
	}
	reg := &registration{flow: f, in: in, uri: to.URI}
	if reg.aor, err = aorKey(p.inwardParty(to).URI); err != nil {
		return nil, err
	}
	list, err := flow.Addresses(in, "Contact")
	if err != nil {
		return nil, err
	}
	if len(list) > maxContacts {
		return nil, fmt.Errorf("read Contact: %d contacts, %d are accepted", len(list), maxContacts)
	}
	for _, c := range list {
		if c.URI == "*" {
			reg.star = true
			continue
		}
		if _, err := parseURI(c.URI); err != nil {
			return nil, err
		}
		reg.add(registrant{phone: c, token: p.tokenOf(reg, c, len(list) == 1)})
	}
	if reg.star && (len(list) > 1 || expiresOf(in) != "0") {
		return nil, fmt.Errorf("read Contact: * needs to be alone, with Expires 0 (RFC 3261 section 10.2.2)")
	}
	return reg, nil
}

// tokenOf names the device behind a contact. One that does not say which it is
// and writes its connection's port into its contact has a new contact after
// each reconnect; it is known by the Call-ID, which it keeps (RFC 3261 section
// 10.2.4). Otherwise each reconnect would leave a stale contact at the PBX.
func (p *Proxy) tokenOf(reg *registration, c flow.NameAddr, alone bool) string {
	if hasInstance(c) {
		return mintToken(p.cfg.Secret, reg.aor, deviceOf(c))
	}
	for _, b := range p.bindings.of(reg.aor) {
		switch {
		case b.instance:
		case b.contact == c.URI, alone && b.callID == reg.in.CallID().Value() && !reg.removes(c):
			return b.token
		}
	}
	return mintToken(p.cfg.Secret, reg.aor, deviceOf(c))
}

// add notes a contact. Two of one device are one to the PBX: a phone that
// learned its address behind a NAT moves its contact in one REGISTER, and the
// removal of the old address must not remove the device.
func (reg *registration) add(c registrant) {
	for i, each := range reg.contacts {
		if each.token == c.token {
			if reg.removes(each.phone) {
				reg.contacts[i] = c
			}
			return
		}
	}
	reg.contacts = append(reg.contacts, c)
}

// removes tells whether a contact is to be removed (RFC 3261 section 10.2.2).
func (reg *registration) removes(c flow.NameAddr) bool {
	expires, ok := c.Param("expires")
	if !ok {
		expires = expiresOf(reg.in)
	}
	return expires != "" && strings.Trim(expires, "0") == ""
}

// contactsForPBX writes the contacts that stand for the phone's. Only what a
// registrar weighs is kept of their parameters.
func (p *Proxy) contactsForPBX(reg *registration) string {
	if reg.star {
		return "*"
	}
	ours := make([]string, len(reg.contacts))
	for i, c := range reg.contacts {
		ours[i] = p.contactOf(c.phone.URI, c.token)
		for _, name := range []string{"q", "expires"} {
			v, ok := c.phone.Param(name)
			if name == "expires" && c.least > 0 {
				v, ok = strconv.Itoa(reg.expiresForPBX(c)), true
			}
			if ok && isNumber(v) && (name != "q" || isWeight(v)) {
				ours[i] += ";" + name + "=" + v
			}
		}
	}
	for _, former := range p.moved(reg) {
		ours = append(ours, former+";expires=0")
	}
	return strings.Join(ours, ", ")
}

// keeper is the PBX that must hear of a REGISTER, which keeps what it removes; nil
// if any may: a user moves to the best one with his next refresh.
func (p *Proxy) keeper(reg *registration) *flow.Flow {
	if reg.star || slices.ContainsFunc(reg.contacts, func(c registrant) bool { return reg.removes(c.phone) }) {
		return p.bindings.home(reg.aor)
	}
	return nil
}

// registered takes the answer of a PBX. Only a 200 changes a binding.
func (p *Proxy) registered(reg *registration, tx *transaction.Server, at *flow.Flow, res *sip.Response, err error) {
	if err != nil {
		_ = tx.Respond(p.refusal(reg.in, p.unreachable(nil, flow.Plain, err)))
		return
	}
	res, over := p.witness(reg.flow, reg.in, res)
	defer over()
	if res.StatusCode < 200 || res.StatusCode >= 300 {
		_ = tx.Respond(p.response(tx, reg.in, res, nil, body{}))
		return
	}
	contacts, expires := p.bind(reg, at, res)
	out := p.response(tx, reg.in, res, contacts, body{})
	if len(contacts) > 0 && expiresOf(out) != "" { // what the PBX grants us is not what the phone has
		removeAll(out, "Expires")
		if expires > 0 {
			out.AppendHeader(sip.NewHeader("Expires", strconv.Itoa(expires)))
		}
	}
	p.confirm(reg, out)
	_ = tx.Respond(out)
}

// bind makes, refreshes and removes bindings as a 200 says, and returns the
// contacts to show the phone: its own, and those of the user's other devices
// that are registered here; and for how long its own are kept, in seconds, or 0.
func (p *Proxy) bind(reg *registration, at *flow.Flow, res *sip.Response) (shown []string, expires int) {
	listed, err := flow.Addresses(res, "Contact")
	if err != nil {
		p.log.Warn("contacts of registration not understood", "peer", "pbx", "user", reg.aor, "reason", err)
	}
	granted := make(map[string]int, len(listed))
	order := make([]string, 0, len(listed))
	for _, c := range listed {
		uri, err := parseURI(c.URI)
		if err != nil {
			continue
		}
		seconds, ok := grantedTo(c, res, reg.in)
		if token := tokenOfContact(uri); ok && seconds > 0 {
			if granted[token] == 0 {
				order = append(order, token)
			}
			granted[token] = seconds
		}
	}
	for _, c := range reg.contacts {
		seconds, ok := granted[c.token]
		switch {
		case !ok:
			p.unbind(c.token, reg)
		case c.least > 0 && reg.removes(c.phone): // the device stays, by another connection
			p.bindings.removeOne(c.token, regID(c.phone))
		default:
			p.bindOne(reg, c, at, seconds, serviceRoute(res))
		}
	}
	if reg.star {
		for _, b := range p.bindings.of(reg.aor) {
			p.unbind(b.token, reg)
		}
	}
	// A 200 lists all that there are (RFC 3261 section 10.3, step 8): what it leaves out may
	// have had to make room.
	p.bindings.doubt(reg.aor, func(b *binding) bool { return b.pbx == at && granted[b.token] == 0 })
	bound := p.bindings.of(reg.aor)
	for _, token := range order {
		for _, b := range bound {
			if b.token != token {
				continue
			}
			seconds := granted[token]
			if p.cfg.RefreshInterval > 0 || b.regID != "" {
				seconds = min(seconds, int(time.Until(b.expires).Round(time.Second)/time.Second))
			}
			shown = append(shown, b.shown(seconds))
			if reg.has(b) && (expires == 0 || seconds < expires) {
				expires = seconds
			}
		}
	}
	return shown, expires
}

// has tells whether a binding is of one of the contacts of a REGISTER.
func (reg *registration) has(b *binding) bool {
	return slices.ContainsFunc(reg.contacts, func(c registrant) bool { return c.token == b.token && regID(c.phone) == b.regID })
}

// shown is the contact as the phone may see it. Those of one device may differ in
// nothing but the reg-id.
func (b *binding) shown(seconds int) string {
	s := fmt.Sprintf("<%s>;expires=%d", b.contact, seconds)
	if b.regID != "" {
		instance, _ := (flow.NameAddr{Params: b.params}).Param("+sip.instance")
		s += fmt.Sprintf(`;+sip.instance="%s";reg-id=%s`, instance, b.regID)
	}
	return s
}

func (p *Proxy) bindOne(reg *registration, c registrant, at *flow.Flow, seconds int, routes []string) {
	known, now := p.bindings.find(c.token, regID(c.phone)), time.Now()
	granted := now.Add(time.Duration(seconds) * time.Second)
	if c.least > 0 { // the phone is heard again when it said it would be, or is gone
		seconds = min(seconds, p.wanted(reg, c.phone))
	}
	p.bindings.put(&binding{
		token: c.token, aor: reg.aor, uri: reg.uri, contact: c.phone.URI, instance: hasInstance(c.phone), regID: regID(c.phone),
		callID: reg.in.CallID().Value(), host: hostOf(reg.in.Recipient), flow: reg.flow, pbx: at,
		expires: now.Add(time.Duration(seconds) * time.Second),
		routes:  routes, allow: allowOf(reg.in), params: c.phone.Without("expires").Params, cseq: reg.in.CSeq().SeqNo, refreshed: now, granted: granted,
	})
	if known == nil || known.flow != reg.flow {
		p.log.Info("registered", "user", reg.aor, "peer", reg.flow.Remote().String(), "expires", seconds)
	}
}

func (p *Proxy) unbind(token string, reg *registration) {
	if p.bindings.get(token) != nil {
		p.bindings.remove(token)
		p.log.Info("unregistered", "user", reg.aor, "peer", reg.flow.Remote().String())
	}
}

// grantedTo reads how long a registrar keeps a contact, in seconds: the
// contact's own expires, else the response's Expires, else what was asked for
// (RFC 3261 section 10.2.4).
func grantedTo(c flow.NameAddr, res *sip.Response, in *sip.Request) (int, bool) {
	text, ok := c.Param("expires")
	if !ok {
		if text = expiresOf(res); text == "" {
			text = expiresOf(in)
		}
	}
	if text == "" {
		return 3600, true
	}
	seconds, err := strconv.Atoi(text)
	return min(seconds, maxGranted), err == nil
}

func expiresOf(m sip.Message) string {
	if h := m.GetHeaders("Expires"); len(h) > 0 {
		return h[0].Value()
	}
	return ""
}

// isWeight accepts a qvalue (RFC 3261 section 25.1). pjproject drops a REGISTER
// with a larger one.
func isWeight(s string) bool {
	whole, part, _ := strings.Cut(s, ".")
	return len(part) <= 3 && (whole == "0" || whole == "1" && strings.Trim(part, "0") == "")
}

// isNumber accepts an integer or a q-value.
func isNumber(s string) bool {
	return s != "" && len(s) <= 10 && strings.Trim(s, "0123456789.") == "" && strings.Count(s, ".") <= 1
}
