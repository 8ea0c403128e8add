package source_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

const someCommit = "1111111111111111111111111111111111111111"

// line is one line of Git's protocol.
func line(text string) string { return fmt.Sprintf("%04x%s", len(text)+4, text) }

// list is a server's answer with these references.
func list(refs ...string) string {
	var b strings.Builder
	b.WriteString(line("# service=git-upload-pack\n") + "0000")
	for i, ref := range refs {
		text := someCommit + " " + ref
		if i == 0 {
			text += "\x00shallow ofs-delta side-band-64k"
		}
		b.WriteString(line(text + "\n"))
	}
	return b.String() + "0000"
}

// packOf is a pack of these entries, each a header and what is compressed.
func packOf(count uint32, entries ...[]byte) []byte {
	var b bytes.Buffer
	b.WriteString("PACK\x00\x00\x00\x02")
	_ = binary.Write(&b, binary.BigEndian, count)
	for _, entry := range entries {
		b.Write(entry)
	}
	sum := sha1.Sum(b.Bytes())
	return append(b.Bytes(), sum[:]...)
}

// packed is an entry of a kind (1 commit, 3 blob, 6 difference to what is back
// bytes before) that says it has a size.
func packed(kind byte, size uint64, back []byte, content []byte) []byte {
	first := kind<<4 | byte(size&0x0f)
	size >>= 4
	var head []byte
	for size > 0 {
		head, first, size = append(head, first|0x80), byte(size&0x7f), size>>7
	}
	head = append(append(head, first), back...)
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write(content)
	_ = w.Close()
	return append(head, b.Bytes()...)
}

// answer is a pack in the form in which a server sends it.
func answer(pack []byte) string {
	var b strings.Builder
	b.WriteString("0000" + line("NAK\n"))
	for len(pack) > 0 {
		n := min(len(pack), 60_000)
		b.WriteString(line("\x01" + string(pack[:n])))
		pack = pack[n:]
	}
	return b.String() + "0000"
}

// hostile answers as it likes.
func hostile(t *testing.T, references string, objects http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
			objects(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		_, _ = w.Write([]byte(references))
	}))
	t.Cleanup(server.Close)
	return server.URL + "/fleet.git"
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

// endless sends until nobody listens.
func endless(begin, again string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write([]byte(begin))
		for chunk := []byte(again); err == nil; {
			_, err = w.Write(chunk)
		}
	}
}

// slow sends a byte now and then.
func slow(w http.ResponseWriter, r *http.Request) {
	for next := "0000f000"; ; next = "x" {
		if _, err := w.Write([]byte(next)); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestHostileServer: whatever a server sends, a look ends with a reason, and
// memory and disk stay bounded.
func TestHostileServer(t *testing.T) {
	main := list("refs/heads/main")
	zeros := bytes.Repeat([]byte{0}, 1<<20)
	blob := packed(3, 100, nil, zeros[:100])
	for _, tt := range []struct {
		reason     string
		references string
		objects    http.HandlerFunc
		want       source.Reason
	}{
		{"no Git at all", "<html>", says(""), source.ReasonUnreachable},
		{"a list that breaks off", main[:len(main)-20], says(""), source.ReasonUnreachable},
		{"a list longer than the limit", list(many(5_000)...), says(""), source.ReasonTooManyReferences},
		{"names that lead elsewhere or to the terminal", list("refs/heads/../../../../tmp/pwned", "refs/heads/\x1b[31mred", "refs/heads/a\nb"), says(""), source.ReasonBranchNotFound},
		{"an empty answer", main, says(""), source.ReasonUnreachable},
		{"no pack", main, says(answer([]byte("what is this"))), source.ReasonMalformed},
		{"a pack that breaks off", main, says(answer(packOf(2, blob)[:30])), source.ReasonMalformed},
		{"fewer objects than it says", main, says(answer(packOf(2, blob))), source.ReasonMalformed},
		{"more objects than the limit", main, says(answer(packOf(1_000_000, blob))), source.ReasonTooManyObjects},
		{"an object that says it is huge", main, says(answer(packOf(1, packed(3, 1<<40, nil, zeros)))), source.ReasonObjectTooLarge},
		{"an object that is more than it says", main, says(answer(packOf(1, packed(3, 10, nil, zeros)))), source.ReasonMalformed},
		{"a difference that makes something huge of little", main, says(answer(packOf(2, blob, packed(6, 8, []byte{byte(len(blob))}, []byte{100, 0x80, 0x80, 0x80, 0x80, 0x40, 0, 0})))), source.ReasonObjectTooLarge},
		{"differences that sum up", main, says(answer(packOf(50, bombs(blob, 49)...))), source.ReasonTransferTooLarge},
		{"a difference to nothing", main, says(answer(packOf(1, packed(6, 3, []byte{7}, []byte{100, 100, 0})))), source.ReasonMalformed},
		{"other objects than were asked for", main, says(answer(packOf(1, blob))), source.ReasonMalformed},
		{"an endless pack", main, endless("0000"+line("NAK\n"), line("\x01"+string(zeros[:60_000]))), source.ReasonTransferTooLarge},
		{"endless words", main, endless("0000"+line("NAK\n"), line("\x02"+strings.Repeat("x", 60_000))), source.ReasonTransferTooLarge},
		{"endless answers that nothing is new", main, endless("0000", line("NAK\n")), source.ReasonTransferTooLarge},
		{"an endless error", main, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			endless("", strings.Repeat("x", 60_000))(w, r)
		}, source.ReasonUnreachable},
		{"a byte now and then", main, slow, source.ReasonTimedOut},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			cache := t.TempDir()
			repository := open(t, cache, source.Options{URL: hostile(t, tt.references, tt.objects)})
			repository.SetLimits(source.Limits{References: 256 << 10, Transfer: 8 << 20, Objects: 10_000, ObjectSize: 8 << 20, Unpacked: 64 << 20})
			timeout := time.Minute
			if tt.want == source.ReasonTimedOut {
				timeout = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, err := repository.Fetch(ctx, "")
			if err == nil || source.ReasonOf(err) != tt.want {
				t.Errorf("error %v (%s), want %s", err, source.ReasonOf(err), tt.want)
			}
			if err != nil && (len(err.Error()) > 1_000 || strings.ContainsAny(err.Error(), "\x1b\n")) {
				t.Errorf("the error has what the server wrote: %.200q", err)
			}
			if used := disk(t, cache); used > 1<<20 {
				t.Errorf("%d bytes are left on disk", used)
			}
		})
	}
}

// bombs are differences of a few bytes that each make 4 MiB of the entry before
// them all.
func bombs(base []byte, count int) [][]byte {
	entries, at := [][]byte{base}, len(base)
	for range count {
		entry := packed(6, 6, offset(at), []byte{100, 0x80, 0x80, 0x80, 0x02, 0})
		entries, at = append(entries, entry), at+len(entry)
	}
	return entries
}

// offset as a pack has it: seven bits a byte, the highest first, each but the
// last one more than it says.
func offset(n int) []byte {
	out := []byte{byte(n & 0x7f)}
	for n >>= 7; n > 0; n >>= 7 {
		n--
		out = append([]byte{byte(n&0x7f) | 0x80}, out...)
	}
	return out
}

func many(count int) []string {
	refs := []string{"refs/heads/main"}
	for i := range count {
		refs = append(refs, fmt.Sprintf("refs/heads/branch-with-a-name-%06d", i))
	}
	return refs
}

func disk(t *testing.T, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// memoryCeiling is generous: a look holds little beside the largest file.
const memoryCeiling = 600 << 20

// TestMemory: a hundred thousand branches, and a file of 64 MiB of zeros in a
// pack of 64 KiB, are read within the ceiling.
func TestMemory(t *testing.T) {
	_, bare := newRemote(t)
	head := history(t, bare, 2)[1]
	var refs strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&refs, "%s refs/heads/feature/%06d\n", head, i)
	}
	if err := os.WriteFile(filepath.Join(bare, "packed-refs"), []byte(refs.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	big := object(t, bare, "blob", make([]byte, source.MaxBytes))
	tree := object(t, bare, "tree", entry(t, "100644", "zeros", big))
	bareCommit(t, bare, tree)
	server := serveGit(t, filepath.Dir(bare), httptest.NewServer, nil)
	peak := watchMemory(t)
	options, cache := source.Options{URL: server.URL + "/fleet.git"}, t.TempDir()
	found := look(t, cache, options, "")
	if _, err := open(t, cache, options).Snapshot(found.Commit); source.ReasonOf(err) != source.ReasonTooLarge {
		t.Errorf("a file at the limit, with its name over it: %v", err)
	}
	used := peak()
	t.Logf("peak of the heap: %d MiB", used>>20)
	if used > memoryCeiling {
		t.Errorf("peak of the heap: %d MiB, more than %d", used>>20, memoryCeiling>>20)
	}
}

// watchMemory samples the heap until its result is called for the peak.
func watchMemory(t *testing.T) func() uint64 {
	t.Helper()
	var peak atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for {
			metrics.Read(sample)
			peak.Store(max(peak.Load(), sample[0].Value.Uint64()))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return peak.Load()
	}
}
