package sipproxy

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// notCopied are the headers that are written anew on each side, or end here.
// All others mean something end to end and are copied as validated.
var notCopied = map[string]bool{
	"via": true, "route": true, "record-route": true, "path": true, "service-route": true,
	"max-forwards": true, "from": true, "to": true, "call-id": true, "cseq": true, "contact": true,
	"content-length": true, "content-type": true, "proxy-require": true,
}

// notFromInside are headers that tell phones of the machine behind us.
var notFromInside = map[string]bool{"server": true, "user-agent": true, "warning": true}

// assertsIdentity are the headers that Privacy: id is about.
var assertsIdentity = map[string]bool{"p-asserted-identity": true, "remote-party-id": true}

// namesParties are the headers by whose addresses a phone may call, or is told
// to: they must not be the PBX's own.
var namesParties = map[string]bool{
	"p-asserted-identity": true, "p-preferred-identity": true, "remote-party-id": true, "p-called-party-id": true,
	"diversion": true, "history-info": true, "refer-to": true, "referred-by": true, "reply-to": true,
}

// namesPlaces are further headers whose URIs a PBX might take for ones to go to.
var namesPlaces = map[string]bool{"alert-info": true, "call-info": true, "error-info": true}

// outgoing is a request as it shall leave: what is not taken from the original.
type outgoing struct {
	to         *flow.Flow // nil: any PBX, which gets its Via when it is found
	uri        sip.Uri
	from, dest string // From and To, with their tags
	routes     []string
	contact    string // with brackets and parameters; empty for none
	body       body
	shift      uint32 // what is added to CSeq: leg.shift
}

// request writes a request anew for the other side (RFC 3261 section 16.6).
func (p *Proxy) request(in *sip.Request, out outgoing) *sip.Request {
	req := sip.NewRequest(in.Method, out.uri)
	if out.to != nil {
		req.AppendHeader(p.via(out.to))
	}
	for _, r := range out.routes {
		req.AppendHeader(sip.NewHeader("Route", r))
	}
	req.AppendHeader(sip.NewHeader("Max-Forwards", strconv.Itoa(maxForwards(in)-1)))
	req.AppendHeader(sip.NewHeader("From", out.from))
	req.AppendHeader(sip.NewHeader("To", out.dest))
	req.AppendHeader(sip.NewHeader("Call-ID", p.crossCallID(in.CallID().Value())))
	req.AppendHeader(&sip.CSeqHeader{SeqNo: in.CSeq().SeqNo + out.shift, MethodName: in.Method})
	if out.contact != "" {
		req.AppendHeader(sip.NewHeader("Contact", out.contact))
	}
	p.copyHeaders(req, in, out.side(), out.to == nil || p.trunkOf(out.to) != nil)
	countOn(req, out.shift)
	b := p.carried(out.body, out.side())
	if out.side() == flow.Plain {
		p.withoutOurs(req, in)
	} else if p.trunkOf(out.to) == nil {
		called, _ := flow.ParseNameAddr(out.dest) // we wrote it
		b.bytes = p.inOwnWords(req, accountOf(called.URI), b.bytes)
	}
	appendBody(req, b)
	return req
}

func (o outgoing) side() flow.Side {
	if o.to == nil {
		return flow.Plain
	}
	return o.to.Side()
}

// response writes the answer to in, a request as it came, from the answer of the other
// side. Via, From, Call-ID and CSeq are the request's own.
func (p *Proxy) response(asked *transaction.Server, in *sip.Request, from *sip.Response, contacts []string, b body) *sip.Response {
	asker := asked.Conn().(*flow.Flow) // what Proxy.Receive gave it
	to, trusted := asker.Side(), p.trunkOf(asker) != nil
	status, reason := from.StatusCode, from.Reason
	if to == flow.Plain && isChallenge(status) { // the PBX might answer it, with a digest of its own password (CVE-2021-41158)
		status, reason = sip.StatusForbidden, "Forbidden"
	}
	if to == flow.Secure {
		reason = p.outwardWords(reason)
	}
	res := bare(in, status, reason, flow.Tag(from, "To"))
	for _, c := range contacts {
		res.AppendHeader(sip.NewHeader("Contact", c))
	}
	p.copyHeaders(res, from, to, trusted)
	b = p.carried(b, to)
	if to == flow.Secure && !trusted {
		b.bytes = p.inOwnWords(res, p.claimed(asker, in), b.bytes)
	}
	appendBody(res, b)
	return res
}

// answer writes an answer of our own.
func (p *Proxy) answer(in *sip.Request, status int, reason string) *sip.Response {
	tag := ""
	if status > 100 {
		tag = "sp-" + randomToken(6)
	}
	res := bare(in, status, reason, tag)
	appendBody(res, body{})
	return res
}

// refusal writes an answer of our own that says why.
func (p *Proxy) refusal(in *sip.Request, r *refusal) *sip.Response {
	res := p.answer(in, r.status, r.reason)
	for _, h := range r.extra {
		res.AppendHeader(h)
	}
	if r.text != "" {
		res.AppendHeader(sip.NewHeader("Warning", fmt.Sprintf("%d %s %q", r.warn, p.cfg.Domain, r.text)))
	}
	return res
}

// bare is a response with the headers that RFC 3261 section 8.2.6.2 copies.
// A To tag that the request has is kept; otherwise tag is added.
func bare(in *sip.Request, status int, reason, tag string) *sip.Response {
	res := sip.NewResponse(status, reason)
	for _, via := range in.GetHeaders("Via") {
		res.AppendHeader(via)
	}
	if status > 100 && status < 300 && (in.Method == sip.INVITE || in.Method == sip.SUBSCRIBE) {
		for _, rr := range in.GetHeaders("Record-Route") { // section 12.1.1: the requester's side, not ours
			res.AppendHeader(rr)
		}
	}
	res.AppendHeader(sip.NewHeader("From", in.GetHeader("From").Value()))
	to := in.GetHeader("To").Value()
	if n, err := flow.ParseNameAddr(to); err == nil && tag != "" {
		if own, _ := n.Param("tag"); own == "" {
			to = n.WithTag(tag)
		}
	}
	res.AppendHeader(sip.NewHeader("To", to))
	res.AppendHeader(sip.NewHeader("Call-ID", in.CallID().Value()))
	res.AppendHeader(&sip.CSeqHeader{SeqNo: in.CSeq().SeqNo, MethodName: in.CSeq().MethodName})
	return res
}

// copyHeaders copies what means the same on both sides. Who is trusted learns who it is
// that wants privacy (RFC 3325 section 7).
func (p *Proxy) copyHeaders(to, from sip.Message, side flow.Side, trusted bool) {
	type lister interface{ Headers() []sip.Header }
	private := side == flow.Secure && !trusted && wantsPrivacy(from)
	for _, h := range from.(lister).Headers() {
		name, value := sip.HeaderToLower(h.Name()), h.Value()
		switch {
		case notCopied[name], side == flow.Secure && notFromInside[name],
			strings.HasPrefix(name, ownPrefix) && !strings.EqualFold(name, p.cfg.SourceHeader), private && assertsIdentity[name]:
			continue
		case side == flow.Plain && (name == "authorization" || name == "proxy-authorization"):
			if value = digestForPBX(value); value == "" {
				continue
			}
		case namesCalls[name]:
			value = p.crossCalls(value)
		case side == flow.Plain && (name == "www-authenticate" || name == "proxy-authenticate"):
			continue
		case name == "www-authenticate", name == "proxy-authenticate":
			value = withoutAuthInt(value) // and a realm that is an address: digests are made with it
		case side == flow.Secure:
			if namesParties[name] || namesPlaces[name] {
				value = p.outwardList(value)
			}
			value = p.outwardWords(p.callInURI(value))
		case namesParties[name], namesPlaces[name]:
			value = p.inwardParties(p.callInURI(value))
		}
		to.AppendHeader(sip.NewHeader(h.Name(), value))
	}
}

var qop = regexp.MustCompile(`(?i)(\bqop=")([^"]*)"`)

// withoutAuthInt takes from a challenge the offer to protect the body, if it
// has another: the other side will get a body of ours (RFC 3261
// section 22.4).
func withoutAuthInt(challenge string) string {
	return qop.ReplaceAllStringFunc(challenge, func(s string) string {
		parts := qop.FindStringSubmatch(s)
		var kept []string
		for _, each := range strings.Split(parts[2], ",") {
			if each = strings.TrimSpace(each); !strings.EqualFold(each, "auth-int") {
				kept = append(kept, each)
			}
		}
		if len(kept) == 0 {
			return s
		}
		return parts[1] + strings.Join(kept, ",") + `"`
	})
}

// wantsPrivacy tells whether who calls must not be told to phones, which are
// beyond those that trust each other (RFC 3325 section 7).
func wantsPrivacy(m sip.Message) bool {
	for _, h := range m.GetHeaders("Privacy") {
		for _, v := range strings.FieldsFunc(h.Value(), func(c rune) bool { return c == ';' || c == ',' || c == ' ' }) {
			if strings.EqualFold(v, "id") {
				return true
			}
		}
	}
	return false
}

// via is our only Via on the side of f. The branch is random: it is also what
// a response must know to be let in.
func (p *Proxy) via(f *flow.Flow) *sip.ViaHeader {
	at := f.Local()
	if f.Side() == flow.Secure {
		at = p.publicAddr(f)
	}
	v := &sip.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: f.Transport(),
		Host: at.Addr().String(), Port: int(at.Port()),
	}
	v.Params.Add("branch", sip.RFC3261BranchMagicCookie+randomToken(16))
	v.Params.Add("rport", "")
	if f.Shared() { // its far end may send by this connection, too (RFC 5923 section 4)
		v.Params.Add("alias", "")
	}
	return v
}

// publicAddr is our address as the phone behind f reaches it: of its own IP
// version if there is one.
func (p *Proxy) publicAddr(f *flow.Flow) netip.AddrPort {
	port := p.cfg.PublicPort
	if f.Transport() == "WSS" {
		port = p.cfg.WSSPort
	}
	return netip.AddrPortFrom(sameFamily(p.cfg.PublicIPs, f.Remote().Addr()), port)
}

// sameFamily is the first of our addresses that is of the family of another, or
// the first of all.
func sameFamily(ours []netip.Addr, far netip.Addr) netip.Addr {
	for _, each := range ours {
		if each.Is4() == far.Is4() {
			return each
		}
	}
	return ours[0]
}

// stampVia notes where a request really came from, as RFC 3261 section
// 18.2.1 and RFC 3581 section 4 demand; its responses carry it back.
func stampVia(req *sip.Request, source netip.AddrPort) {
	via := req.Via()
	ip := source.Addr().String()
	_, asked := via.Params.Get("rport")
	if asked {
		via.Params.Remove("rport")
		via.Params.Add("rport", strconv.Itoa(int(source.Port())))
	}
	if asked || via.Host != ip {
		via.Params.Remove("received")
		via.Params.Add("received", ip)
	}
}

// maxForwards reads Max-Forwards; validation added the 70 that RFC 3261
// section 16.3 puts in place of a missing one. More than 255 is none (section
// 20.22).
func maxForwards(in *sip.Request) int {
	if h := in.GetHeader("Max-Forwards"); h != nil {
		if n, err := strconv.Atoi(h.Value()); err == nil {
			return min(n, 255)
		}
	}
	return 70
}

// randomToken returns n random bytes in lower-case hexadecimal.
func randomToken(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}
