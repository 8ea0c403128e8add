package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A hub that answers lists of objects, and nothing else.
func startHub(t *testing.T, lists map[string]string) (kubeconfig string) {
	t.Helper()
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		items, ok := lists[r.Method+" "+r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
			return
		}
		fmt.Fprintf(w, `{"apiVersion":"isthmus.dev/v1alpha1","kind":"List","items":[%s]}`, items)
	}))
	t.Cleanup(hub.Close)
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	mustWrite(t, kubeconfig, fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: hub, cluster: {server: %q}}]
users: [{name: me, user: {token: canary-token}}]
contexts: [{name: hub, context: {cluster: hub, user: me}}]
current-context: hub
`, hub.URL))
	return kubeconfig
}

const (
	fleetsPath  = "GET /apis/isthmus.dev/v1alpha1/namespaces/isthmus-system/fleets"
	membersPath = "GET /apis/isthmus.dev/v1alpha1/namespaces/isthmus-system/members"
)

func object(kind, name, spec, status string) string {
	return fmt.Sprintf(`{"apiVersion":"isthmus.dev/v1alpha1","kind":%q,"metadata":{"name":%q},"spec":{%s},"status":{%s}}`, kind, name, spec, status)
}

func ready(status, reason, message string) string {
	return fmt.Sprintf(`"conditions":[{"type":"Ready","status":%q,"reason":%q,"message":%q}]`, status, reason, message)
}

func isthmus(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, err bytes.Buffer
	code = Main(t.Context(), args, &out, &err)
	return out.String(), err.String(), code
}

func TestStatus(t *testing.T) {
	t.Parallel()
	weu := object("Member", "aks-weu", `"applicationNetwork":"prod"`, `"release":"1.30.4","objects":61,`+ready("True", "Applied", "applied 61 objects at 4f2c9e1"))
	for _, tt := range []struct {
		reason          string
		fleets, members string
		stdout, stderr  string
		code            int
	}{
		{
			reason:  "all is well",
			fleets:  object("Fleet", "prod", "", ready("True", "Applied", "all members ready")),
			members: weu,
			stdout: "NAME     NETWORK  RELEASE  OBJECTS  READY  STATUS\n" +
				"aks-weu  prod     1.30.4   61       True   applied 61 objects at 4f2c9e1\n",
		},
		{
			reason: "members are sorted, and one that is not ready makes a difference",
			fleets: object("Fleet", "prod", "", ready("True", "Applied", "all members ready")),
			members: weu + "," + object("Member", "aks-neu", `"applicationNetwork":"prod","suspend":true`, "") + "," +
				object("Member", "aks-eus", `"applicationNetwork":"prod"`, ready("False", "CredentialsRejected", "member API rejected\nthe credentials")),
			stdout: "NAME     NETWORK  RELEASE  OBJECTS  READY    STATUS\n" +
				"aks-eus  prod     -        0        False    member API rejected\\nthe credentials\n" +
				"aks-neu  prod     -        0        Unknown  suspended; not looked at yet\n" +
				"aks-weu  prod     1.30.4   61       True     applied 61 objects at 4f2c9e1\n",
			code: 1,
		},
		{
			reason:  "a fleet that does not load is said beside the answer",
			fleets:  object("Fleet", "prod", "", `"problems":["a.yaml:3: spec.x: unknown field"],`+ready("False", "InvalidFleet", "1 problem")),
			members: weu,
			stdout: "NAME     NETWORK  RELEASE  OBJECTS  READY  STATUS\n" +
				"aks-weu  prod     1.30.4   61       True   applied 61 objects at 4f2c9e1\n",
			stderr: "isthmus: fleet prod: 1 problem\nisthmus:   a.yaml:3: spec.x: unknown field\n",
			code:   1,
		},
		{
			reason:  "an object that cannot be read hides no other, and its values do not show",
			fleets:  object("Fleet", "prod", "", ready("True", "Applied", "all members ready")),
			members: object("Member", "aks-bad", `"maintenanceWindows":[{"duration":"canary"}]`, "") + "," + weu,
			stdout: "NAME     NETWORK  RELEASE  OBJECTS  READY  STATUS\n" +
				"aks-bad           -        0        False  cannot be read, and isthmus leaves it out: restore the CRDs of isthmus, then delete or mend it\n" +
				"aks-weu  prod     1.30.4   61       True   applied 61 objects at 4f2c9e1\n",
			code: 1,
		},
		{
			reason: "a member that leaves tells how far it is",
			fleets: object("Fleet", "prod", "", ready("True", "Applied", "all members ready")),
			members: object("Member", "aks-weu", `"applicationNetwork":"prod"`, `"leave":[{"name":"Workloads","state":"Done"},{"name":"StopExporting","state":"Blocked","message":"1 pod is still enrolled"}],`+
				ready("False", "WorkloadsEnrolled", "leaving: 1 pod is still enrolled")),
			stdout: "NAME     NETWORK  RELEASE  OBJECTS  READY  STATUS\n" +
				"aks-weu  prod     -        0        False  leaving: 1 pod is still enrolled\n",
			stderr: "isthmus: member aks-weu leaves:\nisthmus:   Workloads       Done\n" +
				"isthmus:   StopExporting   Blocked: 1 pod is still enrolled\n",
			code: 1,
		},
		{
			reason: "a hub with nothing in it",
			stderr: "isthmus: no members in namespace isthmus-system of the hub\n" +
				"isthmus: no fleet in namespace isthmus-system of the hub\n" +
				"isthmus: hint: a Fleet object names the Git repository to follow\n",
		},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			t.Parallel()
			kubeconfig := startHub(t, map[string]string{fleetsPath: tt.fleets, membersPath: tt.members})
			stdout, stderr, code := isthmus(t, "status", "--kubeconfig", kubeconfig)
			if diff := cmp.Diff(tt.stdout, stdout); diff != "" {
				t.Errorf("stdout (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.stderr, stderr); diff != "" {
				t.Errorf("stderr (-want +got):\n%s", diff)
			}
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
		})
	}
}

func TestStatusJSON(t *testing.T) {
	t.Parallel()
	kubeconfig := startHub(t, map[string]string{
		fleetsPath: object("Fleet", "prod", `"url":"https://user:canary-password@example.com/fleet"`,
			`"acceptedRevision":"main@sha1:4f2c9e1",`+ready("True", "Applied", "all members ready")),
		membersPath: object("Member", "aks-weu", `"applicationNetwork":"prod"`, `"objects":61,`+ready("False", "Drifted", "x")),
	})
	stdout, stderr, code := isthmus(t, "status", "--kubeconfig", kubeconfig, "-o", "json")
	if code != exitProblems || stderr != "" {
		t.Errorf("exit code %d and stderr %q, want 1 and nothing", code, stderr)
	}
	var got hubReport
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	want := hubReport{
		APIVersion: "isthmus.dev/v1alpha1", Kind: "StatusReport",
		Fleets:  []fleetReport{{Name: "prod", Ready: "True", Reason: "Applied", Message: "all members ready", AcceptedRevision: "main@sha1:4f2c9e1"}},
		Members: []memberReport{{Name: "aks-weu", Network: "prod", Objects: 61, Ready: "False", Reason: "Drifted", Message: "x"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if strings.Contains(stdout, "canary") {
		t.Errorf("a secret is printed: %s", stdout)
	}
}

func TestStatusCannotRun(t *testing.T) {
	t.Parallel()
	noCRDs := startHub(t, nil)
	folder := t.TempDir()
	for _, tt := range []struct {
		reason string
		args   []string
		want   string
	}{
		{"a hub without our CRDs", []string{"--kubeconfig", noCRDs}, "the hub does not know them"},
		{"a kubeconfig that is not there", []string{"--kubeconfig", filepath.Join(folder, "none")}, "no such file"},
		{"a context that is not there", []string{"--kubeconfig", noCRDs, "--context", "other"}, `context "other" does not exist`},
		{"an unknown form of answer", []string{"-o", "yaml"}, `unknown output format "yaml"`},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := isthmus(t, append([]string{"status"}, tt.args...)...)
			if code != exitCannotRun || stdout != "" {
				t.Errorf("exit code %d and stdout %q, want 2 and nothing", code, stdout)
			}
			if !strings.Contains(stderr, tt.want) || !strings.Contains(stderr, "isthmus: hint: ") {
				t.Errorf("stderr %q, want a hint and %q", stderr, tt.want)
			}
			if strings.Contains(stderr, "canary") {
				t.Errorf("a secret is printed: %s", stderr)
			}
		})
	}
}
