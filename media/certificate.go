package media

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // some phones have no other (RFC 8122 section 5); a second preimage is not known
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"hash"
	"math/big"
	"strings"
	"sync"
	"time"
)

const (
	// certificateAge is when the certificate of DTLS is made anew. Calls keep
	// the one that their description named.
	certificateAge = 24 * time.Hour
	// certificateLife is far beyond the longest call.
	certificateLife = 30 * 24 * time.Hour
)

// Fingerprint is a certificate's hash (RFC 8122 section 5).
type Fingerprint struct {
	Hash  string // sha-256, …, in lower case
	Value string // upper-case hexadecimal with colons
}

// hashes are those that a phone may name its certificate by.
var hashes = map[string]func() hash.Hash{
	"sha-1": sha1.New, "sha-224": sha256.New224, "sha-256": sha256.New, "sha-384": sha512.New384, "sha-512": sha512.New,
}

func fingerprint(name string, der []byte) Fingerprint {
	h := hashes[name]()
	_, _ = h.Write(der)
	pairs := make([]string, 0, h.Size())
	for _, b := range h.Sum(nil) {
		pairs = append(pairs, strings.ToUpper(hex.EncodeToString([]byte{b})))
	}
	return Fingerprint{Hash: name, Value: strings.Join(pairs, ":")}
}

// names tells whether one of the fingerprints is a certificate's.
func names(list []Fingerprint, der []byte) bool {
	for _, f := range list {
		if hashes[f.Hash] != nil && fingerprint(f.Hash, der) == f {
			return true
		}
	}
	return false
}

// certificate is one of ours, for DTLS alone: it proves nothing but that we
// are who the description, sent over TLS, says (RFC 5763 section 5).
type certificate struct {
	tls         tls.Certificate
	fingerprint Fingerprint
	made        time.Time
}

func newCertificate(now time.Time) (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make DTLS key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make DTLS certificate: %w", err)
	}
	template := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "WebRTC"}, // as all others': it tells nothing
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make DTLS certificate: %w", err)
	}
	return &certificate{
		tls:         tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		fingerprint: fingerprint("sha-256", der), made: now,
	}, nil
}

// certificates holds the one in use, which lives for a day.
type certificates struct {
	mu  sync.Mutex // guards now
	now *certificate
}

func (c *certificates) current(now time.Time) (*certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil || now.Sub(c.now.made) >= certificateAge {
		fresh, err := newCertificate(now)
		if err != nil {
			return nil, err
		}
		c.now = fresh
	}
	return c.now, nil
}
