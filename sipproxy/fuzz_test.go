package sipproxy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/locate"
)

// hiding is enough of a proxy to hide the plain side.
func hiding() *Proxy {
	c := Defaults()
	c.Domain, c.Secret, c.Inside = "pbx.example.com", make([]byte, 32), []string{"asterisk.lan", "ast"}
	c.PlainAddr, c.PBXs = netip.MustParseAddrPort("10.0.0.1:5060"), []locate.Server{{Addr: netip.MustParseAddrPort("10.0.0.5:5060")}}
	p := &Proxy{cfg: c, bindings: newBindings(), pool: &pool{addr: c.PlainAddr}}
	p.inside.Store(newInsideHosts(c, c.PBXs, nil))
	return p
}

// A Call-ID that crossed twice is what it was, and names no inside on the way.
func FuzzCrossCallID(f *testing.F) {
	p := hiding()
	for _, id := range []string{"a@10.0.0.5:5060", "a@ast", "a@example.net", "a", "@", "a@[::1]:5060", p.crossCallID("b@10.0.0.5")} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		crossed := p.crossCallID(id)
		if back := p.crossCallID(crossed); back != id && !strings.HasSuffix(crossed, "@"+p.cfg.Domain) {
			t.Errorf("%q crosses as %q and comes back as %q", id, crossed, back)
		}
		_, host, _ := cutLast(id, "@")
		if _, after, _ := cutLast(crossed, "@"); p.isInside(hostWithoutPort(host)) && p.isInside(hostWithoutPort(after)) {
			t.Errorf("%q crosses as %q", id, crossed)
		}
	})
}

// Whatever a PBX says, no address of its own is left in it, and mapping it again
// changes nothing.
func FuzzOutwardText(f *testing.F) {
	p := hiding()
	for _, s := range []string{"<sip:1@10.0.0.5:5060;transport=udp>", "10.0.0.5, 10.0.0.1.", `call-id="a@10.0.0.5:5060"`, "sip:asterisk.lan", "x 10.0.0.55", "[10.0.0.5]:1", "sip:ast@[:10.0.0.5]", "10.0.0.5] [10.0.0.5", "aſteriſk.lan", "ſ10.0.0.5 ASTERISK.lan", "10.0.0.1 aſip:a@[10.0.0.5];K"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		out := p.outwardText(text)
		if again := p.outwardText(out); string(again) != string(out) && !strings.Contains(string(out), "call-id") {
			t.Errorf("%q became %q and then %q", text, out, again)
		}
		if p.inside.Load().text.Match(out) {
			t.Errorf("%q became %q", text, out)
		}
	})
}

// Whatever a phone says, no URI of sips: is left in it, nothing grows, and mapping
// it again changes nothing.
func FuzzInwardText(f *testing.F) {
	p := hiding()
	for _, s := range []string{"<sips:1@pbx.example.com:5061;transport=tls>", "sip:a&amp;b@h;ob;x=y;lr", "SIPS:[::1]:5061;maddr=1", "sipsips:x@y", "sip:sips:x@h", `call-id='a@h'`, "sip:1@pbx.example.com:1r;=", "sips:1@pbx.example.com:1:2", "sip:h;ob=@?@k;lr", "aſip:1@pbx.example.com:1 ſipſ:a", "sip:a;tranſport=K"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		out := p.inwardText(text)
		if len(out) > len(text) && !strings.Contains(string(text), "call-id") {
			t.Errorf("%q became %q", text, out)
		}
		for _, uri := range sipURI.FindAllSubmatch(out, -1) {
			if !strings.EqualFold(string(uri[1]), "sip") || strings.Contains(strings.ToLower(string(uri[5])), ";transport=") {
				t.Errorf("%q became %q", text, out)
			}
		}
		if again := p.inwardText(out); string(again) != string(out) && !strings.Contains(string(out), "call-id") {
			t.Errorf("%q became %q and then %q", text, out, again)
		}
	})
}

// Whatever a phone calls itself, its contact at a PBX that keeps Paths is one URI,
// which leads to its token and nowhere else.
func FuzzPathContact(f *testing.F) {
	p := hiding()
	p.cfg.Path = true
	const token = "aaaabbbbccccdddd"
	for _, s := range []string{"sips:1001@192.168.1.9:5061;transport=tls", "sip:x.invalid;ob;sallyport=eeee", "sip:a;SallyPort=x@h;sallyport=y", "tel:+49-30-1;sallyport=z", "sip:[::1]:5?a=b", "sip:a:b@h;x=;y", "sip:o;[]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if !flow.IsURI(uri) { // package flow lets no other through
			return
		}
		at := p.contactOf(uri, token)
		n, err := flow.ParseNameAddr(at)
		if err != nil || n.Params != "" || n.Display != "" || !flow.IsURI(n.URI) {
			t.Fatalf("%q became %q, %v", uri, at, err)
		}
		u, err := parseURI(n.URI)
		if err != nil || tokenOfContact(u) != token || u.Scheme != "sip" || u.Host == "" || u.UriParams.Has("transport") || strings.Count(strings.ToLower(n.URI), ";sallyport=") > 1+strings.Count(strings.ToLower(u.User), ";sallyport=") {
			t.Errorf("%q became %q: it leads to %q", uri, at, tokenOfContact(u))
		}
	})
}

// What a telephone number becomes is a user part and nothing else.
func FuzzTelNumber(f *testing.F) {
	for _, s := range []string{"+49-30-1", "*72#", "%23;x=y", "1@10.0.0.5", "+", "a;b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		number, ok := flow.TelNumber(rest)
		if !ok {
			return
		}
		u, err := parseURI("sip:" + number + "@h")
		if err != nil || u.User != number || u.Host != "h" || u.Password != "" || len(u.UriParams)+len(u.Headers) != 0 {
			t.Errorf("%q is the user part %q of %q, %v", rest, number, u.String(), err)
		}
	})
}
