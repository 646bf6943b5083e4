package sipproxy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/locate"
)

func TestConfigReportsAllFaultsAtOnce(t *testing.T) {
	err := Config{}.Validate()
	if err == nil {
		t.Fatal("an empty config passed")
	}
	for _, key := range []string{"edge.domain", "edge.public_ip", "sip.tls_listen", "sip.plain_listen", "pbx.address", "edge.state_dir", "media.suites", "sip.ring_timeout", "sip.max_requests", "sip.max_requests_in_all"} {
		if !strings.Contains(err.Error(), key+":") {
			t.Errorf("%s is not named:\n%v", key, err)
		}
	}
	c := Defaults()
	c.Domain, c.PublicIPs, c.Secret = "d", []netip.Addr{loopback}, make([]byte, 32)
	c.PlainAddr, c.PBXs = netip.MustParseAddrPort("10.0.0.1:5060"), []locate.Server{{Addr: netip.MustParseAddrPort("10.0.0.5:5060")}}
	if err := c.Validate(); err != nil {
		t.Errorf("a good config: %v", err)
	}
	c.Suites = []media.Suite{media.AESCM256HMACSHA180}
	if err := c.Validate(); err != nil {
		t.Errorf("a suite of SDES alone, without browsers: %v", err)
	}
	c.WSSPort = 443
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "media.suites: has none that browsers know") {
		t.Errorf("a suite of SDES alone, with browsers: %v", err)
	}
	for key, set := range map[string]func(*Config){
		"pbx.domain":        func(c *Config) { c.PBXDomain = "a b" },
		"pbx.source_header": func(c *Config) { c.SourceHeader = "Via" },
		"sip.flow_timer":    func(c *Config) { c.FlowTimer = 5 * time.Second },
		"policy.headers":    func(c *Config) { c.Inbound.Headers = []string{"X-*", "fr?m"} },
		"policy.bodies":     func(c *Config) { c.Inbound.Bodies = []string{"sdp"} },
	} {
		bad := c
		set(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), key+":") {
			t.Errorf("%s: %v", key, err)
		}
	}
}
