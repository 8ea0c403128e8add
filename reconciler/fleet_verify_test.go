package reconciler

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/source/signature"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// secrets is a hub that has Secrets alone.
type secrets map[string]map[string][]byte

func (s secrets) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	data, ok := s[key.Name]
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, key.Name)
	}
	into.(*corev1.Secret).Data = data
	return nil
}

func (secrets) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }

// signed is a repository whose commits can be signed, and a fleet that wants
// them to be.
type signed struct {
	*followed
	hub secrets
	now time.Time
}

func signer(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func followSigned(t *testing.T, mode v1alpha1.VerificationMode) *signed {
	t.Helper()
	s := &signed{followed: follow(t, t.TempDir()), hub: secrets{}, now: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)}
	s.looker.hub, s.looker.now = s.hub, func() time.Time { return s.now }
	s.fleet.ObjectMeta = metav1.ObjectMeta{Namespace: "isthmus-system", Name: "prod"}
	s.fleet.Spec.Verify = &v1alpha1.Verification{Mode: mode, SecretRef: v1alpha1.LocalObjectReference{Name: "signers"}}
	return s
}

// allow makes these lines of the Secret those who may sign.
func (s *signed) allow(lines ...string) {
	s.hub["signers"] = map[string][]byte{"allowed_signers": []byte(strings.Join(lines, ""))}
}

func line(key ssh.Signer, options string) string {
	return "alice@example.com " + options + string(ssh.MarshalAuthorizedKey(key.PublicKey()))
}

// git runs the real git in the bare repository.
func (s *signed) git(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir, cmd.Stdin = s.repository.Bare, strings.NewReader(input)
	cmd.Env = append(cmd.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

func armouredSignature(t *testing.T, key ssh.Signer, content, namespace string) string {
	t.Helper()
	made, err := sshsig.Sign(bytes.NewReader([]byte(content)), key, sshsig.HashSHA512, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return string(sshsig.Armor(made))
}

// commit makes a commit the head of main, signed by a key when there is one.
func (s *signed) commit(t *testing.T, message string, key ssh.Signer, namespace string) string {
	t.Helper()
	if err := s.repository.Write("fleet.yaml", fmt.Sprintf("# %s\napiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec: {trust: {domain: cluster.local}}\n", message)); err != nil {
		t.Fatal(err)
	}
	head, err := s.repository.Push(t.Context(), message)
	if err != nil || key == nil {
		return head
	}
	raw := s.git(t, "", "cat-file", "commit", head)
	text := strings.ReplaceAll(strings.TrimSpace(armouredSignature(t, key, raw, namespace)), "\n", "\n ")
	before, after, _ := strings.Cut(raw, "\n\n")
	head = s.put(t, "commit", before+"\ngpgsig "+text+"\n\n"+after)
	// The work tree knows nothing of the commit that was signed afterwards.
	for _, args := range [][]string{{"fetch", "-q", "origin", "main"}, {"reset", "-q", "--hard", "FETCH_HEAD"}} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = s.repository.Work
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return head
}

// put writes an object and makes it the head of main, or the tag v1.0.0.
func (s *signed) put(t *testing.T, kind, content string) string {
	t.Helper()
	hash := strings.TrimSpace(s.git(t, content, "hash-object", "-t", kind, "-w", "--stdin"))
	ref := "refs/heads/main"
	if kind == "tag" {
		ref = "refs/tags/v1.0.0"
	}
	s.git(t, "", "update-ref", ref, hash)
	return hash
}

// tag points the tag v1.0.0 at a commit.
func (s *signed) tag(t *testing.T, name, commit string, key ssh.Signer) {
	t.Helper()
	content := fmt.Sprintf("object %s\ntype commit\ntag %s\ntagger a <a@example.com> 1 +0000\n\nrelease\n", commit, name)
	if key != nil {
		content += armouredSignature(t, key, content, "git")
	}
	s.put(t, "tag", content)
}

// TestUnverifiedKeepsTheLastGood: whatever is wrong with a signature, nothing new
// is accepted, the reason is said, and the last good commit is in force, also
// after a start.
func TestUnverifiedKeepsTheLastGood(t *testing.T) {
	t.Parallel()
	alice, mallory := signer(t), signer(t)
	for _, tt := range []struct {
		reason string
		change func(t *testing.T, s *signed)
		want   signature.Reason
	}{
		{"unsigned", func(t *testing.T, s *signed) { s.commit(t, "two", nil, "") }, signature.ReasonUnsigned},
		{"an unknown key under the author's e-mail address", func(t *testing.T, s *signed) { s.commit(t, "two", mallory, "git") }, signature.ReasonUnknownSigner},
		{"signed as a file", func(t *testing.T, s *signed) { s.commit(t, "two", alice, "file") }, signature.ReasonWrongNamespace},
		{"the key has expired", func(t *testing.T, s *signed) {
			s.commit(t, "two", alice, "git")
			s.allow(line(alice, `valid-before="20260101" `))
		}, signature.ReasonKeyExpired},
		{"the key was removed, and nothing else happened", func(_ *testing.T, s *signed) { s.allow(line(mallory, "")) }, signature.ReasonUnknownSigner},
		{"the keys cannot be read", func(_ *testing.T, s *signed) { s.allow("what is this\n") }, signature.ReasonInvalidKeys},
		{"the Secret is gone", func(_ *testing.T, s *signed) { delete(s.hub, "signers") }, status.ReasonSecretNotFound},
		{"the signature of another commit", func(t *testing.T, s *signed) {
			raw := s.git(t, "", "cat-file", "commit", "main")
			s.put(t, "commit", strings.Replace(raw, "\n\n", "\n\nanother message ", 1))
		}, signature.ReasonInvalidSignature},
		{"an older commit that was signed, by a forced push", func(t *testing.T, s *signed) {
			s.git(t, "", "update-ref", "refs/heads/main", "main~1")
		}, status.ReasonNonFastForward},
	} {
		s := followSigned(t, v1alpha1.VerifyHEAD)
		s.allow(line(alice, ""))
		s.commit(t, "zero", alice, "git")
		good := s.commit(t, "one", alice, "git")
		first := s.looker.look(t.Context(), s.fleet, nil, published{})
		if first.failure != nil || first.accepted == nil || first.verified == nil || !strings.Contains(first.verified.Signer, "alice@example.com") {
			t.Fatalf("%s: the good commit: %+v, %+v", tt.reason, first.failure, first.verified)
		}
		s.fleet.Status.AcceptedRevision = "main@sha1:" + good
		tt.change(t, s)
		for where, held := range map[string]*accepted{"running": first.accepted, "after a start": nil} {
			found := s.looker.look(t.Context(), s.fleet, held, published{})
			if found.failure == nil || found.failure.Reason != string(tt.want) {
				t.Errorf("%s, %s: %+v, want %s", tt.reason, where, found.failure, tt.want)
				continue
			}
			if held != nil && found.accepted != nil {
				t.Errorf("%s, %s: accepted %s", tt.reason, where, found.accepted.commit)
			}
			if held == nil && (found.accepted == nil || found.accepted.commit != good) {
				t.Errorf("%s, %s: the last good commit is not in force: %+v", tt.reason, where, found.accepted)
			}
			outcome := status.Fleet{Verify: true, Verified: found.verified, Failure: found.failure, Accepted: good}
			verified := outcome.Conditions()[2]
			if wantStatus := tt.want == status.ReasonNonFastForward; (verified.Status == metav1.ConditionTrue) != wantStatus || verified.Type != status.SourceVerified {
				t.Errorf("%s, %s: condition %+v", tt.reason, where, verified)
			}
		}
	}
}

// TestVerifiedTags: each mode looks at what it says, and a signed tag counts
// under its own name only.
func TestVerifiedTags(t *testing.T) {
	t.Parallel()
	alice, mallory := signer(t), signer(t)
	for _, tt := range []struct {
		reason     string
		mode       v1alpha1.VerificationMode
		commit     ssh.Signer
		name       string
		tag        ssh.Signer
		followsTag bool
		want       signature.Reason
	}{
		{"a signed tag of an unsigned commit", v1alpha1.VerifyTag, nil, "v1.0.0", alice, true, ""},
		{"both signed", v1alpha1.VerifyTagAndHEAD, alice, "v1.0.0", alice, true, ""},
		{"the tag alone where both are wanted", v1alpha1.VerifyTagAndHEAD, nil, "v1.0.0", alice, true, signature.ReasonUnsigned},
		{"the commit alone where both are wanted", v1alpha1.VerifyTagAndHEAD, alice, "v1.0.0", nil, true, signature.ReasonUnsigned},
		{"an unsigned tag", v1alpha1.VerifyTag, alice, "v1.0.0", nil, true, signature.ReasonUnsigned},
		{"a tag by somebody else", v1alpha1.VerifyTag, alice, "v1.0.0", mallory, true, signature.ReasonUnknownSigner},
		{"the signed tag of another version under this name", v1alpha1.VerifyTag, alice, "v0.9.0", alice, true, signature.ReasonInvalidSignature},
		{"a branch, where a tag is wanted", v1alpha1.VerifyTag, alice, "v1.0.0", alice, false, signature.ReasonUnsigned},
	} {
		s := followSigned(t, tt.mode)
		s.allow(line(alice, ""))
		s.tag(t, tt.name, s.commit(t, "one", tt.commit, "git"), tt.tag)
		if tt.followsTag {
			s.fleet.Spec.Tag = "v1.0.0"
		}
		found := s.looker.look(t.Context(), s.fleet, nil, published{})
		switch {
		case tt.want == "" && (found.failure != nil || found.accepted == nil):
			t.Errorf("%s: %+v", tt.reason, found.failure)
		case tt.want != "" && (found.failure == nil || found.failure.Reason != string(tt.want) || found.accepted != nil):
			t.Errorf("%s: %+v, want %s", tt.reason, found.failure, tt.want)
		}
	}
}
