package bench

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Protocol numbers behind an ESP or IPv4 header.
const (
	protoIPv4 = 4
	protoUDP  = 17
	protoESP  = 50
)

// sealed is an ESP packet around content of a protocol, as RFC 4303 has it, its
// parts as long as a framing says. It returns the packet behind the IP header.
func sealed(f framing, content []byte, next byte, keys espKeys) []byte {
	header := make([]byte, 8)
	binary.BigEndian.PutUint32(header, espSPI)
	binary.BigEndian.PutUint32(header[4:], 1)
	iv := make([]byte, f.part("IV"))
	_, _ = rand.Read(iv)
	padding := f.part("padding")
	text := bytes.Clone(content)
	for i := range padding {
		text = append(text, byte(i+1)) // section 2.4
	}
	text = append(text, byte(padding), next)
	if keys.mac == nil {
		block, _ := aes.NewCipher(keys.cipher[:16])
		gcm, _ := cipher.NewGCM(block)
		return append(append(header, iv...), gcm.Seal(nil, append(bytes.Clone(keys.cipher[16:]), iv...), text, header)...)
	}
	block, _ := aes.NewCipher(keys.cipher)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	p := append(append(header, iv...), text...)
	mac := hmac.New(sha1.New, keys.mac)
	mac.Write(p)
	return append(p, mac.Sum(nil)[:f.part("ICV")]...)
}

const espSPI = 0x5a11

// espKeys are AES-GCM's key and salt, or AES-CBC's key and HMAC-SHA1's.
type espKeys struct{ cipher, mac []byte }

func (f framing) part(name string) int {
	for _, l := range f.Layers {
		if l.Name == name {
			return l.Bytes
		}
	}
	return 0
}

// What is on paper of ESP is a packet that tshark opens, with the sound in it: the
// kernels at hand have no ESP to look at.
func TestESPOnPaper(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Fatalf("find tshark: %v; run make peers", err)
	}
	from, to := netip.MustParseAddrPort("192.0.2.10:20000"), netip.MustParseAddrPort("198.51.100.20:20000")
	frame := make([]byte, rtpAt+rtpLen+payloadLen)
	putRTP(frame[rtpAt:], &call{}, inward, 1)
	putHeaders(frame, make([]byte, 6), make([]byte, 6), from, to, rtpLen+payloadLen)
	tried := 0
	for _, f := range framings() {
		if f.part("ESP header") == 0 {
			continue
		}
		tried++
		t.Run(f.Name, func(t *testing.T) {
			keys, uat := newESPKeys(f)
			content, next := frame[etherLen+ipLen:], byte(protoUDP)
			if f.part("packet") > 0 {
				content, next = frame[etherLen:], protoIPv4
			}
			packet := sealed(f, content, next, keys)
			if got := opened(t, wrapped(f, packet), uat); got != (reading{length: strconv.Itoa(f.bytes()), port: "20000", good: "1"}) {
				t.Errorf("tshark reads %+v, want %d bytes and the sound's port in them", got, f.bytes())
			}
			packet[len(packet)-1] ^= 1
			if got := opened(t, wrapped(f, packet), uat); got.good == "1" {
				t.Errorf("tshark finds an ICV good that is not: %+v", got)
			}
		})
	}
	if tried != 6 {
		t.Errorf("%d framings are ESP's", tried)
	}
}

// newESPKeys are keys, and the association as tshark is told of it.
func newESPKeys(f framing) (keys espKeys, uat string) {
	keys.cipher = make([]byte, 20)
	suite, auth := "AES-GCM with 16 octet ICV [RFC4106]", `"NULL",""`
	if f.part("ICV") == 12 {
		keys.cipher, keys.mac = make([]byte, 16), make([]byte, 20)
		_, _ = rand.Read(keys.mac)
		suite, auth = "AES-CBC [RFC3602]", fmt.Sprintf(`"HMAC-SHA-1-96 [RFC2404]","0x%x"`, keys.mac)
	}
	_, _ = rand.Read(keys.cipher)
	return keys, fmt.Sprintf(`uat:esp_sa:"IPv4","*","*","0x%08x","%s","0x%x",%s,"32-bit","0x00000000"`, espSPI, suite, keys.cipher, auth)
}

// wrapped is a frame with the outer headers of a framing.
func wrapped(f framing, packet []byte) []byte {
	frame := make([]byte, rtpAt+len(packet))
	from, to := netip.MustParseAddrPort("192.0.2.10:4500"), netip.MustParseAddrPort("198.51.100.20:4500")
	putHeaders(frame, make([]byte, 6), make([]byte, 6), from, to, len(packet))
	if f.part("outer UDP") > 0 {
		copy(frame[rtpAt:], packet)
		return frame
	}
	frame = frame[:rtpAt-udpLen+len(packet)]
	head := frame[etherLen:][:ipLen]
	binary.BigEndian.PutUint16(head[2:], uint16(ipLen+len(packet)))
	head[9] = protoESP
	binary.BigEndian.PutUint16(head[10:], 0)
	binary.BigEndian.PutUint16(head[10:], checksum(head))
	copy(frame[etherLen+ipLen:], packet)
	return frame
}

// reading is what tshark reads of a frame: the length of the outermost IP packet, the
// port of the innermost UDP, and whether the ICV is good.
type reading struct{ length, port, good string }

func opened(t *testing.T, frame []byte, uat string) reading {
	t.Helper()
	file := filepath.Join(t.TempDir(), "esp.pcap")
	b := make([]byte, 40)
	for i, v := range []uint32{0xa1b2c3d4, 2 | 4<<16, 0, 0, 65535, 1, 0, 0, uint32(len(frame)), uint32(len(frame))} {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	if err := os.WriteFile(file, append(b, frame...), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tshark", "-n", "-r", file, "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE",
		"-o", uat, "-T", "fields", "-e", "ip.len", "-e", "udp.dstport", "-e", "esp.icv_good")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("read with tshark: %v\n%s", err, stderr.String())
	}
	cells := strings.Split(strings.TrimSpace(string(out)), "\t")
	if len(cells) != 3 {
		t.Fatalf("tshark reads %q", out)
	}
	lengths, ports := strings.Split(cells[0], ","), strings.Split(cells[1], ",")
	return reading{lengths[0], ports[len(ports)-1], cells[2]}
}
