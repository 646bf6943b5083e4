package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

const dropsDTLS = `sallyport_media_drops_total{reason="dtls"}`

// The network loses the first datagrams of a handshake, both ways: it is done
// by those that are sent again.
func TestDtlsLostFlights(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	for setup, losses := range map[string][]int{"active": {1, 2, 3}, "passive": {1, 2}} { // the edge doubles its waits: a third takes 16 s
		for _, lost := range losses {
			t.Run(fmt.Sprintf("%s, %d lost", setup, lost), func(t *testing.T) {
				media := phone.NewDTLS()
				media.DTLS.Setup, media.DTLS.Lose = setup, lost
				o.dtlsOut(phone, media, 700)
				if from, to := media.Lost(); from != lost || to != lost {
					t.Errorf("%d datagrams of the phone and %d to it were lost: the case shows nothing", from, to)
				}
			})
		}
	}
}

// A phone whose certificate is not the one that its description names is an
// impostor: no media go either way, and both ends are told why.
func TestBadFingerprint(t *testing.T) {
	o := newWebOffice(t, "")
	phone := o.webPhone("1001")
	const cause = "DTLS: the phone's certificate is not the one that its description names"
	ended := 0.0
	for _, ice := range []bool{false, true} {
		for _, setup := range []string{"active", "passive"} {
			t.Run(fmt.Sprintf("%s, ICE %v", setup, ice), func(t *testing.T) {
				media := phone.NewDTLS()
				media.DTLS.Setup = setup
				media.DTLS.Named = phone.MediaCertificate(false)
				if ice {
					media.NewICE()
				}
				o.forget()
				relayed := o.relayed()
				_, m := phone.Invite("610", media.Offer())
				if m.Status() != 200 {
					t.Fatalf("the call was answered %s", m.Start)
				}
				media.Start(m.Body, 700)
				if media.Shaken(10*time.Second) == nil { // the phone may think that all is well
					media.Keyed(time.Second)
				}
				bye := phone.Expect("BYE", 10*time.Second)
				if reason := bye.Get("Reason"); !strings.Contains(reason, cause) {
					t.Errorf("the phone is told %q, want %q", reason, cause)
				}
				peers.Until(t, 5*time.Second, "the phone to speak", func() bool { return media.Sent() > 10 })
				phone.Answer(bye, 200, "OK", "")
				media.Stop()
				o.idle()
				ended++
				if n := o.edge.Metric(`sallyport_calls_ended_total{reason="` + cause + `"}`); n != ended {
					t.Errorf("%v calls are counted as ended so, want %v", n, ended)
				}
				if n := o.relayed() - relayed; n != 0 {
					t.Errorf("%v packets were relayed", n)
				}
				if n := media.Came(); n != 0 {
					t.Errorf("the phone got %d packets of media", n)
				}
				if samples, _, err := o.pbx.Recording("heard"); err == nil && len(samples) > 0 {
					t.Errorf("Asterisk recorded %d samples", len(samples))
				}

				honest := phone.NewDTLS() // the control
				honest.DTLS.Setup = setup
				if ice {
					honest.NewICE()
				}
				o.dtlsOut(phone, honest, 900)
			})
		}
	}
}

// A stranger begins handshakes with the phone's own address and port, while the
// phone rings. They are not in the way of the phone's.
func TestHelloInThePhonesName(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	attacker := peers.StartAttacker(o.Lab)
	hello := attacker.ClientHellos()
	media := phone.NewDTLS()
	media.Listen()
	o.pbx.Originate("1001", "610")
	inv := phone.Expect("INVITE", 5*time.Second)
	phone.Answer(inv, 180, "Ringing", "")
	for range 5 {
		attacker.Send(media.Addr(), netip.AddrPortFrom(netip.MustParseAddr(peers.EdgeOutside), 10000), hello())
	}
	peers.Until(t, 5*time.Second, "the stranger's handshakes", func() bool { return o.edge.Metric("sallyport_media_handshakes") > 0 })
	phone.Answer(inv, 200, "OK", media.Accept(inv.Body))
	phone.Expect("ACK", 5*time.Second)
	media.Start(inv.Body, 700)
	media.Keyed(20 * time.Second)
	o.bothHear(media, 700)
	o.hangup(phone.DialogOf(inv), media)
}

// garbage is what looks like DTLS and is none that a phone would send in a
// call: each with the name of what it tries.
func garbage(hello func() []byte) map[string][][]byte {
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		return b
	}
	g := map[string][][]byte{
		"alerts in clear": {
			peers.Record(peers.RecordAlert, 0, 7, []byte{1, 0}, 0),  // close_notify
			peers.Record(peers.RecordAlert, 0, 8, []byte{2, 0}, 0),  // the same, fatal
			peers.Record(peers.RecordAlert, 0, 9, []byte{2, 40}, 0), // handshake_failure
			peers.Record(peers.RecordAlert, 0, 10, []byte{2, 80}, 0),
		},
		"alerts that pretend to be encrypted": {
			peers.Record(peers.RecordAlert, 1, 1, random(26), 0),
			peers.Record(peers.RecordAlert, 1, 1<<31, random(2), 0),
			peers.Record(peers.RecordAlert, 0xffff, 1, random(26), 0),
		},
		"cut short":  {{20}, {22, 254}, {22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0}, hello()[:40], peers.Record(peers.RecordHandshake, 0, 1, nil, 0)},
		"over-long":  {peers.Record(peers.RecordHandshake, 0, 1, random(100), 60000), peers.Record(peers.RecordApplication, 1, 1, random(1400), 1)},
		"hellos":     {hello(), hello(), append(hello(), hello()...)},
		"no session": {peers.Record(peers.RecordApplication, 1, 2, random(200), 0), peers.Record(peers.RecordChangeCipherSpec, 0, 2, []byte{1}, 0)},
	}
	var noise [][]byte
	for first := 20; first < 64; first++ {
		noise = append(noise, append([]byte{byte(first)}, random(1+rand.IntN(300))...))
	}
	g["noise"] = noise
	return g
}

// In a call all that looks like DTLS goes nowhere: not from a stranger, nor
// from beside the phone, nor from the phone's own port.
func TestDtlsGarbage(t *testing.T) {
	for _, ice := range []bool{false, true} {
		t.Run(fmt.Sprintf("ICE %v", ice), func(t *testing.T) {
			o := newWebOffice(t, "")
			phone := o.webPhone("1001")
			media := phone.NewDTLS()
			if ice {
				media.NewICE()
			}
			attacker := peers.StartAttacker(o.Lab)
			hello := attacker.ClientHellos()
			d := o.dtlsCall(phone, "610", media, 700)
			media.Hears(1004, 10*time.Second)
			keyed := o.keyed()
			at := media.Addr()
			sources := map[string]netip.AddrPort{
				"a stranger": netip.AddrPortFrom(attacker.Addr, 40000),
				"port below": netip.AddrPortFrom(at.Addr(), at.Port()-1),
				"port above": netip.AddrPortFrom(at.Addr(), at.Port()+1),
				"the phone":  at,
			}
			for name, source := range sources {
				sent, dropped := 0, o.edge.Metric(dropsDTLS)
				for _, list := range garbage(hello) {
					for _, p := range list {
						for port := range uint16(2) { // RTP's and RTCP's
							attacker.Send(source, netip.AddrPortFrom(media.Remote().Addr(), media.Remote().Port()+port), p)
							sent++
						}
					}
				}
				peers.Until(t, 5*time.Second, fmt.Sprintf("the garbage of %s to be dropped", name), func() bool {
					return o.edge.Metric(dropsDTLS)-dropped >= float64(sent)
				})
				inward := o.inward()
				media.Forget()
				media.Hears(1004, 10*time.Second)
				if n := o.inward() - inward; n < 25 { // the control: what the phone itself says counts
					t.Errorf("only %v of the phone's packets were relayed after the garbage of %s", n, name)
				}
			}
			samples := media.Samples()
			if _, share := peers.Tone(samples, peers.Rate); share < 0.95 {
				t.Errorf("the PBX's tone is only %.0f %% of what the phone hears", 100*share)
			}
			o.pbxHeard(700)
			if n := o.keyed() - keyed; n != 0 {
				t.Errorf("%d handshakes were done in the call", n)
			}
			if n := o.edge.Metric("sallyport_media_handshakes"); n != 0 {
				t.Errorf("%v handshakes are under way in the call, want none", n)
			}
			o.hangUp(d, media)
			if n := attacker.Got(); n != 0 {
				t.Errorf("the edge sent the attacker %d packets", n)
			}
			if _, _, bad := media.Counts(); bad > 0 {
				t.Errorf("the phone got %d packets that it could not decrypt", bad)
			}
		})
	}
}

// helloFlood is a stranger that begins handshakes without end.
type helloFlood struct {
	o        *office
	attacker *peers.Attacker
	stop     func() int
	sent     atomic.Int64
	before   float64 // dropped
	peak     struct{ handshakes, goroutines, memory float64 }
}

// floodHellos sprays the media ports with ClientHellos from the hosts that from says.
func (o *office) floodHellos(from func(own netip.Addr, i int) netip.Addr) *helloFlood {
	o.t.Helper()
	f := &helloFlood{o: o, attacker: peers.StartAttacker(o.Lab), before: o.edge.Metric(dropsDTLS)}
	hello := f.attacker.ClientHellos()
	edge := netip.MustParseAddr(peers.EdgeOutside)
	f.stop = f.attacker.Spray(func(i int) (source, to netip.AddrPort, payload []byte) {
		if i%2 == 1 {
			time.Sleep(time.Millisecond) // some thousand a second
		}
		f.sent.Add(1)
		return netip.AddrPortFrom(from(f.attacker.Addr, i), uint16(20000+i%40000)), netip.AddrPortFrom(edge, uint16(10000+i%4)), hello()
	})
	return f
}

// goesOn waits for some hundred more of it, and reads what it costs the edge.
func (f *helloFlood) goesOn() {
	f.o.t.Helper()
	until := f.sent.Load() + 500
	peers.Until(f.o.t, 30*time.Second, "more of the flood", func() bool {
		f.peak.handshakes = max(f.peak.handshakes, f.o.edge.Metric("sallyport_media_handshakes"))
		f.peak.goroutines = max(f.peak.goroutines, f.o.edge.Metric("go_goroutines"))
		f.peak.memory = max(f.peak.memory, f.o.edge.Metric("process_resident_memory_bytes"))
		return f.sent.Load() >= until
	})
}

// A stranger begins handshakes from its own address, from made-up ones, and
// from beside each phone, before, in and after each phase of calls. Each call
// comes about and keeps its sound, and what the edge holds is bounded.
func TestClientHelloFlood(t *testing.T) {
	for name, host := range map[string]func(own, phone netip.Addr, i int) netip.Addr{
		"one stranger": func(own, _ netip.Addr, _ int) netip.Addr { return own },
		"made-up hosts": func(_, _ netip.Addr, i int) netip.Addr {
			return netip.AddrFrom4([4]byte{203, 0, 113, byte(100 + i%100)})
		},
		"beside the phone": func(_, phone netip.Addr, _ int) netip.Addr { return phone },
	} {
		t.Run(name, func(t *testing.T) {
			o := newWebOffice(t, "")
			phone := o.webPhone("1001")
			memory := o.edge.Metric("process_resident_memory_bytes")
			flood := o.floodHellos(func(own netip.Addr, i int) netip.Addr { return host(own, phone.Host.Addr, i) })
			for _, ice := range []bool{false, true} {
				for _, setup := range []string{"active", "passive"} {
					began := time.Now()
					o.underFlood(phone, setup, ice, flood)
					t.Logf("ICE %v, %s: %s", ice, setup, time.Since(began).Round(time.Millisecond))
				}
			}
			sent := flood.stop()
			dropped := o.edge.Metric(dropsDTLS) - flood.before
			t.Logf("%d ClientHellos, %v of them dropped at once; at most %v handshakes and %v goroutines at a time, and %.1f MB more",
				sent, dropped, flood.peak.handshakes, flood.peak.goroutines, (flood.peak.memory-memory)/1e6)
			if sent < 5000 || dropped < float64(sent)/2 || flood.peak.handshakes < 32 { // the control
				t.Error("that was no flood, or the edge did not get it")
			}
			if flood.peak.handshakes > 200 || flood.peak.goroutines > 1000 || flood.peak.memory-memory > 64e6 {
				t.Error("the edge holds too much of it")
			}
			if name == "beside the phone" { // strangers' are given up like a phone's
				peers.Until(t, 40*time.Second, "the strangers' handshakes to be given up", func() bool {
					return o.edge.Metric("sallyport_media_handshakes") == 0
				})
			}
		})
	}
}

// underFlood lets the phone be called, change its media, and call.
func (o *office) underFlood(phone *peers.Phone, setup string, ice bool, flood *helloFlood) {
	o.t.Helper()
	media := phone.NewDTLS()
	media.DTLS.Setup, media.DTLS.Delay = setup, 20*time.Millisecond
	if ice {
		media.NewICE()
	}
	o.forget()
	flood.goesOn()
	o.pbx.Originate(phone.User, "610")
	inv := phone.Expect("INVITE", 5*time.Second)
	phone.Answer(inv, 180, "Ringing", "")
	flood.goesOn()
	phone.Answer(inv, 200, "OK", media.Accept(inv.Body))
	phone.Expect("ACK", 5*time.Second)
	media.Start(inv.Body, 700)
	media.Keyed(20 * time.Second)
	o.bothHear(media, 700)
	flood.goesOn()
	d := phone.DialogOf(inv)
	o.change(d, media)
	media.Forget()
	o.bothHear(media, 700)
	flood.goesOn()
	o.hangup(d, media)

	again := phone.NewDTLS()
	again.DTLS.Setup, again.DTLS.Delay = setup, media.DTLS.Delay
	if ice {
		again.NewICE()
	}
	o.dtlsOut(phone, again, 900)
}
