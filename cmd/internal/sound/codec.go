package sound

import "fmt"

// Codec is one of G.711. Its value is its static payload type (RFC 3551 section 6).
type Codec uint8

// The codecs.
const (
	PCMU Codec = 0
	PCMA Codec = 8
)

// Codecs are all, the most common first.
func Codecs() []Codec { return []Codec{PCMU, PCMA} }

// String is the codec's name, as in a=rtpmap.
func (c Codec) String() string {
	switch c {
	case PCMU:
		return "PCMU"
	case PCMA:
		return "PCMA"
	}
	return fmt.Sprintf("payload type %d", uint8(c))
}

// Encode encodes a sample.
func (c Codec) Encode(s int16) byte {
	if c == PCMA {
		return EncodeALaw(s)
	}
	return EncodeULaw(s)
}

// Decode decodes one.
func (c Codec) Decode(b byte) int16 {
	if c == PCMA {
		return DecodeALaw(b)
	}
	return DecodeULaw(b)
}

// EncodeULaw encodes a sample (ITU-T G.711 table 2a).
func EncodeULaw(s int16) byte {
	const bias, clip = 0x84, 32635
	sign, v := byte(0), int(s)
	if v < 0 {
		sign, v = 0x80, -v
	}
	v = min(v, clip) + bias
	exponent := 7
	for mask := 0x4000; v&mask == 0 && exponent > 0; mask >>= 1 {
		exponent--
	}
	mantissa := byte(v>>(exponent+3)) & 0x0f
	return ^(sign | byte(exponent)<<4 | mantissa)
}

// DecodeULaw decodes one.
func DecodeULaw(b byte) int16 {
	b = ^b
	exponent := int(b>>4) & 7
	v := (int(b&0x0f)<<3+0x84)<<exponent - 0x84
	if b&0x80 != 0 {
		return int16(-v)
	}
	return int16(v)
}

const toggled = 0x55 // every other bit of A-law

// EncodeALaw encodes a sample (ITU-T G.711 table 1a).
func EncodeALaw(s int16) byte {
	sign, v := byte(0x80), int(s)
	if v < 0 {
		sign, v = 0, -v-1
	}
	exponent := 0
	for v>>(exponent+8) > 0 && exponent < 7 { // the segments end at 2^8, 2^9, … 2^15
		exponent++
	}
	mantissa := byte(v>>(max(exponent, 1)+3)) & 0x0f
	return (sign | byte(exponent)<<4 | mantissa) ^ toggled
}

// DecodeALaw decodes one.
func DecodeALaw(b byte) int16 {
	b ^= toggled
	exponent := int(b>>4) & 7
	v := int(b&0x0f)<<4 + 8
	if exponent > 0 {
		v = (v + 0x100) << (exponent - 1)
	}
	if b&0x80 == 0 {
		return int16(-v)
	}
	return int16(v)
}
