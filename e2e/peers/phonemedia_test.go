package peers

import (
	"testing"

	"github.com/pion/rtcp"
)

func TestReport(t *testing.T) {
	for _, cname := range []string{"a", "ab", "abc", "abcd"} { // each remainder of its padding
		b := (&Media{SSRC: 7, CNAME: cname}).reportLocked()
		packets, err := rtcp.Unmarshal(b)
		if err != nil || len(packets) != 2 {
			t.Fatalf("%q: %d packets, %v", cname, len(packets), err)
		}
		sr, ok := packets[0].(*rtcp.SenderReport)
		if !ok || sr.SSRC != 7 {
			t.Errorf("%q: sender report is %+v", cname, packets[0])
		}
		sdes, ok := packets[1].(*rtcp.SourceDescription)
		if !ok || len(sdes.Chunks) != 1 || sdes.Chunks[0].Source != 7 || sdes.Chunks[0].Items[0].Text != cname {
			t.Errorf("%q: source description is %+v", cname, packets[1])
		}
		if !isRTCP(b) || isRTCP([]byte{0x80, 0, 0}) {
			t.Error("RTCP is not told from RTP")
		}
	}
}

func TestCryptoLine(t *testing.T) {
	const bare = "a=crypto:2 AEAD_AES_128_GCM inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
	for _, c := range []struct {
		name, lifetime string
		mki            []byte
		want           string
	}{
		{"key", "", nil, ""},
		{"lifetime", "2^20", nil, "|2^20"},
		{"MKI", "", []byte{0, 0, 1, 1}, "|257:4"},
		{"both", "2^31", []byte{0, 0, 0, 1}, "|2^31|1:4"},
	} {
		m := &Media{Suite: "AEAD_AES_128_GCM", Key: make([]byte, 28), Lifetime: c.lifetime, MKI: c.mki}
		if got := m.CryptoLine(2); got != bare+c.want {
			t.Errorf("%s: line is %q, want %q", c.name, got, bare+c.want)
		}
	}
}
