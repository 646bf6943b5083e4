package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// dtlsCall calls a number with media that DTLS keys.
func (o *office) dtlsCall(phone *peers.Phone, number string, media *peers.Media, hz float64) *peers.Dialog {
	o.t.Helper()
	d := o.call(phone, number, media, hz)
	media.Keyed(10 * time.Second)
	return d
}

// A phone in each role, with its fingerprint in either place and by each hash,
// with either kind of certificate.
func TestDtlsRoles(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	for _, c := range []struct {
		name, setup, hash string
		above, rsa        bool
		answer            string
	}{
		{"active", "active", "sha-256", false, false, "passive"},
		{"passive", "passive", "sha-256", false, false, "active"},
		{"actpass", "actpass", "sha-256", false, false, "passive"},
		{"active, of the session, sha-1", "active", "sha-1", true, false, "passive"},
		{"passive, of the session, sha-512", "passive", "sha-512", true, false, "active"},
		{"active, RSA", "active", "sha-512", false, true, "passive"},
		{"passive, RSA, sha-1", "passive", "sha-1", false, true, "active"},
	} {
		t.Run(c.name, func(t *testing.T) {
			media := phone.NewDTLS()
			media.DTLS.Setup, media.DTLS.Hash, media.DTLS.Above = c.setup, c.hash, c.above
			media.DTLS.Cert = phone.MediaCertificate(c.rsa)
			media.DTLS.Named = media.DTLS.Cert
			o.forget()
			d, m := phone.Invite("610", media.Offer())
			if m.Status() != 200 || !strings.Contains(m.Body, "a=setup:"+c.answer+"\r\n") {
				t.Fatalf("the call was answered %s, want setup:%s in\n%s", m.Start, c.answer, m.Body)
			}
			media.Start(m.Body, 700)
			media.Keyed(10 * time.Second)
			o.bothHear(media, 700)
			o.hangup(d, media)
		})
	}
}
