package answer

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
)

const (
	realm     = "sallyload"
	nonceLife = 5 * time.Minute
)

// nonce is one of a moment, which only this server can have made.
func (s *Server) nonce(at time.Time) string {
	stamp := strconv.FormatInt(at.Unix(), 16)
	mac := hmac.New(sha256.New, s.secret[:])
	mac.Write([]byte(stamp))
	return stamp + "-" + hex.EncodeToString(mac.Sum(nil)[:12])
}

func (s *Server) fresh(nonce string) bool {
	stamp, _, _ := strings.Cut(nonce, "-")
	at, err := strconv.ParseInt(stamp, 16, 64)
	made := time.Unix(at, 0)
	return err == nil && subtle.ConstantTimeCompare([]byte(nonce), []byte(s.nonce(made))) == 1 && time.Since(made) < nonceLife
}

func (s *Server) algorithm() string {
	if s.config.SHA256 {
		return "SHA-256"
	}
	return "MD5"
}

// challenge asks for a password.
func (s *Server) challenge(d *message.Draft) *message.Draft {
	c := digest.Challenge{Realm: realm, Nonce: s.nonce(time.Now()), Algorithm: s.algorithm(), QOP: []string{"auth"}}
	return d.Add("WWW-Authenticate", c.String())
}

// authenticated tells whether a request answers a challenge of this server.
func (s *Server) authenticated(r *sip.Request) bool {
	got, err := digest.ParseCredentials(message.Get(r, "Authorization"))
	if err != nil || got.Realm != realm || !strings.EqualFold(got.Algorithm, s.algorithm()) || !s.fresh(got.Nonce) {
		return false
	}
	c := &digest.Challenge{Realm: realm, Nonce: got.Nonce, Algorithm: s.algorithm(), QOP: []string{"auth"}}
	want, err := digest.Digest(c, digest.Options{
		Method: string(r.Method), URI: got.URI, Count: got.Nc, Cnonce: got.Cnonce,
		Username: got.Username, Password: strings.ReplaceAll(s.config.Password, "%s", got.Username),
	})
	return err == nil && subtle.ConstantTimeCompare([]byte(want.Response), []byte(got.Response)) == 1
}
