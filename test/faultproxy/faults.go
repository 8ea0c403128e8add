package faultproxy

import (
	"net/http"
	"strconv"
	"time"
)

// Delay lets the call wait between two times, evenly spread, before it passes.
func Delay(least, most time.Duration) Fault {
	return func(x *Exchange) {
		if x.Wait(least + time.Duration(x.proxy.chance()*float64(most-least))) {
			x.Pass()
		}
	}
}

// Reset breaks the connection by a TCP reset. The call does not reach the API
// server, and what else is under way on the connection is lost with it.
func Reset(x *Exchange) { resetConnection(x.Request) }

// Lose lets the call reach the API server and breaks its connection instead of
// answering.
func Lose(x *Exchange) {
	x.Writer = nowhere{http.Header{}}
	x.Pass()
	resetConnection(x.Request)
}

// Before tells that a call has come and keeps it from the API server: the client
// waits until somebody ends it.
func Before(came func()) Fault {
	return func(x *Exchange) {
		came()
		x.Hang()
	}
}

// After is Before for a call that the API server has answered: only the client
// does not know.
func After(answered func()) Fault {
	return func(x *Exchange) {
		x.Writer = nowhere{http.Header{}}
		x.Pass()
		answered()
		x.Hang()
	}
}

// Silence never answers the call.
func Silence(x *Exchange) { x.Hang() }

// Refuse answers with a code of its own, without asking the API server.
func Refuse(code int) Fault {
	return func(x *Exchange) {
		x.Answer(code, "InternalError", "the fault proxy refuses: "+http.StatusText(code))
	}
}

// Throttle answers 429 with a Retry-After, rounded up to seconds.
func Throttle(after time.Duration) Fault {
	seconds := int((after + time.Second - 1) / time.Second)
	return func(x *Exchange) {
		x.Writer.Header().Set("Retry-After", strconv.Itoa(seconds))
		x.Answer(http.StatusTooManyRequests, "TooManyRequests", "the fault proxy asks to come later")
	}
}

// Drip sends the answer's body a few bytes at a time.
func Drip(bytes int, every time.Duration) Fault {
	return func(x *Exchange) {
		x.Writer = &shaped{ResponseWriter: x.Writer, write: func(w http.ResponseWriter, data []byte) (int, error) {
			for sent := 0; sent < len(data); {
				n, err := w.Write(data[sent:min(sent+bytes, len(data))])
				sent += n
				if err != nil || !x.Wait(every) {
					return sent, err
				}
				_ = http.NewResponseController(w).Flush()
			}
			return len(data), nil
		}}
		x.Pass()
	}
}

// CutBody breaks the answer after some bytes of its body.
func CutBody(bytes int) Fault {
	return func(x *Exchange) {
		left := bytes
		x.Writer = &shaped{ResponseWriter: x.Writer, write: func(w http.ResponseWriter, data []byte) (int, error) {
			n, err := w.Write(data[:min(left, len(data))])
			if left -= n; err != nil || left > 0 {
				return n, err
			}
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}}
		x.Pass()
	}
}

// ShortBody ends the answer after some bytes as if that were all of it.
func ShortBody(bytes int) Fault {
	return func(x *Exchange) {
		left := bytes
		x.Writer = &shaped{ResponseWriter: x.Writer, write: func(w http.ResponseWriter, data []byte) (int, error) {
			if part := data[:min(left, len(data))]; len(part) > 0 {
				n, err := w.Write(part)
				left -= n
				return len(data), err
			}
			return len(data), nil
		}}
		x.Pass()
	}
}

// Pages makes the API server answer lists in pages of this size, where the
// client asks for pages at all.
func Pages(size int) Fault {
	return func(x *Exchange) {
		query := x.Request.URL.Query()
		if query.Has("limit") {
			query.Set("limit", strconv.Itoa(size))
			x.Request.URL.RawQuery = query.Encode()
		}
		x.Pass()
	}
}

// Expire answers 410, as to a continue token or a resource version that is too
// old.
func Expire(x *Exchange) {
	x.Answer(http.StatusGone, "Expired", "the fault proxy knows no such version any more")
}

// nowhere takes an answer that nobody gets.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header          { return n.header }
func (nowhere) WriteHeader(int)                {}
func (nowhere) Write(data []byte) (int, error) { return len(data), nil }

// shaped is an answer whose body is written in another way.
type shaped struct {
	http.ResponseWriter
	write func(http.ResponseWriter, []byte) (int, error)
}

// WriteHeader leaves out the length, which is not known any more.
func (s *shaped) WriteHeader(code int) {
	s.Header().Del("Content-Length")
	s.ResponseWriter.WriteHeader(code)
}

func (s *shaped) Write(data []byte) (int, error) { return s.write(s.ResponseWriter, data) }

// Unwrap lets http.ResponseController flush.
func (s *shaped) Unwrap() http.ResponseWriter { return s.ResponseWriter }
