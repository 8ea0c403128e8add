package forge

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// GitAccess is how Git reaches the repository of a target: over HTTPS, with the token
// as password or, where Bearer is set, by itself.
type GitAccess struct {
	URL      string
	Username string
	Password Token
	Bearer   Token
	// Needs is what the token needs to push a branch.
	Needs string
}

// Git returns how Git reaches the repository. remote is its URL, if that is not where
// the forge of this API keeps it; it may name no user. GitLab's projects have to be
// given by path.
func Git(t Target, token Token, remote string) (GitAccess, error) {
	base, err := apiURL(t.API)
	if err != nil {
		return GitAccess{}, err
	}
	if _, err := dialectOf(t, &wire{forge: t.Forge, base: base}); err != nil {
		return GitAccess{}, err
	}
	token = Token(strings.TrimSpace(string(token)))
	access := GitAccess{URL: remote, Password: token, Needs: gitNeeds(t.Forge)}
	if remote == "" {
		if access.URL, err = cloneURL(t, *base); err != nil {
			return GitAccess{}, err
		}
	} else if u, err := url.Parse(remote); err != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) || u.User != nil {
		return GitAccess{}, errors.New("the remote has to be an https:// URL without a user in it: the token is sent in a header")
	}
	switch t.Forge {
	case GitHub:
		access.Username = "x-access-token"
	case GitLab:
		access.Username = "oauth2"
	case AzureDevOps:
		access.Username = "isthmus"
		if strings.HasPrefix(string(token), "eyJ") { // of Entra ID, or of a job
			access.Username, access.Password, access.Bearer = "", "", token
		}
	default:
		access.Username = "isthmus"
	}
	return access, nil
}

func gitNeeds(kind Kind) string {
	switch kind {
	case GitHub:
		return "the permission contents: write"
	case GitLab:
		return "the scope write_repository or api, the role Developer, and that no rule protects the branch"
	case Gitea:
		return giteaStatuses
	}
	return azurePulls
}

// cloneURL is where a forge keeps the repositories of an API.
func cloneURL(t Target, base url.URL) (string, error) {
	parts := strings.Split(t.Repository, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	repository := "/" + strings.Join(parts, "/")
	host := func(suffix string) string {
		base.Path, base.RawPath = strings.TrimSuffix(base.Path, suffix), ""
		return strings.TrimRight(base.String(), "/")
	}
	switch t.Forge {
	case GitHub: // api.github.com, api.NAME.ghe.com, or HOST/api/v3
		if base.Path == "" {
			base.Host = strings.TrimPrefix(base.Host, "api.")
		}
		return host("/api/v3") + repository + ".git", nil
	case GitLab:
		if len(parts) == 1 {
			return "", fmt.Errorf("project %q is a number: name it as group/project, since Git needs its path", t.Repository)
		}
		return host("/api/v4") + repository + ".git", nil
	case AzureDevOps:
		return host("") + "/" + parts[0] + "/_git/" + parts[1], nil
	}
	return host("/api/v1") + repository + ".git", nil
}
