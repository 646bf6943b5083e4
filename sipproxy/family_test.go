package sipproxy

import (
	"crypto/tls"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/media"
)

var (
	originLine = regexp.MustCompile(`o=- (\d+) (\d+) (IN IP[46] \S+)\r\n`)
	mediaLine  = regexp.MustCompile(`m=audio (\d+) `)
)

// A phone that moves between IPv4 and IPv6 is told the address that it reaches, in the
// calls that it has too. What tells the session from others stays (RFC 3264 section 8).
func TestCallMovesBetweenFamilies(t *testing.T) {
	six := netip.IPv6Loopback()
	for _, to := range []struct {
		name   string
		public []netip.Addr
		want   string
	}{
		{"to IPv6", []netip.Addr{loopback, six}, "c=IN IP6 ::1\r\n"},
		{"to IPv4", []netip.Addr{six, loopback}, "c=IN IP4 127.0.0.1\r\n"},
	} {
		t.Run(to.name, func(t *testing.T) {
			b := newBenchWith(t, media.Defaults().Silence, func(c *Config) { c.PublicIPs = to.public })
			p := b.phone()
			b.register(p)
			p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact))
			b.fromPBX(reply(b.atPBX("INVITE"), 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
			before := p.next("200").body
			p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 1, ""))
			b.atPBX("ACK")
			p.conn.Close()

			again := b.phoneTo(b.tls[1], &tls.Config{InsecureSkipVerify: true})
			b.register(again)
			again.send(again.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, secureSDP, contact))
			b.fromPBX(reply(b.atPBX("INVITE"), 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
			after := again.next("200").body
			again.send(again.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, ""))
			b.atPBX("ACK")

			if strings.Contains(before, to.want) || !strings.Contains(after, to.want) {
				t.Errorf("the phone is told\n%s\nand there\n%s", before, after)
			}
			old, now := originLine.FindStringSubmatch(before), originLine.FindStringSubmatch(after)
			if old == nil || now == nil || now[1] != old[1] || now[3] != old[3] || now[2] == old[2] {
				t.Errorf("the session is %q, then %q", old, now)
			}
			if port := mediaLine.FindStringSubmatch(after); port == nil || port[1] == "0" {
				t.Errorf("the port is %q", port)
			}
		})
	}
}
