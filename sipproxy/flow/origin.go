package flow

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Origins are the web pages whose browsers may open a WebSocket. An entry is
// an origin as browsers write it (RFC 6454 section 6.2), or a host name alone,
// which stands for https at any port. A client that sends no Origin is no
// browser, and needs no entry.
type Origins []string

// allow tells whether a browser may come from a page. An Origin is the
// browser's word, not the page's: it protects users from pages, and us from
// nobody.
func (o Origins) allow(origin string) bool {
	u, err := url.Parse(origin)
	for _, each := range o {
		if strings.EqualFold(each, origin) {
			return true
		}
		if err == nil && u.Scheme == "https" && u.User == nil && strings.EqualFold(each, u.Hostname()) {
			return true
		}
	}
	return false
}

// Validate reports all faults at once.
func (o Origins) Validate() error {
	var faults []error
	for _, each := range o {
		u, err := url.Parse(each)
		switch {
		case strings.Contains(each, "*"):
			faults = append(faults, fmt.Errorf("sip.wss_origins: %q has a *; name each origin", each))
		case !strings.Contains(each, "://"):
			if !isHost(each) && !isHost("["+each+"]") {
				faults = append(faults, fmt.Errorf("sip.wss_origins: %q is no host; write it like \"pbx.example.com\" or \"https://pbx.example.com:8443\"", each))
			}
		case err != nil || u.Host == "" || u.User != nil || strings.TrimPrefix(each, u.Scheme+"://") != u.Host:
			faults = append(faults, fmt.Errorf("sip.wss_origins: %q is no origin; write it like \"https://pbx.example.com\", without a path", each))
		}
	}
	return errors.Join(faults...)
}
