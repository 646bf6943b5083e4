package tlsconf

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	maxFile    = 1 << 20             // bytes; a chain is a few thousand
	maxList    = 64 << 20            // bytes of what grows with the phones; 40 or more are for each that was revoked
	minRSABits = 2048                // RFC 9325 section 4.5
	soon       = 30 * 24 * time.Hour // an expiry nearer than this is worth a word

	groupWrite = 0o020
	othersAny  = 0o007
)

// loadNamed reads a pair of files the operator named.
func loadNamed(f Files, now time.Time) (*pair, error) {
	p, err := loadPair(f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	leaf := p.cert.Leaf
	switch {
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("tls.cert: %w: %s expired on %s; renew it", ErrExpired, f.Cert, day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("tls.cert: %w: %s is valid from %s; check this machine's clock", ErrExpired, f.Cert, day(leaf.NotBefore))
	case !serves(leaf):
		return nil, fmt.Errorf("tls.cert: %w: %s was not issued for server authentication; request one that is", ErrUnfit, f.Cert)
	}
	if k, ok := leaf.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < minRSABits {
		return nil, fmt.Errorf("tls.cert: %w: %s has an RSA key of %d bits; use at least %d, or ECDSA P-256", ErrUnfit, f.Cert, k.N.BitLen(), minRSABits)
	}
	p.desc = describe(leaf, f.Cert, false)
	p.describeChain(f.Cert, now)
	return p, nil
}

func (p *pair) describeChain(file string, now time.Time) {
	for _, c := range p.chain[1:] {
		p.desc.Chain = append(p.desc.Chain, fmt.Sprintf("%s, until %s", c.Subject, day(c.NotAfter)))
	}
	p.desc.Warnings = chainWarnings(p.chain, file, now)
	if w := p.stapleWarning(); w != "" {
		p.desc.Warnings = append(p.desc.Warnings, w)
	}
}

// loadPair reads and matches a certificate and a key. Its errors say what is
// wrong with the files, never what is in them.
func loadPair(certFile, keyFile string) (*pair, error) {
	certPEM, err := readFile(certFile, false)
	if err != nil {
		return nil, fmt.Errorf("tls.cert: %w", err)
	}
	keyPEM, err := readFile(keyFile, true)
	if err != nil {
		return nil, fmt.Errorf("tls.key: %w", err)
	}
	leaf, err := firstCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("tls.cert: read %s: %w; give the certificate in PEM and then its intermediates", certFile, err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	switch {
	case err == nil:
		cert.Leaf = leaf
		chain, err := parseChain(cert.Certificate)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: read %s: %w; remove what is no certificate from it", certFile, err)
		}
		return &pair{cert: cert, chain: chain}, nil
	case strings.Contains(err.Error(), "does not match"): // crypto/tls exports no error for it
		return nil, fmt.Errorf("tls.cert: %w: %s and %s; name the two files of one certificate, the certificate itself first in its file",
			ErrMismatch, certFile, keyFile)
	default:
		return nil, fmt.Errorf("tls.key: %s holds no unencrypted private key in PEM; give one as PKCS#8, EC or RSA", keyFile)
	}
}

func firstCertificate(data []byte) (*x509.Certificate, error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, errors.New("holds no certificate")
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
}

func parseChain(all [][]byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for i, der := range all {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the file: %w", i+1, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// chainWarnings checks what TLS sends behind the leaf: each must have issued the
// one before (RFC 8446 section 4.4.2), as phones don't search.
func chainWarnings(chain []*x509.Certificate, file string, now time.Time) []string {
	var out []string
	for i, c := range chain[1:] {
		if chain[i].CheckSignatureFrom(c) != nil {
			out = append(out, fmt.Sprintf("certificate %d in %s (%s) did not issue the one before it (%s): phones may not find the way to their CA; put them in order, the issuer after the issued",
				i+2, file, c.Subject, chain[i].Subject))
		}
		if now.After(c.NotAfter) {
			out = append(out, fmt.Sprintf("certificate %d in %s (%s) expired on %s: phones will not connect; get the CA's present one", i+2, file, c.Subject, day(c.NotAfter)))
		}
	}
	return out
}

// readFile reads a small file, and refuses a private one that is open to other
// users. The mode is that of the file read, not of one put in its place since.
func readFile(path string, private bool) ([]byte, error) {
	return readUpTo(path, private, maxFile, "name a PEM file")
}

// readList reads a file that may be long: a revocation list, or what it is made from.
func readList(path string) ([]byte, error) {
	return readUpTo(path, false, maxList, "no longer list is read")
}

func readUpTo(path string, private bool, most int, step string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, readFault(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, readFault(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: is not a regular file; name one", path)
	}
	if mode := info.Mode().Perm(); private && mode&(groupWrite|othersAny) != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o; type: chmod %o %s", ErrKeyExposed, path, mode, narrowed(mode), path)
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, readFault(path, err)
	}
	if len(data) > most {
		return nil, fmt.Errorf("read %s: is larger than %d bytes; %s", path, most, step)
	}
	return data, nil
}

// narrowed is the mode to advise: the group may keep reading, if it did.
func narrowed(mode os.FileMode) os.FileMode {
	if mode&0o040 != 0 {
		return 0o640
	}
	return 0o600
}

func readFault(path string, err error) error {
	step := "check the path"
	if errors.Is(err, os.ErrPermission) {
		step = "let the user sallyport runs as read it"
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("read %s: %w; %s", path, err, step)
}

// serves reports whether a client may accept the certificate from a server.
func serves(leaf *x509.Certificate) bool {
	if len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.ContainsFunc(leaf.ExtKeyUsage, func(u x509.ExtKeyUsage) bool {
		return u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny
	})
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
