package controlplane

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/port"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/process"
)

// GiteaVersion is what module gitea builds.
const GiteaVersion = "1.26.0"

// Gitea returns the path of Gitea, with SQLite and without the files of its
// browser pages, built when the cache lacks it. It needs a C compiler. See [Build].
func Gitea(ctx context.Context, progress io.Writer) (string, error) {
	root, err := moduleDir(ctx)
	if err != nil {
		return "", err
	}
	return build(ctx, recipe{
		name: "gitea-" + GiteaVersion, dir: filepath.Join(root, "..", "gitea"), pkg: "code.gitea.io/gitea",
		ldflags: "-s -w -X main.Version=" + GiteaVersion, tags: "sqlite,sqlite_unlock_notify", usually: "4 minutes on 2 cores",
	}, progress)
}

// GiteaOptions say how to start a [GiteaServer].
type GiteaOptions struct {
	// LogDir is where gitea.log goes; it is made if it is missing and kept. Empty: a
	// folder that is gone after Stop.
	LogDir string
	// Progress hears of a build; nil for nobody.
	Progress io.Writer
}

// GiteaServer is a real Gitea on loopback, with one account and no repository. Its
// fields are constant.
type GiteaServer struct {
	// URL is where it answers, without a slash at the end; its API is below /api/v1.
	URL string
	// Admin is the name of its account, which may do everything.
	Admin string
	// Password is the admin's, for Git over HTTP and for making tokens.
	Password string
	// Token is the admin's, with all scopes.
	Token string

	dir     string
	unlock  func()
	port    *port.Port
	process *process.Process
	logs    string

	stopOnce sync.Once
}

// StartGitea builds Gitea if need be, starts it with a database of its own and
// returns when it answers. It lives until Stop or until ctx ends.
func StartGitea(ctx context.Context, options GiteaOptions) (*GiteaServer, error) {
	program, err := Gitea(ctx, options.Progress)
	if err != nil {
		return nil, err
	}
	// Templates and the like are read from its source: they are not in the program.
	static, err := moduleSource(ctx, "code.gitea.io/gitea", "v"+GiteaVersion)
	if err != nil {
		return nil, err
	}
	sweepStates()
	dir, unlock, err := newState()
	if err != nil {
		return nil, err
	}
	g := &GiteaServer{Admin: "root-of-all", Password: rand.Text(), dir: dir, unlock: unlock, logs: options.LogDir}
	if g.logs == "" {
		g.logs = filepath.Join(dir, "logs")
	}
	if err := g.start(ctx, program, static); err != nil {
		g.Stop()
		return nil, fmt.Errorf("start Gitea: %w", err)
	}
	context.AfterFunc(ctx, g.Stop)
	return g, nil
}

func (g *GiteaServer) start(ctx context.Context, program, static string) error {
	if err := os.MkdirAll(g.logs, 0o755); err != nil {
		return fmt.Errorf("make log folder: %w", err)
	}
	var err error
	if g.port, err = port.Reserve(); err != nil {
		return err
	}
	g.URL = "http://" + g.port.Address()
	config, err := g.config(static)
	if err != nil {
		return err
	}
	if err := writeFiles(map[string][]byte{g.file("app.ini"): config}); err != nil {
		return err
	}
	if err := g.setUp(ctx, program); err != nil {
		return err
	}
	g.process, err = process.Start(process.Spec{
		Name: "gitea", Path: program, Args: g.args("web"), Env: g.environment(), Dir: g.dir, Log: filepath.Join(g.logs, "gitea.log"),
	})
	if err != nil {
		return err
	}
	return waitFor(ctx, "Gitea to be ready", g.process.Err, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL+"/api/healthz", nil)
		if err != nil {
			return err
		}
		return expectOK(http.DefaultClient.Do(request))
	})
}

var giteaToken = regexp.MustCompile(`\b[0-9a-f]{40}\b`)

// setUp makes the database and the admin, with a token.
func (g *GiteaServer) setUp(ctx context.Context, program string) error {
	if _, err := g.run(ctx, program, "migrate"); err != nil {
		return err
	}
	said, err := g.run(ctx, program, "admin", "user", "create", "--admin", "--username", g.Admin, "--password", g.Password,
		"--email", "admin@example.com", "--must-change-password=false", "--access-token")
	if err != nil {
		return err
	}
	if g.Token = giteaToken.FindString(said); g.Token == "" {
		return fmt.Errorf("no token of the admin in %q", said)
	}
	return nil
}

// run runs one of Gitea's commands to its end and returns what it said.
func (g *GiteaServer) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, g.args(args...)...)
	cmd.Dir, cmd.Env = g.dir, g.environment()
	said, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("gitea %s: %w\n%s", args[0], err, said)
	}
	return string(said), nil
}

func (g *GiteaServer) args(command ...string) []string {
	return append([]string{"--config", g.file("app.ini"), "--work-path", g.dir}, command...)
}

// environment is that of a user whose home, with Git's configuration, is the state.
func (g *GiteaServer) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + g.dir, "TMPDIR=" + os.TempDir(), "GIT_CONFIG_NOSYSTEM=1"}
}

func (g *GiteaServer) file(name string) string { return filepath.Join(g.dir, name) }

// config is all that differs from what Gitea does by itself: nothing listens
// beside the one port, nothing is asked of other hosts, nothing runs by the clock.
func (g *GiteaServer) config(static string) ([]byte, error) {
	self, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("ask who we are: %w", err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "RUN_MODE = prod\nRUN_USER = %s\nI_AM_BEING_UNSAFE_RUNNING_AS_ROOT = %t\n", self.Username, os.Getuid() == 0)
	for _, section := range []struct{ name, keys string }{
		{"server", "PROTOCOL = http\nHTTP_ADDR = 127.0.0.1\nDOMAIN = 127.0.0.1\nDISABLE_SSH = true\nLFS_START_SERVER = false\nOFFLINE_MODE = true" +
			"\nHTTP_PORT = " + g.port.String() + "\nROOT_URL = " + g.URL + "/\nSTATIC_ROOT_PATH = " + static},
		{"database", "DB_TYPE = sqlite3\nSQLITE_JOURNAL_MODE = WAL\nPATH = " + g.file("gitea.db")},
		{"security", "INSTALL_LOCK = true\nPASSWORD_HASH_ALGO = pbkdf2_v1\nSECRET_KEY = " + rand.Text()},
		{"repository", "DEFAULT_BRANCH = main\nROOT = " + g.file("repositories")},
		{"service", "DISABLE_REGISTRATION = true\nENABLE_NOTIFY_MAIL = false"},
		{"log", "MODE = console\nLEVEL = Warn"},
		{"indexer", "ISSUE_INDEXER_TYPE = db"},
		{"webhook", "ALLOWED_HOST_LIST = loopback"},
		{"picture", "DISABLE_GRAVATAR = true"},
		{"cron", "ENABLED = false"},
		{"actions", "ENABLED = true"}, // nothing runs before a runner asks for work
		{"packages", "ENABLED = false"},
		{"session", "PROVIDER = memory"},
		{"cron.update_checker", "ENABLED = false"},
	} {
		fmt.Fprintf(&b, "\n[%s]\n%s\n", section.name, section.keys)
	}
	return b.Bytes(), nil
}

// Pid is the id of the process.
func (g *GiteaServer) Pid() int { return g.process.Pid() }

// Stop ends Gitea and what it started, waits until it is gone, and removes its
// state. Stopping twice is fine.
func (g *GiteaServer) Stop() {
	g.stopOnce.Do(func() {
		if g.process != nil {
			g.process.Stop(3 * time.Second)
		}
		if g.port != nil {
			g.port.Release()
		}
		_ = os.RemoveAll(g.dir) // what stays does no harm, and the next start removes it
		g.unlock()
	})
}

// API calls Gitea's API as the bearer of a token, or as the admin by password if
// the token is empty. path is below /api/v1; in and out are JSON, and may be nil.
func (g *GiteaServer) API(ctx context.Context, token, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, g.URL+"/api/v1"+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if token == "" {
		request.SetBasicAuth(g.Admin, g.Password)
	} else {
		request.Header.Set("Authorization", "token "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, strings.TrimSpace(string(answer)))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
