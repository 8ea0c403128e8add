package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/isthmus-mesh/isthmus"

// rule limits what some packages of the module import directly. Packages are
// named relative to the module; "x/..." is x and everything below it, also for
// what they import, where "std" is the whole standard library.
type rule struct {
	reason string
	// packages that the rule speaks of.
	packages []string
	// except are packages that it does not speak of.
	except []string
	// never is what they may not import.
	never []string
	// only, if set, is all that they may import.
	only []string
}

// Input and output, as imports: what pure code has no use for.
var inputOutput = []string{"os", "os/exec", "net", "net/http/...", "log/...", "math/rand/...", "crypto/rand", "syscall"}

var rules = []rule{
	{
		reason:   "commands wire libraries together; a library that needs a command is upside down",
		packages: []string{"..."},
		never:    []string{module + "/cmd/..."},
	},
	{
		reason:   "fleet is a leaf, and its types are also the hub's CRDs: whoever reads fleets must not pull in a client",
		packages: []string{"fleet/..."},
		only: []string{
			"std", "go.yaml.in/yaml/...", "sigs.k8s.io/yaml/...", "k8s.io/apimachinery/...",
			"k8s.io/kube-openapi/pkg/validation/...", module + "/fleet/...", module + "/docs/schema",
		},
	},
	{
		reason:   "catalog is a leaf: facts about releases, and the charts that they come with",
		packages: []string{"catalog/..."},
		except:   []string{"catalog/fetch/..."},
		only: []string{
			"std", "go.yaml.in/yaml/...", "sigs.k8s.io/yaml/...",
			"istio.io/istio/manifests", "istio.example/istio127/manifests", "istio.example/istio128/manifests",
			"istio.example/istio129/manifests", "istio.example/istio130/manifests",
			module + "/fleet/...", module + "/catalog/...",
		},
	},
	{
		reason:   "from a loaded fleet to a bundle the same input gives the same bytes: no disk, network, log or chance",
		packages: []string{"fleet/...", "catalog/...", "renderer/..."},
		except:   []string{"catalog/fetch/..."},
		never:    inputOutput,
	},
	{
		reason:   "rendering happens in CI and in editors too, where there is no cluster to ask",
		packages: []string{"renderer/..."},
		never:    []string{module + "/reconciler/...", "k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/..."},
	},
	{
		reason:   "Istio's and Helm's packages are wide and change with every release: one package renders with them, one validates",
		packages: []string{"..."},
		except:   []string{"renderer/ambient/...", "renderer/validation/...", "catalog/...", "reconciler/trust/proof/...", "test/xds/..."},
		never:    []string{"istio.io/...", "istio.example/...", "helm.sh/helm/..."},
	},
	{
		reason:   "watching what istiod tells its data plane takes the definitions of the messages, and gRPC, and nothing else of Istio",
		packages: []string{"test/xds/..."},
		only:     []string{"std", "istio.io/istio/pkg/workloadapi", "github.com/envoyproxy/go-control-plane/envoy/...", "google.golang.org/..."},
	},
	{
		reason:   "what ships asks istiod and speaks no xDS: one package does, for tests",
		packages: []string{"..."},
		except:   []string{"test/xds/..."},
		never:    []string{"github.com/envoyproxy/..."},
	},
	{
		reason:   "asking istiod for a certificate takes the definition of its CA's API, and gRPC, and nothing else of Istio",
		packages: []string{"reconciler/trust/proof/..."},
		never:    []string{"istio.io/istio/...", "istio.io/client-go/...", "istio.io/api/mesh/..."},
	},
	{
		reason:   "what an API server says of an object is worked out in one package, with the machinery that it takes",
		packages: []string{"..."},
		except:   []string{"renderer/validation/...", "test/..."},
		never:    []string{"k8s.io/apiserver/...", "k8s.io/apiextensions-apiserver/pkg/apiserver/...", "sigs.k8s.io/gateway-api/..."},
	},
	{
		reason:   "krusty keeps process-global state, so one package owns it and its lock",
		packages: []string{"..."},
		except:   []string{"renderer/kustomize/..."},
		never:    []string{"sigs.k8s.io/kustomize/api/...", "github.com/fluxcd/pkg/kustomize/..."},
	},
	{
		reason:   "rules of reviews are in CEL, which one package speaks",
		packages: []string{"..."},
		except:   []string{"renderer/policy/..."},
		never:    []string{"github.com/google/cel-go/..."},
	},
	{
		reason:   "the apply engine's types stop at one package, so that it can be replaced",
		packages: []string{"..."},
		except:   []string{"reconciler/apply/..."},
		never:    []string{"github.com/fluxcd/pkg/ssa/...", "github.com/fluxcd/cli-utils/..."},
	},
	{
		reason:   "rendering needs no network: what it lacks is fetched before, by commands and the reconciler",
		packages: []string{"..."},
		except:   []string{"cmd/...", "reconciler/...", "catalog/fetch/..."},
		never:    []string{module + "/catalog/fetch/..."},
	},
	{
		reason:   "fetching needs a fleet and a catalog, and not what is made of them",
		packages: []string{"catalog/fetch/..."},
		never:    []string{module + "/renderer/...", module + "/reconciler/..."},
	},
	{
		reason:   "one package speaks to OCI registries",
		packages: []string{"..."},
		except:   []string{"catalog/fetch/..."},
		never:    []string{"oras.land/...", "github.com/opencontainers/..."},
	},
	{
		reason:   "one package speaks Git",
		packages: []string{"..."},
		except:   []string{"reconciler/source/...", "test/..."},
		never:    []string{"github.com/go-git/...", "github.com/skeema/knownhosts/...", "golang.org/x/crypto/ssh/...", "github.com/Masterminds/semver/..."},
	},
	{
		reason:   "one package checks signatures of commits",
		packages: []string{"..."},
		except:   []string{"reconciler/source/signature/...", "test/..."},
		never:    []string{"github.com/ProtonMail/...", "github.com/hiddeco/sshsig/..."},
	},
	{
		reason:   "signatures are checked from bytes, with the time passed in",
		packages: []string{"reconciler/source/signature/..."},
		never:    append([]string{"github.com/go-git/...", "k8s.io/..."}, inputOutput...),
	},
	{
		reason:   "kubeconfigs of members are read where they are sanitised; the command line reads only its user's own",
		packages: []string{"..."},
		except:   []string{"reconciler/member/...", "cmd/...", "test/..."},
		never:    []string{"k8s.io/client-go/tools/clientcmd/..."},
	},
	{
		reason:   "one package logs in to Azure, as exactly the identity that the fleet names",
		packages: []string{"..."},
		except:   []string{"reconciler/azure/..."},
		never:    []string{"github.com/Azure/azure-sdk-for-go/sdk/azidentity/...", "github.com/AzureAD/..."},
	},
	{
		reason:   "Azure's types stop where members are reached, and where a vault is",
		packages: []string{"..."},
		except:   []string{"reconciler/azure/...", "reconciler/member/...", "reconciler/trust/keyvault/...", "test/keyvault/..."},
		never:    []string{"github.com/Azure/..."},
	},
	{
		reason:   "rights are worked out from a bundle, for an admin to read: no cluster is asked",
		packages: []string{"reconciler/rights/..."},
		never:    append([]string{"k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/..."}, inputOutput...),
	},
	{
		reason:   "conditions are decided from values: with a client at hand they would soon be decided from reads",
		packages: []string{"reconciler/status/..."},
		never:    append([]string{"k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/..."}, inputOutput...),
	},
	{
		reason:   "who reads whom, and whether a credential stays, is decided from values; who asks a member passes its answers in",
		packages: []string{"reconciler/peering/..."},
		never:    append([]string{"k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/..."}, inputOutput...),
	},
	{
		reason:   "forges are asked by a few small requests of our own: no client library, nothing of ours or of Kubernetes",
		packages: []string{"reconciler/forge/..."},
		except:   []string{"reconciler/forge/forgetest/..."},
		only:     []string{"std"},
	},
	{
		reason:   "what a CI job tells, and its token, are passed in; what becomes of a call is returned",
		packages: []string{"reconciler/forge/..."},
		never:    []string{"os", "os/exec", "log/..."},
	},
	{
		reason:   "the forges of the tests do not ship",
		packages: []string{"..."},
		except:   []string{"test/..."},
		never:    []string{module + "/reconciler/forge/forgetest"},
	},
	{
		reason:   "flags and exit codes belong to the command line",
		packages: []string{"..."},
		except:   []string{"cmd/...", "test/..."},
		never:    []string{"github.com/spf13/cobra/...", "github.com/spf13/pflag/...", "flag"},
	},
	{
		reason:   "what ships must not carry the control plane of the tests",
		packages: []string{"..."},
		except:   []string{"test/..."},
		never:    []string{module + "/hack/..."},
	},
}

// callRule limits what some packages call from the standard library.
type callRule struct {
	reason   string
	packages []string
	except   []string
	// never are functions and variables as "package.Name".
	never []string
}

var callRules = []callRule{
	{
		reason:   "the same input gives the same bytes, also tomorrow: time is passed in",
		packages: []string{"fleet/...", "catalog/...", "renderer/...", "reconciler/status/...", "reconciler/peering/...", "reconciler/rollout/...", "reconciler/source/signature/..."},
		never:    []string{"time.Now", "time.Since", "time.Until", "time.After", "time.Sleep", "time.NewTimer", "time.NewTicker"},
	},
	{
		reason:   "only the command line prints; a library returns what happened",
		packages: []string{"..."},
		except:   []string{"cmd/...", "hack/...", "test/..."},
		never:    []string{"fmt.Print", "fmt.Printf", "fmt.Println", "os.Stdout", "os.Stderr", "os.Exit"},
	},
}

// pkg is a package of the module, without its tests.
type pkg struct {
	Dir        string
	ImportPath string
	Imports    []string
	GoFiles    []string
}

func TestImports(t *testing.T) {
	t.Parallel()
	packages := listPackages(t)
	for _, violation := range importViolations(rules, packages) {
		t.Error(violation)
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		if !strings.HasPrefix(p.ImportPath, module) || !slices.ContainsFunc(callRules, func(r callRule) bool { return r.concerns(p.name()) }) {
			continue
		}
		fset := token.NewFileSet()
		for _, file := range p.GoFiles {
			parsed, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, violation := range callViolations(callRules, p.name(), fset, parsed) {
				t.Error(violation)
			}
		}
	}
}

// importViolations returns one line per import that a rule forbids.
func importViolations(rules []rule, packages []pkg) []string {
	var out []string
	for _, p := range packages {
		for _, r := range rules {
			if !matches(r.packages, p.name()) || matches(r.except, p.name()) {
				continue
			}
			for _, imported := range p.Imports {
				allowed := len(r.only) == 0 || matches(r.only, imported)
				if matches(r.never, imported) || !allowed {
					out = append(out, fmt.Sprintf("%s imports %s: %s", p.name(), imported, r.reason))
				}
			}
		}
	}
	return out
}

// callViolations returns one line per use of a name that a rule forbids.
func callViolations(rules []callRule, name string, fset *token.FileSet, file *ast.File) []string {
	var out []string
	imported := importedNames(file)
	ast.Inspect(file, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		left, ok := selector.X.(*ast.Ident)
		if !ok || imported[left.Name] == "" {
			return true
		}
		used := imported[left.Name] + "." + selector.Sel.Name
		for _, r := range rules {
			if r.concerns(name) && slices.Contains(r.never, used) {
				position := fset.Position(selector.Pos())
				out = append(out, fmt.Sprintf("%s/%s:%d uses %s: %s", name, filepath.Base(position.Filename), position.Line, used, r.reason))
			}
		}
		return true
	})
	return out
}

// importedNames maps the names that a file gives to imported packages to their
// paths. The standard library's names are the last element of their paths.
func importedNames(file *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := imported[strings.LastIndex(imported, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	return names
}

func (r callRule) concerns(name string) bool {
	return matches(r.packages, name) && !matches(r.except, name)
}

// name is the path of the package inside of the module.
func (p pkg) name() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// matches says whether a path is one of the patterns.
func matches(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, below := strings.CutSuffix(pattern, "...")
		prefix = strings.TrimSuffix(prefix, "/")
		switch {
		case pattern == "std":
			first, _, _ := strings.Cut(path, "/")
			return !strings.Contains(first, ".")
		case !below:
			return path == pattern
		}
		return prefix == "" || path == prefix || strings.HasPrefix(path, prefix+"/")
	})
}

func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=Dir,ImportPath,Imports,GoFiles", "./...")
	cmd.Dir = ".."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("list the packages: %v\n%s", err, stderr.String())
	}
	var packages []pkg
	decoder := json.NewDecoder(strings.NewReader(string(output)))
	for {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 5 {
		t.Fatalf("found only %d packages; are the rules looking at the module?", len(packages))
	}
	return packages
}

// The rules above pass on the module as it is; these cases prove that they
// would not pass on one that breaks them.
func TestImportViolations(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reason       string
		pkg, imports string
		violations   int
	}{
		{"a renderer that downloads", "renderer", module + "/catalog/fetch", 1},
		{"a catalog that downloads", "catalog", "net/http", 1},
		{"the package that downloads", "catalog/fetch", "net/http", 0},
		{"a second importer of the registry's client", "reconciler", "oras.land/oras-go/v2/registry/remote", 1},
		{"a renderer that reads the disk", "renderer/plan", "os", 1},
		{"a renderer that asks a cluster", "renderer", "k8s.io/client-go/kubernetes", 1},
		{"a renderer that reconciles", "renderer/ambient", module + "/reconciler/apply", 1},
		{"parsing an address is no network", "renderer/ambient", "net/netip", 0},
		{"a second importer of Istio", "renderer/plan", "istio.io/istio/pkg/config/constants", 1},
		{"the one importer of Istio", "renderer/ambient", "istio.io/istio/pkg/config/constants", 0},
		{"charts outside of the catalog", "reconciler", "istio.example/istio130/manifests", 1},
		{"a catalog that imports more of Istio than its charts", "catalog", "istio.io/istio/pkg/version", 1},
		{"a fleet that needs a client", "fleet", "k8s.io/client-go/rest", 1},
		{"a fleet that needs its own types", "fleet", module + "/fleet/v1alpha1", 0},
		{"a second importer of krusty", "reconciler/apply", "sigs.k8s.io/kustomize/api/krusty", 1},
		{"a second importer of the apply engine", "reconciler/trust", "github.com/fluxcd/pkg/ssa", 1},
		{"a second importer of OpenPGP", "reconciler/source", "github.com/ProtonMail/go-crypto/openpgp", 1},
		{"the one importer of OpenPGP", "reconciler/source/signature", "github.com/ProtonMail/go-crypto/openpgp", 0},
		{"a second login to Azure", "reconciler/member", "github.com/Azure/azure-sdk-for-go/sdk/azidentity", 1},
		{"the vault's client in the authority", "reconciler/trust", "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys", 1},
		{"a flag in a library", "reconciler", "flag", 1},
		{"a kubeconfig read where it is not sanitised", "reconciler/apply", "k8s.io/client-go/tools/clientcmd", 1},
		{"a forge's own library", "reconciler/forge", "github.com/google/go-github/v84/github", 1},
		{"a forge that reads a job's environment by itself", "reconciler/forge", "os", 1},
		{"a forge that only asks", "reconciler/forge", "net/http", 0},
		{"a forge of the tests in the product", "cmd/isthmus", module + "/reconciler/forge/forgetest", 1},
		{"a status that reads", "reconciler/status", "sigs.k8s.io/controller-runtime/pkg/client", 1},
		{"a watch of istiod with the rest of Istio", "test/xds", "istio.io/istio/pilot/pkg/model", 1},
		{"the one that speaks xDS", "test/xds", "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3", 0},
		{"xDS in the product", "reconciler/istiod", "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3", 1},
		{"a command as a library", "reconciler", module + "/cmd/isthmus", 1},
		{"the tests' control plane in the product", "reconciler/member", module + "/hack/controlplane", 1},
		{"a package whose name only begins alike", "renderers", "os", 0},
	} {
		packages := []pkg{{ImportPath: module + "/" + tt.pkg, Imports: []string{tt.imports}}}
		if got := importViolations(rules, packages); len(got) != tt.violations {
			t.Errorf("%s: %d violations, want %d: %q", tt.reason, len(got), tt.violations, got)
		}
	}
}

func TestCallViolations(t *testing.T) {
	t.Parallel()
	const source = `package plan

import (
	clock "time"
	"fmt"
)

func f() string {
	var time struct{ Now int }
	_ = time.Now
	fmt.Println(clock.Now())
	return fmt.Sprint(clock.Second)
}
`
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "plan.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"renderer/plan/plan.go:11 uses fmt.Println: only the command line prints; a library returns what happened",
		"renderer/plan/plan.go:11 uses time.Now: the same input gives the same bytes, also tomorrow: time is passed in",
	}
	if diff := cmp.Diff(want, callViolations(callRules, "renderer/plan", fset, file)); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
	if got := callViolations(callRules, "cmd/isthmus", fset, file); len(got) != 0 {
		t.Errorf("the command line may print and read the clock: %q", got)
	}
}
