package sipproxy

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

var errFault = errors.New("a message met a fault of the edge's own")

// survive is deferred where a message is handled: a fault of ours that it meets ends the
// connection that it came by, and not the process with the calls of all.
func (p *Proxy) survive(f *flow.Flow, m sip.Message) {
	fault := recover()
	if fault == nil {
		return
	}
	p.counters.faults.Add(1)
	kind := "response"
	if in, ok := m.(*sip.Request); ok {
		kind = in.Method.String()
	}
	p.log.Error("a message met a fault of sallyport itself; please report this line", "peer", f.Remote().String(), "message", kind,
		"fault", fmt.Sprint(fault), "stack", string(debug.Stack()))
	if f.Side() == flow.Secure {
		f.Close(errFault)
	}
}
