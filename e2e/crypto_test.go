package e2e

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/e2e/peers"
)

// What a phone's crypto lines say besides suite and key, with libsrtp as the
// phone.
func TestCryptoLines(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	media := func(suite string) *peers.Media {
		m := phone.NewMedia(suite)
		m.Stack = peers.Libsrtp
		return m
	}
	t.Run("lifetime", func(t *testing.T) {
		m := media(suite)
		m.Lifetime = "2^20"
		o.talkOut(phone, m, 500)
	})
	t.Run("MKI in an answer", func(t *testing.T) {
		m := media(suite)
		m.Lifetime, m.MKI = "2^31", []byte{0, 0, 0, 1}
		o.talkIn(phone, m, 600)
	})
	t.Run("MKI said and not sent", func(t *testing.T) { // the control
		m := media(suite)
		m.MKI = []byte{0, 0, 0, 1}
		m.Stack = func(p *peers.Phone, k peers.Key) (peers.Guard, error) {
			k.MKI = nil
			return peers.Libsrtp(p, k)
		}
		o.unheard(phone, m, 700)
	})
	line := func(tag int, suite, params string) string {
		return peers.CryptoLine(tag, suite, peers.RandomKey(suite)) + params
	}
	t.Run("the best of several", func(t *testing.T) {
		m := media("AEAD_AES_128_GCM")
		o.talkWith(phone, m, 800, m.Describe(
			line(1, suite, ""),
			line(2, "AEAD_AES_128_GCM", " UNENCRYPTED_SRTP"),
			line(3, "AEAD_AES_128_GCM", " TOMORROW=1"),
			line(4, "AEAD_AES_512_GCM", ""),
			m.CryptoLine(5),
			line(6, "AEAD_AES_256_GCM", ""),
		), "a=crypto:5 AEAD_AES_128_GCM ")
	})
	t.Run("none that can be used", func(t *testing.T) {
		relayed := o.inward()
		_, answer := phone.Invite("610", media(suite).Describe(
			line(1, suite, " UNENCRYPTED_SRTP"),
			line(2, "AEAD_AES_128_GCM", " UNAUTHENTICATED_SRTP"),
			line(3, "AES_CM_128_HMAC_SHA1_32", " TOMORROW=1"),
		))
		if answer.Status() != 488 || !strings.Contains(answer.Get("Warning"), "no crypto line") {
			t.Errorf("answered %s with Warning %q, want 488 that says so", answer.Start, answer.Get("Warning"))
		}
		o.idle()
		if n := o.inward() - relayed; n != 0 {
			t.Errorf("%v packets were relayed", n)
		}
	})
}
