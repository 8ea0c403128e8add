package e2e

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	gitUser     = "fleet-reader"
	gitPassword = "canary-password-of-git-9d1f"
	// gitSecret is the Secret on the hub with both.
	gitSecret = "fleet-git"
)

// gitServer serves a rig's repository over HTTP to who knows the password.
type gitServer struct {
	rig *rig.Rig
	url string
}

func serveGit(t *testing.T, r *rig.Rig) *gitServer {
	t.Helper()
	programs, err := exec.CommandContext(t.Context(), "git", "--exec-path").Output()
	check(t, err)
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(programs)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + r.Dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if user, password, _ := request.BasicAuth(); user != gitUser || password != gitPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	return &gitServer{rig: r, url: server.URL + "/" + filepath.Base(r.Repository.Bare)}
}

// follow makes the Fleet object, with its credentials.
func (g *gitServer) follow(t *testing.T) {
	t.Helper()
	check(t, g.rig.HubClient.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: gitSecret},
		StringData: map[string]string{"username": gitUser, "password": gitPassword},
	}))
	fleet := &v1alpha1.Fleet{
		ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: rig.FleetName},
		Spec: v1alpha1.FleetSpec{
			URL: g.url, Branch: "main", Interval: metav1.Duration{Duration: time.Second},
			SecretRef: &v1alpha1.LocalObjectReference{Name: gitSecret},
		},
	}
	// CRDs need a moment before they are served.
	check(t, rig.Eventually(t.Context(), 20*time.Second, func() error { return g.rig.HubClient.Create(t.Context(), fleet) }))
}

// change makes the Secret hold another password.
func (g *gitServer) change(t *testing.T, password string) {
	t.Helper()
	check(t, g.rig.HubClient.Update(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: gitSecret},
		StringData: map[string]string{"username": gitUser, "password": password},
	}))
}
