package sipproxy

import (
	"fmt"
	"strings"
	"testing"
)

// When there is no room left, who has a call can change and end it, and calls for
// help begin; all others are told to come again, even if they say that they belong
// to a call.
func TestOverload(t *testing.T) {
	for name, limit := range map[string]func(*Config){
		"all":   func(c *Config) { c.Requests.Total = 8 },
		"phone": func(c *Config) { c.Requests.PerFlow = 8 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBenchWith(t, 0, limit)
			p := b.phone()
			b.register(p)
			invite := func(number, id string) string {
				return p.request("INVITE", "sip:"+number+"@pbx.example.com", "<sip:"+number+"@pbx.example.com>", id, 1, secureSDP, contact)
			}
			p.send(invite("602", "talk"))
			inv := b.atPBX("INVITE")
			b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1>"))
			ok := p.next("200")
			target, to := strings.Trim(ok.h.Get("Contact"), "<>"), ok.h.Get("To")
			p.send(p.request("ACK", target, to, "talk", 1, ""))
			b.atPBX("ACK")

			for i := range 8 {
				p.send(invite("602", fmt.Sprintf("flood%d", i)))
			}
			refused := func(what, request string) {
				p.send(request)
				if m := p.next("503"); m.h.Get("Retry-After") == "" {
					t.Errorf("%s: the 503 has no Retry-After", what)
				}
			}
			refused("a call", invite("602", "onemore"))
			refused("a stranger's tag", p.request("BYE", target, "<sip:602@pbx.example.com>;tag=guessed", "talk", 2, ""))
			refused("a registration in a call", p.request("REGISTER", "sip:pbx.example.com", to, "talk", 2, "", contact))

			p.send(invite("112", "help"))
			for m := b.atPBX("INVITE"); !strings.HasPrefix(m.uri(), "sip:112@"); m = b.atPBX("INVITE") {
				if m.h.Get("Call-Id") == "onemore" {
					t.Fatal("what was refused came to the PBX")
				}
			}
			refused("a second call for help", invite("911", "help2"))
			p.send(p.request("INFO", target, to, "talk", 3, ""))
			b.fromPBX(reply(b.atPBX("INFO"), 200, "", ""))
			p.next("200")
			p.send(p.request("BYE", target, to, "talk", 4, ""))
			b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
			p.next("200")
		})
	}
}
