package packet

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Poller waits for sockets to become readable: an epoll set, itself waited for
// in Go's own. A system call that blocks would be taken for a stuck thread some
// 20 µs later: the runtime's monitor would take its processor away and give it
// back at each wait, which costs more than the packets do.
//
// Sockets are watched for edges: a set that tells levels asks each socket once
// more at the next wait. So what is left in one must be remembered, by Again.
type Poller struct {
	owner  sync.Locker // locked by whoever uses the poller, but while Wait waits
	epoll  int
	file   *os.File // of epoll
	conn   syscall.RawConn
	poll   func(fd uintptr) bool // kept, as each would be an allocation
	wake   int                   // eventfd
	tick   int                   // timerfd
	events [128]unix.EpollEvent
	ready  []int
	again  []int
	noted  []bool // by descriptor: it is in again
}

// NewPoller returns an empty poller. Its Wait returns at each tick at least.
//
// All but Wake is called with owner locked, which is unlocked while Wait waits:
// others may then use the poller, and what it is a part of.
func NewPoller(tick time.Duration, owner sync.Locker) (*Poller, error) {
	p := &Poller{owner: owner, wake: -1, tick: -1}
	p.poll = p.look
	if err := p.open(tick); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Poller) open(tick time.Duration) (err error) {
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("create epoll: %w", err)
	}
	if err := unix.SetNonblock(p.epoll, true); err != nil { // or os.File would not let Go's poller wait
		_ = unix.Close(p.epoll)
		return fmt.Errorf("set epoll non-blocking: %w", err)
	}
	p.file = os.NewFile(uintptr(p.epoll), "epoll")
	if p.conn, err = p.file.SyscallConn(); err != nil {
		return fmt.Errorf("wait for epoll: %w", err)
	}
	if p.tick, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("create timer: %w", err)
	}
	every := unix.NsecToTimespec(int64(tick))
	if err := unix.TimerfdSettime(p.tick, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("create eventfd: %w", err)
	}
	if err := p.add(p.tick, unix.EPOLLIN); err != nil {
		return err
	}
	return p.add(p.wake, unix.EPOLLIN)
}

// Add watches a socket. What waits in it already is told once.
func (p *Poller) Add(fd int) error { return p.addEdges(fd, unix.EPOLLIN) }

func (p *Poller) addEdges(fd int, events uint32) error {
	for fd >= len(p.noted) {
		p.noted = append(p.noted, make([]bool, len(p.noted)+64)...)
	}
	return p.add(fd, events|unix.EPOLLET)
}

func (p *Poller) add(fd int, events uint32) error {
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// Remove forgets a socket that stays open.
func (p *Poller) Remove(fd int) {
	_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil) // it fails only where it is not there
}

// Again makes the next Wait return a socket that was not emptied.
func (p *Poller) Again(fd int) {
	if !p.noted[fd] {
		p.noted[fd] = true
		p.again = append(p.again, fd)
	}
}

// Wait returns the sockets that became readable, or none at a tick, or when
// Wake was called. The slice is valid until the next Wait.
func (p *Poller) Wait() ([]int, error) {
	p.ready, p.again = p.again, p.ready[:0]
	known := len(p.ready)
	p.owner.Unlock()
	if err := p.conn.Read(p.poll); err != nil { // else look has locked owner
		p.owner.Lock()
		return nil, fmt.Errorf("wait for packets: %w", err)
	}
	for _, fd := range p.ready[:known] {
		p.noted[fd] = false
	}
	return p.ready, nil
}

// look reads what is ready, and tells whether anything is: then owner stays locked.
func (p *Poller) look(fd uintptr) bool {
	p.owner.Lock()
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	if errno != 0 { // it does not wait, so nothing interrupts it
		n = 0
	}
	for _, e := range p.events[:n] {
		if at := int(e.Fd); at == p.wake || at == p.tick {
			var b [8]byte
			_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(at), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))) // resets it
		} else if !p.noted[at] {
			p.ready = append(p.ready, at)
		}
	}
	if n > 0 || len(p.ready) > 0 {
		return true
	}
	p.owner.Unlock()
	return false
}

// Wake makes a Wait, or the next one, return. It may be called from any
// goroutine until Close.
func (p *Poller) Wake() {
	one := [8]byte{1}
	_, _ = unix.Write(p.wake, one[:]) // fails only if it is awake many times over
}

// Close frees the poller. It is not called during a Wait.
func (p *Poller) Close() {
	if p.file != nil {
		_ = p.file.Close()
	}
	for _, fd := range []int{p.wake, p.tick} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
