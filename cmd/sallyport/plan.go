package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/phone"
	"github.com/sallyport/sallyport/cmd/internal/succession"
	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/locate"
	"github.com/sallyport/sallyport/tlsconf"
)

// plan is the configuration with nothing left open: names resolved, addresses
// found, and each package's own Config made and validated.
type plan struct {
	listen []netip.AddrPort // TLS, one for each listen_ip
	web    []netip.AddrPort // secure WebSocket, likewise; none unless asked for
	plain  netip.AddrPort   // SIP towards the PBX
	pbxs   []locate.Server
	admin  netip.AddrPort
	drain  time.Duration

	handover time.Duration
	estate   *succession.Estate // what a process before this one left; nil: nothing

	balancers []netip.Prefix // whose connections tell for whom they are

	origins flow.Origins // of pages that may use web
	phone   bool         // web serves the test phone
	users   string       // the file of the edge's own; empty: there are none

	tls    tlsconf.Config
	trunks []trunkPlan
	policy policy.Config
	alarms string // the address for them; or nothing
	limits flow.Limits
	media  media.Config
	sip    sipproxy.Config // without its Secret, which build loads
}

// plan resolves the configuration, and adds the faults that come to light to
// d. It sends nothing but a name's lookup, and writes nothing.
func (c Config) plan(ctx context.Context, d *document) plan {
	p := plan{
		admin: c.Admin.Listen.on(loopback),
		drain: c.Edge.Drain,

		handover: c.Edge.Handover,

		tls:    c.tlsConfig(),
		policy: c.policyConfig(),
		alarms: c.Policy.Calls.AlarmURL,
		limits: c.SIP.limits(),
	}
	p.listen, p.balancers = c.secureListen(d), bare(c.SIP.Balancers)
	p.web, p.origins = c.webListen(d)
	p.phone = c.SIP.WSSPhone
	if a := c.Edge.PlainIP; a.IsValid() && !isLocal(a) {
		d.add("edge.plain_ip", fmt.Sprintf("%s is no address of this machine; give one, or leave it out to have it found", a))
	}
	if a := c.TLS.ACMEHTTP.Addr; a.IsValid() && !isLocal(a) {
		d.add("tls.acme_http", fmt.Sprintf("%s is no address of this machine; give one that is, or a port alone", a))
	}
	if a := c.SIP.PlainListen.Addr; a.IsValid() && !isLocal(a) {
		d.add("sip.plain_listen", fmt.Sprintf("%s is no address of this machine; give one that is, or a port alone", a))
	}
	if at, r := c.SIP.PlainListen.Port, c.Media.PlainPorts; at >= r.First && at <= r.Last {
		d.add("media.plain_ports", fmt.Sprintf("%s holds port %d of sip.plain_listen; keep the two apart", r, at))
	}
	names := locate.Remember(net.DefaultResolver)
	p.plain, p.pbxs = c.plainSide(ctx, names, d)
	p.media = c.mediaConfig(p.plain.Addr())
	p.keepTCPApart(d)
	p.letCAIn(d)
	p.users = c.Users.File
	p.sip = c.sipConfig(p.plain, p.pbxs, d)
	if c.PBX.hasNames() {
		p.sip.Locate = func(ctx context.Context) ([]locate.Server, error) { return c.PBX.locate(ctx, names) }
	}
	p.planTrunks(c, d)
	p.validate(d)
	return p
}

// validate asks each package what it thinks of its own.
func (p plan) validate(d *document) {
	d.addError(p.tls.Validate())
	d.addError(p.policy.Validate())
	d.addError(p.policy.CheckFiles())
	d.addError(p.limits.Validate())
	d.addError(p.origins.Validate())
	d.addError(p.media.Validate())
	sip := p.sip
	sip.Secret = make([]byte, secretSize) // the real one is not made before build
	d.addError(sip.Validate())
}

func (c Config) mediaConfig(plain netip.Addr) media.Config {
	return media.Config{
		SecureIPs:  c.listenIPs(),
		PublicIPs:  c.Edge.PublicIP,
		PlainIP:    plain,
		Port:       uint16(c.Media.Port),
		TCP:        c.Media.TCPListen.On,
		TCPPort:    c.Media.TCPListen.Port,
		PlainPorts: media.PortRange{First: c.Media.PlainPorts.First, Last: c.Media.PlainPorts.Last},
		Workers:    cmp.Or(c.Media.Workers, runtime.NumCPU()),
		Silence:    c.Media.Timeout,
		DSCP:       c.Media.DSCP,
	}
}

func (c Config) sipConfig(plain netip.AddrPort, pbxs []locate.Server, d *document) sipproxy.Config {
	s := sipproxy.Config{
		Domain:      c.Edge.Domain,
		PublicIPs:   c.Edge.PublicIP,
		PublicPort:  c.SIP.TLSListen.Port,
		WSSPort:     c.SIP.WSSListen.Port,
		PlainAddr:   plain,
		PBXs:        pbxs,
		Inside:      c.PBX.names(c.Edge.Domain),
		RingTimeout: c.SIP.RingTimeout,

		PBXDomain:       c.PBX.Domain,
		SourceHeader:    c.PBX.SourceHeader,
		Path:            c.PBX.Path,
		RefreshInterval: c.SIP.RefreshInterval,
		CheckInterval:   c.PBX.CheckInterval,
		FlowTimer:       c.SIP.FlowTimer,
		AnswerQualify:   c.SIP.AnswerQualify,
		Requests:        sipproxy.Defaults().Requests,
		ShowUsers:       !c.Policy.HideUsers || c.Policy.DryRun,
		Inbound: sipproxy.Inbound{
			Headers: c.Policy.Headers, Methods: c.Policy.Methods, Bodies: c.Policy.Bodies, OwnCaller: c.Policy.CallerID == callerForced,
		},
	}
	c.Users.into(&s, d)
	s.Requests.PerFlow, s.Requests.Total = c.SIP.MaxRequests, c.SIP.MaxRequestsInAll
	for _, name := range c.Media.Suites {
		suite, ok := media.ParseSuite(name)
		if !ok {
			d.add("media.suites", fmt.Sprintf("%q is no suite we speak; see `sallyport help config` for those", name))
			continue
		}
		s.Suites = append(s.Suites, suite)
	}
	return s
}

func (c Config) tlsConfig() tlsconf.Config {
	t := tlsconf.Config{
		Files: c.TLS.files(), Profile: tlsconf.Profile(c.TLS.Profile),
		KeyType:  tlsconf.KeyType(c.TLS.SelfSignedKey),
		StateDir: c.Edge.StateDir,
		IPs:      c.Edge.PublicIP,
		Clients: tlsconf.Clients{
			CA: c.TLS.ClientCA, CRL: c.TLS.ClientCRL,
			TLS: tlsconf.Demand(c.SIP.TLSClientCert), WSS: tlsconf.Demand(c.SIP.WSSClientCert),
		},
	}
	if c.Edge.Domain != "" {
		t.Names = []string{c.Edge.Domain}
	}
	if c.TLS.ACME {
		t.ACME = c.acme()
	}
	for _, trunk := range c.Trunks {
		if trunk.isNamed() {
			t.Trunks = append(t.Trunks, trunk.known())
		}
	}
	if a, err := netip.ParseAddr(c.Edge.Domain); err == nil { // an edge without a name is known by its address
		t.Names, t.IPs = nil, append(slices.Clone(c.Edge.PublicIP), a)
	}
	return t
}

const httpsPort = 443 // where a CA asks by TLS-ALPN-01 (RFC 8737 section 3)

func (c Config) acme() *tlsconf.ACME {
	t := c.TLS
	a := &tlsconf.ACME{
		Directory: t.ACMECA, Root: t.ACMECARoot, Email: t.ACMEEmail, KeyType: tlsconf.KeyType(t.ACMEKey),
		EABKey: t.ACMEEABKid, EABFile: t.ACMEEABFile,
		TLS: c.SIP.TLSListen.Port == httpsPort || c.SIP.WSSListen.Port == httpsPort, Webroot: t.ACMEWebroot, DNSHook: t.ACMEDNSHook,
	}
	switch at := t.ACMEHTTP.listenAddr; {
	case at.Port == 0:
	case at.Addr.IsValid():
		a.HTTP = []netip.AddrPort{at.on(netip.Addr{})}
	default:
		for _, ip := range c.listenIPs() {
			a.HTTP = append(a.HTTP, at.on(ip))
		}
	}
	return a
}

// files puts each certificate and its key together; where one is missing, tlsconf
// says which. A path that is empty stands for none.
func (c tlsConfig) files() []tlsconf.Files {
	at := func(list []string, i int) string {
		if i < len(list) {
			return list[i]
		}
		return ""
	}
	var out []tlsconf.Files
	for i := range max(len(c.Cert), len(c.Key)) {
		if f := (tlsconf.Files{Cert: at(c.Cert, i), Key: at(c.Key, i)}); f != (tlsconf.Files{}) {
			out = append(out, f)
		}
	}
	return out
}

// bare are prefixes as packages have them.
func bare(list []prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, p.Prefix)
	}
	return out
}

func (c Config) policyConfig() policy.Config {
	return policy.Config{
		Allow: bare(c.Policy.Allow), Deny: bare(c.Policy.Deny),
		MaxConnections:           c.Policy.MaxConnections,
		MaxConnectionsPerAddress: c.Policy.MaxConnectionsPerAddress,
		NewConnectionsPerSecond:  c.Policy.NewConnectionsPerSecond,
		NewConnectionsBurst:      c.Policy.NewConnectionsBurst,

		CountriesFile: c.Policy.CountriesFile, CountriesAllow: c.Policy.CountriesAllow, CountriesDeny: c.Policy.CountriesDeny,
		OtherCallers: c.Policy.CallerID != callerOwn, Trusted: bare(c.Policy.Trusted), TrustedUsers: c.Policy.TrustedUsers,

		DryRun:       c.Policy.DryRun,
		AuthFailures: c.Policy.AuthFailures, AuthWindow: c.Policy.AuthWindow, AuthFailuresPerConnection: c.Policy.AuthFailuresPerConnection,
		Sweep: c.Policy.Sweep, BanTime: c.Policy.BanTime, BanTimeMax: c.Policy.BanTimeMax,
		Scanners: c.Policy.Scanners, Tarpit: c.Policy.Tarpit,
		Calls: c.Policy.Calls.rules(),
	}
}

// listenIPs is where phones are served on this machine.
func (c Config) listenIPs() []netip.Addr {
	if len(c.Edge.ListenIP) > 0 {
		return c.Edge.ListenIP
	}
	return c.Edge.PublicIP
}

// secureListen is where TLS listens.
func (c Config) secureListen(d *document) []netip.AddrPort {
	if c.SIP.TLSListen.Addr.IsValid() {
		if at := c.SIP.TLSListen.Addr; !isLocal(at) {
			d.add("sip.tls_listen", fmt.Sprintf("%s is no address of this machine; give one that is, or a port alone", at))
		}
		return []netip.AddrPort{c.SIP.TLSListen.on(netip.Addr{})}
	}
	if n := len(c.Edge.ListenIP); n > 0 && n != len(c.Edge.PublicIP) {
		d.add("edge.listen_ip", fmt.Sprintf("has %d addresses, public_ip %d; give one for each, in the same order", n, len(c.Edge.PublicIP)))
	}
	var out []netip.AddrPort
	for _, ip := range c.listenIPs() {
		out = append(out, c.SIP.TLSListen.on(ip))
		switch {
		case isLocal(ip):
		case len(c.Edge.ListenIP) > 0:
			d.add("edge.listen_ip", fmt.Sprintf("%s is no address of this machine; give one that is", ip))
		default:
			d.add("edge.public_ip", fmt.Sprintf("%s is no address of this machine; if a NAT maps it here, set edge.listen_ip to the address it maps to", ip))
		}
	}
	return out
}

// webListen is where secure WebSocket listens, and for pages of which origins.
// What is wrong with listen_ip is secureListen's to say.
func (c Config) webListen(d *document) ([]netip.AddrPort, flow.Origins) {
	l := c.SIP.WSSListen.listenAddr
	if l.Port == 0 {
		if c.SIP.WSSPhone {
			d.add("sip.wss_phone", "is a page of sip.wss_listen, which is not set; set it too, like \":443\"")
		}
		return nil, nil
	}
	origins := flow.Origins(c.SIP.WSSOrigins)
	if len(origins) == 0 && c.Edge.Domain != "" {
		origins = flow.Origins{c.Edge.Domain}
	}
	if c.SIP.WSSPhone {
		origins = c.withOwnPage(origins)
	}
	var out []netip.AddrPort
	if l.Addr.IsValid() {
		if !isLocal(l.Addr) {
			d.add("sip.wss_listen", fmt.Sprintf("%s is no address of this machine; give one that is, or a port alone", l.Addr))
		}
		out = append(out, l.on(netip.Addr{}))
	} else {
		for _, ip := range c.listenIPs() {
			out = append(out, l.on(ip))
		}
	}
	if tls := c.SIP.TLSListen; l.Port == tls.Port && (l.Addr == tls.Addr || !l.Addr.IsValid() || !tls.Addr.IsValid()) {
		d.add("sip.wss_listen", fmt.Sprintf("port %d is that of sip.tls_listen; give another, like \":443\"", l.Port))
	}
	return out, origins
}

// withOwnPage lets the test phone in, by whichever of our names and addresses
// its page was opened: at these the page is ours, under our own certificate.
func (c Config) withOwnPage(origins flow.Origins) flow.Origins {
	out := slices.Clone(origins)
	own := []string{c.Edge.Domain}
	for _, ip := range slices.Concat(c.Edge.PublicIP, c.listenIPs()) {
		own = append(own, ip.String())
	}
	for _, host := range own {
		if host != "" && !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	return out
}

// keepTCPApart finds TCP ports that two listeners want.
func (p plan) keepTCPApart(d *document) {
	type wanted struct {
		key, instead string
		at           []netip.AddrPort
	}
	all := []wanted{{"sip.tls_listen", "another", p.listen}, {"sip.wss_listen", "another", p.web}, {"admin.listen", "another", []netip.AddrPort{p.admin}}}
	if p.tls.ACME != nil {
		all = append(all, wanted{"tls.acme_http", "another", p.tls.ACME.HTTP})
	}
	all = append(all, wanted{"media.tcp_listen", "another, or \"off\"", p.media.TCPListen()})
	for i, w := range all {
		for _, before := range all[:i] {
			if port, clash := samePort(before.at, w.at); clash {
				d.add(w.key, fmt.Sprintf("TCP port %d is that of %s; give %s", port, before.key, w.instead))
			}
		}
	}
}

// letCAIn finds that policy would keep out the CA, which sees from several places in the
// world that the name is ours, and says of none where it is. To deny some countries may
// leave it enough of them. Only what it asks at a port of phones is policy's.
func (p plan) letCAIn(d *document) {
	a := p.tls.ACME
	if a == nil || !a.TLS || a.DNSHook != "" || a.Webroot != "" || len(a.HTTP) > 0 || p.policy.DryRun || len(p.policy.CountriesAllow) == 0 {
		return
	}
	d.add("policy.countries_allow", "keeps out the CA of tls.acme too, which asks at port 443 from anywhere; set tls.acme_http = \":80\", tls.acme_webroot or tls.acme_dns_hook as well, or leave it out")
}

// samePort finds a port that two listeners could not both have.
func samePort(some, others []netip.AddrPort) (port uint16, clash bool) {
	for _, a := range some {
		for _, b := range others {
			if a.Port() == b.Port() && (a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified()) {
				return a.Port(), true
			}
		}
	}
	return 0, false
}

// phoneURL is where the test phone is opened.
func (p plan) phoneURL() string {
	u := url.URL{Scheme: "https", Host: p.sip.Domain, Path: phone.Path}
	if a, err := netip.ParseAddr(p.sip.Domain); err == nil && a.Is6() {
		u.Host = "[" + p.sip.Domain + "]"
	}
	if p.sip.WSSPort != 443 {
		u.Host += fmt.Sprintf(":%d", p.sip.WSSPort)
	}
	return u.String()
}

// isLocal reports whether a socket can be bound to an address here. Only the
// kernel knows: of 127.0.0.0/8, or of routes to local, no interface tells.
func isLocal(a netip.Addr) bool {
	s, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return !errors.Is(err, syscall.EADDRNOTAVAIL)
	}
	s.Close()
	return true
}
