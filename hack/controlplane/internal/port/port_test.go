package port

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestReserve(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Glob(filepath.Join(os.TempDir(), "isthmus-ports-*"))
	if err != nil || len(dir) != 1 {
		t.Fatalf("lock folders %q, %v", dir, err)
	}
	number, err := strconv.Atoi(p.String())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := reserve(dir[0], number); again != nil || err != nil {
		t.Errorf("a reserved port was reserved again: %v, %v", again, err)
	}
	listener, err := net.Listen("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	p.Release()
	if again, err := reserve(dir[0], number); again != nil || err != nil {
		t.Errorf("a port on which somebody listens was reserved: %v, %v", again, err)
	}
	listener.Close()
	if again, err := reserve(dir[0], number); again == nil || err != nil {
		t.Errorf("a free port was not reserved: %v", err)
	}
}
