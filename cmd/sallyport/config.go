package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/tlsconf"
)

// loopback is where admin listens unless told otherwise.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

const defaultConfig = "/etc/sallyport/sallyport.toml"

// Config is the configuration file. Every key is described in sallyport.toml,
// which `sallyport help config` prints.
type Config struct {
	Edge   edgeConfig   `toml:"edge"`
	PBX    pbxConfig    `toml:"pbx"`
	TLS    tlsConfig    `toml:"tls"`
	SIP    sipConfig    `toml:"sip"`
	Media  mediaConfig  `toml:"media"`
	Users  usersConfig  `toml:"users"`
	Policy policyConfig `toml:"policy"`
	Admin  adminConfig  `toml:"admin"`
	Log    logConfig    `toml:"log"`

	Trunks []trunkConfig `toml:"trunk"`
}

type edgeConfig struct {
	Domain   string        `toml:"domain"`
	PublicIP []netip.Addr  `toml:"public_ip"`
	ListenIP []netip.Addr  `toml:"listen_ip"` // empty: PublicIP
	PlainIP  netip.Addr    `toml:"plain_ip"`  // not valid: the one that routes to the PBX
	StateDir string        `toml:"state_dir"`
	Drain    time.Duration `toml:"drain"`
	Handover time.Duration `toml:"handover"`
}

type tlsConfig struct {
	Cert          []string `toml:"cert"`
	Key           []string `toml:"key"` // one for each cert
	Profile       string   `toml:"profile"`
	SelfSignedKey string   `toml:"self_signed_key"`

	ClientCA  string `toml:"client_ca"`
	ClientCRL string `toml:"client_crl"`

	ACME        bool         `toml:"acme"`
	ACMEEmail   string       `toml:"acme_email"`
	ACMECA      string       `toml:"acme_ca"`
	ACMECARoot  string       `toml:"acme_ca_root"`
	ACMEHTTP    optionalAddr `toml:"acme_http"`
	ACMEWebroot string       `toml:"acme_webroot"`
	ACMEDNSHook string       `toml:"acme_dns_hook"`
	ACMEKey     string       `toml:"acme_key"`
	ACMEEABKid  string       `toml:"acme_eab_kid"`
	ACMEEABFile string       `toml:"acme_eab_file"`
}

type sipConfig struct {
	TLSListen   listenAddr    `toml:"tls_listen"`
	PlainListen listenAddr    `toml:"plain_listen"`
	RingTimeout time.Duration `toml:"ring_timeout"`

	RefreshInterval time.Duration `toml:"refresh_interval"`

	FlowTimer        time.Duration `toml:"flow_timer"`
	AnswerQualify    bool          `toml:"answer_qualify"`
	MaxRequests      int           `toml:"max_requests"`
	MaxRequestsInAll int           `toml:"max_requests_in_all"`
	TLSClientCert    string        `toml:"tls_client_cert"`
	WSSClientCert    string        `toml:"wss_client_cert"`

	WSSListen  optionalAddr `toml:"wss_listen"`
	WSSOrigins []string     `toml:"wss_origins"` // empty: edge.domain
	WSSPhone   bool         `toml:"wss_phone"`

	Balancers []prefix `toml:"balancers"`

	// The rest are flow.Limits: a key for each, hence the length.
	MaxHead             int           `toml:"max_head"`
	MaxBody             int           `toml:"max_body"`
	HandshakeTimeout    time.Duration `toml:"handshake_timeout"`
	FirstMessageTimeout time.Duration `toml:"first_message_timeout"`
	MessageTimeout      time.Duration `toml:"message_timeout"`
	IdleTimeout         time.Duration `toml:"idle_timeout"`
	WriteTimeout        time.Duration `toml:"write_timeout"`
	WriteQueue          int           `toml:"write_queue"`
	KeepAlive           time.Duration `toml:"keepalive"`
	MaxFlows            int           `toml:"max_flows"`
	MaxHandshakes       int           `toml:"max_handshakes"`
}

type mediaConfig struct {
	Port       int           `toml:"port"`
	TCPListen  tcpPort       `toml:"tcp_listen"`
	PlainPorts portRange     `toml:"plain_ports"`
	Workers    int           `toml:"workers"`
	Suites     []string      `toml:"suites"`
	Timeout    time.Duration `toml:"timeout"`
	DSCP       int           `toml:"dscp"`
}

type policyConfig struct {
	Allow                    []prefix `toml:"allow"`
	Deny                     []prefix `toml:"deny"`
	MaxConnections           int      `toml:"max_connections"`
	MaxConnectionsPerAddress int      `toml:"max_connections_per_address"`
	NewConnectionsPerSecond  float64  `toml:"new_connections_per_second"`
	NewConnectionsBurst      int      `toml:"new_connections_burst"`

	CountriesFile  string   `toml:"countries_file"`
	CountriesAllow []string `toml:"countries_allow"`
	CountriesDeny  []string `toml:"countries_deny"`

	DryRun bool `toml:"dry_run"`

	AuthFailures              int           `toml:"auth_failures"`
	AuthWindow                time.Duration `toml:"auth_window"`
	AuthFailuresPerConnection int           `toml:"auth_failures_per_connection"`
	Sweep                     int           `toml:"sweep"`
	BanTime                   time.Duration `toml:"ban_time"`
	BanTimeMax                time.Duration `toml:"ban_time_max"`
	HideUsers                 bool          `toml:"hide_users"`

	CallerID     string   `toml:"caller_id"`
	Trusted      []prefix `toml:"trusted"`
	TrustedUsers []string `toml:"trusted_users"`
	Headers      []string `toml:"headers"`
	Methods      []string `toml:"methods"`
	Bodies       []string `toml:"bodies"`

	Scanners []string      `toml:"scanners"`
	Tarpit   time.Duration `toml:"tarpit"`

	Calls callsConfig `toml:"calls"`
}

type adminConfig struct {
	Listen listenAddr `toml:"listen"`
}

type logConfig struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// defaults is the configuration of an empty file.
func defaults() Config {
	return Config{
		Edge: edgeConfig{StateDir: "/var/lib/sallyport", Drain: 30 * time.Second, Handover: 4 * time.Hour},
		PBX:  pbxConfig{CheckInterval: sipproxy.Defaults().CheckInterval},
		TLS: tlsConfig{
			Profile: string(tlsconf.Defaults().Profile), SelfSignedKey: string(tlsconf.Defaults().KeyType),
			ACMECA: tlsconf.LetsEncrypt, ACMEKey: string(tlsconf.ECDSA),
		},
		SIP:    defaultSIP(),
		Media:  defaultMedia(),
		Policy: defaultPolicy(),
		Admin:  adminConfig{Listen: listenAddr{loopback, 9060}},
		Log:    logConfig{Level: "info", Format: "text"},
	}
}

func defaultPolicy() policyConfig {
	p, in := policy.Defaults(), sipproxy.DefaultInbound()
	return policyConfig{
		MaxConnections:           p.MaxConnections,
		MaxConnectionsPerAddress: p.MaxConnectionsPerAddress,
		NewConnectionsPerSecond:  p.NewConnectionsPerSecond,
		NewConnectionsBurst:      p.NewConnectionsBurst,

		AuthFailures: p.AuthFailures, AuthWindow: p.AuthWindow, AuthFailuresPerConnection: p.AuthFailuresPerConnection,
		Sweep: p.Sweep, BanTime: p.BanTime, BanTimeMax: p.BanTimeMax, HideUsers: true,
		Scanners: p.Scanners, Tarpit: p.Tarpit,
		Calls: defaultCalls(),

		CallerID: callerOwn, Headers: in.Headers, Methods: in.Methods, Bodies: in.Bodies,
	}
}

func defaultMedia() mediaConfig {
	m := media.Defaults()
	c := mediaConfig{
		Port:       int(m.Port),
		TCPListen:  tcpPort{On: m.TCP, Port: m.TCPPort},
		PlainPorts: portRange{m.PlainPorts.First, m.PlainPorts.Last},
		Workers:    m.Workers,
		Timeout:    m.Silence,
		DSCP:       m.DSCP,
	}
	for _, suite := range sipproxy.Defaults().Suites {
		c.Suites = append(c.Suites, suite.String())
	}
	return c
}

func defaultSIP() sipConfig {
	l, requests := flow.DefaultLimits(), sipproxy.Defaults().Requests
	return sipConfig{
		TLSListen:   listenAddr{Port: 5061},
		PlainListen: listenAddr{Port: 5060},
		RingTimeout: sipproxy.Defaults().RingTimeout,

		FlowTimer:   sipproxy.Defaults().FlowTimer,
		MaxRequests: requests.PerFlow, MaxRequestsInAll: requests.Total,
		TLSClientCert: string(tlsconf.Off), WSSClientCert: string(tlsconf.Off),

		MaxHead: l.MaxHead, MaxBody: l.MaxBody,
		HandshakeTimeout:    l.HandshakeTimeout,
		FirstMessageTimeout: l.FirstMessageTimeout,
		MessageTimeout:      l.MessageTimeout,
		IdleTimeout:         l.IdleTimeout,
		WriteTimeout:        l.WriteTimeout,
		WriteQueue:          l.WriteQueue,
		KeepAlive:           l.KeepAlive,
		MaxFlows:            l.MaxFlows,
		MaxHandshakes:       l.MaxHandshakes,
	}
}

// limits are those of one connection and of all.
func (s sipConfig) limits() flow.Limits {
	return flow.Limits{
		MaxHead: s.MaxHead, MaxBody: s.MaxBody,
		HandshakeTimeout:    s.HandshakeTimeout,
		FirstMessageTimeout: s.FirstMessageTimeout,
		MessageTimeout:      s.MessageTimeout,
		IdleTimeout:         s.IdleTimeout,
		WriteTimeout:        s.WriteTimeout,
		WriteQueue:          s.WriteQueue,
		KeepAlive:           s.KeepAlive,
		MaxFlows:            s.MaxFlows,
		MaxHandshakes:       s.MaxHandshakes,
	}
}

// validate reports the faults that are ours to see; the packages' own Validate
// report the rest.
func (c Config) validate(d *document) {
	if c.Edge.Domain == "" {
		d.add("edge.domain", "is missing; give the name phones register at, like \"pbx.example.com\"")
	}
	if len(c.Edge.PublicIP) == 0 {
		d.add("edge.public_ip", "is missing; give the address phones reach, like \"203.0.113.7\"")
	}
	for i, ip := range c.Edge.PublicIP {
		if ip.IsUnspecified() || ip.IsMulticast() {
			d.add("edge.public_ip", fmt.Sprintf("%s is no address a phone can send to; give the one phones reach", ip))
		}
		if slices.Contains(c.Edge.PublicIP[:i], ip) {
			d.add("edge.public_ip", fmt.Sprintf("%s is there twice; give it once", ip))
		}
	}
	for i, ip := range c.Edge.ListenIP {
		if slices.Contains(c.Edge.ListenIP[:i], ip) {
			d.add("edge.listen_ip", fmt.Sprintf("%s is there twice; give each public_ip one of its own", ip))
		}
	}
	if len(c.PBX.Address) == 0 {
		d.add("pbx.address", "is missing; give the PBX's address, like \"10.0.0.5:5060\"")
	}
	if c.Edge.PlainIP.IsUnspecified() {
		d.add("edge.plain_ip", "must be one address, to tell the PBX; leave it out to have it found")
	}
	if c.Media.Port < 1 || c.Media.Port > 65534 {
		d.add("media.port", fmt.Sprintf("%d is no port; give an even one, like 10000", c.Media.Port))
	}
	if c.Edge.StateDir == "" {
		d.add("edge.state_dir", "is empty; give a folder, like \"/var/lib/sallyport\"")
	}
	if c.Edge.Handover <= 0 {
		d.add("edge.handover", "is no time that calls could go on for; give one like \"4h\"")
	}
	if c.Edge.Drain < 0 {
		d.add("edge.drain", "is negative; give a time, or \"0s\" to end calls at once")
	}
	if at := c.Admin.Listen.on(loopback); !at.Addr().IsLoopback() {
		d.add("admin.listen", fmt.Sprintf("%s is open to the network, and admin asks for no password; give an address like 127.0.0.1:9060", at))
	}
	c.TLS.validateACME(d)
	c.Policy.Calls.validate(d)
	c.validateClients(d)
	c.validateTrunks(d)
	choice(d, "sip.tls_client_cert", c.SIP.TLSClientCert, string(tlsconf.Off), string(tlsconf.Optional), string(tlsconf.Required))
	choice(d, "sip.wss_client_cert", c.SIP.WSSClientCert, string(tlsconf.Off), string(tlsconf.Optional), string(tlsconf.Required))
	choice(d, "policy.caller_id", c.Policy.CallerID, callerOwn, callerForced, callerAny)
	choice(d, "log.level", c.Log.Level, "debug", "info", "warn", "error")
	choice(d, "log.format", c.Log.Format, "text", "json")
}

// Whom phones may call as: policy.caller_id.
const (
	callerOwn    = "own"
	callerForced = "forced"
	callerAny    = "any"
)

// validateACME reports keys that would do nothing.
func (c tlsConfig) validateACME(d *document) {
	if c.ACME {
		return
	}
	for key, given := range map[string]bool{
		"acme_email": c.ACMEEmail != "", "acme_ca": c.ACMECA != defaults().TLS.ACMECA && c.ACMECA != "", "acme_ca_root": c.ACMECARoot != "",
		"acme_http": c.ACMEHTTP.Port != 0, "acme_webroot": c.ACMEWebroot != "", "acme_dns_hook": c.ACMEDNSHook != "", "acme_eab_kid": c.ACMEEABKid != "", "acme_eab_file": c.ACMEEABFile != "",
	} {
		if given {
			d.add("tls."+key, "is set, and tls.acme is not; add acme = true, or remove it")
		}
	}
}

// validateClients does likewise for certificates of phones.
func (c Config) validateClients(d *document) {
	if c.SIP.WSSListen.Port == 0 && c.SIP.WSSClientCert != string(tlsconf.Off) {
		d.add("sip.wss_client_cert", "is set, and sip.wss_listen is not; remove it, or set the other too")
	}
	if c.SIP.TLSClientCert != string(tlsconf.Off) || c.SIP.WSSClientCert != string(tlsconf.Off) {
		return
	}
	for key, given := range map[string]bool{"client_ca": c.TLS.ClientCA != "", "client_crl": c.TLS.ClientCRL != ""} {
		if given {
			d.add("tls."+key, "is set, and no listener asks phones for a certificate; set sip.tls_client_cert or sip.wss_client_cert, or remove it")
		}
	}
}

func choice(d *document, key, value string, offered ...string) {
	if !slices.Contains(offered, value) {
		d.add(key, fmt.Sprintf("is %q; give one of %s", value, strings.Join(offered, ", ")))
	}
}

// load reads a configuration file. The document holds the faults, and takes
// those found later.
func load(path string) (Config, *document) {
	c := defaults()
	data, err := os.ReadFile(path)
	if err != nil {
		d := &document{file: path, unreadable: true}
		d.add("", fmt.Sprintf("%v; name the file with -config, or start from `sallyport help config`", rootCause(err)))
		return c, d
	}
	d := decode(path, data, &c)
	if !d.unreadable {
		c.validate(d)
	}
	return c, d
}

// rootCause is an error without the path, which the fault has already.
func rootCause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// logger returns the logger that [log] asks for.
func (c logConfig) logger(w io.Writer) *slog.Logger {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}[c.Level]
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
