package tlsconf

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"
)

func TestProfiles(t *testing.T) {
	type client struct {
		version uint16
		suite   uint16 // 0: any
	}
	clients := map[string]client{
		"TLS 1.3":       {tls.VersionTLS13, 0},
		"TLS 1.2":       {tls.VersionTLS12, 0},
		"TLS 1.1":       {tls.VersionTLS11, 0},
		"TLS 1.0":       {tls.VersionTLS10, 0},
		"1.2 with CBC":  {tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
		"1.2 with RSA":  {tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256},
		"1.0 with RSA":  {tls.VersionTLS10, tls.TLS_RSA_WITH_AES_128_CBC_SHA},
		"1.2 with 3DES": {tls.VersionTLS12, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA},
		"1.2 with RC4":  {tls.VersionTLS12, tls.TLS_RSA_WITH_RC4_128_SHA},
	}
	for _, tc := range []struct {
		profile Profile
		serves  string
		warns   bool
	}{
		{"", "TLS 1.3, TLS 1.2", false},
		{Compatible, "TLS 1.3, TLS 1.2", false},
		{Modern, "TLS 1.3", false},
		{Legacy, "TLS 1.3, TLS 1.2, TLS 1.1, TLS 1.0, 1.2 with CBC, 1.2 with RSA, 1.0 with RSA", true},
	} {
		t.Run(string(tc.profile), func(t *testing.T) {
			cfg := config(t)
			cfg.Profile = tc.profile
			crt, key := rsaPair(t, 2048)
			cfg.Files = []Files{{crt, key}}
			s, log := mustSource(t, cfg, start)
			if got := strings.Contains(log, "tls.profile is legacy"); got != tc.warns {
				t.Errorf("warned is %v, want %v:\n%s", got, tc.warns, log)
			}
			served := strings.Split(tc.serves, ", ")
			for name, c := range clients {
				config := &tls.Config{InsecureSkipVerify: true, MinVersion: c.version, MaxVersion: c.version, Time: func() time.Time { return start }}
				if c.suite != 0 {
					config.CipherSuites = []uint16{c.suite}
				}
				want := false
				for _, s := range served {
					want = want || s == name
				}
				if err := handshake(t, s.ServerConfig(Off), config); (err == nil) != want {
					t.Errorf("%s: %v, want success %v", name, err, want)
				}
			}
		})
	}
}

func TestProfileByName(t *testing.T) {
	cfg := config(t)
	cfg.Profile = "old"
	if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), `tls.profile: is "old"; give one of modern, compatible, legacy`) {
		t.Errorf("fault: %v", err)
	}
}
