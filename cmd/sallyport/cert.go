package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/tlsconf"
)

func certCommands() []command {
	return []command{
		{"self-signed", "[-config FILE] [-anew]", "make the self-signed certificate, unless there is one that serves", certSelfSigned},
		{"show", "[-config FILE]", "what is served: names, issuer, days left, chain, and what each phone gets", certShow},
		{"check", "[-config FILE] [-days N]", "report what would keep phones away: name, chain, permissions, expiry, DNS", certCheck},
		{"renew", "[-config FILE]", "have an edge that runs get another certificate by ACME now", certRenew},
		{"device", "NAME [-config FILE] ...", "issue a certificate to a phone, as NAME.pem and NAME.p12 (-h tells more)", certDevice},
		{"devices", "[-config FILE]", "list the certificates issued to phones", certDevices},
		{"revoke", "NAME|SERIAL [-config FILE]", "revoke one of them; an edge that runs cuts the phone off", certRevoke},
	}
}

// certConfig reads what the file says of certificates. The network is not
// looked at: this may be another machine than the one that serves.
func certConfig(path string) (Config, tlsconf.Config, *document) {
	cfg, doc := load(path)
	t := cfg.tlsConfig()
	if !doc.unreadable {
		doc.addError(t.Validate())
	}
	return cfg, t, doc
}

func certSelfSigned(c console, args []string) int {
	flags := newFlags("cert self-signed")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	anew := flags.Bool("anew", false, "make another, though phones must then trust the new file")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	_, t, doc := certConfig(*path)
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return exitFault
	}
	d, made, err := tlsconf.MakeSelfSigned(t, *anew)
	if err != nil {
		doc.addError(err)
		report(c.err, doc.sorted())
		return exitFault
	}
	if made {
		fmt.Fprintln(c.out, "made; an edge that runs takes it within seconds, and phones must be given the file:")
	} else {
		fmt.Fprintln(c.out, "kept, as it still serves; -anew makes another:")
	}
	showCertificate(c.out, d)
	return exitOK
}

func certShow(c console, args []string) int {
	flags := newFlags("cert show")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	_, t, doc := certConfig(*path)
	var views []tlsconf.View
	if len(doc.faults) == 0 {
		var err error
		views, err = tlsconf.Views(t)
		doc.addError(err)
	}
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return exitFault
	}
	certs, err := tlsconf.Inspect(t)
	if err != nil {
		doc.addError(err)
		report(c.err, doc.sorted())
		return exitFault
	}
	for i, d := range certs {
		fmt.Fprintf(c.out, "certificate %d\n", i+1)
		showCertificate(c.out, d)
	}
	showViews(c.out, t.Profile, views)
	return exitOK
}

func showCertificate(w io.Writer, d tlsconf.Description) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("file", "%s", d.File)
	switch {
	case d.Pending && d.ACME != "":
		row("", "not fetched yet: the edge does when it runs, by %s, and serves a self-signed one until then", d.Challenges)
	case d.Pending:
		row("", "not made yet: the next start does, or `sallyport cert self-signed`")
	}
	if d.ACME != "" {
		row("by ACME", "%s", d.ACME)
	}
	names := slices.Clone(d.Names)
	for _, ip := range d.IPs {
		names = append(names, ip.String())
	}
	row("names", "%s", strings.Join(names, ", "))
	if !d.Pending {
		left := time.Until(d.NotAfter)
		issuer := d.Issuer
		if d.SelfSigned {
			issuer = "itself: give phones the file as their CA"
		}
		row("subject", "%s", d.Subject)
		row("issuer", "%s", issuer)
		row("serial", "%s", d.Serial)
		row("valid", "%s to %s, %d days left", d.NotBefore.UTC().Format(time.DateOnly), d.NotAfter.UTC().Format(time.DateOnly), int(left.Hours()/24))
		row("key", "%s", d.Key)
		row("SHA-256", "%s", d.Fingerprint)
	}
	for i, issuer := range d.Chain {
		row([]string{"chain", ""}[min(i, 1)], "%s", issuer)
	}
	for _, warning := range d.Warnings {
		row("", "note: %s", warning)
	}
}

func showViews(w io.Writer, profile tlsconf.Profile, views []tlsconf.View) {
	if len(views) == 0 {
		return
	}
	fmt.Fprintf(w, "\nwhat a phone gets, under the profile %s (%s):\n", string(profile), profile)
	for i, v := range views {
		if i == 0 || v.Name != views[i-1].Name {
			asks := "asks for " + v.Name
			if v.Name == "" {
				asks = "sends no name"
			}
			fmt.Fprintf(w, "  one that %s\n", asks)
		}
		gets := fmt.Sprintf("certificate %d by %s, %s", v.Certificate+1, v.Version, v.Suite)
		if v.Fault != nil {
			why, _, _ := strings.Cut(strings.TrimPrefix(v.Fault.Error(), "tls: "), "; client offered")
			gets = "nothing: " + why
		}
		fmt.Fprintf(w, "    %-20s %s\n", v.Phone, gets)
	}
}

func certCheck(c console, args []string) int {
	flags := newFlags("cert check")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	days := flags.Int("days", 7, "an expiry within `N` days is a fault")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	cfg, t, doc := certConfig(*path)
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return exitFault
	}
	notes, err := tlsconf.Check(t, *days)
	doc.addError(err)
	note, err := cfg.pointsHere(context.Background())
	doc.addError(err)
	if note != "" {
		notes = append(notes, note)
	}
	for _, n := range notes {
		fmt.Fprintf(c.out, "note: %s\n", n)
	}
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return exitFault
	}
	fmt.Fprintf(c.out, "%s: nothing keeps phones away from %s\n", *path, cfg.Edge.Domain)
	return exitOK
}

func certRenew(c console, args []string) int {
	flags := newFlags("cert renew")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	_, t, doc := certConfig(*path)
	if len(doc.faults) == 0 {
		doc.addError(tlsconf.Renew(t))
	}
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return exitFault
	}
	fmt.Fprintln(c.out, "asked; an edge that runs does so within seconds, and its log tells how it went")
	return exitOK
}

// pointsHere asks DNS for the domain. That it can't be asked is no fault: phones
// may have a DNS of their own.
func (c Config) pointsHere(ctx context.Context) (note string, fault error) {
	if _, err := netip.ParseAddr(c.Edge.Domain); err == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", c.Edge.Domain)
	var lookup *net.DNSError
	switch {
	case errors.As(err, &lookup):
		return fmt.Sprintf("DNS of %s is not checked: %s", c.Edge.Domain, lookup.Err), nil
	case err != nil:
		return fmt.Sprintf("DNS of %s is not checked: %v", c.Edge.Domain, err), nil
	}
	var elsewhere []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); !slices.Contains(c.Edge.PublicIP, a) {
			elsewhere = append(elsewhere, a)
		}
	}
	switch {
	case len(elsewhere) == len(found):
		return "", fmt.Errorf("edge.domain: DNS leads to %s, and edge.public_ip is %s: phones go elsewhere; correct one of the two", list(elsewhere), list(c.Edge.PublicIP))
	case len(elsewhere) > 0:
		return fmt.Sprintf("DNS of %s also leads to %s, which edge.public_ip does not name", c.Edge.Domain, list(elsewhere)), nil
	}
	return "", nil
}
