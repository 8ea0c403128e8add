package controlplane

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

// Binaries are the programs of Kubernetes: one file under two names.
type Binaries struct {
	Kube    string // path; takes the name of a component as its first argument
	Kubectl string // path of the same file under the name kubectl
}

// A recipe says how one program is built from one module below hack/.
type recipe struct {
	name    string // file name in the cache
	dir     string // module folder
	pkg     string // package to build, as go build takes it
	ldflags string
	tags    string // comma-separated
	usually string // how long a build takes when Go's own cache is empty
}

// istiodModules maps a release of Istio to the folder of its module.
var istiodModules = map[string]string{
	"1.27.9": "1.27", "1.29.1": "1.29", "1.30.4": "1.30", "1.31.0": "1.31",
}

// IstiodReleases are the releases that [Istiod] can build.
func IstiodReleases() []string { return []string{"1.27.9", "1.29.1", "1.30.4", "1.31.0"} }

// Build returns the programs of Kubernetes, built when the cache lacks them.
// The cache is the folder $ISTHMUS_CACHE, or isthmus in [os.UserCacheDir]; its
// key covers the module's source and sums and the version of Go. Progress goes
// to progress, which may be nil. A first build takes minutes; a second process
// that asks meanwhile waits for the first.
func Build(ctx context.Context, progress io.Writer) (Binaries, error) {
	root, err := moduleDir(ctx)
	if err != nil {
		return Binaries{}, err
	}
	kube, err := build(ctx, recipe{
		name: "kube", dir: filepath.Join(root, "kube"), pkg: ".",
		ldflags: kubernetesFlags(), usually: "10 minutes on 2 cores",
	}, progress)
	if err != nil {
		return Binaries{}, err
	}
	return Binaries{Kube: kube, Kubectl: filepath.Join(filepath.Dir(kube), "kubectl")}, nil
}

// kubernetesVersion is what module kube builds.
const kubernetesVersion = "1.36.3"

// kubernetesFlags set what Kubernetes's own release build sets: without them an
// API server tells its clients no version that they can read.
func kubernetesFlags() string {
	const variables = "k8s.io/component-base/version."
	parts := strings.SplitN(kubernetesVersion, ".", 3)
	return "-s -w -X " + variables + "gitVersion=v" + kubernetesVersion +
		" -X " + variables + "gitMajor=" + parts[0] + " -X " + variables + "gitMinor=" + parts[1]
}

// Istiod returns the path of istiod of a release, one of [IstiodReleases], built
// when the cache lacks it. See [Build].
func Istiod(ctx context.Context, release string, progress io.Writer) (string, error) {
	return buildIstio(ctx, recipe{
		name: "istiod", pkg: "istio.io/istio/pilot/cmd/pilot-discovery", usually: "10 minutes on 2 cores",
	}, release, progress)
}

// Istioctl returns the path of istioctl 1.31.0, built when the cache lacks it. See [Build].
func Istioctl(ctx context.Context, progress io.Writer) (string, error) {
	return buildIstio(ctx, recipe{
		name: "istioctl", pkg: "istio.io/istio/istioctl/cmd/istioctl", usually: "10 minutes on 2 cores",
	}, "1.31.0", progress)
}

func buildIstio(ctx context.Context, r recipe, release string, progress io.Writer) (string, error) {
	module, ok := istiodModules[release]
	if !ok {
		return "", fmt.Errorf("no module builds %s %q; there are %s", r.name, release, strings.Join(IstiodReleases(), ", "))
	}
	root, err := moduleDir(ctx)
	if err != nil {
		return "", err
	}
	r.name += "-" + release
	r.dir = filepath.Join(root, "..", "istiod", module)
	// Istio's own release build sets this; istiod reports it at /version.
	r.ldflags = "-s -w -X istio.io/istio/pkg/version.buildVersion=" + release
	return build(ctx, r, progress)
}

// build returns the path of the recipe's program: <cache>/<name>-<key>/<name>.
func build(ctx context.Context, r recipe, progress io.Writer) (string, error) {
	if progress == nil {
		progress = io.Discard
	}
	key, err := cacheKey(ctx, r)
	if err != nil {
		return "", fmt.Errorf("key of %s: %w", r.name, err)
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, r.name+"-"+key)
	program := filepath.Join(dir, r.name)
	if executable(program) {
		return program, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := lockFile(ctx, filepath.Join(dir, "lock"), func() {
		fmt.Fprintf(progress, "%s: another process is building it; waiting\n", r.name)
	})
	if err != nil {
		return "", fmt.Errorf("lock the build of %s: %w", r.name, err)
	}
	defer unlock()
	if executable(program) { // built while we waited
		return program, nil
	}
	if err := compile(ctx, r, program, progress); err != nil {
		return "", err
	}
	return program, nil
}

// compile builds beside the final path and renames, so that a program in the
// cache is always whole.
func compile(ctx context.Context, r recipe, program string, progress io.Writer) error {
	partial := fmt.Sprintf("%s.%d", program, os.Getpid())
	defer os.Remove(partial)
	start := time.Now()
	fmt.Fprintf(progress, "%s: building from Go modules; usually %s the first time, seconds when Go has it cached\n", r.name, r.usually)

	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-trimpath", "-tags="+r.tags, "-ldflags="+r.ldflags, "-o", partial, r.pkg)
	cmd.Dir = r.dir
	cmd.Env = goEnv()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("build %s: %w", r.name, err)
	}
	output := follow(stderr, r.name, start, progress)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("build %s in %s: %w\n%s", r.name, r.dir, err, strings.Join(output, "\n"))
	}
	if err := alias(program, r.name); err != nil {
		return err
	}
	if err := os.Rename(partial, program); err != nil {
		return fmt.Errorf("put %s into the cache: %w", r.name, err)
	}
	fmt.Fprintf(progress, "%s: built in %s\n", r.name, time.Since(start).Round(time.Second))
	return nil
}

// alias puts the second name of kube beside it.
func alias(program, name string) error {
	if name != "kube" {
		return nil
	}
	err := os.Symlink(name, filepath.Join(filepath.Dir(program), "kubectl"))
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("name kubectl: %w", err)
	}
	return nil
}

// follow reads the output of go build -v, one package a line, says every 15
// seconds how far it is, and returns the last lines, where the errors are.
func follow(stderr io.Reader, name string, start time.Time, progress io.Writer) []string {
	var compiled atomic.Int64
	done := make(chan struct{})
	defer close(done)
	go func() {
		tick := time.NewTicker(15 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintf(progress, "%s: %s, %d packages fetched or compiled\n", name, time.Since(start).Round(time.Second), compiled.Load())
			}
		}
	}()
	var last []string
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		compiled.Add(1)
		if last = append(last, lines.Text()); len(last) > 20 {
			last = last[1:]
		}
	}
	return last
}

// cacheKey changes with everything that the program is made of: source and sums
// of its module, flags, and the toolchain.
func cacheKey(ctx context.Context, r recipe) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, r.pkg, r.ldflags)
	if r.tags != "" {
		fmt.Fprintln(hash, r.tags)
	}
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH", "CGO_ENABLED")
	cmd.Dir = r.dir // the module may ask for another toolchain
	cmd.Env = goEnv()
	toolchain, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask go for its version: %w", err)
	}
	hash.Write(toolchain)
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil {
		return "", err
	}
	for _, file := range files { // Glob sorts
		base := filepath.Base(file)
		if base != "go.mod" && base != "go.sum" && filepath.Ext(base) != ".go" {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(hash, base, len(content))
		hash.Write(content)
	}
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}

// goEnv is our environment without what would make go look elsewhere than in the
// module at hand.
func goEnv() []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "GOFLAGS=") && !strings.HasPrefix(pair, "GOWORK=") {
			env = append(env, pair)
		}
	}
	return append(env, "GOWORK=off")
}

// moduleDir is the folder of this module's source.
func moduleDir(ctx context.Context) (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if dir := filepath.Dir(file); ok && filepath.IsAbs(dir) {
		if _, err := os.Stat(filepath.Join(dir, "kube", "go.mod")); err == nil {
			return dir, nil
		}
	}
	// Built with -trimpath, or the source has moved: ask go, from where we stand.
	const module = "github.com/isthmus-mesh/isthmus/hack/controlplane"
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("find the source of %s (run inside a checkout of isthmus): %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

func cacheDir() (string, error) {
	if dir := os.Getenv("ISTHMUS_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (set ISTHMUS_CACHE): %w", err)
	}
	return filepath.Join(dir, "isthmus"), nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// moduleSource downloads a module, checked against the checksum database, and
// returns its folder.
func moduleSource(ctx context.Context, module, version string) (string, error) {
	dir, err := os.MkdirTemp("", "isthmus-download")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module+"@"+version)
	cmd.Dir = dir // outside of any module: the version asked for is the one that counts
	cmd.Env = goEnv()
	out, err := cmd.Output()
	var result struct{ Dir, Error string }
	if json.Unmarshal(out, &result) == nil && result.Error != "" {
		err = errors.New(result.Error)
	}
	if err != nil {
		return "", fmt.Errorf("download %s@%s: %w", module, version, err)
	}
	return result.Dir, nil
}
