package media

import (
	"fmt"
	"slices"
	"testing"
)

// span is the numbers from a first to a last, over the wrap perhaps.
func span(first, last uint16) (list []uint16) {
	for seq := first; ; seq++ {
		list = append(list, seq)
		if seq == last {
			return list
		}
	}
}

func join(lists ...[]uint16) []uint16 { return slices.Concat(lists...) }

// mixed takes turns between two sequences.
func mixed(a, b []uint16) (list []uint16) {
	for i := range a {
		list = append(list, a[i], b[i])
	}
	return list
}

// TestRolloverFromPhone: what a phone sends, by its sequence numbers, and what
// of it reaches the PBX. Its roll-over counter is pion's own reckoning on the
// sending side, so a packet that the receiver places elsewhere fails its tag.
func TestRolloverFromPhone(t *testing.T) {
	for _, c := range []struct {
		name, rfc  string
		sent, want []uint16
	}{
		{"over the wrap in order", "RFC 3711 section 3.3.1: the index is 2^16 * ROC + SEQ",
			span(65530, 5), span(65530, 5)},
		{"late from before the wrap", "RFC 3711 section 3.3.1: v is ROC-1 if SEQ is far above s_l",
			join(span(65530, 65533), span(65535, 3), span(65534, 65534)), join(span(65530, 65533), span(65535, 3), span(65534, 65534))},
		{"the wrap overtaken", "RFC 3711 section 3.3.1: v is ROC+1 if SEQ is far below s_l",
			[]uint16{65533, 65534, 1, 65535, 0, 2}, []uint16{65533, 65534, 1, 65535, 0, 2}},
		{"doubled at the wrap", "RFC 3711 section 3.3.2: a packet index is taken once",
			[]uint16{65534, 65535, 65535, 0, 0, 65535, 1}, []uint16{65534, 65535, 0, 1}},
		{"late within the window", "RFC 3711 section 3.3.2: at least 64 packets",
			join(span(100, 400), span(500, 1000), span(450, 460)), join(span(100, 400), span(500, 1000), span(450, 460))},
		{"silence suppressed over the wrap", "RFC 3711 section 3.3.1: any gap below 2^15 is guessed right",
			[]uint16{40000, 65535, 20000, 50000, 10000}, []uint16{40000, 65535, 20000, 50000, 10000}},
		{"first packet just before the wrap", "RFC 3711 section 3.3.1: s_l begins as the first SEQ, ROC as 0",
			[]uint16{65535, 0, 1}, []uint16{65535, 0, 1}},
	} {
		for _, suite := range []Suite{AESCM128HMACSHA180, AEADAES128GCM} {
			t.Run(fmt.Sprintf("%s/%s", c.name, suite), func(t *testing.T) {
				h := newHot(t, suite)
				sealed := h.inOrder(t, c.sent)
				var got []uint16
				for _, seq := range c.sent {
					before := h.st.counts.dir[Inward].RTP
					h.fromPhone(sealed[seq])
					if h.st.counts.dir[Inward].RTP != before {
						got = append(got, seq)
					}
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("relayed %v, want %v (%s)", got, c.want, c.rfc)
				}
			})
		}
	}
}

// inOrder encrypts packets in the order a phone makes them, whatever the order
// they arrive in.
func (h *hot) inOrder(t *testing.T, arriving []uint16) map[uint16][]byte {
	t.Helper()
	index := make(map[uint16]int64) // the sender's
	highest, order := int64(arriving[0]), []int64(nil)
	for _, seq := range arriving {
		i := highest + int64(int16(seq-uint16(highest)))
		highest = max(highest, i)
		if _, known := index[seq]; !known {
			index[seq] = i
			order = append(order, i)
		}
	}
	slices.Sort(order)
	sealed := make(map[uint16][]byte)
	for _, i := range order {
		out, err := h.l.phone.seal.EncryptRTP(nil, rtpPacket(h.l.phone.ssrc, uint16(i), "x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		sealed[uint16(i)] = out
	}
	return sealed
}

// TestRolloverToPhone: what the PBX sends under one SSRC, and the numbers that
// a phone decrypts it by.
func TestRolloverToPhone(t *testing.T) {
	for _, c := range []struct {
		name, rfc  string
		sent, want []uint16
	}{
		{"over the wrap in order", "RFC 3711 section 3.3.1", span(65530, 5), span(65530, 5)},
		{"late from before the wrap", "RFC 3711 section 3.3.1",
			[]uint16{65532, 65533, 65535, 0, 65534, 1}, []uint16{65532, 65533, 65535, 0, 65534, 1}},
		{"doubled", "RFC 3711 section 9.1: a nonce is used once",
			[]uint16{65535, 65535, 0, 65535, 0, 1}, []uint16{65535, 0, 1}},
		{"a loss", "RFC 3550 appendix A.1: below MAX_DROPOUT it is one",
			[]uint16{1, 2, 2900, 2901}, []uint16{1, 2, 2900, 2901}},
		{"the PBX begins again", "RFC 3550 appendix A.1: beyond MAX_DROPOUT it is a restart",
			[]uint16{40000, 40001, 7, 8, 9}, []uint16{40000, 40001, 40002, 40003, 40004}},
		{"begins again just behind", "RFC 3550 appendix A.1: and beyond MAX_MISORDER",
			[]uint16{500, 501, 350, 351, 349}, []uint16{500, 501, 502, 503}},
		{"begins again beyond half the circle", "RFC 3711 section 3.3.1: a receiver would guess the ROC wrong",
			[]uint16{10, 11, 40000, 40001, 8000, 8001}, []uint16{10, 11, 12, 13, 14, 15}},
		{"two sequences mixed", "RFC 3711 section 3.3.1: seen of chan_sip at a hold",
			join(span(65060, 65062), mixed(span(8509, 8512), span(65063, 65066)), span(65067, 65069)), span(65060, 65073)},
		{"older than the first", "RFC 3711 section 3.3.1: there is no index below 0", []uint16{3, 4, 65534, 5}, []uint16{3, 4, 5}},
	} {
		for _, suite := range []Suite{AESCM128HMACSHA180, AEADAES128GCM} {
			t.Run(fmt.Sprintf("%s/%s", c.name, suite), func(t *testing.T) {
				h := newHot(t, suite)
				var got []uint16
				for _, seq := range c.sent {
					before := h.st.counts.dir[Outward].RTP
					h.fromPBX(rtpPacket(7, seq, fmt.Sprint(seq)))
					if h.st.counts.dir[Outward].RTP == before {
						continue
					}
					p := h.atPhone(t, kindRTP)
					if string(p[12:]) != fmt.Sprint(seq) {
						t.Fatalf("the phone got %q for %d", p[12:], seq)
					}
					got = append(got, sequence(p))
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("the phone decrypts %v, want %v (%s)", got, c.want, c.rfc)
				}
			})
		}
	}
}

// atPhone is the next packet, as the phone decrypts it.
func (h *hot) atPhone(t *testing.T, kind uint8) []byte {
	t.Helper()
	b, _ := read(h.l.phone.conn, longest)
	decrypt := func() ([]byte, error) { return h.l.phone.open.DecryptRTP(nil, b, nil) }
	if kind == kindRTCP {
		decrypt = func() ([]byte, error) { return h.l.phone.open.DecryptRTCP(nil, b, nil) }
	}
	out, err := decrypt()
	if err != nil {
		t.Fatalf("the phone got %d bytes: %v", len(b), err)
	}
	return out
}
