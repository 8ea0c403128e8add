package e2e

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// assertNoSecrets searches all that the reconciler has told since its start, in
// good days and bad, for the values of secrets that it has.
func (f *faults) assertNoSecrets(t *testing.T) {
	f.provoke(t)
	secrets := f.secrets(t)
	told := f.told(t)
	for where, text := range told {
		if len(text) == 0 {
			t.Errorf("%s is empty: is it still found?", where)
		}
		for _, found := range leaks(text, secrets) {
			t.Errorf("%s holds %s", where, found)
		}
	}
	t.Logf("searched %d outputs for %d secrets", len(told), len(secrets))
	// The search would find one.
	for name, value := range secrets {
		for _, text := range []string{"x" + value + "y", base64.StdEncoding.EncodeToString([]byte("=" + value)), fmt.Sprintf("%x", value)} {
			if !slices.Contains(leaks(text, secrets), name) {
				t.Errorf("%s would not be found in %d characters", name, len(text))
			}
		}
	}
}

// provoke makes errors that have to do with secrets.
func (f *faults) provoke(t *testing.T) {
	t.Helper()
	f.git.change(t, gitPassword+"-wrong")
	check(t, f.rig.WaitFleet(t.Context(), time.Minute, "Ready", metav1.ConditionFalse, "SourceCredentialsRejected"))
	f.git.change(t, gitPassword)
	check(t, f.rig.WaitFleet(t.Context(), time.Minute, "Ready", metav1.ConditionTrue, status.ReasonApplied))

	good := f.proxies[west].Kubeconfig()
	for _, tt := range []struct{ old, bad, reason string }{
		{"token: ", "token: another-", "CredentialsRejected"},
		{"token: ", "password: ", "KubeconfigRefused"},
		{"apiVersion: ", "\tapiVersion: ", "KubeconfigRefused"},
	} {
		check(t, f.rig.SetKubeconfig(t.Context(), west, []byte(strings.Replace(string(good), tt.old, tt.bad, 1))))
		check(t, f.rig.WaitMember(t.Context(), west, time.Minute, "Ready", metav1.ConditionFalse, tt.reason))
	}
	check(t, f.rig.SetKubeconfig(t.Context(), west, good))
	check(t, f.rig.WaitMember(t.Context(), west, time.Minute, "Ready", metav1.ConditionTrue, status.ReasonApplied))

	// An API server that quotes what it refuses.
	member, err := f.rig.ClientOf(west)
	check(t, err)
	for _, change := range changes[len(changes)-2:] { // the CA, edited and deleted
		if _, err := change.cause(t, member); err != nil {
			t.Errorf("%s: %v", change.name, err)
		}
	}
}

// secrets are the values that must not show, by what they are.
func (f *faults) secrets(t *testing.T) map[string]string {
	t.Helper()
	secrets := map[string]string{"the password of Git": gitPassword}
	for name, p := range f.proxies {
		secrets["the token of "+name] = p.Token()
	}
	hub, err := clientcmd.LoadFromFile(f.rig.Kubeconfig())
	check(t, err)
	for _, user := range hub.AuthInfos {
		secrets["the reconciler's own token"] = user.Token
	}
	maps.Copy(secrets, vaultSecrets(t, f.rig.Vault()))
	if len(secrets) < 7 { // Git, two members, the hub, the root and two intermediates
		t.Errorf("only %d secrets: are they still found?", len(secrets))
	}
	return secrets
}

// vaultSecrets are the private keys in a vault's folder.
func vaultSecrets(t *testing.T, folder string) map[string]string {
	t.Helper()
	secrets := map[string]string{}
	check(t, filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(file)
		data = plain(data)
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if strings.Contains(block.Type, "PRIVATE KEY") {
				// Whatever is made of the file, a part of the key is in it.
				secrets["the key of "+filepath.Base(file)] = string(block.Bytes[len(block.Bytes)/2:])
			}
		}
		return err
	}))
	return secrets
}

// plain is the PEM in a file of a vault: as it is, or in the files of a Secret, in
// a document.
func plain(data []byte) []byte {
	var document struct{ Data []byte }
	if json.Unmarshal(data, &document) != nil {
		return data
	}
	var content map[string]string
	if json.Unmarshal(document.Data, &content) != nil {
		return document.Data
	}
	return []byte(strings.Join(slices.Collect(maps.Values(content)), "\n"))
}

// TestVaultSecrets: the keys of a vault are found, so that a search for them means
// something.
func TestVaultSecrets(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "vault")
	vault, err := trust.OpenDirectory(folder)
	check(t, err)
	network := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}
	_, err = trust.NewAuthority(vault, time.Now).Issue(t.Context(), trust.Request{Policy: reconciler.TrustPolicy(network), Member: east})
	check(t, err)
	if secrets := vaultSecrets(t, folder); len(secrets) != 2 {
		t.Errorf("%d keys, want that of the root and that of the member", len(secrets))
	}
}

// told is what people and machines may read, by where it is.
func (f *faults) told(t *testing.T) map[string]string {
	t.Helper()
	told := map[string]string{"the page of metrics": metricsPage(t)}
	log, err := os.ReadFile(processLog(f.rig))
	check(t, err)
	told["the log"] = string(log)
	for what, list := range map[string]client.ObjectList{
		"fleets": &v1alpha1.FleetList{}, "members": &v1alpha1.MemberList{},
		"networks": &v1alpha1.ApplicationNetworkList{}, "events": &corev1.EventList{},
	} {
		check(t, f.rig.HubClient.List(t.Context(), list, client.InNamespace(rig.Namespace)))
		told[what] = asJSON(t, list)
	}
	for _, name := range names(f.rig) {
		member, err := f.rig.ClientOf(name)
		check(t, err)
		var configs corev1.ConfigMapList
		check(t, member.List(t.Context(), &configs))
		told["ConfigMaps of "+name] = asJSON(t, configs)
		var events corev1.EventList
		check(t, member.List(t.Context(), &events))
		told["events of "+name] = asJSON(t, events)
	}
	binary := build(t)
	for _, args := range [][]string{
		{"status", "--kubeconfig", f.rig.Kubeconfig(), "-o", "json"},
		{"status", "--kubeconfig", f.rig.Kubeconfig()},
		{"render", f.rig.Repository.Work, "-o", filepath.Join(t.TempDir(), "out")},
	} {
		out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
		if err != nil {
			t.Errorf("isthmus %s: %v: %s", args[0], err, out)
		}
		told["isthmus "+strings.Join(args, " ")] = string(out)
	}
	told["copies of repositories"] = files(t, f.rig.Cache())
	return told
}

func asJSON(t *testing.T, object any) string {
	t.Helper()
	data, err := json.Marshal(object)
	check(t, err)
	return string(data)
}

// files is everything below a folder, names and contents.
func files(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	check(t, filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(file)
		_, _ = fmt.Fprintf(&out, "%s\n%s\n", file, data)
		return err
	}))
	return out.String()
}

// leaks are the names of the secrets in a text: as they are, in base64 at any
// position, and in hexadecimal digits.
func leaks(text string, secrets map[string]string) []string {
	var found []string
	lower := strings.ToLower(text)
	for name, value := range secrets {
		forms := []string{fmt.Sprintf("%x", value)}
		for skip := range 3 {
			// Whole groups of three bytes are the same wherever the value begins.
			whole := (len(value) - skip) / 3 * 3
			encoded := base64.StdEncoding.EncodeToString([]byte(value[skip : skip+whole]))
			forms = append(forms, encoded, strings.NewReplacer("+", "-", "/", "_").Replace(encoded))
		}
		shown := strings.Contains(text, value) || strings.Contains(lower, forms[0])
		for _, form := range forms[1:] {
			shown = shown || strings.Contains(text, form)
		}
		if shown {
			found = append(found, name)
		}
	}
	return found
}
