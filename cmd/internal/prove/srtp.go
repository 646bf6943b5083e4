package prove

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"hash"
)

// suite is what there is to know of an SRTP crypto suite to verify its tags; in
// bytes.
type suite struct {
	key, salt int
	tag       int // of RTP, by HMAC; that of RTCP has 10. 0: an AEAD, whose tags have 16
}

// suites are those of RFC 4568 section 6.2, RFC 6188 and RFC 7714.
var suites = map[string]suite{
	"AES_CM_128_HMAC_SHA1_80": {16, 14, 10},
	"AES_CM_128_HMAC_SHA1_32": {16, 14, 4},
	"AES_256_CM_HMAC_SHA1_80": {32, 14, 10},
	"AES_256_CM_HMAC_SHA1_32": {32, 14, 4},
	"AEAD_AES_128_GCM":        {16, 12, 0},
	"AEAD_AES_256_GCM":        {32, 12, 0},
}

const (
	rtcpTag = 10
	aeadTag = 16
)

// verifier verifies what one master key protects, and nothing more: it decrypts
// only where an AEAD can't do otherwise, and wipes that. It knows no replays, as
// who only watches may see a packet twice.
type verifier struct {
	suite suite
	mki   []byte
	mac   [2]hash.Hash   // of RTP and RTCP; or
	aead  [2]cipher.AEAD // likewise
	salts [2][12]byte
	spare []byte
}

func newVerifier(name string, keySalt, mki []byte) (*verifier, error) {
	s, ok := suites[name]
	if !ok || len(keySalt) != s.key+s.salt {
		return nil, fmt.Errorf("%w: %q with %d bytes", errKey, name, len(keySalt))
	}
	v := &verifier{suite: s, mki: mki}
	master, salt := keySalt[:s.key], keySalt[s.key:]
	for i := range v.mac {
		base := byte(3 * i) // labels: RFC 3711 section 4.3.2
		if s.tag > 0 {
			v.mac[i] = hmac.New(sha1.New, derive(master, salt, base+1, 20))
			continue
		}
		block, err := aes.NewCipher(derive(master, salt, base, s.key))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errKey, err)
		}
		if v.aead[i], err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("%w: %w", errKey, err)
		}
		copy(v.salts[i][:], derive(master, salt, base+2, 12))
	}
	return v, nil
}

// derive makes a session key (RFC 3711 section 4.3.3, with a key derivation rate
// of 0; RFC 7714 section 11 for its shorter salt).
func derive(master, salt []byte, label byte, n int) []byte {
	block, err := aes.NewCipher(master)
	if err != nil { // the lengths are those of suites
		return make([]byte, n)
	}
	var iv [aes.BlockSize]byte
	copy(iv[:14], salt)
	iv[7] ^= label
	out := make([]byte, n)
	cipher.NewCTR(block, iv[:]).XORKeyStream(out, out)
	return out
}

// rtp tells whether an SRTP packet verifies with a roll-over counter (RFC 3711
// section 4.2; RFC 7714 sections 8 and 9). p is borrowed, and stays as it is.
func (v *verifier) rtp(p []byte, roc uint32) bool {
	head, ok := rtpHeader(p)
	if !ok {
		return false
	}
	if v.suite.tag > 0 {
		body, tag, ok := v.cut(p, v.suite.tag)
		if !ok || len(body) < head {
			return false
		}
		m := v.mac[0]
		m.Reset()
		_, _ = m.Write(body)
		_, _ = m.Write(binary.BigEndian.AppendUint32(nil, roc))
		return hmac.Equal(m.Sum(nil)[:v.suite.tag], tag)
	}
	sealed, ok := v.withoutMKI(p)
	if !ok || len(sealed) < head+aeadTag {
		return false
	}
	iv := v.salts[0]
	xor(iv[2:6], p[8:12])
	xor(iv[6:10], binary.BigEndian.AppendUint32(nil, roc))
	xor(iv[10:12], p[2:4])
	return v.opens(0, iv, sealed[head:], sealed[:head])
}

// rtcp tells whether an SRTCP packet verifies, and is encrypted: it says so by
// itself (RFC 3711 section 3.4).
func (v *verifier) rtcp(p []byte) bool {
	if v.suite.tag > 0 {
		body, tag, ok := v.cut(p, rtcpTag)
		if !ok || len(body) < 12 || body[len(body)-4]&0x80 == 0 {
			return false
		}
		m := v.mac[1]
		m.Reset()
		_, _ = m.Write(body)
		return hmac.Equal(m.Sum(nil)[:rtcpTag], tag)
	}
	rest, ok := v.withoutMKI(p)
	if !ok || len(rest) < 8+aeadTag+4 || rest[len(rest)-4]&0x80 == 0 {
		return false
	}
	index := rest[len(rest)-4:]
	iv := v.salts[1]
	xor(iv[2:6], p[4:8])
	xor(iv[8:12], binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(index)&^(1<<31)))
	return v.opens(1, iv, rest[8:len(rest)-4], append(append(make([]byte, 0, 12), p[:8]...), index...))
}

func (v *verifier) opens(which int, iv [12]byte, sealed, with []byte) bool {
	if cap(v.spare) < len(sealed) {
		v.spare = make([]byte, 0, 2*len(sealed))
	}
	out, err := v.aead[which].Open(v.spare[:0], iv[:], sealed, with)
	clear(out)
	return err == nil
}

// cut separates a tag from what it is of, and drops the MKI between them.
func (v *verifier) cut(p []byte, tag int) (body, of []byte, ok bool) {
	if len(p) < tag {
		return nil, nil, false
	}
	body, ok = v.withoutMKI(p[:len(p)-tag])
	return body, p[len(p)-tag:], ok
}

func (v *verifier) withoutMKI(p []byte) ([]byte, bool) {
	n := len(p) - len(v.mki)
	if n < 0 || string(p[n:]) != string(v.mki) {
		return nil, false
	}
	return p[:n], true
}

func xor(dst, with []byte) {
	for i := range dst {
		dst[i] ^= with[i]
	}
}
