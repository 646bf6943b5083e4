package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/media"
)

type noKeys struct{}

func (noKeys) Secure() Secure { return Secure{} }

type someKeys struct{}

func (someKeys) Secure() Secure {
	return Secure{Keys: media.Keys{SRTP: []media.LiveKey{{Suite: "AEAD_AES_128_GCM", KeySalt: []byte("a key and a salt"), Inward: true}}}}
}

// Root and the edge's own user are told, with the kernel's word for who asks;
// others are not, nor who is not known. The log says who asked, and no key.
func TestKeysAreToldToWhom(t *testing.T) {
	own := uint32(os.Geteuid())
	for _, tc := range []struct {
		name   string
		peer   *unix.Ucred
		status int
	}{
		{"root", &unix.Ucred{Uid: 0, Pid: 7}, 200},
		{"the edge's user", &unix.Ucred{Uid: own, Pid: 7}, 200},
		{"another user", &unix.Ucred{Uid: own + 1000, Pid: 7}, 403},
		{"nobody knows who", nil, 403},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log bytes.Buffer
			k := &keeper{secrets: someKeys{}, log: slog.New(slog.NewJSONHandler(&log, nil))}
			r := httptest.NewRequest("GET", "/keys", nil)
			if tc.peer != nil {
				r = r.WithContext(context.WithValue(r.Context(), peerKey{}, tc.peer))
			}
			w := httptest.NewRecorder()
			k.ServeHTTP(w, r)
			if w.Code != tc.status || strings.Contains(w.Body.String(), "KeySalt") != (tc.status == 200) {
				t.Errorf("status %d: %s", w.Code, w.Body)
			}
			if said := strings.Contains(log.String(), `"pid":7`); said != (tc.peer != nil) || strings.Contains(log.String(), "YSBrZXk") {
				t.Errorf("logged %q", log.String())
			}
			log.Reset()
			k.ServeHTTP(httptest.NewRecorder(), r)
			if tc.status == 200 && log.Len() != 0 {
				t.Error("each time is logged")
			}
		})
	}
}

func TestKeysBySocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	s, err := NewControl(path, Operations{Keys: someKeys{}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }() // ends with ctx; waited for below
	defer func() { cancel(); <-ended }()
	res, err := ControlClient(path).Get("http://control/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	var told Secure
	if err := json.Unmarshal(text, &told); err != nil || res.StatusCode != http.StatusOK || len(told.Keys.SRTP) != 1 || string(told.Keys.SRTP[0].KeySalt) != "a key and a salt" {
		t.Errorf("%s, %v: %s", res.Status, err, text)
	}
}
