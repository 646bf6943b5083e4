package sipproxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// tokenEncoding is lower-case base32: a token must survive peers that fold
// the case of a URI's user part.
var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// tokenLen is 80 bits: no guess hits another phone's token.
const tokenLen = 16

// mintToken names one device of one user towards the PBX, the same after
// every reconnect and restart. Without the secret nothing can be learned
// from it, and none can be made.
func mintToken(secret []byte, aor, device string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(aor))
	mac.Write([]byte{0})
	mac.Write([]byte(device))
	return tokenEncoding.EncodeToString(mac.Sum(nil))[:tokenLen]
}

// deviceOf tells the devices of one user apart: by the instance that RFC 5626
// gave them, else by the contact itself. A device's connections are one.
func deviceOf(contact flow.NameAddr) string {
	if hasInstance(contact) {
		instance, _ := contact.Param("+sip.instance")
		return "instance " + strings.ToLower(instance)
	}
	return "contact " + contact.URI
}

func hasInstance(contact flow.NameAddr) bool {
	instance, _ := contact.Param("+sip.instance")
	return instance != ""
}

// aorKey is the form in which an address of record is compared (RFC 3261
// section 10.3, step 5): no parameters, no escapes, host in lower case, no
// port that is the default anyway.
func aorKey(uri string) (string, error) {
	u, err := parseURI(uri)
	if err != nil {
		return "", err
	}
	if u.Host == "" {
		return "", fmt.Errorf("read address of record %q: no host", uri)
	}
	return account(u) + "@" + strings.ToLower(u.Host), nil
}
