package prove

import "testing"

// A packet of a call, and one of somebody else's.
func BenchmarkTake(b *testing.B) {
	for suite := range suites {
		b.Run(suite, func(b *testing.B) {
			k := knows(suite, nil)
			l := newLedger(b, &k)
			c := sealer(b, suite, phoneKey(suite), nil)
			f := frameAt(0, datagramFrame(phonePort, mediaPort, sealed(b, c, 5, 1)))
			for b.Loop() {
				l.Take(f)
			}
		})
	}
	b.Run("others", func(b *testing.B) {
		k := knows(gcmSuite, nil)
		l := newLedger(b, &k)
		f := frameAt(0, datagramFrame(phonePort, at(farIP, 443), make([]byte, 1200)))
		for b.Loop() {
			l.Take(f)
		}
	})
}
