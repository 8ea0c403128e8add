package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/renderer/diff"
)

// gitIn runs git in a folder and returns what it says.
func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestDiffWithWhatRuns compares with the commit that the hub has accepted, by the
// releases that it sees, and says which members do not run it.
func TestDiffWithWhatRuns(t *testing.T) {
	repository := t.TempDir()
	write := func(name, text string) { mustWrite(t, filepath.Join(repository, name), text) }
	memberText := func(name string) string {
		return "apiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: " + name + "}\nspec:\n  applicationNetwork: prod\n  cluster: {type: Kubernetes, kubeconfigRef: {name: " + name + "}}\n"
	}
	write("network.yaml", "apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec:\n  upgrade: {version: \"1.30.4\"}\n  dataPlane: {mtls: Permissive}\n")
	write("east.yaml", memberText("east"))
	write("west.yaml", memberText("west"))
	gitIn(t, repository, "init", "-q", "-b", "main")
	gitIn(t, repository, "add", "-A")
	gitIn(t, repository, "commit", "-qm", "one")
	accepted := gitIn(t, repository, "rev-parse", "HEAD")
	digests := renderedDigests(t, repository)
	write("network.yaml", "apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec:\n  upgrade: {version: \"1.30.4\"}\n  dataPlane: {mtls: Strict}\n")

	fine := ready("True", "Succeeded", "")
	kubeconfig := startHub(t, map[string]string{
		fleetsPath: object("Fleet", "fleet", "", `"acceptedRevision":"main@sha1:`+accepted+`"`),
		membersPath: strings.Join([]string{
			object("Member", "east", `"applicationNetwork":"prod"`, fine+`,"release":"1.30.4","nodes":3,"digest":"`+digests["east"]+`"`),
			object("Member", "west", `"applicationNetwork":"prod"`, fine+`,"release":"1.29.1","nodes":4,"digest":"sha256:old","appliedRevision":"main@sha1:0123456789012345678901234567890123456789"`),
		}, ","),
	})
	t.Chdir(repository)
	stdout, stderr, code := isthmus(t, "diff", "--running", "--kubeconfig", kubeconfig, "-o", "json")
	if code != 1 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var report diff.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, e := range report.Effects {
		ids = append(ids, e.ID)
	}
	if strings.Join(ids, " ") != "MTLSStrict" {
		t.Errorf("effects %v, want MTLSStrict", ids)
	}
	if len(report.Behind) != 1 || report.Behind[0].Member != "west" || !strings.Contains(report.Behind[0].Why, "01234567") {
		t.Errorf("behind: %v, want west with the commit that it has", report.Behind)
	}

	write("network.yaml", "apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec:\n  upgrade: {version: \"1.30.4\"}\n  dataPlane: {mtls: Permissive}\n  components: {ztunnel: {drain: 60s}}\n")
	if stdout, stderr, _ := isthmus(t, "diff", "--running", "--kubeconfig", kubeconfig); !strings.Contains(stdout, "DaemonSet ztunnel on 2 members (7 nodes)") {
		t.Errorf("the nodes that the hub knows of are not counted:\n%s%s", stdout, stderr)
	}

	t.Run("nothing accepted", func(t *testing.T) {
		none := startHub(t, map[string]string{fleetsPath: object("Fleet", "fleet", "", "")})
		_, stderr, code := isthmus(t, "diff", "--running", "--kubeconfig", none)
		if code != 2 || !strings.Contains(stderr, `the hub has accepted no commit of fleet "fleet" yet`) {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	})
	t.Run("a commit that is not here", func(t *testing.T) {
		ahead := startHub(t, map[string]string{
			fleetsPath:  object("Fleet", "fleet", "", `"acceptedRevision":"main@sha1:`+strings.Repeat("9", 40)+`"`),
			membersPath: "",
		})
		_, stderr, code := isthmus(t, "diff", "--running", "--kubeconfig", ahead)
		if code != 2 || !strings.Contains(stderr, "git fetch") {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	})
}

// renderedDigests are the digests of the bundles of a fleet, by member.
func renderedDigests(t *testing.T, folder string) map[string]string {
	t.Helper()
	out := t.TempDir()
	if _, stderr, code := isthmus(t, "render", folder, "-o", out); code != 0 {
		t.Fatal(stderr)
	}
	digests := map[string]string{}
	for _, name := range []string{"east", "west"} {
		data, err := os.ReadFile(filepath.Join(out, "members", name, "inventory.json"))
		if err != nil {
			t.Fatal(err)
		}
		var inventory struct{ Digest string }
		if err := json.Unmarshal(data, &inventory); err != nil {
			t.Fatal(err)
		}
		digests[name] = inventory.Digest
	}
	return digests
}
