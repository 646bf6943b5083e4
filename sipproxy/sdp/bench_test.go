package sdp

import "testing"

// A description is read once an offer or answer: the numbers tell what a
// flood of them costs.

func BenchmarkParse(b *testing.B) {
	all := samples(b)
	for _, name := range []string{"baresip-sdes", "chrome", "linphone-savp"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(all[name])))
			for b.Loop() {
				if _, err := Parse(all[name]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMarshal(b *testing.B) {
	all := samples(b)
	for _, name := range []string{"baresip-sdes", "chrome", "linphone-savp"} {
		b.Run(name, func(b *testing.B) {
			s := mustParse(b, all[name])
			b.ReportAllocs()
			for b.Loop() {
				s.Marshal()
			}
		})
	}
}
