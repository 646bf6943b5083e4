package prove

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"

	"github.com/pion/srtp/v3"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The session keys of RFC 3711 appendix B.3.
func TestKeyDerivation(t *testing.T) {
	master, salt := unhex(t, "E1F97A0D3E018BE0D64FA32C06DE4139"), unhex(t, "0EC675AD498AFEEBB6960B3AABE6")
	for label, want := range map[byte]string{
		0: "C61E7A93744F39EE10734AFE3FF7A087", 2: "30CBBC08863D8C85D49DB34A9AE1",
		1: "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4",
	} {
		if got := derive(master, salt, label, len(want)/2); fmt.Sprintf("%X", got) != want {
			t.Errorf("label %d: %X, want %s", label, got, want)
		}
	}
}

// RFC 7714 section 16.1.1 and 17.1 give session keys, not master keys: those are
// put in by hand.
func TestGCMVectors(t *testing.T) {
	v, err := newVerifier("AEAD_AES_128_GCM", make([]byte, 28), nil)
	if err != nil {
		t.Fatal(err)
	}
	key := unhex(t, "000102030405060708090a0b0c0d0e0f")
	for i := range v.aead {
		v.aead[i] = gcm(t, key)
		copy(v.salts[i][:], unhex(t, "517569642070726f2071756f"))
	}
	packet := unhex(t, "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce")
	if !v.rtp(packet, 0) {
		t.Error("RTP does not verify")
	}
	if v.rtp(packet, 1) {
		t.Error("RTP verifies with another roll-over counter")
	}
	packet[20] ^= 1
	if v.rtp(packet, 0) {
		t.Error("RTP verifies that was changed")
	}
}

var pionProfiles = map[string]srtp.ProtectionProfile{
	"AES_CM_128_HMAC_SHA1_80": srtp.ProtectionProfileAes128CmHmacSha1_80,
	"AES_CM_128_HMAC_SHA1_32": srtp.ProtectionProfileAes128CmHmacSha1_32,
	"AES_256_CM_HMAC_SHA1_80": srtp.ProtectionProfileAes256CmHmacSha1_80,
	"AES_256_CM_HMAC_SHA1_32": srtp.ProtectionProfileAes256CmHmacSha1_32,
	"AEAD_AES_128_GCM":        srtp.ProtectionProfileAeadAes128Gcm,
	"AEAD_AES_256_GCM":        srtp.ProtectionProfileAeadAes256Gcm,
}

// sealer encrypts by the library that the edge has.
func sealer(t testing.TB, suite string, keySalt, mki []byte) *srtp.Context {
	t.Helper()
	var options []srtp.ContextOption
	if mki != nil {
		options = append(options, srtp.MasterKeyIndicator(mki))
	}
	n := suites[suite].key
	c, err := srtp.CreateContext(keySalt[:n], keySalt[n:], pionProfiles[suite], options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func keyOf(suite string, fill byte) []byte {
	b := make([]byte, suites[suite].key+suites[suite].salt)
	for i := range b {
		b[i] = fill + byte(3*i)
	}
	return b
}

func rtpPacket(ssrc uint32, seq uint16, payload string) []byte {
	b := []byte{0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], 160*uint32(seq))
	binary.BigEndian.PutUint32(b[8:], ssrc)
	return append(b, payload...)
}

func report(ssrc uint32) []byte {
	b := make([]byte, 28)
	b[0], b[1], b[3] = 0x80, 200, 6
	binary.BigEndian.PutUint32(b[4:], ssrc)
	return b
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// All suites, with and without an MKI, agree with pion's; and every bit counts.
func TestVerifierAgainstPion(t *testing.T) {
	for name := range suites {
		for _, mki := range [][]byte{nil, {1, 2, 3}} {
			t.Run(fmt.Sprintf("%s mki %x", name, mki), func(t *testing.T) {
				key := keyOf(name, 7)
				v := must[*verifier](t)(newVerifier(name, key, mki))
				c := sealer(t, name, key, mki)
				c.SetROC(5, 3)
				packet := must[[]byte](t)(c.EncryptRTP(nil, rtpPacket(5, 100, "some payload"), nil))
				if !v.rtp(packet, 3) || v.rtp(packet, 2) {
					t.Error("RTP does not verify, or with another roll-over counter")
				}
				reports := must[[]byte](t)(c.EncryptRTCP(nil, report(5), nil))
				if !v.rtcp(reports) {
					t.Error("RTCP does not verify")
				}
				other := must[*verifier](t)(newVerifier(name, keyOf(name, 8), mki))
				if other.rtp(packet, 3) || other.rtcp(reports) {
					t.Error("another key verifies")
				}
				for bit := range 8 * len(packet) {
					changed := slices.Clone(packet)
					changed[bit/8] ^= 1 << (bit % 8)
					if v.rtp(changed, 3) {
						t.Fatalf("RTP verifies with bit %d of %d changed", bit, 8*len(packet))
					}
				}
				for bit := range 8 * len(reports) {
					changed := slices.Clone(reports)
					changed[bit/8] ^= 1 << (bit % 8)
					if v.rtcp(changed) {
						t.Fatalf("RTCP verifies with bit %d of %d changed", bit, 8*len(reports))
					}
				}
			})
		}
	}
}

func gcm(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	block := must[cipher.Block](t)(aes.NewCipher(key))
	return must[cipher.AEAD](t)(cipher.NewGCM(block))
}
