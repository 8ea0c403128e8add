//go:build unix

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// lockFile takes the lock that the file stands for, waiting until ctx ends, and
// calls waiting once if it has to. The kernel frees it when a process dies.
func lockFile(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, err
		}
		if !told {
			waiting()
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// A port is a TCP port of 127.0.0.1 that is ours until we release it, even while
// nothing listens on it.
type port struct {
	number int
	lock   *os.File
}

func (p *port) String() string   { return strconv.Itoa(p.number) }
func (p *port) address() string  { return net.JoinHostPort("127.0.0.1", p.String()) }
func (p *port) release()         { p.lock.Close() }
func (p *port) url() string      { return "https://" + p.address() }
func portLock(number int) string { return filepath.Join(os.TempDir(), portDir(), strconv.Itoa(number)) }
func portDir() string            { return fmt.Sprintf("isthmus-ports-%d", os.Getuid()) }

// Ports come from below the range that kernels use for outgoing connections: a
// stopped API server finds its port free when it starts again.
const firstPort, lastPort = 20000, 32000

// freePort reserves a port among all processes that use this package. A lock
// file holds the reservation; that the port is free is tried.
func freePort() (*port, error) {
	if err := os.MkdirAll(filepath.Join(os.TempDir(), portDir()), 0o700); err != nil {
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	for range 500 {
		number := firstPort + rand.IntN(lastPort-firstPort)
		file, err := os.OpenFile(portLock(number), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("reserve a port: %w", err)
		}
		p := &port{number: number, lock: file}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			file.Close()
			continue
		}
		if listener, err := net.Listen("tcp", p.address()); err == nil {
			listener.Close()
			return p, nil
		}
		file.Close()
	}
	return nil, errors.New("reserve a port: none is free")
}
