package sdp

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

const password = "passwordpasswordpassword"

// secretSession holds a key and a password in every place there is for one.
func secretSession(tb testing.TB) (*Session, []string) {
	k := key(30)
	line := "1 AES_CM_128_HMAC_SHA1_80 inline:" + k
	s := mustParse(tb, []byte("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=ice-ufrag:ufrag\r\na=ice-pwd:"+password+"\r\n"+
		"m=audio 4000 RTP/SAVP 0\r\na=crypto:"+line+"\r\na=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:AAAA inline:"+k+"\r\n"))
	raw, _ := base64.StdEncoding.DecodeString(k)
	head := raw[:8]
	decimal := strings.Trim(fmt.Sprintf("%d", head), "[]")
	return s, []string{k, k[:12], string(head), hex.EncodeToString(head), strings.ToUpper(hex.EncodeToString(head)),
		decimal, strings.ReplaceAll(decimal, " ", ", "), "0x1, 0x2, 0x3", "01 02 03 04", password}
}

// TestSecretsDoNotPrint prints every model value that holds a secret, in every
// way a program does. The control shows that the needles would be found.
func TestSecretsDoNotPrint(t *testing.T) {
	s, secrets := secretSession(t)
	m := &s.Media[0]
	for name, v := range map[string]any{
		"session": *s, "*session": s, "media": *m, "*media": m, "medias": s.Media, "crypto": m.Crypto[0], "*crypto": &m.Crypto[0],
		"cryptos": m.Crypto, "key": m.Crypto[0].Keys[0], "*key": &m.Crypto[0].Keys[0], "keys": m.Crypto[0].Keys,
		"ice": m.ICE, "*ice": &m.ICE, "map": map[string]any{"x": m.Crypto}, "nested": struct{ S *Session }{s},
		"nested media": struct{ M *Media }{m}, "nested crypto": struct{ C *Crypto }{&m.Crypto[0]}, "nested key": struct{ K *InlineKey }{&m.Crypto[0].Keys[0]},
		"nested ICE": struct{ I *ICE }{&m.ICE}, "pointers": []any{s, m, &m.Crypto[0]},
	} {
		for how, out := range printed(t, v) {
			for _, secret := range secrets {
				if strings.Contains(out, secret) {
					t.Errorf("%s by %s shows %q: %s", name, how, secret, out)
				}
			}
		}
	}
	for i, c := range m.Crypto {
		if err := c.Usable(); err != nil && strings.Contains(err.Error(), secrets[1]) {
			t.Errorf("line %d: error with the key: %v", i, err)
		}
	}
	if got := fmt.Sprint(m.Crypto[0]); got != "1 AES_CM_128_HMAC_SHA1_80 "+redacted {
		t.Errorf("a line prints as %s", got)
	}
	if out := string(s.Marshal()); !strings.Contains(out, secrets[0]) || !strings.Contains(out, password) {
		t.Error("Marshal does not write the secrets")
	}
	for how, out := range printed(t, struct{ Bare []byte }{m.Crypto[0].Keys[0].KeySalt}) { // the control
		found := slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(out, secret) })
		if !found && (how == "%v" || how == "%+v" || how == "%x" || how == "%X" || how == "%s" || how == "%d" || strings.Contains(how, "JSON")) {
			t.Errorf("a bare key is not found in %s: %s", how, out)
		}
	}
}

// printed is v in every way.
func printed(t *testing.T, v any) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%e"} {
		out[verb] = fmt.Sprintf(verb, v)
	}
	out["Print"], out["Errorf"] = fmt.Sprint(v), fmt.Errorf("%w: %v", ErrSyntax, v).Error()
	var text, object bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&object, nil)).Info("x", "v", v)
	out["slog text"], out["slog JSON"] = text.String(), object.String()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out["JSON"] = string(b)
	return out
}
