package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"sync"

	"github.com/sallyport/sallyport/e2e/peers"
)

// system is what is measured. threads 0 leaves their number to the relay.
type system struct {
	name  string
	start func(b *bench, threads int) relay
}

// relay is a running one.
type relay interface {
	Pid() int
	Resident() (int, error)
	connect(calls []*call) error // sets calls up
	end()
}

var systems = []system{{"sallyport", startSallyport}, {"rtpengine", startRTPEngine}}

// connections is how many TLS connections share the calls.
const connections = 8

// sallyport is the edge, with calls made by SIP from end to end.
type sallyport struct {
	*peers.Edge
	b      *bench
	phones []*peers.Phone
}

func startSallyport(b *bench, threads int) relay {
	return &sallyport{Edge: peers.StartEdge(b.lab, peers.EdgeConfig{Extra: fmt.Sprintf("[media]\nworkers = %d\n[log]\nlevel = \"info\"\n", threads)}), b: b}
}

func (s *sallyport) connect(calls []*call) error {
	s.b.ring(calls)
	for i := range connections {
		s.phones = append(s.phones, peers.NewPhone(s.b.phones, s.Edge, strconv.Itoa(i)))
	}
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i, phone := range s.phones {
		wg.Go(func() { // ends with its last call; waited for below
			errs[i] = errors.New("make calls: the phone gave up")
			for n := i; n < len(calls); n += connections {
				if _, m := phone.Invite(number(n), calls[n].offer()); m.Status() != 200 {
					errs[i] = fmt.Errorf("make call %d: it was answered %s", n, m.Start)
					return
				} else if err := calls[n].takeAnswer(m.Body); err != nil {
					errs[i] = err
					return
				}
			}
			errs[i] = nil
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// end does not drain: the calls are not hung up.
func (s *sallyport) end() {
	for _, p := range s.phones {
		p.Close()
	}
	s.Kill()
}

// firstNumber is what the phone of call 0 dials, so that the PBX knows the call.
const firstNumber = 100000

func number(n int) string { return strconv.Itoa(firstNumber + n) }

// ring tells the PBX of the calls to come.
func (b *bench) ring(calls []*call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ringing = calls
}

// answer is the PBX's part of a call.
func (b *bench) answer(dialled, offer string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.dialled(dialled)
	if err != nil {
		return "", err
	}
	return c.answer(), c.takeOffer(offer)
}

// dialled is the call that a number is of. It is called with mu held.
func (b *bench) dialled(number string) (*call, error) {
	n, err := strconv.Atoi(number)
	if n -= firstNumber; err != nil || n < 0 || n >= len(b.ringing) {
		return nil, fmt.Errorf("answer: nobody has the number %q", number)
	}
	return b.ringing[n], nil
}

// rtpengine is rtpengine with the calls that its control protocol made.
type rtpengine struct{ *peers.RTPEngine }

func startRTPEngine(b *bench, threads int) relay {
	var extra []string
	if threads > 0 {
		extra = []string{fmt.Sprintf("--num-threads=%d", threads)}
	}
	return &rtpengine{peers.StartRTPEngine(b.lab.Edge, []string{"out/" + peers.EdgeOutside, "in/" + peers.EdgeInside}, extra...)}
}

func (r *rtpengine) connect(calls []*call) error {
	for _, c := range calls {
		id := fmt.Sprintf("bench-%d", c.number)
		options := peers.NG{
			"direction": []string{"out", "in"}, "transport-protocol": "RTP/AVP", "ICE": "remove",
			"rtcp-mux": []string{"demux"}, "replace": []string{"origin"},
		}
		if err := c.takeOffer(r.Offer(id, "phone", c.offer(), options)); err != nil {
			return err
		}
		if err := c.takeAnswer(r.Answer(id, "phone", "pbx", c.answer(), peers.NG{"replace": []string{"origin"}})); err != nil {
			return err
		}
	}
	return nil
}

func (r *rtpengine) end() { r.Kill() }

// forward lets the edge's kernel pass packets on, and the calls go straight
// from end to end: the baseline, in which nobody relays.
func (b *bench) forward(calls []*call, on bool) {
	value := "0"
	if on {
		value = "1"
	}
	b.lab.Edge.Run(b.t, "sysctl", "-qw", "net.ipv4.ip_forward="+value)
	for _, c := range calls {
		c.entry = [ways]netip.AddrPort{inward: c.pbx, outward: c.phone}
	}
}
