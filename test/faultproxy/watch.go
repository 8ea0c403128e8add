package faultproxy

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strings"
)

// ExpireWatch accepts a watch and ends it with an event of 410, as an API server
// does that has compacted what the watch would need.
func ExpireWatch(x *Exchange) {
	x.Writer.Header().Set("Content-Type", "application/json")
	x.Writer.WriteHeader(http.StatusOK)
	event, err := json.Marshal(map[string]any{
		"type": "ERROR", "object": json.RawMessage(statusObject(http.StatusGone, "Expired", "too old resource version")),
	})
	if err == nil {
		_, _ = x.Writer.Write(append(event, '\n')) // the client may be gone
	}
}

// SilentWatch accepts a watch and never tells anything.
func SilentWatch(x *Exchange) {
	x.Writer.Header().Set("Content-Type", "application/json")
	x.Writer.WriteHeader(http.StatusOK)
	x.Flush()
	x.Hang()
}

// NoBookmarks keeps bookmarks from watches.
func NoBookmarks(x *Exchange) { DropEvents(func(kind string) bool { return kind == "BOOKMARK" })(x) }

// DropEvents passes a watch on but for the events whose type (ADDED, MODIFIED,
// DELETED, BOOKMARK or ERROR) is dropped. It is asked at each event, so it can
// change its mind; what was dropped does not come again.
func DropEvents(dropped func(kind string) bool) Fault {
	return func(x *Exchange) {
		// Compressed frames cannot be told apart.
		x.Request.Header.Del("Accept-Encoding")
		events := &frames{dropped: dropped}
		x.Writer = &shaped{ResponseWriter: x.Writer, write: func(w http.ResponseWriter, data []byte) (int, error) {
			events.binary = strings.Contains(w.Header().Get("Content-Type"), "protobuf")
			if _, err := w.Write(events.kept(data)); err != nil {
				return 0, err
			}
			return len(data), nil
		}}
		x.Pass()
	}
}

// frames cuts the body of a watch into its events: lines of JSON, or protobuf
// with a length of four bytes before each.
type frames struct {
	binary  bool
	dropped func(kind string) bool
	rest    []byte
}

// kept takes more of a body and returns whole events that are not dropped.
func (f *frames) kept(data []byte) []byte {
	f.rest = append(f.rest, data...)
	var out []byte
	for {
		frame := f.next()
		if frame == nil {
			return out
		}
		if !f.dropped(f.kind(frame)) {
			out = append(out, frame...)
		}
	}
}

func (f *frames) next() []byte {
	end := 0
	if f.binary {
		if len(f.rest) < 4 {
			return nil
		}
		end = 4 + int(binary.BigEndian.Uint32(f.rest))
	} else {
		end = bytes.IndexByte(f.rest, '\n') + 1
	}
	if end == 0 || end > len(f.rest) {
		return nil
	}
	frame := bytes.Clone(f.rest[:end])
	f.rest = f.rest[end:]
	return frame
}

// kind is the type of an event. In protobuf it is the first field of a
// WatchEvent: a tag, a length of one byte, the text.
func (f *frames) kind(frame []byte) string {
	if !f.binary {
		var event struct{ Type string }
		_ = json.Unmarshal(frame, &event) // what is no event has no type
		return event.Type
	}
	body := frame[4:]
	if len(body) < 2 || body[0] != 0x0a || len(body) < 2+int(body[1]) {
		return ""
	}
	return string(body[2 : 2+int(body[1])])
}
