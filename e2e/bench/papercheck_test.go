package bench

import "testing"

// TestPaperIsCompared has what is seen on the wire fail wherever it is not what
// the paper says.
func TestPaperIsCompared(t *testing.T) {
	srtp := framingOf(wireSRTP)
	for name, c := range map[string]struct {
		media  map[int]int
		others int
		good   bool
	}{
		"as on paper":      {map[int]int{216: 100}, 1, true},
		"one was lost":     {map[int]int{216: 99}, 0, true},
		"most are missing": {map[int]int{216: 49}, 0, false},
		"one is too many":  {map[int]int{216: 101}, 0, false},
		"one is longer":    {map[int]int{216: 99, 217: 1}, 0, false},
		"all are plain":    {map[int]int{plainLen: 100}, 0, false},
		"all are a tunnel": {map[int]int{framingOf(wireWireGuard).bytes(): 100}, 0, false},
		"nothing":          {nil, 0, false},
		"much else":        {map[int]int{216: 100}, 2, false},
	} {
		if err := (seen{c.media, c.others}).match(srtp, 100); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
