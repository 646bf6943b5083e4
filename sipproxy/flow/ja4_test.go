package flow

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// helloOf makes a ClientHello from lists of four hexadecimal digits, extensions in
// the order given, empty but for those that the fingerprint reads.
func helloOf(t testing.TB, version uint16, ciphers, extensions, signatures, versions, alpn string) []byte {
	t.Helper()
	numbers := func(list string) []byte {
		var out []byte
		for word := range strings.SplitSeq(list, ",") {
			if word == "" {
				continue
			}
			n, err := strconv.ParseUint(word, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			out = binary.BigEndian.AppendUint16(out, uint16(n))
		}
		return out
	}
	with16 := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
	body := binary.BigEndian.AppendUint16(nil, version)
	body = append(body, make([]byte, 32)...)
	body = append(body, 0)
	body = append(append(body, with16(numbers(ciphers))...), 1, 0)
	if extensions != "" {
		var all []byte
		for _, id := range strings.Split(extensions, ",") {
			var data []byte
			switch id {
			case "000d":
				data = with16(numbers(signatures))
			case "002b":
				list := numbers(versions)
				data = append([]byte{byte(len(list))}, list...)
			case "0010":
				data = with16(append([]byte{byte(len(alpn))}, alpn...))
			}
			all = append(append(all, numbers(id)...), with16(data)...)
		}
		body = append(body, with16(all)...)
	}
	return records(append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...), 1<<14)
}

// records puts a message into records of so many bytes.
func records(message []byte, size int) []byte {
	var out []byte
	for len(message) > 0 {
		n := min(size, len(message))
		out = append(out, 22, 3, 1, byte(n>>8), byte(n))
		out, message = append(out, message[:n]...), message[n:]
	}
	return out
}

const (
	chromeCiphers = "1a1a,1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
	chromeSigns   = "0403,0804,0401,0503,0805,0501,0806,0601"
)

func TestJA4(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		hello      []byte
	}{
		// The example of the specification, and a later one of its kind.
		{"Chrome", "t13d1516h2_8daaf6152771_e5627efa2ab1", helloOf(t, 0x0303, chromeCiphers,
			"fafa,001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015", chromeSigns, "2a2a,0304,0303", "h2")},
		{"Chrome 143", "t13d1516h2_8daaf6152771_d8a2da3f94cd", helloOf(t, 0x0303, chromeCiphers,
			"0a0a,002d,0033,0010,fe0d,0017,44cd,0000,000b,000a,002b,ff01,0023,0012,0005,000d,001b,baba", chromeSigns, "2a2a,0304,0303", "h2")},
		{"nothing", "t00i000000_000000000000_000000000000", helloOf(t, 0, "", "", "", "", "")},
		{"no signatures", "t10i010100_" + hash12("002f") + "_" + hash12("000a"), helloOf(t, 0x0301, "002f", "000a", "", "", "")},
		{"SNI and ALPN alone", "t12d0102h1_" + hash12("002f") + "_000000000000", helloOf(t, 0x0303, "002f", "0000,0010", "", "", "http/1.1")},
		{"a hundred suites", "t12i990000_" + hash12(strings.TrimSuffix(strings.Repeat("002f,", 120), ",")) + "_000000000000",
			helloOf(t, 0x0303, strings.TrimSuffix(strings.Repeat("002f,", 120), ","), "", "", "", "")},
	} {
		if got := ja4(tc.hello); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if got := ja4(records(tc.hello[5:], 7)); got != tc.want {
			t.Errorf("%s over records of 7 bytes: %s, want %s", tc.name, got, tc.want)
		}
		for n := range tc.hello {
			if got := ja4(tc.hello[:n]); got != "" {
				t.Fatalf("%s, its first %d bytes: %s", tc.name, n, got)
			}
		}
	}
	for name, want := range map[string]string{"": "00", "h2": "h2", "h": "hh", "\xab": "ab", "\xab\xcd": "ad", "0\xab": "3b", "01\xab\xcd": "3d", "0\xab\xcd1": "01", "sip/2": "s2"} {
		if got := alpnWord(name); got != want {
			t.Errorf("ALPN %q: %s, want %s", name, got, want)
		}
	}
}

// What crypto/tls sends reads as what it was told to send.
func TestJA4OfClient(t *testing.T) {
	a, b := net.Pipe()
	go func() { // ends with the deadline or the read; waited for by the close
		_ = b.SetDeadline(time.Now().Add(longest))
		_ = tls.Client(b, &tls.Config{ServerName: "pbx.example.com", NextProtos: []string{"sip"}, MaxVersion: tls.VersionTLS12}).Handshake()
		b.Close()
	}()
	defer a.Close()
	hello := make([]byte, maxHello)
	n, err := a.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	if got := ja4(hello[:n]); !strings.HasPrefix(got, "t12d") || !strings.Contains(got, "sp_") {
		t.Errorf("the fingerprint is %q", got)
	}
}

func FuzzJA4(f *testing.F) {
	f.Add(helloOf(f, 0x0303, chromeCiphers, "0000,0010,002b,000d", chromeSigns, "0304", "h2"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := string(b)
		got := ja4(b)
		if string(b) != before {
			t.Fatal("what was read is changed")
		}
		if got != "" && len(got) != len("t13d1516h2_8daaf6152771_e5627efa2ab1") {
			t.Fatalf("%q is no fingerprint", got)
		}
	})
}
