package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// nobodyWatches is the control of the cases below.
const nobodyWatches = "[policy]\nauth_failures = 0\nscanners = []\nhide_users = false\n"

// desk is what a tool calls itself that wants to be taken for a phone.
const desk = "Yealink SIP-T46S"

// siege is an attack with a tool of SIPVicious, by TLS.
type siege struct {
	attack func(h *peers.Host, s *peers.Shim) peers.Scan
	found  func([]string) bool // by a tool that nobody keeps from it
	// What the tool calls itself behind the NAT and at an address of its own;
	// nothing: its own name.
	inmate, stranger string
	reach            int // how many requests may reach the PBX
}

// besiege lets a tool attack an edge whose policy is off, and the tool must
// succeed; then one whose policy is on, from behind the NAT of a phone that is
// in a call, and from an address of its own. It finds nothing, and the phone
// does not notice.
func besiege(t *testing.T, s siege) {
	o := newOfficeWith(t, peers.AsteriskConfig{General: "alwaysauthreject=no"}, peers.EdgeConfig{Extra: nobodyWatches})
	control := o.Phone("control")
	if got := s.attack(control, peers.StartShim(control, o.edge, "")); !s.found(got.Found) {
		t.Fatalf("unhindered the tool finds %q only:\n%s", got.Found, got.Output)
	}
	o.edge.Stop()
	o.edge = peers.StartEdge(o.Lab, peers.EdgeConfig{PBX: peers.Unchecked}) // or its own requests are counted
	nat := o.NAT("nat")
	phone := peers.NewPhone(nat.Phone("phone"), o.edge, "1005")
	if m := phone.Register("secret-1005", 600, ""); m.Status() != 200 {
		t.Fatalf("registration was answered %s", m.Start)
	}
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)

	o.repel(s, nat.Phone("inmate"), s.inmate, "from behind the phone's NAT")
	if list := o.edge.Run("bans", "list"); list != "" {
		t.Errorf("the NAT is banned with its phones: %s", list)
	}
	o.repel(s, o.Phone("stranger"), s.stranger, "from an address of its own")
	if list := o.edge.Run("bans", "list"); !strings.HasPrefix(list, "203.0.113.") || strings.HasPrefix(list, nat.Addr.String()) || strings.Count(list, "\n") != 1 {
		t.Errorf("banned is\n%s", list)
	}

	o.speaks(media, 900)
	if m := phone.Register("secret-1005", 600, ""); m.Status() != 200 {
		t.Errorf("the phone's registration was refreshed with %s", m.Start)
	}
	again := peers.NewPhone(phone.Host, o.edge, "1005")
	if m := again.Register("secret-1005", 600, ""); m.Status() != 200 {
		t.Errorf("the phone's registration over another connection was answered %s", m.Start)
	}
	colleague := peers.NewPhone(nat.Phone("colleague"), o.edge, "1006")
	switch m := colleague.Register("secret-1006", 600, ""); m.Status() {
	case 200:
	case 503: // it was never there before, and comes into the siege
		t.Logf("a new phone behind the NAT is to try again in %s s", m.Get("Retry-After"))
	default:
		t.Errorf("a new phone behind the NAT was answered %s", m.Start)
	}
	o.hangUp(d, media)
	o.lastCall()
}

// repel lets the tool attack from a host, and it must find nothing.
func (o *office) repel(s siege, h *peers.Host, agent, whence string) {
	o.t.Helper()
	inside := peers.StartCapture(o.PBX, "inside")
	shim := peers.StartShim(h, o.edge, agent)
	got := s.attack(h, shim)
	inside.Stop()
	reached := inside.Requests(fmt.Sprintf("ip.dst == %s && (sip.Method == \"REGISTER\" || sip.Method == \"OPTIONS\") && !(sip.from.user == \"1005\")", peers.PBXAddr))
	tries, opened, refused := shim.Counts()
	o.t.Logf("%s: %d tries over %d connections, %d reached the PBX; %d connections were refused, the first after %s; found %q",
		whence, tries, opened, reached, refused, got.Shut.Round(time.Millisecond), got.Found)
	if len(got.Found) != 0 {
		o.t.Errorf("%s the tool found %q:\n%s", whence, got.Found, got.Output)
	}
	if reached > s.reach {
		o.t.Errorf("%s %d requests reached the PBX, want %d at most", whence, reached, s.reach)
	}
}

// lastCall tells what the record of the call that ended last says. What a busy
// machine loses is no fault of the edge's: that the call had its sound, its tone
// proves.
func (o *office) lastCall() {
	o.t.Helper()
	log, err := os.ReadFile(o.edge.Log)
	if err != nil {
		o.t.Fatal(err)
	}
	lines := strings.Split(string(log), "\n")
	for _, line := range slices.Backward(lines) {
		var record struct {
			Msg    string  `json:"msg"`
			Loss   string  `json:"loss_from_phone"`
			Jitter float64 `json:"jitter_from_phone"` // in nanoseconds
			Back   string  `json:"loss_to_phone"`
			Packet int     `json:"rtp_from_phone"`
		}
		if json.Unmarshal([]byte(line), &record) != nil || record.Msg != "call ended" {
			continue
		}
		o.t.Logf("the call meanwhile: %d packets, %s lost, jitter %s; %s lost on the way back", record.Packet, record.Loss, time.Duration(record.Jitter), record.Back)
		return
	}
	o.t.Error("the call has no record")
}

// Users are looked for, where Asterisk itself would tell which there are.
func TestSvwar(t *testing.T) {
	besiege(t, siege{
		inmate: desk, reach: 5, // the tool sees itself that it learns nothing
		attack: func(h *peers.Host, s *peers.Shim) peers.Scan { return peers.Svwar(h, "127.0.0.1", "980-1040", s) },
		found:  func(list []string) bool { return len(list) == 20 && list[0] == "1001" },
	})
}

// A password is guessed that is in the list, behind as many as are let through.
func TestSvcrack(t *testing.T) {
	var list []string
	for i := range 60 {
		list = append(list, fmt.Sprint("wrong", i))
	}
	list[40] = "secret-1001"
	besiege(t, siege{
		inmate: desk, stranger: desk, reach: 40,
		attack: func(h *peers.Host, s *peers.Shim) peers.Scan { return peers.Svcrack(h, "127.0.0.1", "1001", list, s) },
		found:  func(list []string) bool { return len(list) == 1 && list[0] == "secret-1001" },
	})
}

// Devices are looked for, by a tool that says its name: it gets no answer, and
// the PBX nothing.
func TestSvmap(t *testing.T) {
	besiege(t, siege{
		attack: func(h *peers.Host, s *peers.Shim) peers.Scan { return peers.Svmap(h, "127.0.0.1", s) },
		found:  func(list []string) bool { return len(list) == 1 },
	})
}

// Who is banned stays so when the edge begins again, even after a power cut, until
// an operator says otherwise.
func TestBanSurvivesRestart(t *testing.T) {
	o := newOffice(t)
	guesser := o.Phone("guesser")
	for _, guesses := range []int{3, 3, 3, 1} { // three close a connection, ten ban
		phone := peers.NewPhone(guesser, o.edge, "1001")
		for range guesses {
			if m := phone.Register("wrong", 600, ""); m.Status() != 403 {
				t.Fatalf("a wrong password was answered %s", m.Start)
			}
		}
	}
	enters := func() (in bool) {
		_ = guesser.Do(func() error { in = peers.Handshake(peers.EdgeOutside + ":5061"); return nil })
		return in
	}
	o.registered("1002").Close() // the control: others come and go
	if enters() {
		t.Fatal("ten wrong passwords, and its next connection is let in")
	}
	peers.Until(t, 5*time.Second, "the ban to be written", func() bool {
		b, _ := os.ReadFile(filepath.Join(o.edge.State, "bans.json"))
		return strings.Contains(string(b), guesser.Addr.String())
	})
	o.edge.Kill()
	o.edge.Start()
	if enters() {
		t.Error("after a restart it is let in")
	}
	if list := o.edge.Run("bans", "list"); !strings.HasPrefix(list, guesser.Addr.String()+"/32 until ") {
		t.Errorf("banned is %q", list)
	}
	o.edge.Run("bans", "remove", guesser.Addr.String())
	if !enters() {
		t.Error("it is kept out though the ban was removed")
	}
	o.edge.Run("bans", "add", guesser.Addr.String(), "-for", "1h")
	if enters() {
		t.Error("it is let in though an operator banned it")
	}
	o.edge.Stop()
	o.edge.Start()
	if enters() {
		t.Error("after another restart it is let in")
	}
	o.registered("1003")
}

// What is said of a user that there is not is what is said of one that there is, to
// who asks and to who guesses, and it takes no longer.
func TestUnknownUsersLookAlike(t *testing.T) {
	for name, extra := range map[string]string{"hidden": "", "control: shown": "[policy]\nhide_users = false\n"} {
		t.Run(name, func(t *testing.T) {
			o := newOfficeWith(t, peers.AsteriskConfig{General: "alwaysauthreject=no"}, peers.EdgeConfig{Extra: extra})
			known, unknown := o.script("1001"), o.script("9999")
			var said [2]string
			var took [2][]time.Duration
			for range 25 {
				for i, phone := range []*peers.Phone{known, unknown} {
					began := time.Now()
					m := phone.Query()
					took[i] = append(took[i], time.Since(began))
					said[i] = alike(m, phone)
				}
			}
			for i, phone := range []*peers.Phone{known, unknown} {
				said[i] += alike(phone.Register("wrong", 600, ""), phone)
				slices.Sort(took[i])
			}
			if same := said[0] == said[1]; same != (extra == "") {
				t.Errorf("of a user that there is:\n%s\nof one that there is not:\n%s", said[0], said[1])
			}
			t.Logf("half of the answers came within %s of a user that there is, and %s of one that there is not", took[0][12], took[1][12])
		})
	}
}

// alike is a message without what differs from one to the next anyway.
func alike(m *peers.Message, phone *peers.Phone) string {
	nonce := regexp.MustCompile(`nonce="[0-9a-f]{8}"`)
	text := m.Start + "\n"
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		for _, v := range m.Header[name] {
			switch name {
			case "Via", "From", "To", "Call-Id", "Cseq":
				v = "…"
			}
			text += name + ": " + nonce.ReplaceAllString(v, `nonce="…"`) + "\n" // which may look like a user
		}
	}
	return strings.ReplaceAll(text, phone.User, "user")
}
