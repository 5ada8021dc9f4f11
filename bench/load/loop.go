package main

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"
)

// Loop serves all connections in one goroutine. It waits by raw system calls, which the runtime does not know of: with
// the runtime's own poller there is a futex and a nanosleep for each call, which takes twice the CPU of the call itself.
type Loop struct {
	epoll    int
	sockets  map[int32]*Socket
	deadline time.Time
	buffer   []byte
}

// Socket is one connection that does not block. `receive` takes what has arrived.
type Socket struct {
	loop      *Loop
	fd        int
	output    []byte
	isWaiting bool // for room to write
	receive   func([]byte) error
	onEnd     func() // without it the end is an error
}

const waitMs = 100

func newLoop(timeout time.Duration) (*Loop, error) {
	epoll, err := syscall.EpollCreate1(0)
	return &Loop{
		epoll: epoll, sockets: map[int32]*Socket{}, deadline: time.Now().Add(timeout), buffer: make([]byte, 1<<18),
	}, err
}

// dial connects, and waits for it.
func (l *Loop) dial(target string) (*Socket, error) {
	address, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("connect to %s: %w", target, err)
	}
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetNonblock(fd, true),
		syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}),
	)
	socket := &Socket{loop: l, fd: fd}
	l.sockets[int32(fd)] = socket
	return socket, err
}

// until serves the connections until that is so.
func (l *Loop) until(isSo func() bool) error {
	var events [64]syscall.EpollEvent
	for !isSo() {
		if time.Now().After(l.deadline) {
			return errors.New("no end in the time that was given")
		}
		count, _, code := syscall.RawSyscall6(
			syscall.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), waitMs, 0, 0,
		)
		if code == syscall.EINTR {
			continue
		}
		if code != 0 {
			return code
		}
		for _, event := range events[:count] {
			socket := l.sockets[event.Fd]
			if event.Events&^syscall.EPOLLOUT != 0 {
				if err := socket.read(); err != nil {
					return err
				}
			}
			if err := socket.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Socket) read() error {
	count, _, code := syscall.RawSyscall(
		syscall.SYS_READ, uintptr(s.fd), uintptr(unsafe.Pointer(&s.loop.buffer[0])), uintptr(len(s.loop.buffer)),
	)
	switch {
	case code == syscall.EAGAIN || code == syscall.EINTR:
		return nil
	case code != 0:
		return code
	case count == 0 && s.onEnd != nil:
		s.onEnd()
		return nil
	case count == 0:
		return errors.New("the server closed a connection")
	}
	return s.receive(s.loop.buffer[:count])
}

// Write adds to what flush writes.
func (s *Socket) Write(data []byte) (int, error) {
	s.output = append(s.output, data...)
	return len(data), nil
}

func (s *Socket) flush() error {
	for len(s.output) > 0 {
		count, _, code := syscall.RawSyscall(
			syscall.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(&s.output[0])), uintptr(len(s.output)),
		)
		if code == syscall.EAGAIN {
			return s.await(syscall.EPOLLIN|syscall.EPOLLOUT, true)
		}
		if code != 0 && code != syscall.EINTR {
			return code
		}
		if code == 0 {
			s.output = append(s.output[:0], s.output[count:]...)
		}
	}
	return s.await(syscall.EPOLLIN, false)
}

// await changes what is waited for, where it is not that already.
func (s *Socket) await(events uint32, isWaiting bool) error {
	if s.isWaiting == isWaiting {
		return nil
	}
	s.isWaiting = isWaiting
	return syscall.EpollCtl(s.loop.epoll, syscall.EPOLL_CTL_MOD, s.fd, &syscall.EpollEvent{Events: events, Fd: int32(s.fd)})
}
