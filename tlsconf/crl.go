package tlsconf

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// revocations is what a revocation list says, its entries by serial number: a handshake
// looks there, and lists of public CAs have tens of thousands.
type revocations struct {
	raw        []byte // the whole, signed
	rawIssuer  []byte
	issuer     pkix.Name
	keyID      []byte // of the issuer's key; may be empty
	thisUpdate time.Time
	nextUpdate time.Time            // zero: never
	since      map[string]time.Time // by the number, in hexadecimal digits
}

func bySerial(list *x509.RevocationList) *revocations {
	r := &revocations{
		list.Raw, list.RawIssuer, list.Issuer, list.AuthorityKeyId, list.ThisUpdate, list.NextUpdate,
		make(map[string]time.Time, len(list.RevokedCertificateEntries)),
	}
	for _, e := range list.RevokedCertificateEntries {
		r.since[e.SerialNumber.Text(16)] = e.RevocationTime
	}
	return r
}

// parseLists reads certificate revocation lists (RFC 5280 section 5), PEM or one in
// DER, and checks that each is signed by one of the anchors. One that is stale is
// taken: what it revokes stays revoked, and the rest is refused by unrevoked.
func parseLists(data []byte, anchors []*x509.Certificate, now time.Time) ([]*revocations, error) {
	var ders [][]byte
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("holds a %s, which is no revocation list; give only those", block.Type)
		}
		ders = append(ders, block.Bytes)
	}
	if ders == nil {
		ders = [][]byte{data}
	}
	var out []*revocations
	for _, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, errors.New("holds no revocation list that can be read; give one in PEM or DER, of version 2")
		}
		if err := checkList(list, anchors, now); err != nil {
			return nil, err
		}
		out = append(out, bySerial(list))
	}
	return out, nil
}

func checkList(list *x509.RevocationList, anchors []*x509.Certificate, now time.Time) error {
	if !slices.ContainsFunc(anchors, func(ca *x509.Certificate) bool {
		return bytes.Equal(ca.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(ca) == nil
	}) {
		return fmt.Errorf("holds a revocation list by %s that none of tls.client_ca has signed; get it from the CA again", list.Issuer)
	}
	if now.Before(list.ThisUpdate.Add(-clockSlip)) {
		return fmt.Errorf("holds a revocation list by %s of %s, which is yet to come; check this machine's clock", list.Issuer, day(list.ThisUpdate))
	}
	// One for a part of the certificates, or for the changes since another, would be
	// read wrongly, and says so by a critical extension (section 5.2).
	critical := slices.ContainsFunc(list.Extensions, isCritical)
	for _, e := range list.RevokedCertificateEntries {
		critical = critical || slices.ContainsFunc(e.Extensions, isCritical)
	}
	if critical {
		return fmt.Errorf("holds a revocation list by %s that is no complete one (it has a critical extension); get the CA's complete list", list.Issuer)
	}
	return nil
}

// ofList tells whether a list is one that could name a certificate.
func ofList(list *revocations, cert *x509.Certificate) bool {
	return bytes.Equal(list.rawIssuer, cert.RawIssuer) &&
		(len(list.keyID) == 0 || len(cert.AuthorityKeyId) == 0 || bytes.Equal(list.keyID, cert.AuthorityKeyId))
}

// revoked tells whether a list names a certificate of a chain: that of the CA too,
// for which there may be one of its own CA.
func (a *authority) revoked(chain []*x509.Certificate) error {
	for _, cert := range chain {
		for _, list := range a.lists {
			if since, ok := list.since[cert.SerialNumber.Text(16)]; ok && ofList(list, cert) {
				return refusal("revoked", "the client's certificate (%s) is revoked since %s: %s lists serial %s",
					holder(chain[0]), day(since), a.crlFile, serialText(cert.SerialNumber))
			}
		}
	}
	return nil
}

// unrevoked tells why a chain can't be said to be good: it is revoked, or no list
// that is not stale could say so (RFC 5280 section 6.3.3).
func (a *authority) unrevoked(chain []*x509.Certificate, now time.Time) error {
	if err := a.revoked(chain); err != nil || !a.listed {
		return err
	}
	for _, cert := range chain[:len(chain)-1] { // nobody revokes what is trusted by itself
		var freshest *revocations
		for _, list := range a.lists {
			if ofList(list, cert) && (freshest == nil || list.nextUpdate.IsZero() || !freshest.nextUpdate.IsZero() && list.nextUpdate.After(freshest.nextUpdate)) {
				freshest = list
			}
		}
		switch {
		case freshest == nil:
			return refusal("no_crl", "the client's certificate (%s) can't be looked up: %s has no list by %s", holder(chain[0]), a.crlFile, cert.Issuer)
		case !freshest.nextUpdate.IsZero() && now.After(freshest.nextUpdate):
			return refusal("stale_crl", "the client's certificate (%s) can't be looked up: the list by %s in %s is stale since %s; put the CA's present one there",
				holder(chain[0]), cert.Issuer, a.crlFile, freshest.nextUpdate.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// parseSerial reads what serialText writes.
func parseSerial(s string) (*big.Int, error) {
	n, ok := new(big.Int).SetString(strings.ReplaceAll(s, ":", ""), 16)
	if !ok || n.Sign() <= 0 {
		return nil, fmt.Errorf("%q is no serial number", s)
	}
	return n, nil
}

// serialText is a serial number as openssl shows it.
func serialText(n *big.Int) string { return colons(hex.EncodeToString(n.Bytes())) }

func isCritical(e pkix.Extension) bool { return e.Critical }
