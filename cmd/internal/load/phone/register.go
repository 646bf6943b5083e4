package phone

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// Register registers the phone, or refreshes that it is. There must be a
// connection.
func (p *Phone) Register(ctx context.Context) error {
	p.mu.Lock()
	expires := p.expires
	p.mu.Unlock()
	err := p.register(ctx, expires)
	var refused *Refused
	if errors.As(err, &refused) && refused.Status == 423 { // the interval was too brief, and another is asked for now
		p.mu.Lock()
		longer := p.expires
		p.mu.Unlock()
		if longer > expires {
			return p.register(ctx, longer)
		}
	}
	return err
}

// Unregister takes it back.
func (p *Phone) Unregister(ctx context.Context) error { return p.register(ctx, 0) }

// Refresh is when the registration is to be refreshed; zero if there is none.
func (p *Phone) Refresh() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refresh
}

func (p *Phone) register(ctx context.Context, expires time.Duration) error {
	uri := "sip:" + p.config.Domain
	p.mu.Lock()
	contact := p.contact()
	d := message.Request("REGISTER", uri).Add("Via", "").Add("Max-Forwards", "70").
		Add("From", "<"+p.aor()+">;tag="+p.tag).Add("To", "<"+p.aor()+">").Add("Call-ID", p.callID).Add("CSeq", "").
		Add("Contact", contact+`;+sip.instance="`+p.instance+`"`).
		Add("Expires", strconv.Itoa(int(expires/time.Second))).
		Add("Supported", "path").Add("Allow", allow).Add("User-Agent", p.config.Agent)
	p.mu.Unlock()
	r, err := p.exchange(ctx, "REGISTER", uri, d, func() uint32 { p.cseq++; return p.cseq }, nil)
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	if r.StatusCode == 423 {
		if least, err := strconv.Atoi(message.Get(r, "Min-Expires")); err == nil && least > 0 && least <= 7*24*3600 {
			p.mu.Lock()
			p.expires = time.Duration(least) * time.Second
			p.mu.Unlock()
		}
	}
	if r.StatusCode/100 != 2 {
		return fmt.Errorf("register: %w", refused(r))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.route = message.All(r, "Service-Route")
	p.refresh = time.Time{}
	if expires > 0 {
		p.refresh = time.Now().Add(granted(r, nameaddr.URI(contact), expires) / 2)
	}
	return nil
}

// granted is what the registrar gives: to this contact, or to all. Where it tells
// of none that is this one, as where something on the way wrote it anew, the least of
// them counts: who comes too early loses nothing.
func granted(r *sip.Response, contact string, asked time.Duration) time.Duration {
	given := asked
	less := func(text string) {
		if n, err := strconv.Atoi(text); err == nil && n > 0 && n < int(given/time.Second) {
			given = time.Duration(n) * time.Second
		}
	}
	all := message.All(r, "Contact")
	for _, c := range all {
		if own := nameaddr.Param(c, "expires"); own != "" && nameaddr.URI(c) == contact {
			less(own)
			return given
		}
	}
	less(message.Get(r, "Expires"))
	for _, c := range all {
		less(nameaddr.Param(c, "expires"))
	}
	return given
}

// Options asks the server whether it is there. That it is, it says by any answer
// but those of a fault of its own: some have nobody at their own name.
func (p *Phone) Options(ctx context.Context) error {
	uri := "sip:" + p.config.Domain
	p.mu.Lock()
	d := message.Request("OPTIONS", uri).Add("Via", "").Add("Max-Forwards", "70").
		Add("From", "<"+p.aor()+">;tag="+word()).Add("To", "<"+uri+">").Add("Call-ID", word()).Add("CSeq", "").
		Add("Contact", p.contact()).Add("Accept", "application/sdp").Add("User-Agent", p.config.Agent)
	for _, route := range p.route {
		d.Add("Route", route)
	}
	p.mu.Unlock()
	number := uint32(0)
	r, err := p.exchange(ctx, "OPTIONS", uri, d, func() uint32 { number++; return number }, nil)
	if err != nil {
		return fmt.Errorf("ask for options: %w", err)
	}
	if r.StatusCode >= 500 {
		return fmt.Errorf("ask for options: %w", refused(r))
	}
	return nil
}
