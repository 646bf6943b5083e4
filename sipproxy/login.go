package sipproxy

import (
	"sync"

	"github.com/emiago/sipgo/sip"
	client "github.com/icholy/digest"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// login is a request in whose sender's place a challenge is answered: the PBX's to a
// phone with an account, or a provider's to the PBX. The request that does has the next
// CSeq (RFC 3261 section 22.2), so what the sender counts and what the other side sees
// differ from then on: leg.shift.
type login struct {
	p  *Proxy
	as proof
	to hearer

	mu        sync.Mutex   // guards what follows; never held while calling out
	req       *sip.Request // as it was sent; nil once it has its answer
	tries     int
	current   sent
	try       int // that current is of; the first is 0
	cancelled bool
	why       []sip.Header
}

// proof is what challenges are answered with.
type proof struct {
	user     string
	realm    string // of whose challenges; empty: of all
	a1       string // MD5 of user, realm and password, instead of that
	password string
	// vain is called when it is not taken.
	vain func(at *flow.Flow)
}

// maxTries is how many challenges in a row are answered: one of them may say that
// the nonce was too old.
const maxTries = 2

// inTheNameOf is a sender that answers challenges, if the one in whose name the
// request is has an account.
func (p *Proxy) inTheNameOf(by flow.NameAddr, send sender) sender {
	as := p.ownerOf(by)
	if as == nil {
		return send
	}
	return afresh(p.proving(proof{user: as.Extension, realm: as.PBXRealm, a1: as.PBXMD5, vain: func(at *flow.Flow) {
		p.log.Error("the PBX does not take what it is told for a user: set the password again by `sallyport user add`", "user", as.Name, "extension", as.Extension, "realm", as.PBXRealm, "peer", at.Remote().String())
	}}, send))
}

// afresh gives a request that begins no dialog a Call-ID of its own: the sender's next
// may have the CSeq that the answer to a challenge takes.
func afresh(send sender) sender {
	return func(req *sip.Request, hear hearer) (sent, error) {
		if beginsNothing(req) {
			req.ReplaceHeader(sip.NewHeader("Call-ID", randomToken(12)))
		}
		return send(req, hear)
	}
}

// proving is a sender that answers challenges by a proof.
func (p *Proxy) proving(as proof, send sender) sender {
	return func(req *sip.Request, hear hearer) (sent, error) {
		l := &login{p: p, as: as, req: req.Clone(), to: hear}
		first, err := send(req, hearer{on: l.answered, late: hear.late})
		if err != nil {
			return nil, err
		}
		l.follow(0, first)
		return l, nil
	}
}

// beginsNothing tells a request outside of dialogs that makes none.
func beginsNothing(req *sip.Request) bool {
	return flow.Tag(req, "To") == "" && req.Method != sip.INVITE && req.Method != sip.SUBSCRIBE && req.Method != sip.REFER
}

// follow makes what was sent the one that a CANCEL stops, unless its answer was quicker
// than its sender, and another try has followed already.
func (l *login) follow(try int, c sent) {
	l.mu.Lock()
	if try < l.try {
		l.mu.Unlock()
		return
	}
	l.current, l.try = c, try
	cancelled, why := l.cancelled, l.why
	l.mu.Unlock()
	if cancelled {
		c.Cancel(why...)
	}
}

// Cancel stops an INVITE, as transaction.Client.Cancel does.
func (l *login) Cancel(headers ...sip.Header) {
	l.mu.Lock()
	l.cancelled, l.why = true, headers
	current := l.current
	l.mu.Unlock()
	if current != nil {
		current.Cancel(headers...)
	}
}

// Settle does as transaction.Client.Settle, of what was sent last.
func (l *login) Settle(on func(*sip.Response)) {
	l.mu.Lock()
	current := l.current
	l.mu.Unlock()
	if current != nil {
		current.Settle(on)
	}
}

func (l *login) answered(at *flow.Flow, res *sip.Response, err error) {
	if err != nil || !isChallenge(res.StatusCode) {
		if err != nil || res.StatusCode >= 200 {
			l.keep(nil)
		}
		l.to.on(at, res, err)
		return
	}
	l.mu.Lock()
	l.tries++
	try, req := l.tries, l.req
	l.mu.Unlock()
	again := try == 1 || try <= maxTries && isStale(res)
	if again && l.again(at, try, req.Clone(), res) {
		return
	}
	l.as.vain(at)
	l.to.on(at, unanswerable(res), nil)
}

// keep notes what was sent last.
func (l *login) keep(req *sip.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.req = req
}

// again sends a request with credentials, and tells whether it could.
func (l *login) again(at *flow.Flow, try int, req *sip.Request, res *sip.Response) bool {
	if !authorize(req, res, l.as) {
		return false
	}
	removeAll(req, "Via")
	req.PrependHeader(l.p.via(at))
	l.keep(req.Clone())
	c, err := l.p.tx.Request(at, req, func(res *sip.Response, err error) { l.answered(at, res, err) })
	if err != nil {
		l.to.on(at, nil, err)
		return true
	}
	l.follow(try, c)
	return true
}

// authorize answers challenges, in the request that is next: of each realm's, of which
// several may be on the way (RFC 3261 section 22.3), the first that it can (RFC 8760
// section 2.4).
func authorize(req *sip.Request, res *sip.Response, as proof) bool {
	answered := false
	for _, kind := range []struct{ challenge, answer string }{{"WWW-Authenticate", "Authorization"}, {"Proxy-Authenticate", "Proxy-Authorization"}} {
		realms := make(map[string]bool)
		for _, h := range res.GetHeaders(kind.challenge) {
			c, err := client.ParseChallenge(plainDigest(h.Value()))
			if err != nil || realms[c.Realm] || as.realm != "" && c.Realm != as.realm || as.a1 != "" && c.Algorithm != "" && c.Algorithm != "MD5" {
				continue
			}
			cred, err := client.Digest(c, client.Options{Method: string(req.Method), URI: req.Recipient.String(), Username: as.user, Password: as.password, A1: as.a1, Count: 1})
			if err != nil {
				continue
			}
			if len(realms) == 0 { // of the challenges before
				removeAll(req, kind.answer)
			}
			realms[c.Realm] = true
			req.AppendHeader(sip.NewHeader(kind.answer, cred.String()))
		}
		answered = answered || len(realms) > 0
	}
	if answered {
		req.CSeq().SeqNo++
	}
	return answered
}

// unanswerable is what a phone is told that could do nothing about it.
func unanswerable(res *sip.Response) *sip.Response {
	out := sip.NewResponse(sip.StatusInternalServerError, "Server Internal Error")
	for _, h := range res.Headers() {
		if name := sip.HeaderToLower(h.Name()); name != "www-authenticate" && name != "proxy-authenticate" {
			out.AppendHeader(h)
		}
	}
	return out
}

// counts takes how far the far end of a leg counts, from its answer. It never counts
// back: there may have been more requests since.
func (l *leg) counts(in *sip.Request, res *sip.Response) { l.shift = max(l.shift, shiftOf(in, res)) }

// shiftOf is how much further the answer's sender counts than the request's.
func shiftOf(in *sip.Request, res *sip.Response) uint32 { return res.CSeq().SeqNo - in.CSeq().SeqNo }
