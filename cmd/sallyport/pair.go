package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/admin"
	"github.com/sallyport/sallyport/sipproxy"
	"github.com/sallyport/sallyport/tlsconf"
)

// maxTokenLine bounds what is read from standard input.
const maxTokenLine = 4 << 10

func trunkCommands() []command {
	return []command{
		{"pair", "NAME [-config FILE] [-address HOST:PORT] [-as NAME]", "make the keys of this edge and of another, and print the line to type there", trunkPair},
		{"join", "TOKEN|- [-config FILE] [-name NAME]", "that line: take the key that the other edge made; - reads it from standard input", trunkJoin},
		{"list", "[-config FILE]", "the trunks of the configuration, and how their peers are known", trunkList},
		{"status", "[-config FILE]", "which are up, since when, and why the others are not, of the edge that runs", trunkStatus},
		{"forget", "NAME [-config FILE]", "remove the keys of a pairing", trunkForget},
	}
}

// trunkSetup reads the configuration for a command about one trunk's pairing.
func trunkSetup(c console, path, name string) (Config, tlsconf.Config, int) {
	cfg, doc := load(path)
	if !sipproxy.IsTrunkName(name) {
		fmt.Fprintf(c.err, "sallyport trunk: %q is no name of a trunk; give small letters, digits and hyphens, like branch-2\n", name)
		return cfg, tlsconf.Config{}, exitUsage
	}
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return cfg, tlsconf.Config{}, exitFault
	}
	return cfg, cfg.tlsConfig(), exitOK
}

func trunkPair(c console, args []string) int {
	flags := newFlags("trunk pair")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	address := flags.String("address", "", "where the other edge reaches this one, `HOST:PORT` (default: edge.domain, and the port of sip.tls_listen)")
	as := flags.String("as", "", "what the other edge is to call this one, `NAME` (default: the first part of edge.domain)")
	name, status, ok := parseNamed(c, flags, args)
	if !ok {
		return status
	}
	cfg, t, status := trunkSetup(c, *path, name)
	if status != exitOK {
		return status
	}
	if *address == "" {
		*address = net.JoinHostPort(cfg.Edge.Domain, strconv.Itoa(int(cfg.SIP.TLSListen.Port)))
	}
	var at hostPort
	if err := at.UnmarshalText([]byte(*address)); err != nil {
		fmt.Fprintf(c.err, "sallyport trunk pair: -address %v\n", err)
		return exitUsage
	}
	if *as == "" {
		*as = nameOfDomain(cfg.Edge.Domain)
	}
	if !sipproxy.IsTrunkName(*as) {
		fmt.Fprintf(c.err, "sallyport trunk pair: -as %q is no name of a trunk; give small letters, digits and hyphens, like headquarters\n", *as)
		return exitUsage
	}
	former, _ := tlsconf.Pairings(t) // those that can be read: it is only to tell
	token, err := tlsconf.Pair(t, name, *as, *address)
	if err != nil {
		return trunkFault(c, err)
	}
	for _, p := range former {
		if p.Trunk == name {
			fmt.Fprintf(c.err, "sallyport trunk pair: the pairing of %s with %s is over, and the trunk cut off until %s joins anew\n", p.Made.UTC().Format(time.DateOnly), name, name)
		}
	}
	fmt.Fprintf(c.out, "Type this line at the edge of %s. It is a secret, and shown this once: whoever has it can be %s to this edge.\n"+
		"`sallyport trunk join -` asks for the last word of it instead, and keeps it out of the shell's history.\n\n", name, name)
	fmt.Fprintf(c.out, "sallyport trunk join %s\n\n", token)
	cfg.nextStep(c.out, *path, name, "")
	return exitOK
}

// nameOfDomain makes a trunk's name of a domain.
func nameOfDomain(domain string) string {
	first, _, _ := strings.Cut(strings.ToLower(domain), ".")
	if sipproxy.IsTrunkName(first) && !isAddress(domain) {
		return first
	}
	return "edge"
}

func trunkJoin(c console, args []string) int {
	flags := newFlags("trunk join")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	name := flags.String("name", "", "what to call the other edge, `NAME` (default: what it calls itself)")
	var word string
	if i := slices.Index(args, "-"); i >= 0 {
		if status, ok := parse(c, flags, slices.Delete(slices.Clone(args), i, i+1)); !ok {
			return status
		}
		var err error
		if word, err = readToken(c); err != nil {
			return trunkFault(c, err)
		}
	} else {
		var status int
		var ok bool
		if word, status, ok = parseNamed(c, flags, args); !ok {
			return status
		}
	}
	token, err := tlsconf.ParseToken(word)
	if err != nil {
		return trunkFault(c, fmt.Errorf("the token is not taken: %w", err))
	}
	var at hostPort
	if err := at.UnmarshalText([]byte(token.Address)); err != nil {
		return trunkFault(c, fmt.Errorf("the token is not taken: the address in it %w", err))
	}
	if *name == "" {
		*name = token.Name
	}
	cfg, t, status := trunkSetup(c, *path, *name)
	if status != exitOK {
		return status
	}
	if err := tlsconf.Join(t, *name, token); err != nil {
		return trunkFault(c, err)
	}
	fmt.Fprintf(c.out, "paired with %s\n\n", *name)
	cfg.nextStep(c.out, *path, *name, token.Address)
	return exitOK
}

// readToken asks for the token: the line, or its last word.
func readToken(c console) (string, error) {
	fmt.Fprint(c.err, "token: ")
	line, err := bufio.NewReader(io.LimitReader(c.in, maxTokenLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if words := strings.Fields(line); len(words) > 0 {
		return words[len(words)-1], nil
	}
	return "", errors.New("there is no token on standard input")
}

// nextStep tells what is left to do: nothing but a moment's patience, if the trunk is
// configured already.
func (c Config) nextStep(w io.Writer, path, name, peer string) {
	for _, t := range c.Trunks {
		if t.Name != name {
			continue
		}
		if !t.known().ByPairing() {
			fmt.Fprintf(w, "%s has trunk %q with identity or pin: remove these, as the pairing stands in for both.\n", path, name)
			return
		}
		fmt.Fprintf(w, "%s has trunk %q already; an edge that runs with it takes the pairing within seconds.\n", path, name)
		return
	}
	fmt.Fprintf(w, "Add this to %s here, and restart the edge. The PBX sends to listen what is to go there:\n\n", path)
	fmt.Fprintf(w, "[[trunk]]\nname = %q\n", name)
	if peer != "" {
		fmt.Fprintf(w, "peer = %q\n", peer)
	} else {
		fmt.Fprintln(w, "#peer = \"\" # the other edge dials; give its host and port to have this one dial, too")
	}
	fmt.Fprintf(w, "listen = \":%d\"\n", c.freeListenPort())
}

// freeListenPort is one that no part of the configuration has on the plain side.
func (c Config) freeListenPort() int {
	taken := func(port int) bool {
		p := uint16(port)
		return p == c.SIP.PlainListen.Port || p >= c.Media.PlainPorts.First && p <= c.Media.PlainPorts.Last ||
			slices.ContainsFunc(c.Trunks, func(t trunkConfig) bool { return t.Listen.Port == p }) ||
			slices.ContainsFunc(c.PBX.Address, func(a pbxAddress) bool { return a.Port == p })
	}
	for port := 5071; port < 65535; port++ {
		if !taken(port) {
			return port
		}
	}
	return 0
}

func trunkList(c console, args []string) int {
	flags := newFlags("trunk list")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	cfg, doc := load(*path)
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return exitFault
	}
	t := cfg.tlsConfig()
	pairings, err := tlsconf.Pairings(t)
	if err != nil {
		return trunkFault(c, err)
	}
	for _, trunk := range t.Trunks {
		known, err := tlsconf.KnownBy(t, trunk)
		if err != nil {
			known = err.Error()
		}
		fmt.Fprintf(c.out, "%s: %s\n", trunk.Name, known)
	}
	for _, p := range pairings {
		if !slices.ContainsFunc(t.Trunks, func(t tlsconf.Trunk) bool { return t.Name == p.Trunk }) {
			fmt.Fprintf(c.out, "%s: paired on %s, and in no [[trunk]] of %s\n", p.Trunk, p.Made.UTC().Format(time.DateOnly), *path)
		}
	}
	return exitOK
}

func trunkStatus(c console, args []string) int {
	flags := newFlags("trunk status")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	var list []admin.TrunkState
	if status, ok := control(c, "trunk", *path, http.MethodGet, "trunks", nil, &list); !ok {
		return status
	}
	status := exitOK
	for _, t := range list {
		since := t.Since.UTC().Format(time.RFC3339)
		switch {
		case t.Up:
			fmt.Fprintf(c.out, "%s is up since %s, connections: %d\n", t.Name, since, t.Connections)
			continue
		case t.Reason == "":
			fmt.Fprintf(c.out, "%s is down since %s: the peer did not connect yet\n", t.Name, since)
		default:
			fmt.Fprintf(c.out, "%s is down since %s: %s\n", t.Name, since, t.Reason)
		}
		status = exitFault
	}
	return status
}

func trunkForget(c console, args []string) int {
	flags := newFlags("trunk forget")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	name, status, ok := parseNamed(c, flags, args)
	if !ok {
		return status
	}
	_, t, status := trunkSetup(c, *path, name)
	if status != exitOK {
		return status
	}
	if err := tlsconf.Forget(t, name); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("there is no pairing with %s", name)
		}
		return trunkFault(c, err)
	}
	fmt.Fprintf(c.out, "the pairing with %s is removed here; an edge that runs cuts the trunk off within seconds\n", name)
	return exitOK
}

func trunkFault(c console, err error) int {
	fmt.Fprintf(c.err, "sallyport trunk: %v\n", err)
	return exitFault
}
