package transaction

import (
	"container/list"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

type clientState uint8

const (
	clientCalling    clientState = iota // nothing heard yet
	clientProceeding                    // a provisional response was heard
	clientAccepted                      // INVITE answered 2xx (RFC 6026 section 7.2)
	clientCompleted                     // any other final response
	clientTerminated
)

// Client is a client transaction: one request sent, and what came back.
type Client struct {
	layer  *Layer
	key    clientKey
	conn   Conn
	invite bool

	lingers *list.Element // guarded by the layer's mutex

	mu sync.Mutex // guards what follows; never held while calling out
	// on is called for each response that is not a repetition (a repeated 2xx
	// to an INVITE is passed on: the far end waits for an ACK), and once with
	// an error if there will be none. A 100 means this hop alone and is not
	// passed on, nor is any provisional response to another method (RFC 3261
	// section 16.7, item 5; RFC 4320 section 4.1). It is let go of with all that
	// hangs on it when it was called last: what only absorbs repetitions is to be
	// small, as there are thousands.
	on        func(*sip.Response, error)
	request   *sip.Request
	state     clientState
	ack       *sip.Request // of a failed INVITE, repeated with its response
	interval  time.Duration
	repeat    *time.Timer // timers A, E
	end       *time.Timer // timers B, C, D, F, K, M
	cancelled bool        // Cancel was called, or timer C fired
	expired   bool        // timer C fired
	why       []sip.Header
}

// Request sends req on conn. The top Via of req is ours and carries the
// branch. on is called on the goroutine that brings the response, or on a
// timer's; never before Request returned an error, and never after an error
// of its own. req is given away.
func (l *Layer) Request(conn Conn, req *sip.Request, on func(*sip.Response, error)) (*Client, error) {
	branch, _ := req.Via().Params.Get("branch")
	c := &Client{
		layer: l, key: clientKey{branch, req.Method}, conn: conn,
		invite: req.Method == sip.INVITE, on: on, request: req,
	}
	l.mu.Lock()
	l.client[c.key] = c
	l.join(conn, c)
	l.mu.Unlock()

	c.mu.Lock()
	c.end = time.AfterFunc(64*l.timers.T1, c.timeout)
	if !conn.Reliable() {
		c.interval = l.timers.T1
		c.repeat = time.AfterFunc(c.interval, c.resend)
	}
	c.mu.Unlock()
	if err := conn.Send(req); err != nil && c.withdraw() {
		return nil, err
	}
	return c, nil
}

// withdraw ends a transaction whose request could not be sent, and tells whether
// nobody was told of that: FlowClosed may have been first.
func (c *Client) withdraw() bool {
	c.mu.Lock()
	told := c.state > clientProceeding
	c.state = clientTerminated
	c.mu.Unlock()
	c.terminate()
	return !told
}

// Cancel asks the far end to give up an INVITE. It waits for the first
// provisional response, as RFC 3261 section 9.1 demands, and does nothing
// after a final one. The headers given go with the CANCEL: a Reason, that
// phones tell a call taken elsewhere by (RFC 3326).
func (c *Client) Cancel(headers ...sip.Header) {
	c.mu.Lock()
	if !c.invite || c.cancelled || c.state > clientProceeding {
		c.mu.Unlock()
		return
	}
	c.cancelled, c.why = true, headers
	now := c.state == clientProceeding
	c.mu.Unlock()
	if now {
		c.sendCancel()
	}
}

// Abandon lets go of a far end that was not heard: the request is not repeated.
// An INVITE that it answers after all is cancelled, and a 2xx still passed on; of
// any other method nothing is.
func (c *Client) Abandon() {
	if !c.invite {
		c.terminate()
		return
	}
	c.mu.Lock()
	stop(c.repeat)
	c.mu.Unlock()
	c.Cancel()
}

// Settle tells that the call is over which an INVITE began. What may still come are a
// 2xx that the far end repeats, and another one's. It repeats each at intervals of T2 at
// most, and gives up by itself (RFC 3261 section 13.3.1.4): so they are awaited for T4,
// which is longer, rather than until timer M (RFC 6026 section 7.2). If on is not nil, it
// hears them in place of who heard the first, so that nothing is held for him.
func (c *Client) Settle(on func(*sip.Response)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != clientAccepted {
		return
	}
	c.end.Reset(c.layer.timers.T4)
	if on != nil {
		c.on = func(res *sip.Response, _ error) { on(res) }
	}
}

// Heard tells whether anything came back, a 100 at least.
func (c *Client) Heard() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state != clientCalling
}

func (c *Client) sendCancel() {
	c.mu.Lock()
	req, why := c.request, c.why
	if c.state != clientProceeding {
		c.mu.Unlock()
		return
	}
	// A far end that answers the CANCEL and never the INVITE (section 9.1).
	c.end.Reset(64 * c.layer.timers.T1)
	c.mu.Unlock()
	// The answer to a CANCEL tells nothing: the INVITE's own is awaited.
	cancel := hopByHop(req, sip.CANCEL)
	for _, h := range why {
		cancel.AppendHeader(h)
	}
	_, _ = c.layer.Request(c.conn, cancel, func(*sip.Response, error) {})
}

func (c *Client) receive(answer *sip.Response) {
	res := answer
	c.mu.Lock()
	var pass, cancel, over bool
	var ack *sip.Request
	var err error
	switch {
	case res.StatusCode < 200:
		pass = c.state <= clientProceeding
		if pass {
			cancel = c.provisionalLocked(res)
		}
		pass = pass && c.invite && res.StatusCode > sip.StatusTrying
	case c.invite && res.StatusCode < 300:
		pass = c.state <= clientAccepted
		if c.state < clientAccepted {
			c.finalLocked(clientAccepted, 64*c.layer.timers.T1)
		}
	case c.state <= clientProceeding:
		pass, over = true, true
		if c.expired && res.StatusCode == sip.StatusRequestTerminated { // the caller has cancelled nothing
			res, err = nil, ErrExpired
		}
		if c.invite {
			c.ack = ackOf(c.request, answer)
			c.finalLocked(clientCompleted, c.linger(32*time.Second))
		} else {
			c.finalLocked(clientCompleted, c.linger(c.layer.timers.T4))
		}
		ack = c.ack
	case c.state == clientCompleted:
		ack = c.ack
	}
	on := c.on
	if over {
		c.on = nil
	}
	c.mu.Unlock()
	if ack != nil {
		_ = c.conn.Send(ack) // a flow that can't be written reports itself closed
	}
	if cancel {
		c.sendCancel()
	}
	if pass {
		on(res, err)
	}
	if over {
		c.layer.linger(c)
	}
}

// provisionalLocked reports whether a CANCEL was waiting for this response.
// Timer C begins anew with each that tells of progress (RFC 3261 section 16.7,
// item 2).
func (c *Client) provisionalLocked(res *sip.Response) (cancel bool) {
	first := c.state == clientCalling
	cancel = c.cancelled && first
	c.state = clientProceeding
	if c.invite {
		stop(c.repeat)
		if !c.cancelled && (first || res.StatusCode > sip.StatusTrying) {
			c.end.Reset(c.layer.timers.C)
		}
	} else {
		c.interval = c.layer.timers.T2
	}
	return cancel
}

func (c *Client) finalLocked(s clientState, linger time.Duration) {
	c.state = s
	c.request = nil
	stop(c.repeat)
	c.repeat = nil
	stop(c.end)
	c.end = time.AfterFunc(linger, c.terminate)
}

// linger is how long repeated responses are absorbed: none come on a reliable
// flow (timers D and K).
func (c *Client) linger(unreliable time.Duration) time.Duration {
	if c.conn.Reliable() {
		return 0
	}
	return unreliable
}

func (c *Client) resend() {
	c.mu.Lock()
	if c.state > clientProceeding || (c.invite && c.state == clientProceeding) {
		c.mu.Unlock()
		return
	}
	c.interval *= 2
	if !c.invite {
		c.interval = min(c.interval, c.layer.timers.T2)
	}
	c.repeat.Reset(c.interval)
	req := c.request
	c.mu.Unlock()
	_ = c.conn.Send(req)
}

// timeout is timers B and F, and for a ringing INVITE timer C: the far end is
// told to stop, then given up (RFC 3261 section 16.8).
func (c *Client) timeout() {
	c.mu.Lock()
	if c.state > clientProceeding {
		c.mu.Unlock()
		return
	}
	if c.invite && c.state == clientProceeding && !c.cancelled {
		c.cancelled, c.expired = true, true
		c.mu.Unlock()
		c.sendCancel()
		return
	}
	err := ErrTimeout
	if c.expired {
		err = ErrExpired
	}
	c.mu.Unlock()
	c.fail(err)
}

func (c *Client) fail(err error) {
	c.mu.Lock()
	waiting, on := c.state <= clientProceeding, c.on
	c.state = clientTerminated // at once: no response may pass beside the error
	c.mu.Unlock()
	c.terminate()
	if waiting {
		on(nil, err)
	}
}

func (c *Client) flowClosed() { c.fail(ErrFlowClosed) }

func (c *Client) terminate() {
	c.mu.Lock()
	c.state = clientTerminated
	c.request, c.ack, c.on = nil, nil, nil
	stop(c.repeat)
	stop(c.end)
	c.mu.Unlock()
	c.layer.dropClient(c)
}
