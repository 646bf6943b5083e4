package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/sallyport/sallyport/cmd/internal/load"
	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/media"
	"github.com/sallyport/sallyport/cmd/internal/load/wire"
)

// options are a command's, as its arguments say.
type options struct {
	command    command
	flags      *flag.FlagSet
	plan       load.Plan
	kind       string
	suites     string
	codecs     string
	mix        string
	arrivals   string
	ca         string
	pin        string
	insecure   bool
	cert, key  string
	sources    string
	serverName string
	origin     string
	reconnect  bool
	json       string
	plot       string
}

func newOptions(c command) *options {
	o := &options{command: c, plan: load.Default(), flags: flag.NewFlagSet("sallyload "+c.name, flag.ContinueOnError)}
	f, p := o.flags, &o.plan
	f.StringVar(&p.Target, "target", "", "the server: `HOST:PORT`, sips:HOST:PORT or wss://HOST:PORT/PATH")
	f.StringVar(&p.Transport, "transport", "", "tls or wss; what the target says, else tls")
	f.StringVar(&p.Domain, "domain", "", "the `NAME` that users are at; the target's unless set")
	f.IntVar(&p.Phones, "phones", p.Phones, "how many")
	f.StringVar(&p.Users, "users", p.Users, "their users, a `PATTERN` with the phone's number")
	f.IntVar(&p.First, "first", p.First, "the first phone's number")
	f.StringVar(&p.AuthUsers, "auth-users", "", "whom their passwords belong to, a `PATTERN`; the users unless set")
	f.StringVar(&p.Password, "password", "", "their password, where %s is the user; $SALLYLOAD_PASSWORD unless set")
	f.DurationVar(&p.Expires, "expires", p.Expires, "that registrations ask for")
	f.DurationVar(&p.Timeout, "timeout", p.Timeout, "of a request without an answer")
	f.DurationVar(&p.KeepAlive, "keepalive", p.KeepAlive, "between pings of a connection; 0: none")
	f.StringVar(&o.ca, "ca", "", "the server's CA, a `FILE`")
	f.StringVar(&o.pin, "pin", "", "the SHA-256 of the server's certificate, in place of a CA")
	f.BoolVar(&o.insecure, "insecure", false, "take any certificate")
	f.BoolVar(&p.Resume, "resume", false, "phones that come back resume their TLS sessions, as most do; not by default: full handshakes are the most that a server must bear, and all there are after it restarts without its tickets' keys")
	f.StringVar(&o.serverName, "server-name", "", "the `NAME` that the certificate must have; the domain unless set")
	f.StringVar(&o.cert, "cert", "", "a certificate of the phones, a `FILE`")
	f.StringVar(&o.key, "key", "", "its key, a `FILE`")
	f.StringVar(&o.sources, "source", "", "`ADDRESSES` to connect from in turn, with commas")
	f.StringVar(&o.origin, "origin", "", "the Origin of a WebSocket")
	f.Float64Var(&p.RampRate, "ramp", p.RampRate, "registrations a second before there are arrivals")
	f.StringVar(&o.json, "json", "", "write the report to a `FILE`")
	f.StringVar(&o.plot, "plot", "", "draw the run into a `FILE`, an SVG")
	if c.name == "storm" {
		f.DurationVar(&p.Duration, "duration", p.Duration, "after which it ends, also if not all are registered")
		f.DurationVar(&p.Window, "window", p.Window, "within which phones come")
		f.DurationVar(&p.Stay, "stay", p.Stay, "how long phones stay after that, refresh and ping")
		f.BoolVar(&p.Cut, "cut", false, "register all before, cut their connections, and let them come back")
		f.DurationVar(&p.Retry.Base, "retry", p.Retry.Base, "base of the wait before a phone comes again, doubled each time (RFC 5626, which has 30s); 0: it does not")
		f.DurationVar(&p.Retry.Max, "retry-max", p.Retry.Max, "the longest wait")
		return o
	}
	f.Float64Var(&p.Rate, "rate", p.Rate, "arrivals a second")
	f.StringVar(&o.arrivals, "arrivals", "poisson", "poisson or even")
	f.DurationVar(&p.Duration, "duration", p.Duration, "for which there are arrivals")
	if c.name == "register" {
		f.BoolVar(&o.reconnect, "reconnect", false, "each by a new connection")
		return o
	}
	f.StringVar(&o.kind, "media", string(p.Media), "none (it is described and not sent: SDES by TLS, DTLS by WSS), sdes or dtls")
	f.StringVar(&o.suites, "suites", strings.Join(p.Suites, ","), "that SDES offers, best first: "+strings.Join(media.Suites(), ", "))
	f.StringVar(&o.codecs, "codecs", strings.ToLower(strings.Join(p.Codecs, ",")), "that are offered, best first; what is spoken is what the answer names first")
	f.StringVar(&p.Callee, "callee", "", "a user or number that all call; unless set, half of the phones call the others")
	f.StringVar(&p.Hear, "hear", "", "what callers must hear: peer, own (an echo), anything, or a frequency")
	f.Float64Var(&p.Early, "early", 0, "what callers must hear before the answer (early media), a frequency in `HZ`, alone or among others; 0: whatever they do")
	f.DurationVar(&p.Talk, "talk", p.Talk, "from the answer to the hanging up")
	f.DurationVar(&p.Ring, "ring", p.Ring, "how long phones ring before they answer")
	if c.name == "mix" {
		f.StringVar(&o.mix, "mix", "register=5,call=3,hold=1", "`WEIGHTS` of what arrives")
	}
	return o
}

// parse reads the arguments.
func (o *options) parse(args []string) error {
	if err := o.flags.Parse(args); err != nil {
		return err
	}
	p := &o.plan
	if o.flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag", o.flags.Arg(0))
	}
	if p.Target == "" {
		return errors.New("say what to load with --target")
	}
	p.Command, p.Mix = o.command.name, o.command.mix
	if o.reconnect {
		p.Mix = map[measure.Operation]int{load.Reconnect: 1}
	}
	var err error
	if o.command.name == "mix" {
		if p.Mix, err = load.ParseMix(o.mix); err != nil {
			return err
		}
	}
	if o.kind != "" {
		p.Media = media.Kind(o.kind)
		p.Suites, p.Codecs = list(o.suites), list(o.codecs)
	}
	switch o.arrivals {
	case "even":
		p.Even = true
	case "poisson", "":
	default:
		return fmt.Errorf("--arrivals %s: poisson or even", o.arrivals)
	}
	p.Password = cmp.Or(p.Password, os.Getenv("SALLYLOAD_PASSWORD"))
	if err := o.connection(); err != nil {
		return err
	}
	return p.Validate()
}

// list takes words with commas apart.
func list(text string) (words []string) {
	for _, w := range strings.Split(text, ",") {
		words = append(words, strings.TrimSpace(w))
	}
	return words
}

// connection reads how to reach the server, and whom to take for it.
func (o *options) connection() error {
	p := &o.plan
	t, err := wire.ParseTarget(p.Target, p.Transport)
	if err != nil {
		return err
	}
	p.Connect, p.Transport = t, "tls"
	if t.Path != "" {
		p.Transport = "wss"
	}
	host, _, _ := net.SplitHostPort(t.Addr)
	if strings.Contains(host, ":") { // as URIs have it (RFC 3261 section 25.1)
		host = "[" + host + "]"
	}
	p.Domain = cmp.Or(p.Domain, host)
	t.Name = cmp.Or(o.serverName, (&url.URL{Host: p.Domain}).Hostname())
	t.Origin = o.origin
	t.TLS = &tls.Config{ServerName: t.Name, MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.insecure}
	if p.Transport == "wss" {
		t.TLS.NextProtos = []string{"http/1.1"}
	}
	if o.ca != "" {
		text, err := os.ReadFile(o.ca)
		if err != nil {
			return fmt.Errorf("--ca: %w", err)
		}
		t.TLS.RootCAs = x509.NewCertPool()
		if !t.TLS.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("--ca %s: it holds no certificate", o.ca)
		}
	}
	if o.pin != "" {
		if err := wire.Pinned(t.TLS, o.pin); err != nil {
			return fmt.Errorf("--pin: %w", err)
		}
	}
	if o.cert != "" || o.key != "" {
		if o.cert == "" {
			return errors.New("--key: say which certificate it is of, with --cert")
		}
		pair, err := tls.LoadX509KeyPair(o.cert, cmp.Or(o.key, o.cert))
		if err != nil {
			return fmt.Errorf("--cert: %w", err)
		}
		t.TLS.Certificates = []tls.Certificate{pair}
	}
	for _, s := range strings.FieldsFunc(o.sources, func(r rune) bool { return r == ',' }) {
		addr, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return fmt.Errorf("--source: %w", err)
		}
		t.Sources = append(t.Sources, addr)
	}
	return nil
}
