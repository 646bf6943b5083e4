package prove

import (
	"testing"
	"time"
)

// Whatever an interface carries: nothing panics, each packet is counted once, and
// held within bounds. The bytes are frames, each behind its length.
func FuzzAccount(f *testing.F) {
	k := knows(hmacSuite, nil)
	c := sealer(f, hmacSuite, phoneKey(hmacSuite), nil)
	seed := func(frames ...[]byte) {
		var b []byte
		for _, p := range frames {
			b = append(append(b, byte(len(p)>>8), byte(len(p))), p...)
		}
		f.Add(b)
	}
	good, err := c.EncryptRTP(nil, rtpPacket(5, 1, "sound"), nil)
	if err != nil {
		f.Fatal(err)
	}
	seed(datagramFrame(phonePort, mediaPort, good), datagramFrame(phonePort, mediaPort, []byte(invite)))
	seed(datagramFrame(phonePort, at(farIP, 7000), []byte(invite)), datagramFrame(at(farIP, 1), at(edgeIP, 5060), []byte(invite)))
	seed(part3(invite, 0, false), part3(invite, 0, true), ether(etherIPv4, nil, etherVLAN, etherQinQ))
	for _, to := range []uint16{5061, 10000, 80} {
		seed(ether(etherIPv4, ip4(protoTCP, phoneIP, edgeIP, nil, 1, 0, tcpOf(phonePort, at(edgeIP, to), 1, 0, tcpSYN, nil))),
			ether(etherIPv4, ip4(protoTCP, phoneIP, edgeIP, nil, 1, 0, tcpOf(phonePort, at(edgeIP, to), 2, 0, tcpACK, hello))),
			ether(etherIPv4, ip4(protoTCP, phoneIP, edgeIP, nil, 1, 0, tcpOf(phonePort, at(edgeIP, to), 900, 0, tcpACK, request))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newLedger(t, &k)
		for i := 0; len(b) >= 2; i++ {
			n := min(int(b[0])<<8|int(b[1]), len(b)-2)
			frame := frameAt(time.Duration(i)*100*time.Millisecond, b[2:2+n])
			frame.Each = 100 * (i % 3)
			l.Take(frame)
			checkSum(t, l.Account)
			if b = b[2+n:]; i%10 == 9 {
				l.learn(k, time.Duration(i)*100*time.Millisecond)
				checkSum(t, l.Account)
			}
		}
		l.Finish()
		checkSum(t, l.Account)
		if len(l.held) > 0 || l.heldBytes != 0 {
			t.Errorf("%d packets and %d bytes are held for ever", len(l.held), l.heldBytes)
		}
		r := l.Report(0)
		leaked := r.sum(Leaked) > 0
		if leaked != (len(r.Leaks) > 0) || leaked != (r.Verdict == Leaks) || r.sum(Missed) > 0 && r.Verdict == Clean {
			t.Errorf("%+v", r)
		}
	})
}
