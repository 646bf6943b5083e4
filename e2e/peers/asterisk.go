package peers

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// MusicHz is the music on hold.
const MusicHz = 520

//go:embed asterisk/*.conf
var asteriskFiles embed.FS

// AsteriskConfig chooses what differs from test to test.
type AsteriskConfig struct {
	DirectMedia string          // "no" unless set; "update" is by UPDATE instead of re-INVITE
	General     string          // lines for sip.conf's [general]
	Endpoint    string          // lines for each endpoint of pjsip.conf
	AOR         string          // and for each of its address-of-record objects
	Mailboxes   bool            // users have voicemail, and are told of it unasked
	Six         bool            // it speaks IPv6
	Tapped      bool            // it is behind a Tap
	PJSIP       bool            // by chan_pjsip; else by chan_sip
	Probe       bool            // it asks nobody for a password, refuses all calls, and logs what it understands of each request
	Open        bool            // it asks nobody for a password
	Quiet       bool            // it logs no messages and no steps of the dialplan, for load
	Version     int             // 16 unless it is 22, which has no chan_sip
	Secure      *SecureAsterisk // phones reach it by themselves, by TLS at port 5061 and by WSS at 8089
	On          *Host           // where it runs; nil: on the lab's PBX host
	First       int             // number of the first user: 1001 unless set
	Trunk       *Trunk          // the way to another PBX; or nil
	TLS         *PBXTLS         // chan_pjsip speaks TLS, too; or nil
}

// Trunk is another PBX that is known by an address, and asked for no password.
type Trunk struct {
	Peer    string // the name that it has here
	Digit   string // with which its numbers begin, all of four digits
	At      netip.AddrPort
	Own     string // digit with which this PBX's own numbers begin
	Options string // more lines for the peer
	Account string // the user that it registers as, whoever it is; of chan_pjsip
}

// SecureAsterisk is what an Asterisk needs that no edge stands before. Users up to
// 1010 have SDES, those above DTLS-SRTP and ICE; those from 1006 to 1010 must acknowledge
// that they ring, and be acknowledged (RFC 3262).
type SecureAsterisk struct{ Cert, Key string } // files

// PBXTLS is the TLS of a PBX that has no edge.
type PBXTLS struct {
	At        netip.AddrPort // where it listens, and what its media's address is
	Cert, Key string         // files
	CA        string         // of those whom it believes
	Mutual    bool           // it asks who connects for a certificate, and looks at whom it connects to
}

// Tech is the driver's name in the dialplan.
func (c AsteriskConfig) Tech() string {
	if c.PJSIP {
		return "PJSIP"
	}
	return "SIP"
}

// Asterisk is a running Asterisk.
type Asterisk struct {
	*Process
	lab     *Lab
	host    *Host
	tech    string
	conf    string // asterisk.conf
	Version int
	Dir     string // recordings are in here
	seen    int    // how many messages of chan_pjsip's history were read
}

// command is the program of a version, on the PBX's host.
func (a *Asterisk) command(args ...string) *exec.Cmd {
	a.lab.t.Helper()
	args = append([]string{"-C", a.conf}, args...)
	if a.Version == 22 {
		return a.host.fromRoot("asterisk22", "usr/sbin/asterisk", args...)
	}
	return a.host.Command("/usr/sbin/asterisk", args...)
}

// installed finds the folders of a version: of its modules, and of its data.
func (a *Asterisk) installed() (modules, data string) {
	a.lab.t.Helper()
	root, driver := "/", "usr/lib/asterisk/modules/chan_sip.so"
	if a.Version == 22 {
		root, driver = filepath.Join(cacheDir(), "asterisk22"), "usr/lib/*/asterisk/modules/chan_pjsip.so"
	}
	found, _ := filepath.Glob(filepath.Join(root, driver))
	if len(found) == 0 {
		a.lab.t.Fatalf("find Asterisk %d: no %s; run make peers", a.Version, filepath.Join(root, driver))
	}
	return filepath.Dir(found[0]), filepath.Join(root, "usr/share/asterisk")
}

// StartAsterisk runs Asterisk on the lab's PBX host, and returns when it has
// booted. Users are 1001 to 1020 with the password secret-<user>; see
// asterisk/extensions.conf for the numbers.
func StartAsterisk(l *Lab, c AsteriskConfig) *Asterisk {
	l.t.Helper()
	c.DirectMedia, c.Version = cmp.Or(c.DirectMedia, "no"), cmp.Or(c.Version, 16)
	c.PJSIP = c.PJSIP || c.Version == 22
	a := &Asterisk{lab: l, host: cmp.Or(c.On, l.PBX), tech: c.Tech(), Version: c.Version, Dir: filepath.Join(l.Dir, "asterisk")}
	if c.On != nil {
		a.Dir += "-" + c.On.Addr.String()
	}
	a.conf = filepath.Join(a.Dir, "asterisk.conf")
	for _, d := range []string{"var", "run", "log", "spool", "db", "moh"} {
		if err := os.MkdirAll(filepath.Join(a.Dir, d), 0o755); err != nil {
			l.t.Fatal(err)
		}
	}
	a.write(c)
	a.Start()
	return a
}

// Start runs it again after Stop or Kill, with what it kept.
func (a *Asterisk) Start() {
	l := a.lab
	l.t.Helper()
	a.Process = l.start("asterisk", a.command("-f", "-n", "-U", "root"))
	Until(l.t, time.Minute, "Asterisk to boot", func() bool {
		if !a.Running() {
			l.t.Fatalf("Asterisk ended: %v", a.err)
		}
		out, err := a.CLI("core waitfullybooted")
		return err == nil && strings.Contains(out, "fully booted")
	})
	a.Log = filepath.Join(a.Dir, "log", "full")
}

func (a *Asterisk) write(c AsteriskConfig) {
	a.lab.t.Helper()
	users := make([]string, 20)
	for i := range users {
		users[i] = strconv.Itoa(cmp.Or(c.First, 1001) + i)
	}
	for name, seconds := range map[string]float64{"moh/music.wav": 30, "short.wav": 2} {
		if err := WriteWAV(filepath.Join(a.Dir, name), Sine(MusicHz, seconds)); err != nil {
			a.lab.t.Fatal(err)
		}
	}
	addr := a.host.Addr.String()
	if c.Six {
		addr = "[" + PBXAddr6 + "]"
	}
	all, err := template.ParseFS(asteriskFiles, "asterisk/*.conf")
	if err != nil {
		a.lab.t.Fatal(err)
	}
	port := 5060
	if c.Tapped {
		port = tappedPort
	}
	modules, data := a.installed()
	for _, t := range all.Templates() {
		f, err := os.Create(filepath.Join(a.Dir, t.Name()))
		if err != nil {
			a.lab.t.Fatal(err)
		}
		err = t.Execute(f, map[string]any{
			"Dir": a.Dir, "Users": users, "Office": users[0][:2], "Config": c, "Addr": addr, "Port": port, "Modules": modules, "Data": data,
		})
		f.Close()
		if err != nil {
			a.lab.t.Fatalf("write %s: %v", t.Name(), err)
		}
	}
	for _, name := range []string{"cdr", "cel", "features", "ccss", "udptl", "acl", "indications", "pjproject"} {
		if err := os.WriteFile(filepath.Join(a.Dir, name+".conf"), nil, 0o600); err != nil {
			a.lab.t.Fatal(err)
		}
	}
}

// CLI runs one console command, as asterisk -rx does: that takes a process for each.
func (a *Asterisk) CLI(command string) (string, error) {
	c, err := net.DialTimeout("unix", filepath.Join(a.Dir, "run", "asterisk.ctl"), time.Second)
	if err != nil {
		return "", fmt.Errorf("run Asterisk command %q: %w", command, err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write([]byte("cli quit after " + command + "\x00"))
	all, err := io.ReadAll(c)
	_, out, _ := strings.Cut(string(all), "\n") // the first line says who it is
	if err == nil && strings.HasPrefix(out, "No such command") {
		err = errors.New("there is none such")
	}
	if err != nil {
		return out, fmt.Errorf("run Asterisk command %q: %w", command, err)
	}
	return out, nil
}

// Must runs one console command, which must not fail.
func (a *Asterisk) Must(command string) string {
	a.lab.t.Helper()
	out, err := a.CLI(command)
	if err != nil {
		a.lab.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// Contact is what a user is registered at, or nothing.
func (a *Asterisk) Contact(user string) string {
	a.lab.t.Helper()
	contact := ""
	if a.tech == "PJSIP" {
		for _, line := range a.contacts() {
			if of, uri, _ := strings.Cut(line, "/"); of == user {
				contact = uri
			}
		}
		return contact
	}
	for _, line := range strings.Split(a.Must("sip show peer "+user), "\n") {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "Addr->IP":
			if value == "(null)" { // it forgets the address, and goes on showing the contact
				return ""
			}
		case "Reg. Contact":
			contact = value
		}
	}
	return contact
}

// Keeps is how long it will keep a user's contact.
func (a *Asterisk) Keeps(user string) time.Duration {
	a.lab.t.Helper()
	show, field := "sip show peer "+user, "Expire"
	if a.tech == "PJSIP" {
		show, field = "pjsip show contact "+user+"/"+a.Contact(user), "expiration_time"
	}
	for _, line := range strings.Split(a.Must(show), "\n") {
		key, value, _ := strings.Cut(line, ":")
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		switch {
		case strings.TrimSpace(key) != field || err != nil:
		case a.tech == "PJSIP":
			return time.Until(time.Unix(n, 0))
		default:
			return time.Duration(n) * time.Second
		}
	}
	return 0
}

// contacts are those of chan_pjsip, as user/URI.
func (a *Asterisk) contacts() (list []string) {
	a.lab.t.Helper()
	for _, line := range strings.Split(a.Must("pjsip show contacts"), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "Contact:" && strings.Contains(f[1], "/sip:") {
			list = append(list, f[1])
		}
	}
	return list
}

// Registered counts the users that have a contact.
func (a *Asterisk) Registered() int {
	a.lab.t.Helper()
	n := 0
	if a.tech == "PJSIP" {
		return len(a.contacts())
	}
	for _, line := range strings.Split(a.Must("sip show peers"), "\n") {
		f := strings.Fields(line)
		if len(f) > 1 && strings.Contains(f[0], "/") && f[0] != "Name/username" && f[1] != "(Unspecified)" { // the first line says what each has
			n++
		}
	}
	return n
}

// Reaches tells whether a user's phone answered the last OPTIONS, and Misses
// whether it did not.
func (a *Asterisk) Reaches(user string) bool { return a.finds(user, "Status       : OK", " Avail ") }

// Misses is false, too, before the first was sent.
func (a *Asterisk) Misses(user string) bool {
	return a.finds(user, "Status       : UNREACHABLE", " Unavail ")
}

func (a *Asterisk) finds(user, sip, pjsip string) bool {
	a.lab.t.Helper()
	if a.tech == "PJSIP" {
		return strings.Contains(a.Must("pjsip show aor "+user), pjsip)
	}
	return strings.Contains(a.Must("sip show peer "+user), sip)
}

// Qualify sends a user's phone OPTIONS now.
func (a *Asterisk) Qualify(user string) {
	a.lab.t.Helper()
	if a.tech == "PJSIP" {
		a.Must("pjsip qualify " + user)
		return
	}
	a.Must("sip qualify peer " + user)
}

// Subscriptions counts what phones have subscribed to.
func (a *Asterisk) Subscriptions() int {
	a.lab.t.Helper()
	show, last := "sip show subscriptions", " active SIP subscription"
	if a.tech == "PJSIP" {
		show, last = "pjsip show subscriptions inbound", " active subscriptions"
	}
	n := 0
	for _, line := range strings.Split(a.Must(show), "\n") {
		if count, _, ok := strings.Cut(line, last); ok {
			n, _ = strconv.Atoi(count)
		}
	}
	return n
}

// Channels counts the channels of calls.
func (a *Asterisk) Channels() int {
	a.lab.t.Helper()
	for _, line := range strings.Split(a.Must("core show channels count"), "\n") {
		if n, ok := strings.CutSuffix(strings.TrimSpace(line), " active channels"); ok {
			count, _ := strconv.Atoi(n)
			return count
		}
		if strings.TrimSpace(line) == "1 active channel" {
			return 1
		}
	}
	return 0
}

// Originate calls a user and connects it to an extension, without waiting.
func (a *Asterisk) Originate(user, extension string) {
	a.lab.t.Helper()
	a.Must(fmt.Sprintf("channel originate %s/%s extension %s@phones", a.tech, user, extension))
}

// Redirect moves a user's call to an extension.
func (a *Asterisk) Redirect(user, extension string) {
	a.lab.t.Helper()
	for _, line := range strings.Split(a.Must("core show channels concise"), "\n") {
		if channel, _, _ := strings.Cut(line, "!"); strings.HasPrefix(channel, a.tech+"/"+user+"-") {
			a.Must(fmt.Sprintf("channel redirect %s phones,%s,1", channel, extension))
			return
		}
	}
	a.lab.t.Fatalf("user %s has no channel to redirect", user)
}

// Recording reads what extension 610 recorded under a name.
func (a *Asterisk) Recording(name string) (samples []int16, rate int, err error) {
	return ReadWAV(filepath.Join(a.Dir, name+".wav"))
}

// Hears waits until a recording has a second of a tone.
func (a *Asterisk) Hears(name string, hz float64) (got, share float64) {
	a.lab.t.Helper()
	Until(a.lab.t, 20*time.Second, fmt.Sprintf("%v Hz in Asterisk's recording %s", hz, name), func() bool {
		samples, rate, err := a.Recording(name)
		if err != nil || len(samples) < rate {
			return false
		}
		got, share = Tone(samples, rate)
		return Near(got, hz) && share > 0.8
	})
	return got, share
}
