package source

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// Limits on what one look at a repository may bring here. A fleet of a thousand
// members is about 300 KiB on the wire.
const (
	// MaxReferences in bytes of the server's list: about 200,000 names.
	MaxReferences = 16 << 20
	// MaxTransfer in bytes of objects as they come over the wire.
	MaxTransfer = 256 << 20
	// MaxObjects that come in one answer.
	MaxObjects = 500_000
	// MaxObjectSize of one object, unpacked.
	MaxObjectSize = 100 << 20
	// MaxUnpacked is the sum of the sizes of all objects of one answer, unpacked.
	MaxUnpacked = 2 << 30
	// MaxHistory is how many commits back from a head an older one is looked for.
	MaxHistory = 8192
)

// limits are those constants, small in tests.
type limits struct {
	references, transfer, objects, objectSize, unpacked int64
	history                                             int
}

func defaultLimits() limits {
	return limits{references: MaxReferences, transfer: MaxTransfer, objects: MaxObjects,
		objectSize: MaxObjectSize, unpacked: MaxUnpacked, history: MaxHistory}
}

// errOverLimit says that the server sent more than it may.
var errOverLimit = errors.New("more than the limit")

// meter counts what a server sends, and stops at the limit. Its methods may be
// called by several goroutines.
type meter struct {
	left atomic.Int64
	over atomic.Bool
}

// allow sets how many bytes may follow.
func (m *meter) allow(n int64) {
	m.left.Store(n)
	m.over.Store(false)
}

// reader returns r until the limit.
func (m *meter) reader(r io.Reader) io.Reader { return metered{r, m} }

type metered struct {
	io.Reader
	meter *meter
}

func (r metered) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.meter.left.Add(-int64(n)) < 0 {
		r.meter.over.Store(true)
		return 0, errOverLimit
	}
	return n, err
}

func tooManyReferences(l limits) error {
	return &Error{Reason: ReasonTooManyReferences, Message: fmt.Sprintf("the repository's list of branches and tags is longer than %s", size(l.references)),
		Hint: "delete branches and tags, or keep the fleet in a repository of its own"}
}

func transferTooLarge(l limits) error {
	return &Error{Reason: ReasonTransferTooLarge, Message: fmt.Sprintf("the repository sends more than %s", size(l.transfer)),
		Hint: "keep the fleet in a repository of its own"}
}

func size(bytes int64) string {
	if bytes >= 1<<20 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d bytes", bytes)
}
