package peers

import (
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Zone is all names that there are: where they are, and who serves what (RFC 2782).
type Zone struct {
	Addrs    map[string]netip.Addr
	Services map[string][]Service // by a name like _sips._tcp.example.com
}

// Service is one SRV record, of weight 0.
type Service struct {
	Priority uint16
	Host     string
	Port     uint16
}

// Resolves has those who are started on the host from now on find a zone's names by DNS,
// and no others.
func (h *Host) Resolves(z Zone) {
	l := h.lab
	l.t.Helper()
	h.etc("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1\n")
	var conn *net.UDPConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53})
		return err
	})
	if err != nil {
		l.t.Fatalf("listen for DNS on %s: %v", h.Name, err)
	}
	done := make(chan struct{})
	go func() { // ends when the lab's end closes the socket; waited for there
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if answer, err := z.answer(buf[:n]); err == nil {
				_, _ = conn.WriteToUDPAddrPort(answer, from) // lost, it is asked again
			}
		}
	}()
	l.t.Cleanup(func() { conn.Close(); <-done })
}

// answer is what a server for the zone says to a question.
func (z Zone) answer(question []byte) ([]byte, error) {
	var p dnsmessage.Parser
	head, err := p.Start(question)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	addr, placed := z.Addrs[name]
	services, served := z.Services[name]
	out := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	if !placed && !served {
		out.RCode = dnsmessage.RCodeNameError
	}
	rr := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	switch {
	case q.Type == dnsmessage.TypeA && placed:
		out.Answers = append(out.Answers, dnsmessage.Resource{Header: rr, Body: &dnsmessage.AResource{A: addr.As4()}})
	case q.Type == dnsmessage.TypeSRV:
		for _, s := range services {
			target, err := dnsmessage.NewName(s.Host + ".")
			if err != nil {
				return nil, err
			}
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: rr, Body: &dnsmessage.SRVResource{Priority: s.Priority, Port: s.Port, Target: target}})
		}
	}
	return out.Pack()
}
