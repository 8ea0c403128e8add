package forge

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// Error is a call that a forge did not do.
type Error struct {
	Forge  Kind
	Action string // what was being done
	Status int    // of HTTP
	// Message is what the forge said, on one line, without the token.
	Message string
	// Hint is what to do about it; empty if the message has to do.
	Hint string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s: %d %s", e.Forge, e.Action, e.Status, cmp.Or(strings.ToLower(http.StatusText(e.Status)), "unknown status"))
	if e.Message != "" {
		text += fmt.Sprintf(": %q", e.Message)
	}
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}

// check returns an [*Error] for an answer that is none.
func (w *wire) check(c call, response *http.Response) error {
	status := response.StatusCode
	if status >= 200 && status < 300 && status != http.StatusNonAuthoritativeInfo {
		return nil
	}
	e := &Error{Forge: w.forge, Action: c.action, Status: status}
	switch {
	case status == http.StatusNonAuthoritativeInfo: // Azure DevOps's page to sign in
		e.Hint = w.hint(c, http.StatusUnauthorized)
	case status >= 300 && status < 400:
		e.Hint = w.redirected(response)
	default:
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxMessage)) // what came says enough
		e.Message, e.Hint = w.clean(message(body)), w.hint(c, status)
		if _, limited := pauseOf(response.Header); status == http.StatusTooManyRequests || status == http.StatusForbidden && limited {
			e.Hint = "it limits how much it is asked: run this again later"
		}
	}
	return e
}

// redirected says where an answer points that was not followed.
func (w *wire) redirected(response *http.Response) string {
	location, err := response.Location()
	switch {
	case err != nil:
		return "it points nowhere: is the API URL right?"
	case location.Host != w.base.Host || location.Scheme != w.base.Scheme:
		hint := fmt.Sprintf("it points to %q, which is not given the token: if that is where the API is, name it in the API URL", w.clean(location.Scheme+"://"+location.Host))
		if w.forge == AzureDevOps {
			hint += "; Azure DevOps does so for a token that it does not know"
		}
		return hint
	}
	return fmt.Sprintf("it points to %q: has the repository got another name?", w.clean(location.Path))
}

// hint says what to do about a status.
func (w *wire) hint(c call, status int) string {
	needs := c.needs
	switch status {
	case http.StatusUnauthorized:
		return "the token is not known: is it of this forge, and not expired or revoked? It needs " + needs
	case http.StatusForbidden:
		return "the token may not do this: it needs " + needs
	case http.StatusNotFound:
		return "it is not there, or the token may not see it: look at the names, and whether the token has " + needs
	case http.StatusGone:
		return "this is switched off in the repository's settings"
	case http.StatusUnprocessableEntity:
		return "it was understood and refused: is the commit pushed, and the pull request of this repository and open?"
	}
	return ""
}

// failed puts what a call was for before an error that is no refusal.
func (w *wire) failed(ctx context.Context, c call, err error) error {
	var refused *Error
	var certificate *tls.CertificateVerificationError
	var outer *url.Error
	switch {
	case errors.As(err, &refused):
		return err
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.As(err, &certificate):
		err = fmt.Errorf("%w: if a CA of your own signs it, give its certificate", certificate)
	case errors.As(err, &outer): // its text repeats the method and the URL
		err = outer.Err
	}
	return fmt.Errorf("%s: %s: %w", w.forge, c.action, plain{w.clean(err.Error()), err})
}

// plain is an error whose text was cleaned.
type plain struct {
	text string
	error
}

func (p plain) Error() string { return p.text }

func (p plain) Unwrap() error { return p.error }

// message finds in a body what a person may want to read: GitHub and Azure DevOps
// say "message", with "errors" in GitHub; GitLab says "message" or "error", as a
// text, a list or one per field.
func message(body []byte) string {
	var answer struct {
		Message any `json:"message"`
		Error   any `json:"error"`
		Errors  any `json:"errors"`
		Detail  any `json:"error_description"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	var parts []string
	for _, part := range []any{answer.Message, answer.Error, answer.Errors, answer.Detail} {
		switch part := part.(type) {
		case nil:
		case string:
			parts = append(parts, part)
		default:
			text, err := json.Marshal(part)
			if err == nil && string(text) != "[]" && string(text) != "{}" {
				parts = append(parts, string(text))
			}
		}
	}
	return strings.Join(parts, ": ")
}

// clean makes what another party said fit for a line of a log: short, printable,
// without the token in any form that we send.
func (w *wire) clean(text string) string {
	for _, secret := range []string{
		w.token, base64.StdEncoding.EncodeToString([]byte(":" + w.token)), url.QueryEscape(w.token),
	} {
		text = strings.ReplaceAll(text, secret, "[token]")
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	return cut(strings.Join(strings.Fields(text), " "), 300)
}
