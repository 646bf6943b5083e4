package tlsconf

import "errors"

// What a caller may branch on. The error that wraps one of these names the
// configuration key and the next step.
var (
	// ErrHalfPair: a certificate was named without its key, or the reverse.
	ErrHalfPair = errors.New("certificate and key must be given together")
	// ErrKeyExposed: other users of the machine can read or change the key.
	ErrKeyExposed = errors.New("the private key is open to other users")
	// ErrMismatch: the key is not the certificate's.
	ErrMismatch = errors.New("the key does not belong to the certificate")
	// ErrExpired: the certificate's time has passed, or has not come.
	ErrExpired = errors.New("the certificate is outside its validity")
	// ErrUnfit: the certificate can't serve TLS (usage, key size).
	ErrUnfit = errors.New("the certificate can not be used by a TLS server")
)

// giftError is why a certificate that the CA has given will never be of use. The CA
// counts it as given.
type giftError struct{ error }

func (e giftError) Unwrap() error { return e.error }
