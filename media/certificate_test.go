package media

import (
	"fmt"
	"testing"
)

// A description that names another certificate begins another handshake, whoever
// begins it; until that is done the keys before go on (RFC 8842 section 4).
func TestPhoneRenewsItsCertificate(t *testing.T) {
	e := runEngine(t, testConfig())
	for _, ice := range []bool{true, false} {
		for _, role := range []Role{Active, Passive} {
			t.Run(fmt.Sprintf("ICE %v, role %d", ice, role), func(t *testing.T) {
				c := newWeb(t, e, 1)
				c.start(role, ice, allSuite...)
				if ice {
					c.nominate(c.tr.Credentials())
				}
				if err := c.handshake(other(role), allSuite, c.tr.Fingerprint()); err != nil {
					t.Fatal(err)
				}
				c.talks()
				before := c.browser
				c.browser = newBrowser(t, before.to)
				c.start(role, ice, allSuite...)
				before.says(0, "under the key before")
				wants(t, c.pbx[0], "under the key before")
				if ice {
					c.nominate(c.tr.Credentials())
				}
				if err := c.handshake(other(role), allSuite, c.tr.Fingerprint()); err != nil {
					t.Fatal(err)
				}
				c.talks()
			})
		}
	}
}
