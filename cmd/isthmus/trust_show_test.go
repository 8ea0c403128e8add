package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const networksPath = "GET /apis/isthmus.dev/v1alpha1/namespaces/isthmus-system/applicationnetworks"

// trustNetwork is in the middle of a replacement of its root.
func trustNetwork() string {
	return object("ApplicationNetwork", "prod", "", `"trust":{"step":"SignByNew","why":"members sign by the new root",
		"nextAt":"2026-01-02T03:04:05Z","blockers":[{"member":"east","reason":"Waiting","message":"certificates of the old root are in use","until":"2026-01-02T03:04:05Z"},
			{"member":"west","reason":"Unreachable","message":"it cannot be reached"}],
		"roots":[{"generation":1,"fingerprint":"aaaaaaaaaaaaaaaaaaaaaaaa","signer":"aaaa","serial":"1","notBefore":"2026-01-01T00:00:00Z","notAfter":"2027-01-01T00:00:00Z","state":"Old"},
			{"generation":2,"fingerprint":"bbbbbbbbbbbbbbbbbbbbbbbb","signer":"bbbb","serial":"2","notBefore":"2026-01-01T00:00:00Z","notAfter":"2028-01-01T00:00:00Z","state":"New"}]}`)
}

func trustMember(name, signer, condition string) string {
	return object("Member", name, `"applicationNetwork":"prod"`, `"trust":{"issued":{"signer":"`+signer+`","serial":"c0ffee","notAfter":"2026-04-01T00:00:00Z"}},"conditions":[`+condition+`]`)
}

func TestTrustShow(t *testing.T) {
	t.Parallel()
	kubeconfig := startHub(t, map[string]string{
		networksPath: trustNetwork(),
		membersPath: trustMember("west", "aaaa", `{"type":"TrustReady","status":"False","reason":"CAUnavailable","message":"the vault is away"}`) + "," +
			trustMember("east", "bbbb", `{"type":"TrustReady","status":"True","reason":"TrustProven","message":"istiod signs"}`) + "," +
			object("Member", "new", `"applicationNetwork":"prod"`, ""),
	})
	stdout, stderr, code := isthmus(t, "trust", "show", "--kubeconfig", kubeconfig)
	want := `prod: SignByNew: members sign by the new root
  next step: 2026-01-02T03:04:05Z
  waits for east until 2026-01-02T03:04:05Z: certificates of the old root are in use
  waits for west: it cannot be reached
CA      STATE     FINGERPRINT OR SERIAL  EXPIRES
root 1  Old       aaaaaaaaaaaaaaaa       2027-01-01T00:00:00Z
  west  unproven  c0ffee                 2026-04-01T00:00:00Z
root 2  New       bbbbbbbbbbbbbbbb       2028-01-01T00:00:00Z
  east  proven    c0ffee                 2026-04-01T00:00:00Z
  new   none      -                      -
`
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	if want := "isthmus: member west: the vault is away\n"; stderr != want || code != exitProblems {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	stdout, _, code = isthmus(t, "trust", "show", "--kubeconfig", kubeconfig, "-o", "json")
	for _, part := range []string{`"kind": "TrustReport"`, `"step": "SignByNew"`, `"name": "east"`, `"serial": "c0ffee"`} {
		if !strings.Contains(stdout, part) || code != exitProblems {
			t.Errorf("exit code %d, and no %s in %s", code, part, stdout)
		}
	}
}

// TestTrustShowRestarts: what an emergency waits for is on the member, and is told.
func TestTrustShowRestarts(t *testing.T) {
	t.Parallel()
	kubeconfig := startHub(t, map[string]string{
		networksPath: object("ApplicationNetwork", "prod", "", `"trust":{"step":"TrustBoth","why":"members learn the new root","blockers":[
			{"member":"east","reason":"Restart","message":"its proxies are to be restarted"}]}`),
		membersPath: object("Member", "east", `"applicationNetwork":"prod"`, `"trust":{"restarting":"DaemonSet ztunnel: waiting for node-1","restartedAfter":"2026-01-01T00:00:00Z"},
			"conditions":[{"type":"TrustReady","status":"True","reason":"TrustProven","message":"istiod signs"}]`),
	})
	stdout, _, code := isthmus(t, "trust", "show", "--kubeconfig", kubeconfig)
	want := `prod: TrustBoth: members learn the new root
  waits for east: its proxies are to be restarted
  east restarts its proxies: DaemonSet ztunnel: waiting for node-1
  east has proxies that started after 2026-01-01T00:00:00Z
CA      STATE  FINGERPRINT OR SERIAL  EXPIRES
  east  none   -                      -
`
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitFine {
		t.Errorf("exit code %d, stdout (-want +got):\n%s", code, diff)
	}
	stdout, _, _ = isthmus(t, "trust", "show", "--kubeconfig", kubeconfig, "-o", "json")
	for _, part := range []string{`"restarting": "DaemonSet ztunnel: waiting for node-1"`, `"restartedAfter": "2026-01-01T00:00:00Z"`} {
		if !strings.Contains(stdout, part) {
			t.Errorf("no %s in %s", part, stdout)
		}
	}
}

func TestTrustShowFine(t *testing.T) {
	t.Parallel()
	kubeconfig := startHub(t, map[string]string{
		networksPath: object("ApplicationNetwork", "prod", "", `"trust":{"step":"Settled","why":"all members have one root"}`),
		membersPath:  trustMember("east", "bbbb", `{"type":"TrustReady","status":"True","reason":"TrustProven","message":"istiod signs"}`),
	})
	if stdout, stderr, code := isthmus(t, "trust", "show", "--kubeconfig", kubeconfig); code != exitFine || !strings.HasPrefix(stdout, "prod: Settled: ") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
