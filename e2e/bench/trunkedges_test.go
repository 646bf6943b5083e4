package bench

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	"github.com/sallyport/sallyport/e2e/peers"
)

// link is the signalling of some calls between two edges, in the place of a
// trunk's: a third party calls both, and tells each the other's description (RFC
// 3725). Media is between the edges alone. To each edge the party speaks from the
// other's address, as until a tag has verified media goes only there.
type link struct{ foo, bar *peers.Phone }

// edges has two edges relay, and sets the calls up.
func (x *trunk) edges(calls []*call) ([]int, func(), error) {
	var started [ways]*peers.Edge
	for i, s := range x.both() {
		started[i] = s.StartEdge(peers.EdgeConfig{Extra: "[log]\nlevel = \"info\"\n"})
	}
	x.ring(calls)
	errs := make([]error, connections)
	var wg sync.WaitGroup
	links := make([]link, connections)
	for i := range links {
		l := link{peers.NewPhone(x.sites.Bar.Edge, started[0], strconv.Itoa(i)), peers.NewPhone(x.sites.Foo.Edge, started[1], strconv.Itoa(i))}
		links[i] = l
		wg.Go(func() { // ends with its last call; waited for below
			errs[i] = errors.New("make calls: the third party gave up")
			for n := i; n < len(calls); n += connections {
				if err := l.connect(calls[n]); err != nil {
					errs[i] = fmt.Errorf("make call %d: %w", n, err)
					return
				}
			}
			errs[i] = nil
		})
	}
	wg.Wait()
	end := func() { // does not drain: the calls are not hung up
		for _, l := range links {
			l.foo.Close()
			l.bar.Close()
		}
		for _, e := range started {
			e.Kill()
		}
	}
	return []int{started[0].Pid(), started[1].Pid()}, end, errors.Join(errs...)
}

// secured is one edge's description: where it takes media, and the key it sends by.
type secured struct {
	at  netip.AddrPort
	key string
}

// describe is that as the other edge is told it, with the SSRC that will come.
func (d secured) describe(ssrc uint32) string {
	return describe(d.at, "RTP/SAVP", fmt.Sprintf("a=crypto:1 %s inline:%s\r\na=ssrc:%d cname:trunk@bench\r\n", trunkSuite.name, d.key, ssrc))
}

// trunkSuite is what two edges agree on.
var trunkSuite = suites[1]

func readSecured(m *peers.Message) (d secured, err error) {
	if m.Status() != 200 {
		return d, fmt.Errorf("it was answered %s", m.Start)
	}
	crypto := sdpCrypto.FindStringSubmatch(m.Body)
	if crypto == nil || crypto[1] != trunkSuite.name {
		return d, fmt.Errorf("read the answer: no %s in %q", trunkSuite.name, m.Body)
	}
	d.key = crypto[2]
	d.at, err = audioAddr(m.Body)
	return d, err
}

// connect calls one edge as nobody yet, the other as the first, and then tells the first
// of the other.
func (l link) connect(c *call) error {
	nobodyYet := secured{netip.AddrPortFrom(l.foo.Host.Addr, 9), base64.RawStdEncoding.EncodeToString(make([]byte, trunkSuite.key+trunkSuite.salt))}
	d, m := l.foo.Invite(number(c.number), nobodyYet.describe(c.ssrc[outward]))
	foo, err := readSecured(m)
	if err != nil {
		return err
	}
	_, m = l.bar.Invite(number(c.number), foo.describe(c.ssrc[inward]))
	bar, err := readSecured(m)
	if err != nil {
		return err
	}
	again, err := readSecured(d.Reinvite(bar.describe(c.ssrc[outward])))
	if err == nil && again != foo {
		err = fmt.Errorf("the edge's description changed from %v to %v", foo, again)
	}
	return err
}

// answerAt is a PBX's part of a call: it learns where its edge takes the call's packets.
func (x *trunk) answerAt(s *peers.Site, dialled, offer string) (string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	c, err := x.dialled(dialled)
	if err != nil {
		return "", err
	}
	way, at := inward, c.phone
	if s == x.sites.Bar {
		way, at = outward, c.pbx
	}
	if c.entry[way], err = audioAddr(offer); err != nil {
		return "", err
	}
	return describe(at, "RTP/AVP", ""), nil
}
