package controlplane_test

import (
	"os"
	"testing"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

// TestGitea: it starts, knows its admin, keeps a repository, and is gone after Stop.
func TestGitea(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real process")
	}
	g, err := controlplane.StartGitea(t.Context(), controlplane.GiteaOptions{LogDir: t.TempDir(), Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	var user struct {
		Login string `json:"login"`
		Admin bool   `json:"is_admin"`
	}
	if err := g.API(t.Context(), g.Token, "GET", "/user", nil, &user); err != nil || user.Login != g.Admin || !user.Admin {
		t.Errorf("the admin is %+v, error %v", user, err)
	}
	if err := g.API(t.Context(), g.Token, "POST", "/user/repos", map[string]any{"name": "fleet", "auto_init": true}, nil); err != nil {
		t.Error(err)
	}
	var version struct {
		Version string `json:"version"`
	}
	if err := g.API(t.Context(), "", "GET", "/version", nil, &version); err != nil || version.Version != controlplane.GiteaVersion {
		t.Errorf("version %q, error %v", version.Version, err)
	}
	pid := g.Pid()
	g.Stop()
	g.Stop()
	expectGone(t, []int{pid})
}
