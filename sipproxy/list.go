package sipproxy

import (
	"mime"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// A phone may watch many others by one subscription, to a list that the PBX keeps (RFC
// 4662). Its NOTIFYs have a body of several parts (RFC 2387): the first tells of whom the
// others are, which it names by their Content-IDs. Each part is carried as it would be
// alone, and the whole is written anew. A list in a list is refused, as is what else a
// reader could take otherwise than it is taken here. Phones tell nobody of lists.

// maxListed bounds the parts. The largest desk phones watch some two hundred others.
const maxListed = 256

// toldIn is the body of a request, with its parts if it tells of a list.
func (p *Proxy) toldIn(f *flow.Flow, in *sip.Request) body {
	b := bodyOf(in)
	if in.Method == sip.NOTIFY && (f.Side() == flow.Plain || p.trunkOf(f) != nil) {
		return b.listed()
	}
	return b
}

// listed takes a list's body apart, the first part first. One that is none, or is to be
// refused, stays as it is.
func (b body) listed() body {
	var all []part
	whole := b.eachPart("multipart/related", func(p part) bool {
		all = append(all, p)
		return len(all) <= maxListed && !p.isSDP() && !strings.ContainsAny(p.id+p.mediaType(), `"\`)
	})
	if !whole || len(all) == 0 {
		return b
	}
	_, params, _ := mime.ParseMediaType(b.kind) // eachPart has read it
	if start := params["start"]; start != "" {
		at := slices.IndexFunc(all, func(p part) bool { return p.id == start })
		if at < 0 {
			return b
		}
		all = slices.Concat(all[at:at+1], all[:at], all[at+1:])
	}
	b.all = all
	return b
}

// relisted is a list's body written anew, as it may reach a side.
func (p *Proxy) relisted(b body, to flow.Side) body {
	all := slices.Clone(b.all)
	for i := range all {
		all[i].body = p.carried(all[i].body, to)
		if to == flow.Secure { // as in what names it
			all[i].id = p.outwardWords(all[i].id)
		}
	}
	return related(all)
}

// related writes the parts of a list into one body.
func related(all []part) body {
	kind := `multipart/related;type="` + all[0].mediaType() + `"`
	if id := all[0].id; id != "" {
		kind += `;start="` + id + `"`
	}
	return joined(kind, all)
}
