package main

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "write what the commands print into testdata")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TMPDIR", e.WorkDir)
			for _, name := range []string{"TLS", "ADMIN", "SIP", "MEDIA", "TLS2", "ADMIN2", "SIP2", "MEDIA2", "TRUNK2"} {
				e.Setenv(name, strconv.Itoa(int(freePort(t))))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"expand": expand, "await": await},
	})
}

var (
	firstPort  = rand.Uint32N(4000) // two runs side by side begin apart
	portsGiven atomic.Uint32
)

// freePort was free a moment ago, and is given once. It is even and its neighbour is
// free, as media wants it. It is none of the plain ports of media, of those that the
// kernel gives to whoever asks for any, nor of another package's tests, which run
// meanwhile.
func freePort(t *testing.T) uint16 {
	for range 100 {
		port := 11000 + int((firstPort+2*portsGiven.Add(1))%4000)&^1
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		if free(port) && free(port+1) {
			return uint16(port)
		}
	}
	t.Fatal("no port is free")
	return 0
}

func free(port int) bool {
	s, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return false
	}
	s.Close()
	return true
}

// expand FILE puts the script's variables into a file.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expand FILE")
	}
	path := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(path, []byte(os.Expand(ts.ReadFile(path), ts.Getenv)), 0o600))
}

// await URL TEXT asks until the answer holds the text.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await URL TEXT")
	}
	var last string
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get(args[0])
		if err != nil {
			last = err.Error()
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if last = string(body); strings.Contains(last, args[1]) {
			return
		}
	}
	ts.Fatalf("%s never said %q, last: %s", args[0], args[1], last)
}
