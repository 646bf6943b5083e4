package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Two edges that know each other's key need no CA. Pair makes both keys, keeps one, and
// gives the other away in a token, with which Join makes the far end's half. Each
// certificate has a name that stands for nothing but this pairing: who dials asks for
// it, so that who is dialled knows which certificate to show.

const (
	pairingFolder = "trunks"
	pairingSuffix = ".json"
	pairedName    = ".trunk.sallyport.invalid" // RFC 6761: never in DNS
)

// pairing is one end's half. It is comparable, and holds a secret.
type pairing struct {
	OurName   string    `json:"our_name"`
	OurKey    string    `json:"our_key"` // base64, as ecdsa.PrivateKey.Bytes
	TheirName string    `json:"their_name"`
	TheirPin  string    `json:"their_pin"`
	Made      time.Time `json:"made"`

	theirs Pin
}

// String keeps the key out of logs.
func (p pairing) String() string { return p.OurName + " with " + p.TheirName }

// GoString does likewise.
func (p pairing) GoString() string { return p.String() }

func (c Config) pairingFile(trunk string) string {
	return filepath.Join(c.StateDir, pairingFolder, trunk+pairingSuffix)
}

// readPairing reads a trunk's half; os.ErrNotExist: there is none.
func (c Config) readPairing(trunk string) (*pairing, error) {
	path := c.pairingFile(trunk)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil, os.ErrNotExist
	}
	data, err := readFile(path, true)
	if err != nil {
		return nil, err
	}
	var p pairing
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("read %s: it is no pairing; pair anew with `sallyport trunk pair %s`", path, trunk)
	}
	if p.theirs, err = ParsePin(p.TheirPin); err == nil {
		_, err = p.key()
	}
	if err != nil || !strings.HasSuffix(p.OurName, pairedName) || !strings.HasSuffix(p.TheirName, pairedName) {
		return nil, fmt.Errorf("read %s: it is no pairing, or was changed; pair anew with `sallyport trunk pair %s`", path, trunk)
	}
	return &p, nil
}

func (c Config) keepPairing(trunk string, p pairing) error {
	data, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return fmt.Errorf("encode the pairing: %w", err)
	}
	if err := c.keepIn(pairingFolder, kept{trunk + pairingSuffix, append(data, '\n'), 0o600}); err != nil {
		return fmt.Errorf("edge.state_dir: keep the pairing: %w; run it as root, or as the user sallyport runs as", err)
	}
	return nil
}

func (p *pairing) key() (*ecdsa.PrivateKey, error) {
	raw, err := base64.StdEncoding.DecodeString(p.OurKey)
	if err != nil {
		return nil, errors.New("the pairing's key can't be read")
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	if err != nil {
		return nil, errors.New("the pairing's key can't be read") // and is in no error
	}
	return key, nil
}

// certificate is our half's. It is made anew at each start: the far end knows the key.
func (p *pairing) certificate() (*tls.Certificate, error) {
	key, err := p.key()
	if err != nil {
		return nil, err
	}
	serial, err := drawSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: p.OurName}, DNSNames: []string{p.OurName},
		NotBefore: p.Made.Add(-clockSlip), NotAfter: p.Made.AddDate(lifetime, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate just made: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// Pair makes both halves of a pairing, keeps ours, which replaces the one before, and
// returns the token with the other for Join. address is where the far end reaches us,
// us what it may call us.
func Pair(cfg Config, trunk, us, address string) (token string, err error) {
	ours, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("generate key: %w", err)
	}
	theirs, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("generate key: %w", err)
	}
	t := Token{Name: us, Address: address, made: time.Now().UTC().Truncate(time.Second)}
	_, _ = rand.Read(t.theirID[:]) // never fails
	_, _ = rand.Read(t.yourID[:])
	if t.theirPin, err = pinOfKey(&ours.PublicKey); err != nil {
		return "", err
	}
	yourKey, err := theirs.Bytes()
	if err != nil {
		return "", fmt.Errorf("encode key: %w", err)
	}
	t.yourKey = [keySize]byte(yourKey)
	token, err = t.encode()
	if err != nil {
		return "", err
	}
	ourKey, err := ours.Bytes()
	if err != nil {
		return "", fmt.Errorf("encode key: %w", err)
	}
	pin, err := pinOfKey(&theirs.PublicKey)
	if err != nil {
		return "", err
	}
	return token, cfg.keepPairing(trunk, pairing{
		OurName: nameOf(t.theirID), OurKey: base64.StdEncoding.EncodeToString(ourKey),
		TheirName: nameOf(t.yourID), TheirPin: pin.String(), Made: t.made,
	})
}

// Join keeps the half that a token holds, as the trunk of that name.
func Join(cfg Config, trunk string, t Token) error {
	return cfg.keepPairing(trunk, pairing{
		OurName: nameOf(t.yourID), OurKey: base64.StdEncoding.EncodeToString(t.yourKey[:]),
		TheirName: nameOf(t.theirID), TheirPin: t.theirPin.String(), Made: t.made,
	})
}

// Forget removes a trunk's half; os.ErrNotExist: there is none.
func Forget(cfg Config, trunk string) error { return os.Remove(cfg.pairingFile(trunk)) }

// Pairing is what there is to be told of a half.
type Pairing struct {
	Trunk string
	Made  time.Time
	Until time.Time // of both certificates
	Ours  Pin
	Peer  Pin
}

// Pairings lists the halves that are kept.
func Pairings(cfg Config) ([]Pairing, error) {
	files, err := os.ReadDir(filepath.Join(cfg.StateDir, pairingFolder))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("edge.state_dir: %w", err)
	}
	var out []Pairing
	for _, f := range files {
		trunk, ok := strings.CutSuffix(f.Name(), pairingSuffix)
		if !ok {
			continue
		}
		p, err := cfg.readPairing(trunk)
		if err != nil {
			return nil, fmt.Errorf("edge.state_dir: %w", err)
		}
		cert, err := p.certificate()
		if err != nil {
			return nil, fmt.Errorf("edge.state_dir: %w", err)
		}
		out = append(out, Pairing{Trunk: trunk, Made: p.Made, Until: cert.Leaf.NotAfter, Ours: PinOf(cert.Leaf), Peer: p.theirs})
	}
	return out, nil
}

func nameOf(id [idSize]byte) string { return fmt.Sprintf("%x%s", id, pairedName) }
