package packet

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Poller waits for sockets to become readable.
type Poller struct {
	epoll  int
	wake   int
	events [128]unix.EpollEvent
	ready  [128]int
}

// NewPoller returns an empty poller.
func NewPoller() (*Poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	p := &Poller{epoll: epoll, wake: wake}
	if err := p.Add(wake); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Add watches a socket.
func (p *Poller) Add(fd int) error {
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// Wait returns the descriptors that are ready, at the latest after timeout, or
// when Wake was called. The slice is valid until the next Wait.
func (p *Poller) Wait(timeout time.Duration) (ready []int, err error) {
	n, err := unix.EpollWait(p.epoll, p.events[:], int(timeout.Milliseconds()))
	if err != nil {
		if errors.Is(err, unix.EINTR) {
			return nil, nil
		}
		return nil, fmt.Errorf("wait for packets: %w", err)
	}
	count := 0
	for i := range n {
		fd := int(p.events[i].Fd)
		if fd == p.wake {
			var b [8]byte
			_, _ = unix.Read(p.wake, b[:]) // resets it; empty if it was reset already
			continue
		}
		p.ready[count] = fd
		count++
	}
	return p.ready[:count], nil
}

// Wake makes a Wait, or the next one, return. It may be called from any
// goroutine until Close.
func (p *Poller) Wake() {
	one := [8]byte{1}
	_, _ = unix.Write(p.wake, one[:]) // fails only if it is awake many times over
}

// Close frees the poller.
func (p *Poller) Close() {
	_ = unix.Close(p.wake)
	_ = unix.Close(p.epoll)
}
