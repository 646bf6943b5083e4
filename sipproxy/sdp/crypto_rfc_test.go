package sdp

import (
	"encoding/base64"
	"strings"
	"testing"
)

var rfc4568 = []struct {
	name, value, suite string
	keys               []InlineKey // KeySalt in base64
	params             string
	usable             bool
}{
	{
		name: "lifetime and MKI", suite: "AES_CM_128_HMAC_SHA1_80",
		value:  "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:32",
		keys:   []InlineKey{{KeySalt: []byte("PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR"), Lifetime: 1 << 20, MKILen: 32}},
		usable: true,
	},
	{
		name: "MKI alone", suite: "AES_CM_128_HMAC_SHA1_80",
		value:  "1 AES_CM_128_HMAC_SHA1_80 inline:YUJDZGVmZ2hpSktMbW9QUXJzVHVWd3l6MTIzNDU2|1066:4",
		keys:   []InlineKey{{KeySalt: []byte("YUJDZGVmZ2hpSktMbW9QUXJzVHVWd3l6MTIzNDU2"), MKILen: 4}},
		usable: true,
	},
	{
		name: "the offer's first", suite: "AES_CM_128_HMAC_SHA1_80",
		value:  "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4 FEC_ORDER=FEC_SRTP",
		keys:   []InlineKey{{KeySalt: []byte("WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"), Lifetime: 1 << 20, MKILen: 4}},
		params: "FEC_ORDER=FEC_SRTP",
	},
	{
		name: "the offer's second", suite: "F8_128_HMAC_SHA1_80",
		value: "2 F8_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5QUJjZGVm|2^20|1:4;" +
			"inline:QUJjZGVmMTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5|2^20|2:4 FEC_ORDER=FEC_SRTP",
		keys: []InlineKey{
			{KeySalt: []byte("MTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5QUJjZGVm"), Lifetime: 1 << 20, MKILen: 4},
			{KeySalt: []byte("QUJjZGVmMTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5"), Lifetime: 1 << 20, MKILen: 4},
		},
		params: "FEC_ORDER=FEC_SRTP",
	},
	{
		name: "the answer", suite: "AES_CM_128_HMAC_SHA1_80",
		value:  "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:4",
		keys:   []InlineKey{{KeySalt: []byte("PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR"), Lifetime: 1 << 20, MKILen: 4}},
		usable: true,
	},
}

// TestRFC4568 reads the examples of RFC 4568: section 6.1 (keys), 7.1 (offer)
// and 7.2 (answer).
func TestRFC4568(t *testing.T) {
	for _, tt := range rfc4568 {
		t.Run(tt.name, func(t *testing.T) {
			c := parseCrypto(tt.value)
			if c.broken != "" || c.Suite != tt.suite || strings.Join(c.Params, " ") != tt.params || len(c.Keys) != len(tt.keys) {
				t.Fatalf("got %v, broken %q, %d keys, parameters %q", c, c.broken, len(c.Keys), c.Params)
			}
			for i, want := range tt.keys {
				k := c.Keys[i]
				if text := base64.StdEncoding.EncodeToString(k.KeySalt); text != string(want.KeySalt) {
					t.Errorf("key %d is %s", i, text)
				}
				if k.Lifetime != want.Lifetime || k.MKILen != want.MKILen || len(k.MKI) != want.MKILen {
					t.Errorf("key %d: lifetime %d, MKI %x", i, k.Lifetime, k.MKI)
				}
			}
			if err := c.Usable(); (err == nil) != tt.usable {
				t.Errorf("usable: %v", err)
			}
			if got := string(c.appendTo(nil)); got != tt.value {
				t.Errorf("written as %s", got)
			}
		})
	}
}
