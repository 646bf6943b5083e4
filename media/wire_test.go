package media

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The whole of RFC 7983 section 7.
func TestDemux(t *testing.T) {
	for b := range 256 {
		want := protoUnknown
		switch {
		case b <= 3:
			want = protoSTUN
		case b >= 20 && b <= 63:
			want = protoDTLS
		case b >= 128 && b <= 191:
			want = protoRTP
		}
		if got := demux([]byte{byte(b), 1}); got != want {
			t.Errorf("first byte %d is %d, want %d", b, got, want)
		}
	}
	if demux(nil) != protoUnknown {
		t.Error("an empty packet is something")
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		name, packet string
		kind         uint8
		ok           bool
	}{
		{"RTP", "8000 0001 00000000 01020304", kindRTP, true},
		{"RTP with a marker and payload type 63", "80bf 0001 00000000 01020304", kindRTP, true},
		{"RTCP sender report", "80c8 0006 01020304", kindRTCP, true},
		{"first of RTCP", "80c0 0001 01020304", kindRTCP, true},
		{"last of RTCP", "80df 0001 01020304", kindRTCP, true},
		{"behind RTCP", "80e0 0001 00000000 01020304", kindRTP, true},
		{"version 1", "4000 0001 00000000 01020304", 0, false},
		{"version 3", "c000 0001 00000000 01020304", 0, false},
		{"RTP cut short", "8000 0001 00000000 010203", 0, false},
		{"RTCP cut short", "80c8 0001 010203", 0, false},
		{"two CSRCs, one there", "8200 0001 00000000 01020304 00000001", 0, false},
		{"an extension that is not there", "9000 0001 00000000 01020304", 0, false},
		{"an extension longer than the packet", "9000 0001 00000000 01020304 bede 0002 00000000", 0, false},
		{"an extension", "9000 0001 00000000 01020304 bede 0001 00000000", kindRTP, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			kind, ssrc, ok := classify(unhex(t, c.packet))
			if ok != c.ok || kind != c.kind || ok && ssrc != 0x01020304 {
				t.Errorf("kind %d, SSRC %x, %v", kind, ssrc, ok)
			}
		})
	}
}

func TestSound(t *testing.T) {
	for _, c := range []struct {
		name, packet string
		kind         uint8
		want         bool
	}{
		{"RTP without a payload", "8000 0001 00000000 01020304", kindRTP, true},
		{"padding", "a000 0001 00000000 01020304 ff000002", kindRTP, true},
		{"nothing but padding", "a000 0001 00000000 01020304 00000004", kindRTP, true},
		{"padding of nothing", "a000 0001 00000000 01020304 00000000", kindRTP, false},
		{"padding into the header", "a000 0001 00000000 01020304 00000005", kindRTP, false},
		{"an extension", "9000 0001 00000000 01020304 bede0001 10ff0000", kindRTP, true},
		{"an encrypted extension", "9000 0001 00000000 01020304 c0de0001 10ff0000", kindRTP, false},
		{"an encrypted extension of two bytes, behind a source", "9100 0001 00000000 01020304 05060708 c2de0000", kindRTP, false},
		{"receiver report", "80c9 0001 01020304", kindRTCP, true},
		{"report and source description", "80c9 0001 01020304 81ca 0002 01020304 00000000", kindRTCP, true},
		{"feedback alone (RFC 5506)", "81ce 0002 01020304 05060708", kindRTCP, true},
		{"a part longer than the packet", "80c9 0002 01020304", kindRTCP, false},
		{"bytes left over", "80c9 0001 01020304 80ca", kindRTCP, false},
		{"a second part of another version", "80c9 0001 01020304 40ca 0000", kindRTCP, false},
		{"a second part that is RTP", "80c9 0001 01020304 8000 0000", kindRTCP, false},
		{"padding at the end", "80c9 0001 01020304 a0ca 0001 00000004", kindRTCP, true},
		{"padding before the end", "a0c9 0002 01020304 00000004 80ca 0000", kindRTCP, false},
		{"padding of an odd length", "a0c9 0002 01020304 00000003", kindRTCP, false},
		{"padding longer than its part", "a0c9 0001 0000000c", kindRTCP, false},
		{"header only", "80c9 0000", kindRTCP, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sound(unhex(t, c.packet), c.kind); got != c.want {
				t.Errorf("sound is %v", got)
			}
		})
	}
}

// TestSourceNeverRepeats walks at random through sequence numbers, and holds
// what is let through against pion's own count of packet indexes: they agree,
// and none is used twice, also when keys change, and come back.
func TestSourceNeverRepeats(t *testing.T) {
	keys := []Key{newKey(t, AEADAES128GCM), newKey(t, AEADAES128GCM)}
	var seal sender
	use := func(k Key) {
		n, err := newSealer(k)
		if err != nil {
			t.Fatal(err)
		}
		seal.set(n, false, 0)
	}
	use(keys[0])
	const ssrc = 7
	random := rand.New(rand.NewPCG(1, 2))
	src, used, seq := seal.source(nil, ssrc), make(map[int64]bool), uint16(0)
	var h headers
	for i := range 300000 {
		if i%97 == 0 {
			use(keys[random.IntN(2)])
		}
		switch random.IntN(50) {
		case 0:
			seq += uint16(random.IntN(1 << 16)) // anywhere
		case 1, 2, 3:
			seq -= uint16(random.IntN(80)) // late, or twice
		default:
			seq++
		}
		out, _, ok := seal.seal(nil, rtpPacket(ssrc, seq, ""), kindRTP, ssrc, &h)
		if !ok {
			continue
		}
		index := src.index + int64(int16(sequence(out)-uint16(src.index)))
		if used[index] {
			t.Fatalf("step %d: index %d was used before", i, index)
		}
		used[index] = true
		if roc, _ := seal.now.ctx.ROC(ssrc); int64(roc) != src.index>>16 && int64(roc) != index>>16 { // a new key's first packet may be late
			t.Fatalf("step %d: the roll-over counter is %d, we have %d", i, roc, src.index>>16)
		}
	}
	if len(used) < 50000 || src.index>>16 < 3 {
		t.Fatalf("only %d packets over %d roll-overs", len(used), src.index>>16)
	}
}

func TestSourcesAreBounded(t *testing.T) {
	one, err := newSealer(newKey(t, AESCM128HMACSHA180))
	if err != nil {
		t.Fatal(err)
	}
	var seal sender
	seal.set(one, false, 0)
	var h headers
	for ssrc := range uint32(maxSources + 10) {
		_, why, ok := seal.seal(nil, append(make([]byte, 0, 64), rtpPacket(ssrc, 1, "")...), kindRTP, ssrc, &h)
		if ok != (ssrc < maxSources) || !ok && why != DropSSRCLimit {
			t.Fatalf("SSRC %d: %v, %v", ssrc, ok, why)
		}
	}
}
