package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// Token is one end's half of a pairing on its way there. It is a secret.
type Token struct {
	Name    string // what the other end calls itself
	Address string // where it is reached, host and port

	made     time.Time
	theirID  [idSize]byte // of the name in the certificate of who made the token
	theirPin Pin
	yourID   [idSize]byte // of the name in the certificate of who is given it
	yourKey  [keySize]byte
}

const (
	tokenPrefix  = "sallyport1."
	tokenVersion = 1
	idSize       = 10 // bytes: enough that no two are ever the same
	keySize      = 32 // of P-256
	sumSize      = 6
	maxTokenText = 255 // bytes of the name, and of the address
)

// String keeps the key out of logs.
func (t Token) String() string { return "token of " + t.Name + " at " + t.Address }

// GoString does likewise.
func (t Token) GoString() string { return t.String() }

// encode writes the token as one word: version, what is of a fixed size, name and
// address with their lengths before them, and a checksum of all that.
func (t Token) encode() (string, error) {
	if len(t.Name) > maxTokenText || len(t.Address) > maxTokenText {
		return "", errors.New("the name or the address is too long to be in a token")
	}
	b := append([]byte{tokenVersion}, binary.BigEndian.AppendUint64(nil, uint64(t.made.Unix()))...)
	b = append(b, t.theirID[:]...)
	b = append(b, t.theirPin[:]...)
	b = append(b, t.yourID[:]...)
	b = append(b, t.yourKey[:]...)
	for _, text := range []string{t.Name, t.Address} {
		b = append(append(b, byte(len(text))), text...)
	}
	sum := sha256.Sum256(b)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:sumSize]...)), nil
}

// Why a text is no token. None has a word of it.
var (
	errNoToken  = errors.New("it does not begin like a token; give all of the line that `sallyport trunk pair` printed")
	errCutToken = errors.New("it is cut off, or a letter of it was changed; copy all of the line again")
	errNewToken = errors.New("it is of a later version of sallyport; use one version at both ends")
)

// ParseToken reads what Pair returned, with white space around it or not.
func ParseToken(s string) (Token, error) {
	var t Token
	text, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	if !ok {
		return t, errNoToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) <= sumSize || strings.ContainsAny(text, "\r\n") {
		return t, errCutToken
	}
	body, sum := b[:len(b)-sumSize], b[len(b)-sumSize:]
	if whole := sha256.Sum256(body); string(whole[:sumSize]) != string(sum) {
		return t, errCutToken
	}
	if body[0] != tokenVersion {
		return t, errNewToken
	}
	var seconds uint64
	var name, address cryptobyte.String
	rest := cryptobyte.String(body[1:])
	if !rest.ReadUint64(&seconds) || seconds > maxTokenTime ||
		!rest.CopyBytes(t.theirID[:]) || !rest.CopyBytes(t.theirPin[:]) ||
		!rest.CopyBytes(t.yourID[:]) || !rest.CopyBytes(t.yourKey[:]) ||
		!rest.ReadUint8LengthPrefixed(&name) || !rest.ReadUint8LengthPrefixed(&address) || !rest.Empty() {
		return Token{}, errCutToken
	}
	t.made = time.Unix(int64(seconds), 0).UTC()
	t.Name, t.Address = string(name), string(address)
	if !printable(t.Name) || !printable(t.Address) {
		return Token{}, errCutToken
	}
	if _, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), t.yourKey[:]); err != nil {
		return Token{}, errCutToken
	}
	return t, nil
}

// maxTokenTime is the year 9999: no certificate can tell a later one (RFC 5280
// section 4.1.2.5).
const maxTokenTime = 253402300799

// printable tells whether a text may be shown and be put into a file as it is.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return true
}

func pinOfKey(key *ecdsa.PublicKey) (Pin, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return Pin{}, fmt.Errorf("encode key: %w", err)
	}
	return sha256.Sum256(der), nil
}
