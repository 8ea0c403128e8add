package controlplane

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseWrite(t *testing.T) {
	line := `{"verb":"patch","requestURI":"/api/v1/namespaces/n/services/s/status?dryRun=All&fieldManager=x",` +
		`"user":{"username":"admin"},"userAgent":"isthmus/1","objectRef":{"resource":"services","namespace":"n","name":"s","subresource":"status"},` +
		`"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-02T03:04:05.000001Z"}`
	got, err := parseWrite([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	want := Write{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 1000, time.UTC), User: "admin", UserAgent: "isthmus/1", Verb: "patch",
		Resource: "services", Subresource: "status", Namespace: "n", Name: "s", Code: 200, DryRun: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("write (-want +got):\n%s", diff)
	}
	if _, err := parseWrite([]byte(`{"verb":`)); err == nil {
		t.Error("half a line was read as a write")
	}
}
