package sipproxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// Outbound (RFC 5626) ends at the edge, which is both edge proxy and registrar in
// its sense. A device that registers over several connections, each with a reg-id,
// is one contact to the PBX; calls go down the connection that was refreshed last
// and lives, and fall over to the next. So the PBX rings it once, and needs to
// know nothing of all this. Nobody is told 430: no proxy behind us could try
// another connection that we would not have tried. Nor 439: we are the first hop.
//
// GRUUs (RFC 5627) end here too. One that the PBX makes is of its own domain and
// stands for a contact of ours: phones that gave it away would be called at a host
// of the inside. So the PBX is not asked for any, and none is shown.

// maxConnections bounds the connections of one device.
const maxConnections = 4

// regID tells the connections of a device apart, if it has said which device it
// is (RFC 5626 section 6); nothing if it did not do so.
func regID(contact flow.NameAddr) string {
	id, _ := contact.Param("reg-id")
	n, err := strconv.ParseUint(id, 10, 31)
	if err != nil || n == 0 || !hasInstance(contact) {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

// doesOutbound tells whether a REGISTER asks for outbound, and can have it.
func (reg *registration) doesOutbound() bool {
	return len(reg.contacts) == 1 && regID(reg.contacts[0].phone) != "" && !reg.removes(reg.contacts[0].phone) &&
		hasTag(reg.in, "Supported", "outbound")
}

// unsupported refuses a REGISTER that requires what ends here without effect.
func (reg *registration) unsupported() *refusal {
	if hasTag(reg.in, "Require", "gruu") {
		return refuse(sip.StatusBadExtension, "Bad Extension", "gruu is not supported").with("Unsupported", "gruu")
	}
	return nil
}

// confirm tells a phone that outbound was done for it, and how often to say
// something: a connection that is silent for longer is taken for dead, once the
// phone has shown that it knows how to. Browsers are pinged instead.
func (p *Proxy) confirm(reg *registration, res *sip.Response) {
	if !reg.doesOutbound() {
		return
	}
	res.AppendHeader(sip.NewHeader("Require", "outbound"))
	if every := p.cfg.FlowTimer; every > 0 && reg.flow.Transport() == "TLS" {
		res.AppendHeader(sip.NewHeader("Flow-Timer", fmt.Sprint(int(every/time.Second))))
		reg.flow.Expect(every + every/4)
	}
}

// tagsOf are the option tags in a header.
func tagsOf(m sip.Message, name string) []string {
	var tags []string
	for _, h := range m.GetHeaders(name) {
		for _, tag := range strings.Split(h.Value(), ",") {
			if tag = strings.TrimSpace(tag); tag != "" {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

func hasTag(m sip.Message, name, tag string) bool {
	return slices.ContainsFunc(tagsOf(m, name), func(each string) bool { return strings.EqualFold(each, tag) })
}

// setTags writes such a header anew, with some tags less and some more.
func setTags(req *sip.Request, name string, without, with []string) {
	if len(with) == 0 && flow.First(req, name) == nil {
		return
	}
	tags := slices.DeleteFunc(tagsOf(req, name), func(each string) bool {
		return slices.ContainsFunc(slices.Concat(without, with), func(tag string) bool { return strings.EqualFold(each, tag) })
	})
	removeAll(req, name)
	if tags = append(tags, with...); len(tags) > 0 {
		req.AppendHeader(sip.NewHeader(name, strings.Join(tags, ", ")))
	}
}
