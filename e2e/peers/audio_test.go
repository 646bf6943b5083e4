package peers

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func noise(n int, amplitude float64) []int16 {
	r := rand.New(rand.NewPCG(1, 2))
	s := make([]int16, n)
	for i := range s {
		s[i] = int16(amplitude * (2*r.Float64() - 1))
	}
	return s
}

// What every test of sound stands on: a tone is found, and nothing else is
// taken for one.
func TestTone(t *testing.T) {
	for _, hz := range []float64{300, 700, 1004, 1300, 3400} {
		t.Run(fmt.Sprint(hz), func(t *testing.T) {
			pure := Sine(hz, 2)
			late := append(make([]int16, 3*Rate), pure...)
			companded := make([]int16, len(pure))
			noisy := noise(len(pure), 4000)
			for i, s := range pure {
				companded[i] = FromMuLaw(MuLaw(s))
				noisy[i] += s
			}
			for name, samples := range map[string][]int16{"pure": pure, "after silence": late, "through G.711": companded, "in noise": noisy} {
				if got, share := Tone(samples, Rate); !Near(got, hz) || share < 0.8 {
					t.Errorf("%s: %.1f Hz, %.0f %%", name, got, 100*share)
				}
			}
		})
	}
	two := Sine(700, 1)
	for i, s := range Sine(1300, 1) {
		two[i] = two[i]/2 + s/2
	}
	for name, samples := range map[string][]int16{"noise": noise(2*Rate, 16000), "silence": make([]int16, Rate), "nothing": nil, "two tones": two} {
		if got, share := Tone(samples, Rate); share > 0.6 {
			t.Errorf("%s is taken for a tone of %.1f Hz with %.0f %% of the sound", name, got, 100*share)
		}
	}
}

func TestNear(t *testing.T) {
	for hz, want := range map[float64]bool{1004: true, 1013: true, 995: true, 1015: false, 993: false, 0: false} {
		if Near(hz, 1004) != want {
			t.Errorf("%.0f Hz near 1004 Hz: %v", hz, !want)
		}
	}
}

func TestWAV(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tone.wav")
	want := Sine(700, 0.5)
	if err := WriteWAV(path, want); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, n int) {
		got, rate, err := ReadWAV(path)
		if err != nil || rate != Rate || len(got) != n || got[n-1] != want[n-1] {
			t.Errorf("%s: %d samples at %d Hz, %v; want %d", name, len(got), rate, err, n)
		}
	}
	check("whole", len(want))
	clear(whole[40:44]) // as a killed recorder leaves it
	if err := os.WriteFile(path, whole[:len(whole)-1000], 0o600); err != nil {
		t.Fatal(err)
	}
	check("cut short", len(want)-500)
	if err := os.WriteFile(path, []byte("RIFF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadWAV(path); err == nil {
		t.Error("four bytes were read as a recording")
	}
}

func TestALaw(t *testing.T) {
	for s, want := range map[int16]byte{0: 0xd5, -1: 0x55, 32767: 0xaa, -32768: 0x2a, 8: 0xd5, 16: 0xd4, 512: 0xf5} {
		if got := ALaw(s); got != want {
			t.Errorf("%d is %#x, want %#x", s, got, want)
		}
	}
	for b := range 256 {
		if got := ALaw(FromALaw(byte(b))); got != byte(b) {
			t.Errorf("%#x is %d, and that %#x", b, FromALaw(byte(b)), got)
		}
	}
}

// Tones are told apart that lie 15 Hz from each other, in each 20 ms of what
// telephones make of them; and what is no tone is none.
func TestPitches(t *testing.T) {
	heard := func(samples []int16) (all []float64) {
		for i, s := range samples {
			samples[i] = FromMuLaw(MuLaw(s))
		}
		return Pitches(samples)
	}
	for hz := 300.0; hz < 3300; hz += 15 {
		all := heard(Sine(hz, 1))
		if len(all) != 50 {
			t.Fatalf("a second has %d packets", len(all))
		}
		for _, got := range all {
			if math.Abs(got-hz) > 4 {
				t.Errorf("%v Hz are taken for %.1f Hz", hz, got)
			}
		}
	}
	two := Sine(700, 1)
	for i, s := range Sine(1300, 1) {
		two[i] = two[i]/2 + s/2
	}
	for name, samples := range map[string][]int16{"two tones": two, "noise": noise(Rate, 10000), "silence": make([]int16, Rate)} {
		for _, got := range heard(samples) {
			if got != 0 {
				t.Errorf("%s is taken for %.1f Hz", name, got)
			}
		}
	}
}

// Packets that are counted tell how many are missing, and noise is none of them.
func TestSkipped(t *testing.T) {
	packet := func(n int) []int16 { return Sine(float64(countFrom+countStep*(n%countOf)), 1.0/50) }
	for _, c := range []struct {
		name          string
		missing       map[int]bool
		noisy         map[int]bool
		heard, longer int
	}{
		{"all", nil, nil, 250, 0},
		{"one", map[int]bool{7: true}, nil, 249, 1},
		{"over the turn", map[int]bool{98: true, 99: true, 100: true, 120: true}, nil, 246, 3},
		{"six, one of them noise", map[int]bool{150: true, 151: true, 152: true, 153: true, 154: true}, map[int]bool{155: true}, 244, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			var samples []int16
			for n := range 250 {
				switch {
				case c.missing[n]:
				case c.noisy[n]:
					samples = append(samples, noise(frame, 8000)...)
				default:
					for _, s := range packet(n) {
						samples = append(samples, FromMuLaw(MuLaw(s)))
					}
				}
			}
			if heard, longest := skipped(samples); heard != c.heard || longest != c.longer {
				t.Errorf("%d heard, %d missing in a row; want %d, %d", heard, longest, c.heard, c.longer)
			}
		})
	}
}
