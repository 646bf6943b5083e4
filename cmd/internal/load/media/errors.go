package media

import "errors"

// What is wrong with a description, or with what came of it.
var (
	ErrNoAudio     = errors.New("the description has no audio with a codec that we speak")
	ErrUnkeyed     = errors.New("the description has no key that we can use")
	ErrPath        = errors.New("ICE found no path")
	ErrFingerprint = errors.New("the DTLS certificate is not the one of the description")
	ErrHandshake   = errors.New("the DTLS handshake failed")
)

// What may be wrong with what was heard.
var (
	ErrSilent = errors.New("nothing was heard")
	ErrWrong  = errors.New("another sound was heard")
	ErrEarly  = errors.New("before the answer another sound was heard, or none")
)
