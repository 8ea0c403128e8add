package controlplane

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"
)

// A Request is one request, as the API server's audit log has it.
type Request struct {
	Time        time.Time // when the request came
	User        string    // "admin" for [Cluster.Kubeconfig]
	UserAgent   string
	Verb        string // get, list, watch, create, update, patch, delete or deletecollection
	Group       string // "" for core
	Resource    string // plural, lower case; empty for paths such as /apis
	Subresource string // "status" for example; may be empty
	Namespace   string
	Name        string // empty for some creates
	Code        int    // HTTP status
	DryRun      bool
}

// A Write is a completed request that could change something.
type Write = Request

// AuditLog is the path of the API server's audit log: every request that writes,
// and with [ClusterOptions.AuditReads] those that read, one JSON object a line,
// written before the request is answered.
func (c *Cluster) AuditLog() string { return c.log("audit") }

// Writes returns, in order, the writes for which match is true, nil for all.
// Events and Leases count too; dry runs are marked. Forwarded ports and tokens do
// not count: nothing of them is stored.
func (c *Cluster) Writes(match func(Write) bool) ([]Write, error) {
	return c.Requests(func(r Request) bool { return r.writes() && (match == nil || match(r)) })
}

// Requests returns, in order, the requests for which match is true, nil for all.
// Reads are among them only with [ClusterOptions.AuditReads]. A watch counts once,
// when it begins.
func (c *Cluster) Requests(match func(Request) bool) ([]Request, error) {
	file, err := os.Open(c.AuditLog())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // the API server makes it with the first entry
	}
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	defer file.Close()
	var requests []Request
	watches := map[string]bool{} // by the ID that their begin and end share
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		request, id, err := parseRequest(lines.Bytes())
		if err != nil {
			return nil, err
		}
		if request.Verb == "watch" {
			if watches[id] {
				continue
			}
			watches[id] = true
		}
		if match == nil || match(request) {
			requests = append(requests, request)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return requests, nil
}

func (r Request) writes() bool {
	switch r.Verb {
	case "get", "list", "watch":
		return false
	}
	return r.Subresource != "portforward" && (r.Resource != "serviceaccounts" || r.Subresource != "token")
}

func parseRequest(line []byte) (request Request, id string, err error) {
	var event struct {
		AuditID                  string    `json:"auditID"`
		RequestURI               string    `json:"requestURI"`
		Verb                     string    `json:"verb"`
		UserAgent                string    `json:"userAgent"`
		RequestReceivedTimestamp time.Time `json:"requestReceivedTimestamp"`
		User                     struct {
			Username string `json:"username"`
		} `json:"user"`
		ObjectRef struct {
			APIGroup, Resource, Subresource, Namespace, Name string
		} `json:"objectRef"`
		ResponseStatus struct {
			Code int `json:"code"`
		} `json:"responseStatus"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return Request{}, "", fmt.Errorf("read audit log: %w", err)
	}
	uri, err := url.ParseRequestURI(event.RequestURI)
	if err != nil {
		return Request{}, "", fmt.Errorf("read audit log: %w", err)
	}
	return Request{
		Time: event.RequestReceivedTimestamp, User: event.User.Username, UserAgent: event.UserAgent,
		Verb: event.Verb, Group: event.ObjectRef.APIGroup, Resource: event.ObjectRef.Resource,
		Subresource: event.ObjectRef.Subresource, Namespace: event.ObjectRef.Namespace, Name: event.ObjectRef.Name,
		Code: event.ResponseStatus.Code, DryRun: uri.Query().Has("dryRun"),
	}, event.AuditID, nil
}
