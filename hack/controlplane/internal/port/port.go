//go:build unix

// Package port reserves TCP ports of 127.0.0.1.
//
// A reservation holds among all processes that use this package, until it is
// released or its process dies, also while nothing listens. Other programs can
// still take the port; they seldom do, as ports come from below the range that
// kernels use for outgoing connections.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const first, last = 20000, 32000

// A Port is one reserved port.
type Port struct {
	number int
	lock   *os.File
}

// Reserve finds a port on which nothing listens.
func Reserve() (*Port, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("isthmus-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	for range 500 {
		number := first + rand.IntN(last-first)
		p, err := reserve(dir, number)
		if err != nil {
			return nil, fmt.Errorf("reserve port %d: %w", number, err)
		}
		if p != nil {
			return p, nil
		}
	}
	return nil, errors.New("reserve a port: none is free")
}

// reserve returns nil if the port is taken.
func reserve(dir string, number int) (*Port, error) {
	lock, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(number)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Port{number: number, lock: lock}
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		p.Release()
		return nil, nil
	}
	listener, err := net.Listen("tcp", p.Address())
	if err != nil {
		p.Release()
		return nil, nil
	}
	return p, listener.Close()
}

// String is the number.
func (p *Port) String() string { return strconv.Itoa(p.number) }

// Address is 127.0.0.1 and the port, as dialers take it.
func (p *Port) Address() string { return net.JoinHostPort("127.0.0.1", p.String()) }

// Release gives the port back.
func (p *Port) Release() { _ = p.lock.Close() }
