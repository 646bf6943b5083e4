package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// tortured is what became of a message of RFC 4475 that a phone sent by TLS.
type tortured struct {
	status int    // of the last final answer that the phone got; 0: none
	closed bool   // the connection, by the edge
	pbx    string // what Asterisk got: number, user and Call-ID; nothing: no byte
}

// The outcome of each of RFC 4475, in front of an Asterisk that knows none of
// their users. Package flow's verdicts say why where the edge is stricter than
// the RFC. All Asterisk's answers but to REGISTER are that it has no such number.
var torments = map[string]tortured{
	// Section 3.1.1, valid.
	"wsinv":      {status: 481},  // in a dialog that there is not
	"intmeth":    {closed: true}, // nothing that an answer needs is clean
	"esc01":      {status: 488},  // their SDP has no key
	"esc02":      {status: 501, pbx: "RE%47IST%45R s from resource, esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf 29344"},
	"escnull":    {status: 400, closed: true},
	"longreq":    {status: 400, closed: true},
	"lwsdisp":    {status: 404, pbx: "OPTIONS user from caller, lwsdisp.1234abcd@funky.example.com 60"},
	"dblreq":     {status: anyStatus, closed: true, pbx: "REGISTER s from j.user, dblreq.0ha0isndaksdj99sdfafnl3lk233412 8"}, // the second swallows the mark, has no Contact, and ends here
	"semiuri":    {status: 404, pbx: "OPTIONS user;par=u@example.net from caller, semiuri.0ha0isndaksdj 8"},
	"transports": {status: 404, pbx: "OPTIONS user from caller, transports.kijh4akdnaqjkwendsasfdj 60"},
	"mpart01":    {status: 415},      // it could carry SDP
	"unreason":   {}, "noreason": {}, // stray responses
	// Section 3.1.2, invalid.
	"badinv01": {status: 400, closed: true}, "clerr": {closed: true}, // cut short: it ends with its connection
	"ncl": {status: 400, closed: true}, "scalar02": {status: 400, closed: true}, "scalarlg": {closed: true},
	"quotbal": {status: 400, closed: true}, "ltgtruri": {status: 400, closed: true}, "lwsruri": {status: 400, closed: true},
	"lwsstart": {status: 400, closed: true}, "trws": {status: 400, closed: true}, "escruri": {status: 400, closed: true},
	"baddate": {status: 488}, "regbadct": {status: 400, closed: true}, "badaspec": {status: 400, closed: true},
	"baddn": {status: 400, closed: true}, "badvers": {status: 505, closed: true}, "mismatch01": {status: 400, closed: true},
	"mismatch02": {status: 400, closed: true}, "bigcode": {closed: true},
	// Sections 3.2 to 3.4.
	"badbranch": {status: 404, pbx: "OPTIONS user from caller, badbranch.sadonfo23i420jv0as0derf3j3n 8"}, // its Via ends here
	"insuf":     {closed: true},                                                                          // not even what an answer needs
	"unkscm":    {status: 416}, "novelsc": {status: 416},
	"unksm2": {status: 400, closed: true}, "bext01": {status: 420}, "invut": {status: 415},
	"regaut01": {status: 401, pbx: "REGISTER s from j.user, regaut01.0ha0isndaksdj 9338"}, // its scheme, which nobody knows, ends here
	"multi01":  {status: 400, closed: true}, "mcl01": {status: 400, closed: true}, "bcast": {}, "zeromf": {status: 483},
	"cparam01": {status: 401, pbx: "REGISTER s from watson, cparam01.70710@saturn.example.com 2"},
	"cparam02": {status: 401, pbx: "REGISTER s from watson, cparam02.70710@saturn.example.com 3"},
	"regescrt": {status: 401, pbx: "REGISTER s from user, regescrt.k345asrl3fdbv@192.0.2.1 14398234"},
	"sdp01":    {status: 488}, "inv2543": {status: 400, closed: true},
}

// anyStatus is where two answers race.
const anyStatus = -1

// The messages of RFC 4475 come from a phone: Asterisk gets those that are
// sound, as they are meant, and nothing malformed; and then a call works.
func TestTorture(t *testing.T) {
	eachPBXWith(t, peers.AsteriskConfig{Tapped: true}, peers.EdgeConfig{PBX: peers.Unchecked, Extra: quiet}, (*office).isTortured)
}

func (o *office) isTortured() {
	t := o.t
	files, err := filepath.Glob("../sipproxy/flow/testdata/torture/*.dat")
	if err != nil || len(files) != len(torments) {
		t.Fatalf("%d messages for %d outcomes (%v)", len(files), len(torments), err)
	}
	host := o.Phone("torture")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".dat")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, known := torments[name]
		if want.pbx != "" && o.pbx.Version == 22 { // chan_pjsip asks strangers who they are before it looks further
			want.status = 401
		}
		phone := peers.NewPhone(host, o.edge, "1001")
		got, _ := o.torture(phone, string(b))
		phone.Close()
		if torments[name].status == anyStatus {
			got.status = want.status
		}
		if got != want || !known {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	if !o.edge.Running() || !o.pbx.Running() {
		t.Fatal("the edge or Asterisk ended")
	}
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)
	o.hangUp(d, media)
}

// torture sends a message, and behind it a mark, on a connection. If that is
// closed, the next one's mark tells when Asterisk has what there is. The wires
// are the requests that it got, as they were.
func (o *office) torture(phone *peers.Phone, text string) (is tortured, wires []string) {
	o.t.Helper()
	o.tap.Take()
	err := phone.Write(text)
	if err == nil {
		is.status, err = marked(phone)
	}
	if is.closed = err != nil; is.closed {
		next := peers.NewPhone(phone.Host, o.edge, "1001")
		defer next.Close()
		if _, err := marked(next); err != nil {
			o.t.Fatalf("a good request is not answered after %q: %v", text, err)
		}
	}
	for _, wire := range o.tap.Take() {
		if strings.HasPrefix(wire, "SIP/2.0") || strings.HasPrefix(wire, "ACK ") || strings.Contains(wire, "\r\nCall-ID: mark-") {
			continue
		}
		wires = append(wires, wire)
		r, err := peers.ReadWire(wire)
		if err != nil {
			o.t.Errorf("Asterisk got a malformed request: %v\n%q", err, wire)
		}
		if is.pbx != "" {
			is.pbx += ", "
		}
		is.pbx += fmt.Sprintf("%s %s from %s, %s %s", r["method"], r["number"], r["from"], r["call_id"], r["cseq"])
	}
	if is.pbx != "" && is.status == 0 && !is.closed { // chan_pjsip has several threads, and may answer the mark first
		is.status = phone.Await("the answer", func(m *peers.Message) bool { return m.Status() >= 200 }).Status()
	}
	return is, wires
}

// marked sends a good request behind what a phone sent before, and returns the
// last final status that came before its answer. Without an answer the
// connection is closed, before the mark perhaps, or what came before has swallowed it.
func marked(phone *peers.Phone) (status int, err error) {
	id := "mark-" + peers.Random(8)
	_ = phone.Write(fmt.Sprintf("OPTIONS sip:600@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/TLS %s;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:1001@pbx.example.com>;tag=m\r\nTo: <sip:600@pbx.example.com>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", phone.Host.Addr, id, id))
	for err == nil {
		var m *peers.Message
		if m, err = phone.Read(5 * time.Second); err != nil || m.Status() < 200 {
			continue
		}
		if m.Get("Call-Id") == id {
			return status, nil
		}
		status = m.Status()
	}
	return status, err
}
