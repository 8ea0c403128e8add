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

// A Write is one completed request that could change something, as the API
// server's audit log has it.
type Write struct {
	Time        time.Time // when the request came
	User        string    // "admin" for [Cluster.Kubeconfig]
	UserAgent   string
	Verb        string // create, update, patch, delete or deletecollection
	Group       string // "" for core
	Resource    string // plural, lower case
	Subresource string // "status" for example; may be empty
	Namespace   string
	Name        string // empty for some creates
	Code        int    // HTTP status
	DryRun      bool
}

// AuditLog is the path of the API server's audit log: every request that writes,
// one JSON object a line, written before the request is answered.
func (c *Cluster) AuditLog() string { return c.log("audit") }

// Writes returns, in order, the writes for which match is true, nil for all.
// Events and Leases count too; dry runs are marked.
func (c *Cluster) Writes(match func(Write) bool) ([]Write, error) {
	file, err := os.Open(c.AuditLog())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // the API server makes it with the first entry
	}
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	defer file.Close()
	var writes []Write
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		write, err := parseWrite(lines.Bytes())
		if err != nil {
			return nil, err
		}
		if match == nil || match(write) {
			writes = append(writes, write)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return writes, nil
}

func parseWrite(line []byte) (Write, error) {
	var event struct {
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
		return Write{}, fmt.Errorf("read audit log: %w", err)
	}
	request, err := url.ParseRequestURI(event.RequestURI)
	if err != nil {
		return Write{}, fmt.Errorf("read audit log: %w", err)
	}
	return Write{
		Time: event.RequestReceivedTimestamp, User: event.User.Username, UserAgent: event.UserAgent,
		Verb: event.Verb, Group: event.ObjectRef.APIGroup, Resource: event.ObjectRef.Resource,
		Subresource: event.ObjectRef.Subresource, Namespace: event.ObjectRef.Namespace, Name: event.ObjectRef.Name,
		Code: event.ResponseStatus.Code, DryRun: request.Query().Has("dryRun"),
	}, nil
}
