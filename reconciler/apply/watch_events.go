package apply

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// maxEvent is the longest event that is taken, in bytes. An API server keeps no
// object of more than 1.5 MiB, and its metadata is all that comes.
const maxEvent = 2 << 20

// event is one line of a watch. A bookmark has a version only.
type event struct {
	kind   watch.EventType
	object metav1.ObjectMeta
}

// events reads a watch. It holds next to nothing while it waits: there is one for
// every kind of every member.
type events struct {
	from io.Reader
	some [256]byte
	// rest of what was read: the lines that were not asked for, and the beginning
	// of the next. Nil while there is nothing.
	rest []byte
}

// next waits for an event. At the end of the watch it is io.EOF, also in the
// middle of a line; an error that the API server tells is that error.
func (e *events) next() (event, error) {
	line, err := e.line()
	if err != nil {
		return event{}, err
	}
	var told struct {
		Type   watch.EventType `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := json.Unmarshal(line, &told); err != nil {
		return event{}, fmt.Errorf("read an event: %w", err)
	}
	if told.Type == watch.Error {
		status := metav1.Status{}
		if err := json.Unmarshal(told.Object, &status); err != nil {
			return event{}, fmt.Errorf("read an error that a watch told: %w", err)
		}
		return event{}, apierrors.FromObject(&status)
	}
	var object metav1.PartialObjectMetadata
	if err := json.Unmarshal(told.Object, &object); err != nil {
		return event{}, fmt.Errorf("read the object of an event: %w", err)
	}
	return event{kind: told.Type, object: object.ObjectMeta}, nil
}

// line is the next one that is not empty.
func (e *events) line() ([]byte, error) {
	searched := 0
	for {
		if end := bytes.IndexByte(e.rest[searched:], '\n'); end >= 0 {
			line := e.rest[:searched+end]
			e.rest = e.rest[searched+end+1:]
			if searched = 0; len(e.rest) == 0 {
				e.rest = nil
			}
			if len(bytes.TrimSpace(line)) > 0 {
				return line, nil
			}
			continue
		}
		if searched = len(e.rest); searched > maxEvent {
			return nil, fmt.Errorf("an event is longer than %d bytes", maxEvent)
		}
		n, err := e.from.Read(e.some[:])
		e.rest = append(e.rest, e.some[:n]...)
		if n == 0 && err != nil {
			return nil, err
		}
	}
}
