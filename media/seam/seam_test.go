package seam

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (out int, w *Writer) {
	t.Helper()
	out, in, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	w = NewWriter(in)
	t.Cleanup(func() { w.Close(); _ = unix.Close(out) })
	return out, w
}

func TestDatagramsKeepTheirSource(t *testing.T) {
	out, w := pair(t)
	buf := make([]byte, 70000)
	for _, from := range []string{"203.0.113.9:40000", "[2001:db8::9]:1", "0.0.0.0:65535"} {
		for _, size := range []int{1, 172, 1500, 60000} {
			want := bytes.Repeat([]byte{7}, size)
			if w.Pass(netip.MustParseAddrPort(from), want) != Passed {
				t.Fatalf("%d bytes from %s were dropped", size, from)
			}
			n, err := unix.Read(out, buf)
			if err != nil {
				t.Fatal(err)
			}
			if got, p, ok := Cut(buf[:n]); !ok || got.String() != from || !bytes.Equal(p, want) {
				t.Errorf("%d bytes from %s came as %d from %s, %v", size, from, len(p), got, ok)
			}
		}
	}
}

// What nobody takes out is bounded, and who puts more in does not wait.
func TestFullSeamDrops(t *testing.T) {
	out, w := pair(t)
	from, p := netip.MustParseAddrPort("203.0.113.9:40000"), make([]byte, 1000)
	n := 0
	for ; n < 1<<20 && w.Pass(from, p) == Passed; n++ {
	}
	if fate := w.Pass(from, p); n < 50 || n == 1<<20 || fate != Full {
		t.Fatalf("a seam holds %d datagrams, and the next has fate %d, want %d", n, fate, Full)
	}
	if _, err := unix.Read(out, make([]byte, 2000)); err != nil {
		t.Fatal(err)
	}
	if w.Pass(from, p) != Passed {
		t.Error("there is no room where one was taken out")
	}
}

func TestNobodyAtTheOtherEnd(t *testing.T) {
	out, w := pair(t)
	_ = unix.Close(out)
	for range 2 { // the kernel tells it in two ways
		if fate := w.Pass(netip.MustParseAddrPort("203.0.113.9:40000"), []byte("x")); fate != Vain {
			t.Errorf("a datagram to nobody has fate %d, want %d", fate, Vain)
		}
	}
}

func TestCutRefuses(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, Head-1), make([]byte, Head)} {
		if _, _, ok := Cut(b); ok {
			t.Errorf("%d bytes are a datagram", len(b))
		}
	}
	out, w := pair(t)
	if w.Pass(netip.AddrPort{}, nil) != Vain {
		t.Error("nothing was passed")
	}
	if _, err := unix.Read(out, make([]byte, 10)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("an empty seam gave %v", err)
	}
}

func TestPassAllocatesNothing(t *testing.T) {
	out, w := pair(t)
	from, p, buf := netip.MustParseAddrPort("[2001:db8::9]:1"), make([]byte, 172), make([]byte, 2000)
	if n := testing.AllocsPerRun(200, func() {
		if w.Pass(from, p) != Passed {
			t.Fatal("dropped")
		}
		_, _ = unix.Read(out, buf)
	}); n != 0 {
		t.Errorf("%v allocations a datagram", n)
	}
}
