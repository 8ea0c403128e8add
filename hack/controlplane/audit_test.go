package controlplane

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseRequest(t *testing.T) {
	line := `{"auditID":"1","verb":"patch","requestURI":"/api/v1/namespaces/n/services/s/status?dryRun=All&fieldManager=x",` +
		`"user":{"username":"admin"},"userAgent":"isthmus/1","objectRef":{"resource":"services","namespace":"n","name":"s","subresource":"status"},` +
		`"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-02T03:04:05.000001Z"}`
	got, id, err := parseRequest([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if id != "1" {
		t.Errorf("ID %q", id)
	}
	want := Request{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 1000, time.UTC), User: "admin", UserAgent: "isthmus/1", Verb: "patch",
		Resource: "services", Subresource: "status", Namespace: "n", Name: "s", Code: 200, DryRun: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if _, _, err := parseRequest([]byte(`{"verb":`)); err == nil {
		t.Error("half a line was read as a request")
	}
}
