package peers

import (
	"encoding/base64"
	"encoding/binary"
	"time"
)

// BrowserStats is one report of a browser's connection (getStats), as far as
// tests look at it. Its Type says which fields it has.
type BrowserStats struct {
	Type, Kind string
	// Of a transport:
	DtlsState, DtlsRole, DtlsCipher, SrtpCipher, TLSVersion string
	IceState, SelectedCandidatePairID                       string
	// Of a stream received:
	FramesDecoded, PacketsReceived float64
	// Of a candidate:
	ID, Protocol, Address, CandidateType, UsernameFragment string
	// Of a pair of candidates:
	LocalCandidateID, RemoteCandidateID string
}

// Stats reads the reports of a type, about the newest call.
func (b *Browser) Stats(kind string) []BrowserStats {
	b.lab.t.Helper()
	var all, found []BrowserStats
	b.read("stats", &all)
	for _, s := range all {
		if s.Type == kind {
			found = append(found, s)
		}
	}
	return found
}

// explain writes what the browser says of the newest call to its log.
func (b *Browser) explain() {
	var all []map[string]any
	if err := b.evaluate("stats", &all); err != nil {
		b.note("no reports: %v", err)
	}
	for _, s := range all {
		switch s["type"] {
		case "transport", "candidate-pair", "local-candidate", "remote-candidate", "inbound-rtp", "outbound-rtp":
			b.note("report: %v", s)
		}
	}
}

// Transport is the one transport of the newest call.
func (b *Browser) Transport() BrowserStats {
	b.lab.t.Helper()
	all := b.Stats("transport")
	if len(all) != 1 {
		b.lab.t.Fatalf("browser %s has %d transports, want one", b.config.User, len(all))
	}
	return all[0]
}

// Connected waits until media can flow: ICE has found a way and DTLS its keys.
func (b *Browser) Connected(timeout time.Duration) {
	b.lab.t.Helper()
	Until(b.lab.t, timeout, "media of browser "+b.config.User+" to be connected", func() bool {
		var state string
		b.read("state", &state)
		return state == "connected"
	})
}

// Pair is the pair of candidates that the newest call uses, as soon as there is one.
func (b *Browser) Pair() (local, remote BrowserStats) {
	b.lab.t.Helper()
	Until(b.lab.t, 10*time.Second, "browser "+b.config.User+" to use a pair of candidates", func() bool {
		var all []BrowserStats
		b.read("stats", &all)
		byID, selected := make(map[string]BrowserStats), ""
		for _, s := range all {
			byID[s.ID] = s
			if s.Type == "transport" {
				selected = s.SelectedCandidatePairID
			}
		}
		pair := byID[selected]
		local, remote = byID[pair.LocalCandidateID], byID[pair.RemoteCandidateID]
		return local.Protocol != "" && remote.Protocol != ""
	})
	return local, remote
}

// Descriptions are those of the newest call that are in force.
func (b *Browser) Descriptions() (local, remote string) {
	b.lab.t.Helper()
	var d struct{ Local, Remote string }
	b.read("descriptions", &d)
	return d.Local, d.Remote
}

func (b *Browser) read(function string, result any) {
	b.lab.t.Helper()
	if err := b.evaluate(function, result); err != nil {
		b.lab.t.Fatal(err)
	}
}

// heard is what the page's user heard in the last second, and when that ended
// by the page's own clock, in seconds of sound.
func (b *Browser) heard() (samples []int16, at float64) {
	b.lab.t.Helper()
	var sound struct {
		At      float64
		Samples string
	}
	b.read("sound", &sound)
	raw, err := base64.StdEncoding.DecodeString(sound.Samples)
	if err != nil {
		b.lab.t.Fatalf("read what browser %s heard: %v", b.config.User, err)
	}
	samples = make([]int16, len(raw)/2)
	for i := range samples {
		samples[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return samples, sound.At
}

// Hears waits until the page's user has heard, from now on, a second of a tone
// of that frequency, within 1 %.
func (b *Browser) Hears(hz float64, timeout time.Duration) {
	b.lab.t.Helper()
	if got, share, ok := b.Listen(hz, timeout); !ok {
		b.lab.t.Fatalf("browser %s hears %.1f Hz (%.0f %% of the sound), want %.0f Hz", b.config.User, got, 100*share, hz)
	}
}

// Listen is Hears, for who wants to know what is heard instead. It goes on until it has
// judged one second of the page's clock.
func (b *Browser) Listen(hz float64, timeout time.Duration) (got, share float64, ok bool) {
	b.lab.t.Helper()
	_, from := b.heard()
	judged := false
	for begun := time.Now(); time.Since(begun) < timeout || !judged; time.Sleep(50 * time.Millisecond) {
		samples, at := b.heard()
		if at-from < float64(len(samples))/Rate {
			if time.Since(begun) > timeout+30*time.Second {
				b.lab.t.Fatalf("the sound of browser %s stands still", b.config.User)
			}
			continue
		}
		judged = true
		if got, share = Tone(samples, Rate); Near(got, hz) && share > 0.8 {
			return got, share, true
		}
	}
	return got, share, false
}
