package forgetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
)

// contract is what a forge's published API description says of the calls that
// package forge makes. Requests are held against it, and so are the answers of the
// servers here: neither side may know more than the description does.
type contract struct {
	// source is the description, and which state of it was read.
	source string
	// base is the path below which calls are.
	base string
	// header has what each request must say, as one of the values.
	header map[string][]string
	calls  []call
	// refusal is the body of an answer of 400 and above. Statuses of refusals may come
	// to any call, whether or not its description repeats them.
	refusal  value
	refusals []int
}

// call is one request and its answers.
type call struct {
	method string
	// path as the description writes it: {name} is one element of any text, and
	// {name:integer} of digits.
	path string
	// query are all parameters that there are.
	query fields
	// body of the request; nil if it takes none.
	body *value
	// answers by status. Nil: the body is empty, or says nothing that is read.
	answers map[int]*value
	// source, where it is not the contract's.
	source string
}

func (c call) String() string { return c.method + " " + c.path }

// contracts are those of all kinds. A call that is added here and never made fails
// a test, as does one that is made and not here.
var contracts = map[forge.Kind]contract{
	forge.GitHub: githubContract, forge.Gitea: giteaContract, forge.GitLab: gitlabContract, forge.AzureDevOps: azureContract,
}

// find returns the call that a request makes, and what is in its path.
func (c contract) find(r *http.Request) (call, map[string]string, bool) {
	path, below := strings.CutPrefix(r.URL.EscapedPath(), c.base)
	if !below {
		return call{}, nil, false
	}
	for _, each := range c.calls {
		if found, ok := elements(each.path, path); ok && each.method == r.Method {
			return each, found, true
		}
	}
	return call{}, nil, false
}

// elements are those of a path that a template has names for.
func elements(template, path string) (map[string]string, bool) {
	want, have := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return nil, false
	}
	found := map[string]string{}
	for i, each := range want {
		name, named := strings.CutPrefix(each, "{")
		text, err := url.PathUnescape(have[i])
		switch {
		case !named && each != have[i], err != nil, named && text == "":
			return nil, false
		case named:
			found[strings.TrimSuffix(name, "}")] = text
		}
	}
	return found, true
}

// request returns what is wrong with a request.
func (c contract) request(r *http.Request, body []byte) []string {
	made, path, ok := c.find(r)
	if !ok {
		return []string{"there is no such call"}
	}
	var wrong []string
	for name, text := range path {
		if before, kind, _ := strings.Cut(name, ":"); kind == "integer" {
			wrong = append(wrong, integer.text(text, "path."+before)...)
		}
	}
	for name, allowed := range c.header {
		if !slices.Contains(allowed, r.Header.Get(name)) {
			wrong = append(wrong, fmt.Sprintf("header %s is %q, not of %q", name, r.Header.Get(name), allowed))
		}
	}
	wrong = append(wrong, made.query.queries(r.URL.Query())...)
	if made.body == nil {
		if len(body) > 0 {
			wrong = append(wrong, "it takes no body")
		}
		return wrong
	}
	if kind := r.Header.Get("Content-Type"); kind != "application/json" {
		wrong = append(wrong, fmt.Sprintf("the body is of type %q", kind))
	}
	return append(wrong, made.body.json(body, "body")...)
}

// answer returns what is wrong with an answer to a request.
func (c contract) answer(r *http.Request, status int, body []byte) []string {
	made, _, ok := c.find(r)
	if !ok {
		return nil // said of the request
	}
	described, known := made.answers[status]
	switch {
	case !known && !slices.Contains(c.refusals, status):
		return []string{fmt.Sprintf("it never answers %d", status)}
	case status >= 400:
		return c.refusal.json(body, "answer")
	case described != nil:
		return described.json(body, "answer")
	case len(body) > 0:
		return []string{"the answer has no body"}
	}
	return nil
}

// held passes requests on to a server and holds both sides against the contract of
// its kind.
func (s *Server) held(next http.Handler) http.Handler {
	c := contracts[s.Kind]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept := httptest.NewRecorder()
		next.ServeHTTP(kept, r)
		s.wrong(r, c.answer(r, kept.Code, kept.Body.Bytes()))
		copyAnswer(w, kept)
	})
}

// hold holds a request against the contract of the server's kind, before anything
// happens to it.
func (s *Server) hold(r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	c := contracts[s.Kind]
	s.wrong(r, c.request(r, body))
	if made, _, ok := c.find(r); ok {
		s.mu.Lock()
		s.made[made.String()] = true
		s.mu.Unlock()
	}
}

func (s *Server) wrong(r *http.Request, wrong []string) {
	c := contracts[s.Kind]
	source := c.source
	if made, _, ok := c.find(r); ok && made.source != "" {
		source = made.source
	}
	for _, each := range wrong {
		s.t.Errorf("%s %s: %s; see %s", r.Method, r.URL.RequestURI(), each, source)
	}
}

// NeverMade are the calls of the forge's contract that no request was.
func (s *Server) NeverMade() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, each := range contracts[s.Kind].calls {
		if !s.made[each.String()] {
			out = append(out, each.String())
		}
	}
	return out
}

func copyAnswer(w http.ResponseWriter, kept *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), kept.Header())
	w.WriteHeader(kept.Code)
	_, _ = w.Write(kept.Body.Bytes())
}

// value is a JSON value, or one in a query.
type value struct {
	kind string // text, integer, boolean, object or list; empty for any
	// needed says that the object must have it, and null that it may be null.
	needed, null bool
	// words are all that a text may be.
	words []string
	// least and most are the bounds of an integer, and most the length of a text, in
	// UTF-16 as the strictest forge counts. Zero: none.
	least, most int
	// hex says that a text is the whole hash of a commit.
	hex   bool
	in    fields
	items *value
}

// fields of an object, all that there are.
type fields map[string]value

var (
	anything = value{}
	text     = value{kind: "text"}
	integer  = value{kind: "integer"}
	boolean  = value{kind: "boolean"}
	commit   = value{kind: "text", hex: true}
	perPage  = value{kind: "integer", least: 1, most: 100}
)

func object(in fields) value     { return value{kind: "object", in: in} }
func list(of value) value        { return value{kind: "list", items: &of} }
func words(all ...string) value  { return value{kind: "text", words: all} }
func (v value) must() value      { v.needed = true; return v }
func (v value) orNull() value    { v.null = true; return v }
func (v value) upTo(n int) value { v.most = n; return v }
func (v value) only() *value     { return &v }

// json returns what is wrong with a text in JSON.
func (v value) json(data []byte, at string) []string {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var got any
	if err := d.Decode(&got); err != nil {
		return []string{fmt.Sprintf("%s is no JSON: %v", at, err)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return []string{at + " is more than one value"}
	}
	return v.check(got, at)
}

// check returns what is wrong with a value that was read from JSON.
func (v value) check(got any, at string) []string {
	switch got := got.(type) {
	case nil:
		if v.null || v.kind == "" {
			return nil
		}
		return []string{at + " is null"}
	case string:
		if v.kind == "text" {
			return v.text(got, at)
		}
	case json.Number:
		if v.kind == "integer" {
			return v.text(got.String(), at)
		}
	case bool:
		if v.kind == "boolean" {
			return nil
		}
	case map[string]any:
		if v.kind == "object" {
			return v.in.check(got, at)
		}
	case []any:
		if v.kind == "list" {
			var wrong []string
			for i, each := range got {
				wrong = append(wrong, v.items.check(each, fmt.Sprintf("%s[%d]", at, i))...)
			}
			return wrong
		}
	}
	if v.kind == "" {
		return nil
	}
	return []string{fmt.Sprintf("%s is %T, not %s", at, got, v.kind)}
}

// text returns what is wrong with a value that is written as a text.
func (v value) text(got, at string) []string {
	n, err := strconv.Atoi(got)
	length := len(utf16.Encode([]rune(got)))
	switch {
	case v.kind == "integer" && err != nil:
		return []string{fmt.Sprintf("%s is %q, not an integer", at, got)}
	case v.kind == "integer" && v.most > 0 && (n < v.least || n > v.most):
		return []string{fmt.Sprintf("%s is %d, not from %d to %d", at, n, v.least, v.most)}
	case v.kind == "boolean" && got != "true" && got != "false":
		return []string{fmt.Sprintf("%s is %q, not true or false", at, got)}
	case v.kind == "text" && v.most > 0 && length > v.most:
		return []string{fmt.Sprintf("%s has %d characters, more than %d", at, length, v.most)}
	case v.words != nil && !slices.Contains(v.words, got):
		return []string{fmt.Sprintf("%s is %q, not of %q", at, got, v.words)}
	case v.hex && (len(got) != 40 && len(got) != 64 || strings.Trim(got, "0123456789abcdef") != ""):
		return []string{fmt.Sprintf("%s is %q, no hash of a commit", at, got)}
	}
	return nil
}

// check returns what is wrong with an object that has these fields.
func (f fields) check(got map[string]any, at string) []string {
	wrong := f.missing(func(name string) bool { _, ok := got[name]; return ok }, at)
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if v, known := f[name]; known {
			wrong = append(wrong, v.check(got[name], at+"."+name)...)
		} else {
			wrong = append(wrong, fmt.Sprintf("%s has no %q", at, name))
		}
	}
	return wrong
}

// queries returns what is wrong with a query of these parameters.
func (f fields) queries(got url.Values) []string {
	wrong := f.missing(got.Has, "query")
	for _, name := range slices.Sorted(maps.Keys(got)) {
		v, known := f[name]
		switch {
		case !known:
			wrong = append(wrong, fmt.Sprintf("query has no %q", name))
		case len(got[name]) != 1:
			wrong = append(wrong, fmt.Sprintf("query.%s is given %d times", name, len(got[name])))
		default:
			wrong = append(wrong, v.text(got.Get(name), "query."+name)...)
		}
	}
	return wrong
}

func (f fields) missing(has func(string) bool, at string) []string {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if f[name].needed && !has(name) {
			wrong = append(wrong, fmt.Sprintf("%s lacks %q", at, name))
		}
	}
	return wrong
}
