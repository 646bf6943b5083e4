package tlsconf

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

const (
	requestTimeout = 30 * time.Second // of one HTTP request to the CA
	orderTimeout   = 10 * time.Minute // of an order, its challenges and the wait for the CA
)

// orderer orders certificates from the CA. It is used by one goroutine.
type orderer struct {
	cfg    Config
	log    *slog.Logger
	client *acmez.Client
	unkept *acme.Account // that the CA knows, and no file here yet; nil: there is none such
}

// newOrderer prepares, and asks nobody yet.
func newOrderer(cfg Config, log *slog.Logger, challenges *tlsChallenges) (*orderer, error) {
	a := cfg.ACME
	roots, err := a.roots()
	if err != nil {
		return nil, err
	}
	if _, err := a.binding(); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	transport.DisableKeepAlives = true // orders are weeks apart
	solvers := make(map[string]acmez.Solver)
	if a.DNSHook != "" {
		hook := dnsHook{a.DNSHook, log}
		if err := hook.check(); err != nil {
			return nil, err
		}
		solvers[acme.ChallengeTypeDNS01] = hook
	}
	if a.TLS && a.DNSHook == "" {
		solvers[acme.ChallengeTypeTLSALPN01] = challenges
	}
	switch {
	case a.Webroot != "":
		solvers[acme.ChallengeTypeHTTP01] = webroot(a.Webroot)
	case len(a.HTTP) > 0:
		solvers[acme.ChallengeTypeHTTP01] = &httpChallenges{at: a.HTTP, log: log}
	}
	// The library gets no log: what it has to say of a failure is in its error.
	return &orderer{cfg: cfg, log: log, client: &acmez.Client{
		Client: &acme.Client{
			Directory:   a.directory(),
			HTTPClient:  &http.Client{Transport: transport, Timeout: requestTimeout},
			UserAgent:   "sallyport",
			PollTimeout: orderTimeout,
		},
		ChallengeSolvers: solvers,
	}}, nil
}

// roots are those that may vouch for the CA's own server; nil: the system's.
func (a *ACME) roots() (*x509.CertPool, error) {
	if a.Root == "" {
		return nil, nil
	}
	data, err := readFile(a.Root, false)
	if err != nil {
		return nil, fmt.Errorf("tls.acme_ca_root: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("tls.acme_ca_root: %s holds no certificate in PEM; name the file of the CA's root", a.Root)
	}
	return pool, nil
}

// binding is the account held with the CA elsewhere, or nil.
func (a *ACME) binding() (*acme.EAB, error) {
	if a.EABFile == "" {
		return nil, nil
	}
	data, err := readFile(a.EABFile, true)
	if err != nil {
		return nil, fmt.Errorf("tls.acme_eab_file: %w", err)
	}
	key := strings.TrimRight(strings.TrimSpace(string(data)), "=")
	if !plainToken(key) {
		return nil, fmt.Errorf("tls.acme_eab_file: %s holds no key in base64url; put there what the CA calls the HMAC key, and nothing else", a.EABFile)
	}
	return &acme.EAB{KeyID: a.EABKey, MACKey: key}, nil
}

// order gets a certificate with a new key, and returns both as they are kept.
func (o *orderer) order(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	account, err := o.account(ctx)
	if err != nil {
		return nil, err
	}
	key, err := o.cfg.ACME.KeyType.generate()
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	names := make([]string, len(o.cfg.Names))
	for i, n := range o.cfg.Names {
		names[i] = strings.ToLower(n)
	}
	chains, err := o.client.ObtainCertificateForSANs(ctx, account, key, names)
	if isProblem(err, acme.ProblemTypeAccountDoesNotExist) {
		o.log.Warn("the CA does not know the account kept here; making another", "ca", o.cfg.ACME.directory(), "file", o.cfg.accountFile())
		if account, err = o.register(ctx); err == nil {
			chains, err = o.client.ObtainCertificateForSANs(ctx, account, key, names)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, giftError{errors.New("the CA offers no certificate for the order it fulfilled")}
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	// The first is what the CA prefers (RFC 8555 section 7.4.2). Nothing but
	// certificates is taken over from it into a file that holds a key.
	var out bytes.Buffer
	for rest := chains[0].ChainPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			out.Write(encode(block.Type, block.Bytes))
		}
	}
	out.Write(encode("PRIVATE KEY", keyDER))
	return out.Bytes(), nil
}

// keptAccount is the file of the account. It is secret.
type keptAccount struct {
	Directory string `json:"directory"`
	Location  string `json:"location"` // the account's URL
	Email     string `json:"email,omitempty"`
	Key       string `json:"key"` // PEM
}

// account is the one kept here, or a new one. Its contact is brought up to date. One
// that could not be kept is not made again: the CA would count it.
func (o *orderer) account(ctx context.Context) (acme.Account, error) {
	if o.unkept != nil {
		account := *o.unkept
		return account, o.keepAccount(account)
	}
	file := o.cfg.accountFile()
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		return o.register(ctx)
	}
	data, err := readFile(file, true)
	if err != nil {
		return acme.Account{}, fmt.Errorf("edge.state_dir: %w", err)
	}
	var k keptAccount
	var key crypto.Signer
	if err = json.Unmarshal(data, &k); err == nil {
		key, err = parseKey(k.Key)
	}
	if err != nil { // the words would be those of the file
		return acme.Account{}, fmt.Errorf("edge.state_dir: %s holds no ACME account; remove it, and another is made", file)
	}
	account := acme.Account{Status: acme.StatusValid, Location: k.Location, PrivateKey: key, Contact: o.cfg.ACME.contact()}
	if k.Email == o.cfg.ACME.Email {
		return account, nil
	}
	account, err = o.client.UpdateAccount(ctx, account)
	if isProblem(err, acme.ProblemTypeAccountDoesNotExist) {
		return o.register(ctx)
	}
	if err != nil {
		return account, fmt.Errorf("change the account's address: %w", err)
	}
	account.Location = k.Location // an update's answer need not name it
	return account, o.keepAccount(account)
}

// register makes an account (RFC 8555 section 7.3) and keeps it.
func (o *orderer) register(ctx context.Context) (acme.Account, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return acme.Account{}, fmt.Errorf("generate key: %w", err)
	}
	dir, err := o.client.GetDirectory(ctx)
	if err != nil {
		return acme.Account{}, err
	}
	account := acme.Account{Contact: o.cfg.ACME.contact(), TermsOfServiceAgreed: true, PrivateKey: key}
	eab, err := o.cfg.ACME.binding()
	if err != nil {
		return acme.Account{}, err
	}
	if eab != nil {
		if err := account.SetExternalAccountBinding(ctx, o.client.Client, *eab); err != nil {
			return acme.Account{}, errors.New("tls.acme_eab_file: the key can't be used; put there what the CA calls the HMAC key, and nothing else")
		}
	}
	terms := ""
	if dir.Meta != nil {
		terms = dir.Meta.TermsOfService
	}
	o.log.Info("making an account with the CA, and agreeing to its terms, as tls.acme says", "ca", o.cfg.ACME.directory(), "terms", terms)
	if account, err = o.client.NewAccount(ctx, account); err != nil {
		return acme.Account{}, fmt.Errorf("make an account: %w", err)
	}
	return account, o.keepAccount(account)
}

// keepAccount writes an account's file, and remembers the account until it could.
func (o *orderer) keepAccount(account acme.Account) error {
	o.unkept = &account
	der, err := x509.MarshalPKCS8PrivateKey(account.PrivateKey)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	data, err := json.MarshalIndent(keptAccount{
		Directory: o.cfg.ACME.directory(), Location: account.Location, Email: o.cfg.ACME.Email, Key: string(encode("PRIVATE KEY", der)),
	}, "", "\t")
	if err == nil {
		err = o.cfg.keep(kept{o.cfg.acmeName() + "-account.json", data, 0o600})
	}
	if err != nil {
		return fmt.Errorf("edge.state_dir: keep the ACME account: %w; let the user sallyport runs as write there", err)
	}
	o.unkept = nil
	return nil
}

func (a *ACME) contact() []string {
	if a.Email == "" {
		return nil
	}
	return []string{"mailto:" + a.Email}
}

func parseKey(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("no key that signs")
	}
	return signer, nil
}

func isProblem(err error, kind string) bool {
	var p acme.Problem
	return errors.As(err, &p) && p.Type == kind
}
