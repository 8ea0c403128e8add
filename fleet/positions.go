package fleet

import "strings"

// objectKey names an object of the fleet.
type objectKey struct{ kind, name string }

// place is where an object was written: its file and the line of each field.
type place struct {
	file string
	// lines by path; "" is the object itself. Every field that was written is
	// in here, and none that was filled in.
	lines map[string]int
}

// line returns the line of the field, or of the nearest parent that was written.
func (p *place) line(path string) int {
	for {
		if line, ok := p.lines[path]; ok {
			return line
		}
		if path == "" {
			return 0
		}
		path = parent(path)
	}
}

// written reports whether the field is in the file, as opposed to filled in.
func (p *place) written(path string) bool {
	_, ok := p.lines[path]
	return ok
}

// parent returns the path of what holds the field: "a.b[2]" → "a.b" → "a" → "".
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// positions of every object of a fleet.
type positions map[objectKey]*place

// ProblemAt returns p with File, Line and Path of a field of an object of the
// fleet, such as "spec.connectivity.network" or "spec.namespaces[2].name". The
// line is that of the nearest parent when the field itself was not written, and
// File is empty when the fleet has no such object.
func (f *Fleet) ProblemAt(kind, name, path string, p Problem) Problem {
	p.Path = path
	if place := f.positions[objectKey{kind, name}]; place != nil {
		p.File, p.Line = place.file, place.line(path)
	}
	return p.printable()
}
