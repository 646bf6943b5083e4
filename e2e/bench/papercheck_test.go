package bench

import "testing"

// TestPaperIsCompared has what is seen on the wire fail wherever it is not what
// the paper says.
func TestPaperIsCompared(t *testing.T) {
	srtp := framingOf(wireSRTP)
	for name, c := range map[string]struct {
		media map[int]int
		good  bool
	}{
		"as on paper":      {map[int]int{216: 100}, true},
		"one is missing":   {map[int]int{216: 99}, false},
		"one is longer":    {map[int]int{216: 99, 217: 1}, false},
		"all are plain":    {map[int]int{plainLen: 100}, false},
		"all are a tunnel": {map[int]int{framingOf(wireWireGuard).bytes(): 100}, false},
		"nothing":          {nil, false},
	} {
		if err := (seen{media: c.media}).match(srtp, 100); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
