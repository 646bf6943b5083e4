package prove

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// askEvery is how often the edge is asked for its keys. It remembers those of calls
	// that ended for ten times as long.
	askEvery = time.Second
	// look is how often packets are looked for at least.
	look = 50 * time.Millisecond
)

// Config says what is watched.
type Config struct {
	Interface string        // empty: the one with the edge's address
	For       time.Duration // 0: until the context ends
	Strict    bool          // what strangers send in clear is a leak, too

	// Ask asks the running edge.
	Ask func(context.Context) (Knowledge, error)
	// Began is called when nothing is missed any more.
	Began func(iface string)
}

// answer is what the edge told.
type answer struct {
	knowledge Knowledge
	asked     time.Time
	err       error
}

// Watch records an interface for a time, or until ctx ends, and accounts for what
// crossed it. An error means that nothing was watched.
func Watch(ctx context.Context, c Config) (Report, error) {
	began := time.Now()
	k, err := c.Ask(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrTold, err)
	}
	iface, local, err := find(c.Interface, k)
	if err != nil {
		return Report{}, err
	}
	a := NewAccount(local, c.Strict)
	if err := a.Learn(k, began); err != nil {
		return Report{}, err
	}
	// From the first question on the edge remembers the keys of calls that end: so
	// there is none that was seen and is forgotten.
	ring, err := openCapture(iface)
	if err != nil {
		return Report{}, err
	}
	defer ring.close()
	from := time.Now()
	if c.Began != nil {
		c.Began(iface.Name)
	}
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	to := record(ctx, c, a, ring, from)
	dropped, err := ring.drops()
	if err != nil {
		a.Incomplete(err.Error())
	}
	c.settle(a, to)
	r := a.Report(dropped)
	r.Interface, r.From, r.To = iface.Name, from, to
	return r, nil
}

// record takes all packets from a time on until ctx ends, and returns when that was.
func record(ctx context.Context, c Config, a *Account, ring *capture, from time.Time) (to time.Time) {
	answers := make(chan answer)
	asking, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with record, which waits
		defer close(done)
		c.askOn(asking, answers)
	}()
	defer func() { stop(); <-done }()
	take := func(f Frame) {
		if !f.At.Before(from) && (to.IsZero() || !f.At.After(to)) {
			a.Take(f)
		}
	}
	for ctx.Err() == nil {
		if err := ring.wait(look); err != nil {
			a.Incomplete(err.Error())
			return time.Now()
		}
		ring.read(take)
		select {
		case told := <-answers:
			a.take(told)
		default:
		}
	}
	to = time.Now()
	time.Sleep(3 * retire * time.Millisecond) // until the kernel hands over the block that it fills
	ring.read(take)
	return to
}

// askOn asks again and again.
func (c Config) askOn(ctx context.Context, answers chan<- answer) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		told := c.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		select {
		case answers <- told:
		case <-ctx.Done():
			return
		}
	}
}

func (c Config) ask(ctx context.Context) answer {
	asked := time.Now()
	k, err := c.Ask(ctx)
	return answer{k, asked, err}
}

// take learns what the edge told, or that it did not.
func (a *Account) take(told answer) {
	if told.err != nil {
		a.Incomplete(fmt.Sprintf("%v: %v", ErrTold, told.err))
		return
	}
	_ = a.Learn(told.knowledge, told.asked) // it notes by itself what is wrong
}

// settle judges the last packets, when the edge was asked late enough for them.
func (c Config) settle(a *Account, last time.Time) {
	a.finishConns() // what they hold back wants keys too
	for len(a.held) > 0 {
		told := c.ask(context.Background())
		a.take(told)
		if told.err != nil || told.asked.Sub(last) >= patience {
			break
		}
		time.Sleep(patience / 4)
	}
	a.Finish()
}

// find finds the interface by its name, or the one that has the edge's address; and
// its addresses.
func find(name string, k Knowledge) (*net.Interface, []netip.Addr, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, nil, fmt.Errorf("list the interfaces: %w", err)
	}
	own := make(map[netip.Addr]bool)
	for _, at := range append(append([]netip.AddrPort{}, k.Listeners...), k.Keys.UDP...) {
		own[at.Addr().Unmap()] = true
	}
	for _, each := range all {
		addrs, err := each.Addrs()
		if err != nil {
			return nil, nil, fmt.Errorf("list the addresses of %s: %w", each.Name, err)
		}
		var local []netip.Addr
		is := each.Name == name
		for _, text := range addrs {
			if p, err := netip.ParsePrefix(text.String()); err == nil {
				local = append(local, p.Addr().Unmap())
				is = is || name == "" && own[p.Addr().Unmap()]
			}
		}
		if is {
			return &each, local, nil
		}
	}
	if name == "" {
		return nil, nil, fmt.Errorf("no interface has an address of the edge's: name one by -interface")
	}
	return nil, nil, fmt.Errorf("there is no interface %q", name)
}
