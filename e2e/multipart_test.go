package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A phone that says where it is, beside its description, has its call.
func TestMultipart(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		phone := o.registered("1001")
		media := phone.NewMedia(suite)
		d, m := phone.Invite("600", peers.Multipart(media.Offer(), "application/pidf+xml", "<presence/>"), "Geolocation: <cid:here@pbx.example.com>")
		if m.Status() != 200 {
			o.t.Fatalf("the call was answered %s, Warning %q", m.Start, m.Get("Warning"))
		}
		media.Start(m.Body, 700)
		media.Hears(700, 10*time.Second)
		o.hangUp(d, media)
	})
}
