package tlsconf

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

const (
	deviceCALifetime = 20 // years; phones are given another one's certificates only by hand
	// MaxDeviceDays bounds the life of a phone's certificate.
	MaxDeviceDays = 3650
	// MinPassphrase is how long the passphrase of a PKCS#12 file must be: its key is
	// derived cheaply, as phones are slow.
	MinPassphrase = 12
)

// DeviceRequest is what a phone's certificate is to be.
type DeviceRequest struct {
	Name string  // what the operator calls the phone
	User string  // whom it may register and call as; empty: as Name
	Days int     // of its life
	Key  KeyType // empty: ECDSA
}

func (r DeviceRequest) validate() error {
	var faults []error
	if !plainDevice(r.Name) {
		faults = append(faults, fmt.Errorf("the name %q is not made of letters, digits and . _ - alone, 64 at most, a letter or digit first", r.Name))
	}
	if !plainUser(r.User) {
		faults = append(faults, fmt.Errorf("the user %q is not made of letters, digits and + . _ - alone, 64 at most", r.User))
	}
	if r.Days < 1 || r.Days > MaxDeviceDays {
		faults = append(faults, fmt.Errorf("%d days are not between 1 and %d", r.Days, MaxDeviceDays))
	}
	if k := r.Key; k != "" && k != ECDSA && k != RSA {
		faults = append(faults, fmt.Errorf("the key %q is none of ecdsa, rsa", string(k)))
	}
	return errors.Join(faults...)
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// plainDevice tells whether a name may be part of a file's.
func plainDevice(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, alphanumeric+"._-") == "" && strings.ContainsRune(alphanumeric, rune(s[0]))
}

// plainUser tells whether a user is the same in a URI, escaped or not.
func plainUser(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, alphanumeric+"+._-") == ""
}

// IssuedDevice is a phone's certificate with its key, which is kept nowhere else.
type IssuedDevice struct {
	Device
	leaf, ca *x509.Certificate
	key      crypto.Signer
}

// PEM is the certificate and then the key. It is secret.
func (i IssuedDevice) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return append(encode("CERTIFICATE", i.leaf.Raw), encode("PRIVATE KEY", der)...), nil
}

// PKCS12 is certificate, key and CA under a passphrase: by AES-256 and SHA-256, or
// by the 3DES and SHA-1 that phones of before 2020 or so can read alone.
func (i IssuedDevice) PKCS12(passphrase string, legacy bool) ([]byte, error) {
	encoder := pkcs12.Modern2023
	if legacy {
		encoder = pkcs12.LegacyDES
	}
	data, err := encoder.Encode(i.key, i.leaf, []*x509.Certificate{i.ca}, passphrase)
	if err != nil {
		return nil, fmt.Errorf("encode PKCS#12: %w", err)
	}
	return data, nil
}

// IssueDevice makes a certificate for a phone by the device CA, which is made when
// it is first used.
func IssueDevice(cfg Config, r DeviceRequest) (IssuedDevice, error) {
	if r.User == "" {
		r.User = r.Name
	}
	if err := errors.Join(cfg.Validate(), r.validate()); err != nil {
		return IssuedDevice{}, err
	}
	var out IssuedDevice
	err := cfg.withDevices(true, func(ca *deviceCA, now time.Time) error {
		if at := slices.IndexFunc(ca.Devices, func(d Device) bool { return d.Name == r.Name && d.Revoked.IsZero() }); at >= 0 {
			return fmt.Errorf("%s has a certificate already, serial %s, until %s; revoke that first, or choose another name (-user %s)",
				r.Name, ca.Devices[at].Serial, day(ca.Devices[at].NotAfter), r.User)
		}
		key, err := r.Key.generate()
		if err != nil {
			return fmt.Errorf("generate key: %w", err)
		}
		tmpl, err := cfg.deviceTemplate(r, now)
		if err != nil {
			return err
		}
		if tmpl.NotAfter.After(ca.cert.NotAfter) {
			tmpl.NotAfter = ca.cert.NotAfter
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
		if err != nil {
			return fmt.Errorf("sign certificate: %w", err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("read the certificate just made: %w", err)
		}
		out = IssuedDevice{
			Device: Device{Name: r.Name, User: r.User, Serial: serialText(leaf.SerialNumber), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter},
			leaf:   leaf, ca: ca.cert, key: key,
		}
		ca.Devices = append(ca.Devices, out.Device)
		return nil
	})
	return out, err
}

func (c Config) deviceTemplate(r DeviceRequest, now time.Time) (*x509.Certificate, error) {
	serial, err := drawSerial()
	if err != nil {
		return nil, err
	}
	host := c.domain()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: r.Name},
		URIs:                  []*url.URL{{Scheme: "sip", Opaque: r.User + "@" + host}},
		NotBefore:             now.Add(-clockSlip),
		NotAfter:              now.AddDate(0, 0, r.Days),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, nil
}

// domain is what phones know the edge by.
func (c Config) domain() string {
	if len(c.Names) > 0 {
		return strings.ToLower(c.Names[0])
	}
	return c.IPs[len(c.IPs)-1].String() // Validate wants one of the two
}

// drawSerial is a number nobody can guess (RFC 5280 section 4.1.2.2).
func drawSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}

// RevokeDevice revokes what was issued under a name that is in use, or a serial
// number, and writes the list. What is revoked already is so again.
func RevokeDevice(cfg Config, nameOrSerial string) (Device, error) {
	if err := cfg.Validate(); err != nil {
		return Device{}, err
	}
	var out Device
	err := cfg.withDevices(false, func(ca *deviceCA, now time.Time) error {
		at := slices.IndexFunc(ca.Devices, func(d Device) bool { return d.Name == nameOrSerial && d.Revoked.IsZero() })
		if at < 0 {
			at = slices.IndexFunc(ca.Devices, func(d Device) bool { return strings.EqualFold(d.Serial, nameOrSerial) || d.Name == nameOrSerial })
		}
		if at < 0 {
			return fmt.Errorf("no certificate was issued to %q; `sallyport cert devices` lists those that were", nameOrSerial)
		}
		if d := &ca.Devices[at]; d.Revoked.IsZero() {
			d.Revoked = now.Truncate(time.Second)
		}
		out = ca.Devices[at]
		return nil
	})
	return out, err
}

// Devices lists what was issued, in its order.
func Devices(cfg Config) ([]Device, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	index, err := cfg.readIndex()
	return index.Devices, err
}
