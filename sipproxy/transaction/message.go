package transaction

import "github.com/emiago/sipgo/sip"

// hopByHop builds the CANCEL or the ACK that belongs to an INVITE and goes the
// same single hop: same Request-URI, one Via with the same branch, same
// Route, Call-ID, From and CSeq number (RFC 3261 sections 9.1 and 17.1.1.3).
func hopByHop(invite *sip.Request, method sip.RequestMethod) *sip.Request {
	req := sip.NewRequest(method, invite.Recipient)
	req.AppendHeader(sip.HeaderClone(invite.Via()))
	req.AppendHeader(sip.NewHeader("Max-Forwards", "70"))
	for _, name := range []string{"Route", "From", "To", "Call-ID"} {
		for _, h := range invite.GetHeaders(name) {
			req.AppendHeader(h)
		}
	}
	req.AppendHeader(&sip.CSeqHeader{SeqNo: invite.CSeq().SeqNo, MethodName: method})
	req.SetBody(nil)
	return req
}

// ackOf builds the ACK of a failed INVITE: its To is the response's, with the
// tag (section 17.1.1.3).
func ackOf(invite *sip.Request, res *sip.Response) *sip.Request {
	ack := hopByHop(invite, sip.ACK)
	if to := res.GetHeader("To"); to != nil {
		ack.ReplaceHeader(to)
	}
	return ack
}
