package forge

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds of what is read and tried.
const (
	maxAnswer   = 128 << 20 // of a list: a page of the longest comments
	maxMessage  = 64 << 10  // of an error
	maxAttempts = 4
	maxPages    = 1000
)

// wire makes requests to one forge.
type wire struct {
	forge   Kind
	base    *url.URL
	token   string
	client  *http.Client
	timeout time.Duration
	maxWait time.Duration
	// maxAnswer is how many bytes of an answer are read.
	maxAnswer int64
	wait      func(context.Context, time.Duration) error
}

// call is one request.
type call struct {
	action string // what it is for, in errors: "read the comments of pull request 7"
	needs  string // what the token needs for it
	method string
	path   string // below the base, escaped
	query  url.Values
	body   any // as JSON; nil for none
	// url in place of base and path.
	url string
	// again says that the call may be made twice: that changes nothing more.
	again bool
}

// do makes a call, again if need be, and gives the answer's body to read, which
// may be nil. Its header is returned.
func (w *wire) do(ctx context.Context, c call, read func(io.Reader) error) (http.Header, error) {
	var payload []byte
	if c.body != nil {
		var err error
		if payload, err = json.Marshal(c.body); err != nil {
			return nil, fmt.Errorf("%s: %w", c.action, err)
		}
	}
	for attempt := 1; ; attempt++ {
		header, err := w.attempt(ctx, c, payload, read)
		if err == nil {
			return header, nil
		}
		pause, retry := w.retry(c, attempt, header, err)
		if !retry || ctx.Err() != nil {
			return nil, w.failed(ctx, c, err)
		}
		if err := w.wait(ctx, pause); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", w.forge, c.action, err)
		}
	}
}

// attempt makes a call once. Its errors are [*Error] for what the forge refused.
func (w *wire) attempt(ctx context.Context, c call, payload []byte, read func(io.Reader) error) (http.Header, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, w.timeout, errSlow)
	defer cancel()
	request, err := w.request(ctx, c, payload)
	if err != nil {
		return nil, err
	}
	response, err := w.client.Do(request)
	if err != nil {
		if errors.Is(context.Cause(ctx), errSlow) {
			err = errSlow
		}
		return nil, err
	}
	defer response.Body.Close()
	if err := w.check(c, response); err != nil {
		return response.Header, err
	}
	if read != nil {
		body := &io.LimitedReader{R: response.Body, N: w.maxAnswer}
		if err := read(body); err != nil {
			switch {
			case body.N <= 0:
				err = errLarge
			case errors.Is(context.Cause(ctx), errSlow):
				err = errSlow
			}
			return response.Header, err
		}
	}
	return response.Header, nil
}

func (w *wire) request(ctx context.Context, c call, payload []byte) (*http.Request, error) {
	address := c.url
	if address == "" {
		address = w.base.String() + c.path
	}
	if len(c.query) > 0 {
		address += "?" + c.query.Encode()
	}
	var body io.Reader
	if payload != nil {
		body = bytes.NewReader(payload)
	}
	request, err := http.NewRequestWithContext(ctx, c.method, address, body)
	if err != nil {
		return nil, errors.New("the forge's API URL does not parse")
	}
	request.Header.Set("User-Agent", "isthmus")
	request.Header.Set("Accept", "application/json")
	if payload != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	w.authorize(request)
	return request, nil
}

func (w *wire) authorize(request *http.Request) {
	switch {
	case w.forge == GitHub:
		request.Header.Set("Accept", "application/vnd.github+json")
		request.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	case w.forge == AzureDevOps && !strings.HasPrefix(w.token, "eyJ"):
		// A personal access token is a password; those of Entra ID and of jobs are not.
		request.SetBasicAuth("", w.token)
		return
	}
	request.Header.Set("Authorization", "Bearer "+w.token)
}

// checkRedirect follows a redirect that stays on the host and asks the same.
// Others are answers, and as such errors.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > 5 || next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host || next.Method != first.Method {
		return http.ErrUseLastResponse
	}
	return nil
}

// Errors of calls that got no whole answer.
var (
	errSlow      = errors.New("no whole answer in time")
	errLarge     = errors.New("the answer is larger than any that makes sense")
	errNotJSON   = errors.New("the answer is no JSON: is the API URL right?")
	errTruncated = errors.New("the answer broke off")
)

// retry says whether, and after how long, a call is made again.
func (w *wire) retry(c call, attempt int, header http.Header, err error) (time.Duration, bool) {
	if attempt >= maxAttempts {
		return 0, false
	}
	pause := time.Second << (attempt - 1)
	var refused *Error
	if !errors.As(err, &refused) {
		return pause, passing(c, err)
	}
	asked, named := pauseOf(header)
	switch refused.Status {
	case http.StatusTooManyRequests:
	case http.StatusForbidden: // GitHub's limits
		if !named {
			return 0, false
		}
	case http.StatusServiceUnavailable:
		if !c.again && !named {
			return 0, false
		}
	case http.StatusConflict: // GitLab: another update is under way
		if w.forge != GitLab || !c.again {
			return 0, false
		}
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		if !c.again {
			return 0, false
		}
	default:
		return 0, false
	}
	if asked > w.maxWait {
		refused.Hint = fmt.Sprintf("it asks to wait for %s: run this again then", asked.Round(time.Second))
		return 0, false
	}
	return max(pause, asked), true
}

// passing says whether a call that got no whole answer may be made again.
func passing(c call, err error) bool {
	var certificate *tls.CertificateVerificationError
	var dial *net.OpError
	switch {
	case errors.As(err, &certificate), errors.Is(err, errLarge), errors.Is(err, errNotJSON):
		return false
	case errors.As(err, &dial) && dial.Op == "dial": // it was not sent
		return true
	}
	return c.again
}

// pauseOf returns how long a forge asks to wait, by Retry-After or as GitHub does
// it when a limit of requests an hour is used up.
func pauseOf(header http.Header) (time.Duration, bool) {
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, 1<<20)) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now)), true
	}
	reset, err := strconv.ParseInt(header.Get("X-RateLimit-Reset"), 10, 64)
	if header.Get("X-RateLimit-Remaining") == "0" && err == nil {
		return max(0, time.Unix(reset, 0).Sub(now)), true
	}
	return 0, false
}

// one reads a single value from an answer.
func one(into any) func(io.Reader) error {
	return func(r io.Reader) error { return jsonError(json.NewDecoder(r).Decode(into)) }
}

// each reads the elements of a list one after another, so that no more than one
// is held. field is where the list is in the answer; empty if it is the answer.
// When an answer breaks off and the call is made again, elements are visited again.
func each[T any](field string, visit func(T)) func(io.Reader) error {
	return func(r io.Reader) error {
		d := json.NewDecoder(r)
		if none, err := enter(d, field); none || err != nil {
			return jsonError(err)
		}
		for d.More() {
			var element T
			if err := d.Decode(&element); err != nil {
				return jsonError(err)
			}
			visit(element)
		}
		_, err := d.Token() // the end is there: the list is whole
		return jsonError(err)
	}
}

// enter reads up to the first element of a list. None: it is null, as Gitea's is
// that has no elements.
func enter(d *json.Decoder, field string) (none bool, err error) {
	first, err := d.Token()
	if err == nil && field != "" {
		if first != json.Delim('{') {
			return false, errNotJSON
		}
		first, err = seek(d, field)
	}
	switch {
	case err != nil:
		return false, err
	case first == nil && field != "":
		return true, nil
	case first != json.Delim('['):
		return false, errNotJSON
	}
	return false, nil
}

// seek reads up to the value of a field of an object, and its first token.
func seek(d *json.Decoder, field string) (json.Token, error) {
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		if name == field {
			return d.Token()
		}
		var skipped json.RawMessage
		if err := d.Decode(&skipped); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil { // broken off, or without the field
		return nil, err
	}
	return nil, errNotJSON
}

func jsonError(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errTruncated
	case errors.As(err, &syntax), errors.As(err, &kind):
		return errNotJSON
	}
	return err
}

// pages makes a call for one page after another, as long as the answer says that
// there is a next one. Its URL is not used: it may name another host.
func (w *wire) pages(ctx context.Context, c call, size string, perPage int, read func(io.Reader) error) error {
	for page := 1; page <= maxPages; page++ {
		c.query.Set("page", strconv.Itoa(page))
		c.query.Set(size, strconv.Itoa(perPage))
		header, err := w.do(ctx, c, read)
		if err != nil {
			return err
		}
		if !strings.Contains(strings.Join(header.Values("Link"), ","), `rel="next"`) {
			return nil
		}
	}
	return fmt.Errorf("%s: %s: there are more than %d pages", w.forge, c.action, maxPages)
}
