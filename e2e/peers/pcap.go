package peers

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"time"
)

// The link types of a capture's packets, as libpcap numbers them.
const (
	linkEthernet = 1
	linkIP       = 101
)

const (
	pcapHead   = 24 // of the file
	pcapRecord = 16 // before each packet
	etherHead  = 14
)

// pcapFile is a file of packets that tshark reads. It is written by one
// goroutine at a time.
type pcapFile struct {
	f   *os.File
	buf *bufio.Writer
}

func createPcap(name string, link uint32) (*pcapFile, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	p := &pcapFile{f, bufio.NewWriterSize(f, 1<<20)}
	head := make([]byte, pcapHead)
	binary.LittleEndian.PutUint32(head, 0xa1b2c3d4)
	binary.LittleEndian.PutUint16(head[4:], 2)
	binary.LittleEndian.PutUint16(head[6:], 4)
	binary.LittleEndian.PutUint32(head[16:], 65535)
	binary.LittleEndian.PutUint32(head[20:], link)
	_, err = p.buf.Write(head)
	return p, err
}

// write adds a packet, which is borrowed.
func (p *pcapFile) write(at time.Time, packet []byte) {
	var head [pcapRecord]byte
	binary.LittleEndian.PutUint32(head[:], uint32(at.Unix()))
	binary.LittleEndian.PutUint32(head[4:], uint32(at.Nanosecond()/1000))
	binary.LittleEndian.PutUint32(head[8:], uint32(len(packet)))
	binary.LittleEndian.PutUint32(head[12:], uint32(len(packet)))
	_, _ = p.buf.Write(head[:]) // the first error stays, and is told by close
	_, _ = p.buf.Write(packet)
}

func (p *pcapFile) close() error {
	err := p.buf.Flush()
	if e := p.f.Close(); err == nil {
		err = e
	}
	return err
}

// readPcap reads the packets of a file that a pcapFile wrote, from their IP
// headers on; those of an Ethernet that are not IPv4 come without any byte.
func readPcap(name string) ([]Packet, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if len(b) < pcapHead {
		return nil, fmt.Errorf("read %s: %d bytes", name, len(b))
	}
	link := binary.LittleEndian.Uint32(b[20:])
	var all []Packet
	for b = b[pcapHead:]; len(b) >= pcapRecord; {
		size := int(binary.LittleEndian.Uint32(b[8:]))
		if len(b) < pcapRecord+size {
			return nil, fmt.Errorf("read %s: it ends within a packet", name)
		}
		at := time.Unix(int64(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint32(b[4:]))*1000)
		data := b[pcapRecord : pcapRecord+size]
		if link == linkEthernet {
			if size < etherHead || binary.BigEndian.Uint16(data[12:]) != 0x0800 {
				data = data[:etherHead]
			}
			data = data[etherHead:]
		}
		all = append(all, Packet{At: at, Data: data})
		b = b[pcapRecord+size:]
	}
	return all, nil
}
