package forge_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
)

// TestGit: where Git reaches what an API is of, and as whom.
func TestGit(t *testing.T) {
	const token = "s3cret-of-the-bot"
	for _, tt := range []struct {
		kind                           forge.Kind
		api, repository, remote, token string
		url, username                  string
		bearer                         bool
	}{
		{forge.GitHub, "https://api.github.com", "acme/fleet", "", token, "https://github.com/acme/fleet.git", "x-access-token", false},
		{forge.GitHub, "https://api.acme.ghe.com/", "acme/fleet", "", token, "https://acme.ghe.com/acme/fleet.git", "x-access-token", false},
		{forge.GitHub, "https://api.example.com/api/v3", "acme/fleet", "", token, "https://api.example.com/acme/fleet.git", "x-access-token", false},
		{forge.GitLab, "https://gitlab.com/api/v4", "acme/mesh/fleet", "", token, "https://gitlab.com/acme/mesh/fleet.git", "oauth2", false},
		{forge.GitLab, "https://git.example.com/gitlab/api/v4", "acme/fleet", "", token, "https://git.example.com/gitlab/acme/fleet.git", "oauth2", false},
		{forge.GitLab, "https://gitlab.com/api/v4", "4711", "https://gitlab.com/acme/fleet.git", token, "https://gitlab.com/acme/fleet.git", "oauth2", false},
		{forge.Gitea, "https://git.example.com/api/v1", "acme/fleet", "", token, "https://git.example.com/acme/fleet.git", "isthmus", false},
		{forge.Gitea, "http://127.0.0.1:3000/sub/api/v1", "acme/fleet", "", token, "http://127.0.0.1:3000/sub/acme/fleet.git", "isthmus", false},
		{forge.AzureDevOps, "https://dev.azure.com/acme/", "Mesh Team/fleet", "", token, "https://dev.azure.com/acme/Mesh%20Team/_git/fleet", "isthmus", false},
		{forge.AzureDevOps, "https://dev.azure.com/acme", "Mesh Team/fleet", "", "eyJhbGciOi.of.a-job", "https://dev.azure.com/acme/Mesh%20Team/_git/fleet", "", true},
		{forge.GitHub, "https://api.github.com", "acme/fleet", "http://127.0.0.1:8080/fleet.git", token + "\n", "http://127.0.0.1:8080/fleet.git", "x-access-token", false},
	} {
		got, err := forge.Git(forge.Target{Forge: tt.kind, API: tt.api, Repository: tt.repository}, forge.Token(tt.token), tt.remote)
		if err != nil || got.URL != tt.url || got.Username != tt.username || got.Needs == "" {
			t.Errorf("%s %s: %+v, %v; want %s as %q", tt.kind, tt.api, got, err, tt.url, tt.username)
		}
		want := strings.TrimSpace(tt.token)
		if tt.bearer && (string(got.Bearer) != want || got.Password != "") || !tt.bearer && (string(got.Password) != want || got.Bearer != "") {
			t.Errorf("%s %s: the token is not where it should be", tt.kind, tt.api)
		}
		if text := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(text, want) {
			t.Errorf("%s: the token prints: %s", tt.kind, text)
		}
	}
	for _, tt := range []struct{ reason, repository, remote, want string }{
		{"a project's number", "4711", "", "name it as group/project"},
		{"a user in the URL", "acme/fleet", "https://bot:" + token + "@gitlab.com/acme/fleet.git", "without a user"},
		{"ssh", "acme/fleet", "ssh://git@gitlab.com/acme/fleet.git", "https://"},
		{"what is no URL", "acme/fleet", "git@gitlab.com:acme/fleet.git", "https://"},
		{"http", "acme/fleet", "http://gitlab.com/acme/fleet.git", "https://"},
		{"a path that climbs", "acme/../fleet", "", "is no repository"},
	} {
		_, err := forge.Git(forge.Target{Forge: forge.GitLab, API: "https://gitlab.com/api/v4", Repository: tt.repository}, token, tt.remote)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), token) {
			t.Errorf("%s: error %v, want %q", tt.reason, err, tt.want)
		}
	}
	if _, err := forge.Git(forge.Target{Forge: forge.GitHub, API: "http://github.example.com", Repository: "acme/fleet"}, token, ""); err == nil {
		t.Error("an API without TLS")
	}
}
