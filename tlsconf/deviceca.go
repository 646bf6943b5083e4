package tlsconf

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Files of the device CA, in the folder "tls". The edge reads the first and the
// list; the key and the index are for the commands alone.
const (
	deviceCACrt = "device-ca.crt"
	deviceCAKey = "device-ca.key"
	deviceCRL   = "device-ca.crl"
	deviceIndex = "devices.json"
)

func (c Config) deviceFile(name string) string { return filepath.Join(c.StateDir, "tls", name) }

// Device is a certificate that was issued to a phone.
type Device struct {
	Name      string    `json:"name"`
	User      string    `json:"user"`
	Serial    string    `json:"serial"` // "0a:1b:…"
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Revoked   time.Time `json:"revoked,omitzero"`
}

// devices is the index of what was issued. Nothing in it is secret.
type devices struct {
	List    int64    `json:"list"` // number of the last revocation list
	Devices []Device `json:"devices"`
}

// deviceCA is the CA and its index, while the folder is locked.
type deviceCA struct {
	devices
	cert *x509.Certificate
	key  crypto.Signer
}

// withDevices changes the index, and writes it and the list, while no other command
// does. The CA is made if there is none and make is set.
func (c Config) withDevices(make bool, change func(ca *deviceCA, now time.Time) error) error {
	now := time.Now()
	if make {
		if err := c.keep(); err != nil { // the folder
			return c.keepFault(err)
		}
	}
	unlock, err := c.lockFolder()
	if err != nil {
		return c.keepFault(err)
	}
	defer unlock()
	ca, err := c.loadDeviceCA()
	if errors.Is(err, os.ErrNotExist) && make {
		ca, err = c.makeDeviceCA(now)
	}
	if err != nil {
		return err
	}
	if err := change(ca, now); err != nil {
		return err
	}
	return c.keepDevices(ca, now)
}

func (c Config) keepFault(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("edge.state_dir: no device CA in %s: %w; `sallyport cert device NAME` makes it", c.selfSignedDir(), errors.Unwrap(err))
	}
	return fmt.Errorf("edge.state_dir: keep the device CA: %w; run it as root, or as the user sallyport runs as", err)
}

// lockFolder keeps other commands from the folder until unlock is called, or the
// process ends.
func (c Config) lockFolder() (unlock func(), err error) {
	dir, err := os.Open(c.selfSignedDir())
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock %s: %w", c.selfSignedDir(), err)
	}
	return func() { dir.Close() }, nil
}

func (c Config) loadDeviceCA() (*deviceCA, error) {
	if _, err := os.Lstat(c.deviceFile(deviceCAKey)); err != nil {
		return nil, c.keepFault(err)
	}
	p, err := loadPair(c.deviceFile(deviceCACrt), c.deviceFile(deviceCAKey))
	if err != nil {
		return nil, fmt.Errorf("edge.state_dir: %w", stripKey(err))
	}
	key, ok := p.cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("edge.state_dir: %s holds no key that signs", c.deviceFile(deviceCAKey))
	}
	ca := &deviceCA{cert: p.cert.Leaf, key: key}
	ca.devices, err = c.readIndex()
	return ca, err
}

func (c Config) readIndex() (devices, error) {
	var index devices
	data, err := readList(c.deviceFile(deviceIndex))
	if errors.Is(err, os.ErrNotExist) {
		return index, nil // nothing was issued
	}
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		return index, fmt.Errorf("edge.state_dir: the index of devices %s can't be read: %w", c.deviceFile(deviceIndex), err)
	}
	return index, nil
}

// makeDeviceCA makes a CA that can issue to clients and to nobody else: whoever
// steals its key can't pose as the edge with it.
func (c Config) makeDeviceCA(now time.Time) (*deviceCA, error) {
	if _, err := os.Lstat(c.deviceFile(deviceCACrt)); err == nil {
		return nil, fmt.Errorf("edge.state_dir: %s is there, and its key is not; put the key back, or move the certificate away, and no phone with one of its certificates gets in any longer",
			c.deviceFile(deviceCACrt))
	}
	serial, err := drawSerial()
	if err != nil {
		return nil, err
	}
	key, err := ECDSA.generate()
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	name := "sallyport devices of " + c.domain()
	if len(name) > maxCommonName {
		name = name[:maxCommonName]
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-clockSlip), NotAfter: now.AddDate(deviceCALifetime, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate just made: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	ca := &deviceCA{cert: cert, key: key}
	if ca.devices, err = c.readIndex(); err != nil { // of a CA before this one, perhaps
		return nil, err
	}
	err = c.keep(kept{deviceCAKey, encode("PRIVATE KEY", keyDER), 0o600}, kept{deviceCACrt, encode("CERTIFICATE", der), 0o644})
	if err != nil {
		return nil, c.keepFault(err)
	}
	return ca, nil
}

// keepDevices writes the index, and the list from it. The index comes first: after
// a crash in between, the next command writes the list that is due.
func (c Config) keepDevices(ca *deviceCA, now time.Time) error {
	ca.List++
	index, err := json.MarshalIndent(ca.devices, "", "\t")
	if err != nil {
		return fmt.Errorf("encode the index of devices: %w", err)
	}
	// It holds until the CA does: nobody but these commands could bring a fresher
	// one, and who could hold one back could do worse here.
	tmpl := &x509.RevocationList{Number: big.NewInt(ca.List), ThisUpdate: now, NextUpdate: ca.cert.NotAfter}
	for _, d := range ca.Devices {
		if d.Revoked.IsZero() {
			continue
		}
		serial, err := parseSerial(d.Serial)
		if err != nil {
			return fmt.Errorf("edge.state_dir: the index of devices %s: %w", c.deviceFile(deviceIndex), err)
		}
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: d.Revoked})
	}
	list, err := x509.CreateRevocationList(rand.Reader, tmpl, ca.cert, ca.key)
	if err != nil {
		return fmt.Errorf("sign the revocation list: %w", err)
	}
	err = c.keep(kept{deviceIndex, index, 0o600}, kept{deviceCRL, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}), 0o644})
	if err != nil {
		return c.keepFault(err)
	}
	return nil
}
