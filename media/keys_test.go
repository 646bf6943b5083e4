package media

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// find finds a key among those that were told.
func find(k Keys, inward bool, key Key) *LiveKey {
	i := slices.IndexFunc(k.SRTP, func(l LiveKey) bool { return l.Inward == inward && bytes.Equal(l.KeySalt, key.KeySalt) })
	if i < 0 {
		return nil
	}
	return &k.SRTP[i]
}

func TestKeysOfLiveSessions(t *testing.T) {
	e := runEngine(t, testConfig())
	l := call(t, e, AEADAES128GCM, nil)
	l.phone.seq = 65534
	for i := range 4 { // over the end of the sequence numbers
		said := fmt.Sprint("hello ", i)
		l.phone.send(l.secure, said)
		wants(t, l.pbx, said)
	}
	write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 40, "hello phone"))
	l.phone.hears("hello phone")
	k := e.Keys()
	rx, tx := find(k, true, l.rx), find(k, false, l.tx)
	if rx == nil || tx == nil || len(k.SRTP) != 2 {
		t.Fatalf("told %d keys: %+v", len(k.SRTP), k)
	}
	if want := (LiveSource{l.phone.ssrc, 1<<16 + 2}); !slices.Contains(rx.Sources, want) {
		t.Errorf("the phone's sources are %+v, want %+v", rx.Sources, want)
	}
	if want := (LiveSource{7, 40}); !slices.Contains(tx.Sources, want) {
		t.Errorf("our sources are %+v, want %+v", tx.Sources, want)
	}
	if rx.Suite != "AEAD_AES_128_GCM" || !slices.Contains(rx.Ports, l.secure.Port()) || !slices.Contains(k.UDP, l.secure) {
		t.Errorf("the key is of %s at %v, of %v", rx.Suite, rx.Ports, k.UDP)
	}
	if !slices.Contains(k.Hosts, loopback) {
		t.Errorf("phones are at %v", k.Hosts)
	}

	// The key before is told as well.
	oldRx, oldTx := l.rx, l.tx
	for range maxRetired {
		l.rx, l.tx = newKey(t, AEADAES128GCM), newKey(t, AEADAES128GCM)
		l.protect(t)
		k = e.Keys()
		if find(k, true, oldRx) == nil || find(k, true, l.rx) == nil || find(k, false, oldTx) == nil || find(k, false, l.tx) == nil {
			t.Error("a key of before is missing, or the one of now")
		}
	}
	l.tx = newKey(t, AEADAES128GCM)
	l.protect(t)
	if find(e.Keys(), false, oldTx) != nil {
		t.Error("our keys are remembered without bounds")
	}
}

// The keys of a session that ended are told to who asked before, and to nobody
// else; and not for ever.
func TestKeysOfEndedSessions(t *testing.T) {
	e := runEngine(t, testConfig())
	l := call(t, e, AESCM128HMACSHA180, nil)
	l.s.Close()
	if k := e.Keys(); len(k.SRTP) != 0 {
		t.Fatal("keys are remembered that nobody has asked for")
	}
	l = call(t, e, AESCM128HMACSHA180, nil)
	browser, err := e.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := browser.AddTransport(loopback, allSuite)
	if err != nil {
		t.Fatal(err)
	}
	creds := tr.Credentials()
	l.s.Close()
	browser.Close()
	k := e.Keys()
	if find(k, true, l.rx) == nil || find(k, false, l.tx) == nil {
		t.Error("the keys of a session that ended are not told")
	}
	if !slices.Contains(k.ICE, LivePassword{creds.Ufrag, creds.Pwd}) {
		t.Error("nor is its ICE password")
	}
	w := e.workers[0]
	w.do(func() { w.prover.forget(w.elapsed() + int64(provenFor)) })
	if k := e.Keys(); len(k.SRTP)+len(k.ICE) != 0 || w.prover.ended != nil {
		t.Error("keys are remembered for ever")
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	k := Keys{SRTP: []LiveKey{{Suite: "X", KeySalt: []byte("secret")}}, ICE: []LivePassword{{"ufrag", "secret"}}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		said := fmt.Sprintf(verb+verb+verb, k, k.SRTP[0], k.ICE[0])
		for _, secret := range []string{"secret", "115 101 99", "736563", "0x73"} {
			if strings.Contains(said, secret) {
				t.Errorf("%s: %s", verb, said)
			}
		}
	}
}
