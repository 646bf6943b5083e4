package prove

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v3"

	"github.com/sallyport/sallyport/media"
)

const gcmSuite, hmacSuite = "AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_80"

var (
	mediaPort = at(edgeIP, 10000)
	rtcpPort  = at(edgeIP, 10001)
	tlsPort   = at(edgeIP, 5061)
	tcpMedia  = at(edgeIP, 10000)
	phonePort = at(phoneIP, 4000)
)

// knows is what an edge tells that has a call of a suite, and others at the same
// ports; more changes it.
func knows(suite string, more func(*Knowledge)) Knowledge {
	k := Knowledge{Listeners: []netip.AddrPort{tlsPort}}
	k.Keys.UDP, k.Keys.TCP = []netip.AddrPort{mediaPort, rtcpPort}, []netip.AddrPort{tcpMedia}
	k.Keys.Hosts = []netip.Addr{phoneIP}
	for i := range byte(20) {
		k.Keys.SRTP = append(k.Keys.SRTP,
			media.LiveKey{Ports: []uint16{10000, 10001}, Inward: true, Suite: suite, KeySalt: keyOf(suite, i)},
			media.LiveKey{Ports: []uint16{10000, 10001}, Suite: suite, KeySalt: keyOf(suite, 100+i)})
	}
	if more != nil {
		more(&k)
	}
	return k
}

const callNumber = 11 // of knows' calls, the test's

func phoneKey(suite string) []byte { return keyOf(suite, callNumber) }
func edgeKey(suite string) []byte  { return keyOf(suite, 100+callNumber) }

// ledger is an account under test.
type ledger struct {
	*Account
	t testing.TB
}

func newLedger(t testing.TB, k *Knowledge) *ledger {
	l := &ledger{NewAccount([]netip.Addr{edgeIP}, false), t}
	if k != nil {
		l.learn(*k, 0)
	}
	return l
}

func (l *ledger) learn(k Knowledge, after time.Duration) {
	l.t.Helper()
	if err := l.Learn(k, began.Add(after)); err != nil {
		l.t.Fatal(err)
	}
}

// end checks that each packet is counted once, and as what the test says.
func (l *ledger) end(verdict Verdict, want map[Kind]uint64) Report {
	l.t.Helper()
	l.Finish()
	r := l.Report(0)
	got := make(map[Kind]uint64)
	for k := range l.counts {
		for _, n := range l.counts[k] {
			if n.packets > 0 {
				got[Kind(k)] += n.packets
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || r.Verdict != verdict {
		l.t.Errorf("%s %v, counted %v; want %s, %v", r.Verdict, r.Reasons, got, verdict, want)
	}
	checkSum(l.t, l.Account)
	return r
}

// checkSum checks that each packet is in exactly one place.
func checkSum(t testing.TB, a *Account) {
	t.Helper()
	var sum frames
	for k := range a.counts {
		for _, n := range a.counts[k] {
			sum.add(n)
		}
	}
	if sum != a.total {
		t.Fatalf("the kinds have %+v of %+v", sum, a.total)
	}
}

func (l *ledger) udp(from, to netip.AddrPort, payload []byte) {
	l.Take(frameAt(0, datagramFrame(from, to, payload)))
}

func sealed(t testing.TB, c *srtp.Context, ssrc uint32, seq uint16) []byte {
	t.Helper()
	return must[[]byte](t)(c.EncryptRTP(nil, rtpPacket(ssrc, seq, strings.Repeat("sound", 32)), nil))
}

// Calls of every suite, both ways, verify under their keys of many; each bit of
// their packets counts, and so does the direction.
func TestCallVerifies(t *testing.T) {
	for suite := range suites {
		t.Run(suite, func(t *testing.T) {
			k := knows(suite, nil)
			l := newLedger(t, &k)
			phone, edge := sealer(t, suite, phoneKey(suite), nil), sealer(t, suite, edgeKey(suite), nil)
			for i := range uint16(10) {
				l.udp(phonePort, mediaPort, sealed(t, phone, 5, 65530+i)) // over the end
				l.udp(mediaPort, phonePort, sealed(t, edge, 5, 65530+i))
			}
			l.udp(phonePort, rtcpPort, must[[]byte](t)(phone.EncryptRTCP(nil, report(5), nil)))
			l.udp(mediaPort, phonePort, must[[]byte](t)(edge.EncryptRTCP(nil, report(6), nil)))
			reflected := sealed(t, phone, 5, 20)
			l.udp(mediaPort, phonePort, reflected)
			spoilt := sealed(t, edge, 5, 21)
			spoilt[30] ^= 4
			l.udp(mediaPort, phonePort, spoilt)
			r := l.end(Leaks, map[Kind]uint64{SRTP: 20, SRTCP: 2, LeakRTP: 2})
			if len(r.Leaks) != 1 || r.Leaks[0].First != "RTP v2 PT 0 ssrc 0x00000005" || r.Leaks[0].Packets != 2 {
				t.Errorf("listed are %+v", r.Leaks)
			}
		})
	}
}

// A call that has gone on for long has a roll-over counter that the edge tells.
func TestRollOverIsTold(t *testing.T) {
	c := sealer(t, hmacSuite, phoneKey(hmacSuite), nil)
	c.SetROC(5, 700)
	packets := [][]byte{sealed(t, c, 5, 65534), sealed(t, c, 5, 65535), sealed(t, c, 5, 0), sealed(t, c, 5, 1)}
	for name, told := range map[string]uint64{"exactly": 700<<16 | 65533, "a little late": 701<<16 | 3, "not at all": 0} {
		t.Run(name, func(t *testing.T) {
			k := knows(hmacSuite, func(k *Knowledge) {
				if told > 0 {
					k.Keys.SRTP[2*callNumber].Sources = []media.LiveSource{{SSRC: 5, Index: told}}
				}
			})
			l := newLedger(t, &k)
			for _, p := range packets {
				l.udp(phonePort, mediaPort, p)
			}
			if told == 0 {
				l.end(Leaks, map[Kind]uint64{LeakRTP: 4})
				return
			}
			l.end(Clean, map[Kind]uint64{SRTP: 4})
		})
	}
	// A key that is changed in a call may begin again at zero, under one that had not.
	k := knows(hmacSuite, func(k *Knowledge) {
		k.Keys.SRTP[2*callNumber].Sources = []media.LiveSource{{SSRC: 5, Index: 700<<16 | 65533}}
	})
	l := newLedger(t, &k)
	fresh := sealer(t, hmacSuite, phoneKey(hmacSuite), nil)
	for i := range uint16(4) {
		l.udp(phonePort, mediaPort, sealed(t, fresh, 5, 65534+i))
	}
	l.end(Clean, map[Kind]uint64{SRTP: 4})
}

// What comes before its key is known is held, and is a leak when the edge was asked
// late enough and did not tell one.
func TestKeyComesLater(t *testing.T) {
	for name, comes := range map[string]bool{"and comes": true, "never": false} {
		t.Run(name, func(t *testing.T) {
			none := knows(hmacSuite, func(k *Knowledge) { k.Keys.SRTP, k.Keys.Hosts = nil, nil })
			l := newLedger(t, &none)
			c := sealer(t, hmacSuite, phoneKey(hmacSuite), nil)
			for i := range uint16(3) {
				l.udp(phonePort, mediaPort, sealed(t, c, 5, i))
			}
			l.learn(none, time.Second)
			if l.counts[Unproven][In].packets != 3 {
				t.Errorf("%+v", l.counts)
			}
			if comes {
				l.learn(knows(hmacSuite, nil), 1500*time.Millisecond)
				if len(l.held) != 0 || l.heldBytes != 0 {
					t.Errorf("still held are %d", len(l.held))
				}
				l.learn(none, 4*time.Second) // the call is over, and its last packets come
				l.Take(frameAt(5*time.Second, datagramFrame(phonePort, mediaPort, sealed(t, c, 5, 4))))
				l.end(Clean, map[Kind]uint64{SRTP: 4})
				return
			}
			l.learn(knows(hmacSuite, func(k *Knowledge) { k.Keys.SRTP = k.Keys.SRTP[:4] }), patience+time.Second)
			if l.counts[LeakRTP][In].packets != 3 {
				t.Errorf("%+v", l.counts)
			}
			l.end(Leaks, map[Kind]uint64{LeakRTP: 3})
		})
	}
}

// After an upgrade calls go on whose keys the edge that is asked does not have. What may be
// of them is no leak, and proves nothing.
func TestFormerProcess(t *testing.T) {
	call := sealer(t, hmacSuite, phoneKey(hmacSuite), nil) // of whom knows tells
	theirs := sealer(t, hmacSuite, keyOf(hmacSuite, 200), nil)
	none := func(former bool) Knowledge {
		return knows(hmacSuite, func(k *Knowledge) { k.Keys.SRTP, k.Former = nil, former })
	}
	heirs := func(former bool) Knowledge { return knows(hmacSuite, func(k *Knowledge) { k.Former = former }) }
	check := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("whose:theirs"), stun.NewShortTermIntegrity("a password of 22 chars"))
	for name, c := range map[string]struct {
		run     func(*ledger)
		verdict Verdict
		want    map[Kind]uint64
	}{
		"all there is of a call": {func(l *ledger) {
			l.learn(heirs(true), 0)
			for i := range uint16(3) {
				l.udp(phonePort, mediaPort, sealed(t, theirs, 7, i))
				l.udp(at(farIP, 4000), mediaPort, sealed(t, theirs, 8, i)) // a phone that the edge does not know of
				l.udp(mediaPort, phonePort, sealed(t, theirs, 9, i))
			}
			l.udp(mediaPort, phonePort, must[[]byte](t)(theirs.EncryptRTCP(nil, report(9), nil)))
			l.udp(phonePort, mediaPort, check.Raw)
			l.udp(phonePort, mediaPort, sealed(t, call, 5, 1))
			l.learn(heirs(true), patience+time.Second)
		}, Incomplete, map[Kind]uint64{Unproven: 11, SRTP: 1}},
		"calls have ended": {func(l *ledger) {
			l.learn(heirs(true), 0)
			l.learn(heirs(false), time.Second)
			l.udp(phonePort, mediaPort, sealed(t, theirs, 7, 1)) // of before that, and read late
			l.Take(frameAt(2*patience, datagramFrame(phonePort, mediaPort, sealed(t, theirs, 7, 2))))
			l.learn(heirs(false), 4*patience)
		}, Leaks, map[Kind]uint64{Unproven: 1, LeakRTP: 1}},
		"nobody speaks": {func(l *ledger) {
			l.learn(heirs(true), 0)
			l.udp(phonePort, mediaPort, sealed(t, call, 5, 1))
		}, Clean, map[Kind]uint64{SRTP: 1}},
		"what is a leak all the same": {func(l *ledger) {
			l.learn(heirs(true), 0)
			l.udp(phonePort, mediaPort, []byte(invite))
			l.udp(mediaPort, phonePort, []byte("from the edge"))
			l.udp(phonePort, mediaPort, sealed(t, call, 5, 1))
			l.udp(phonePort, mediaPort, rtpPacket(5, 2, "a call of now, in clear"))
			l.learn(heirs(true), patience+time.Second)
		}, Leaks, map[Kind]uint64{LeakSIP: 1, LeakOther: 1, SRTP: 1, LeakRTP: 1}},
		"the watch began before": {func(l *ledger) {
			l.learn(heirs(false), 0)
			l.udp(phonePort, mediaPort, sealed(t, theirs, 7, 1)) // a call that began just before the upgrade
			l.learn(none(true), time.Second)
			for _, after := range []time.Duration{keyLife, 3 * keyLife} { // and one whose key was told
				l.learn(none(true), after)
				l.Take(frameAt(after, datagramFrame(phonePort, mediaPort, sealed(t, call, 5, uint16(after/time.Second)))))
			}
			l.learn(none(false), 3*keyLife+time.Second)
			l.Take(frameAt(3*keyLife+time.Second, datagramFrame(phonePort, mediaPort, sealed(t, call, 5, 1000))))
			if l.learn(none(false), 5*keyLife); len(l.ring.keys) != 0 {
				t.Errorf("%d keys are kept", len(l.ring.keys))
			}
		}, Incomplete, map[Kind]uint64{Unproven: 1, SRTP: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, nil)
			c.run(l)
			if r := l.end(c.verdict, c.want); c.verdict == Incomplete && (len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], "upgrade")) {
				t.Errorf("the reasons are %q", r.Reasons)
			}
		})
	}
}

// An authenticated report that says of itself that it is not encrypted is in clear.
func TestUnencryptedSRTCP(t *testing.T) {
	k := knows(hmacSuite, nil)
	l := newLedger(t, &k)
	v := must[*verifier](t)(newVerifier(hmacSuite, phoneKey(hmacSuite), nil))
	clearly := append(report(5), 0, 0, 0, 1) // E is 0
	v.mac[1].Reset()
	_, _ = v.mac[1].Write(clearly)
	l.udp(phonePort, rtcpPort, append(clearly, v.mac[1].Sum(nil)[:rtcpTag]...))
	l.end(Leaks, map[Kind]uint64{LeakRTCP: 1})
}

// The same bytes from a stranger, and in answer to nobody.
func TestStrangers(t *testing.T) {
	k := knows(hmacSuite, nil)
	for name, c := range map[string]struct {
		from netip.Addr
		kind Kind
	}{"a stranger": {farIP, StrangeMedia}, "a call's phone": {phoneIP, LeakRTP}} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, &k)
			l.udp(at(c.from, 4000), mediaPort, rtpPacket(9, 1, "in clear"))
			verdict := map[Kind]Verdict{StrangeMedia: Clean, LeakRTP: Leaks}[c.kind]
			l.end(verdict, map[Kind]uint64{c.kind: 1})
		})
	}
	l := newLedger(t, &k)
	l.strict = true
	l.udp(at(farIP, 4000), mediaPort, rtpPacket(9, 1, "in clear"))
	l.end(Leaks, map[Kind]uint64{LeakRTP: 1})

	t.Run("SIP unanswered, then answered", func(t *testing.T) {
		for _, answered := range []bool{false, true} {
			l := newLedger(t, &k)
			l.udp(at(farIP, 5060), at(edgeIP, 5060), []byte(invite))
			l.udp(at(farIP, 5060), at(edgeIP, 5060), []byte(invite))
			l.udp(at(farIP, 5061), at(edgeIP, 5060), []byte(invite)) // another
			if !answered {
				l.end(Clean, map[Kind]uint64{StrangeSIP: 3})
				continue
			}
			l.udp(at(edgeIP, 5060), at(farIP, 5060), []byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x\r\n\r\n"))
			r := l.end(Leaks, map[Kind]uint64{StrangeSIP: 1, LeakSIP: 3})
			if len(r.Leaks) != 2 || r.Leaks[0].First != "SIP response 200" && r.Leaks[0].First != "SIP INVITE" {
				t.Errorf("listed are %+v", r.Leaks)
			}
		}
	})
	t.Run("junk", func(t *testing.T) {
		l := newLedger(t, &k)
		for _, p := range [][]byte{nil, {0}, []byte("\r\n\r\n"), {22, 0xfe, 0xfd, 0}, make([]byte, 20)} {
			l.udp(phonePort, mediaPort, p)
		}
		l.end(Clean, map[Kind]uint64{StrangeOther: 5})
		l = newLedger(t, &k)
		l.udp(mediaPort, phonePort, []byte("from the edge"))
		l.end(Leaks, map[Kind]uint64{LeakOther: 1})
	})
}

// STUN counts when its integrity verifies: a check, and the answer to it.
func TestSTUN(t *testing.T) {
	k := knows(hmacSuite, func(k *Knowledge) {
		k.Keys.ICE = []media.LivePassword{{Ufrag: "ours", Password: "a password of 22 chars"}}
	})
	l := newLedger(t, &k)
	integrity := stun.NewShortTermIntegrity("a password of 22 chars")
	check := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("ours:theirs"), integrity, stun.Fingerprint)
	l.udp(phonePort, mediaPort, check.Raw)
	l.udp(mediaPort, phonePort, stun.MustBuild(check, stun.BindingSuccess, integrity, stun.Fingerprint).Raw)
	l.udp(phonePort, mediaPort, stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw)
	l.udp(phonePort, mediaPort, stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("ours:theirs"), stun.NewShortTermIntegrity("another")).Raw)
	l.udp(phonePort, mediaPort, stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("whose:theirs"), integrity).Raw)
	l.udp(mediaPort, phonePort, stun.MustBuild(stun.TransactionID, stun.BindingSuccess).Raw)
	l.end(Leaks, map[Kind]uint64{STUN: 2, StrangeSTUN: 3, LeakOther: 1})
}

// RTP between others is known by how it goes on, and nothing else is taken for it.
func TestPlainRTP(t *testing.T) {
	k := knows(hmacSuite, nil)
	l := newLedger(t, &k)
	from, to := at(phoneIP, 4711), at(farIP, 4712)
	for _, seq := range []uint16{65534, 65535, 0, 2, 1, 2, 3} { // lost, late and twice
		l.udp(from, to, rtpPacket(9, seq, "in clear"))
	}
	l.udp(from, to, report(9))
	r := l.end(Leaks, map[Kind]uint64{LeakRTP: 7, LeakRTCP: 1})
	if len(r.Leaks) != 2 || r.Leaks[0].Packets != 7 || r.Leaks[0].Length != 20 || r.Leaks[0].Direction != "past" {
		t.Errorf("listed are %+v", r.Leaks)
	}

	l = newLedger(t, &k)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 { // like DNS, whose first two bytes are anything
		p := make([]byte, 12+random.IntN(100))
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		l.udp(from, to, p)
	}
	l.end(Clean, map[Kind]uint64{Other: 20_000})
}

// A SIP message does not hide in fragments, in whatever order; and what never comes
// whole is not taken for nothing.
func TestFragments(t *testing.T) {
	k := knows(hmacSuite, nil)
	message := strings.Replace(invite, "Call-ID", "Subject: "+strings.Repeat("x", 3000)+"\r\nCall-ID", 1)
	for name, order := range map[string][]int{"in order": {0, 1, 2}, "backwards": {2, 1, 0}, "twice": {1, 1, 2, 0}, "the last is lost": {0, 1}, "the first is lost": {1, 2}} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprint(name, v6), func(t *testing.T) {
				l := newLedger(t, &k)
				for _, i := range order {
					l.Take(frameAt(0, part3(message, i, v6)))
				}
				switch name {
				case "the first is lost":
					l.end(Incomplete, map[Kind]uint64{Unproven: 2})
				default:
					r := l.end(Leaks, map[Kind]uint64{LeakSIP: uint64(len(order))})
					if len(r.Leaks) != 1 || r.Leaks[0].First != "SIP INVITE" || r.Leaks[0].Source.Port() != 5060 {
						t.Errorf("listed are %+v", r.Leaks)
					}
				}
			})
		}
	}
}

// part3 is one of three fragments.
func part3(message string, i int, v6 bool) []byte {
	from, to := at(phoneIP, 5060), at(farIP, 7000)
	if v6 {
		from, to = at(edgeIP6, 5060), at(farIP6, 7000)
	}
	whole := udpOf(from, to, []byte(message))
	const each = 1200
	piece, place, more := whole[each*i:min(each*(i+1), len(whole))], uint16(each*i), uint16(0)
	if i < 2 {
		more = 1
	}
	if v6 {
		head := []byte{protoUDP, 0, 0, 0, 0, 0, 0, 7}
		binary.BigEndian.PutUint16(head[2:], place|more)
		return ether(etherIPv6, ip6(protoFragment, from.Addr(), to.Addr(), append(head, piece...)))
	}
	return ether(etherIPv4, ip4(protoUDP, from.Addr(), to.Addr(), nil, 7, place/8|more<<13, piece))
}

// A super-packet is as many as it becomes.
func TestSuperPacket(t *testing.T) {
	k := knows(gcmSuite, nil)
	l := newLedger(t, &k)
	c := sealer(t, gcmSuite, edgeKey(gcmSuite), nil)
	var together []byte
	for i := range uint16(5) {
		together = append(together, sealed(t, c, 5, i)...)
	}
	f := frameAt(0, datagramFrame(mediaPort, phonePort, together))
	f.Each = len(together) / 5
	l.Take(f)
	l.end(Clean, map[Kind]uint64{SRTP: 5})
}

func TestReport(t *testing.T) {
	k := knows(hmacSuite, nil)
	l := newLedger(t, &k)
	l.udp(phonePort, at(farIP, 7000), []byte(invite))
	r := l.end(Leaks, map[Kind]uint64{LeakSIP: 1})
	r.Interface, r.From, r.To = "eth0", began, began.Add(time.Minute)
	var out strings.Builder
	r.Print(&out)
	for _, want := range []string{"eth0, 1m0s, 1 packet\n", "SIP in clear", "203.0.113.11:4000 -> 198.51.100.9:7000", "LEAK: 1 packet of"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, &out)
		}
	}
	for _, secret := range []string{"100@", "Call-ID", "z9hG4bK"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("it tells %q:\n%s", secret, &out)
		}
	}
	l = newLedger(t, &k)
	l.Finish()
	if r := l.Report(3); r.Verdict != Incomplete || !slices.Equal(r.Reasons, []string{"the kernel dropped 3 packets before they were seen"}) {
		t.Errorf("%+v", r)
	}
	l = newLedger(t, &k)
	l.Take(Frame{At: began, Data: datagramFrame(phonePort, mediaPort, []byte("x")), Length: 2000})
	l.end(Incomplete, map[Kind]uint64{Unproven: 1})
}
