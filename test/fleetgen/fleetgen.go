package fleetgen

import (
	"fmt"
	"math/rand/v2"
	"testing/fstest"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
)

// Options say what fleet is wanted.
type Options struct {
	// Seed of every choice. Tests print it.
	Seed uint64
	// Networks and Members of the fleet. Default: one, and none.
	Networks, Members int
}

// object is a part of a fleet as it is written.
type object = map[string]any

// Files returns the fleet, with one file for each network and each member:
// "networks/<network>.yaml" and "members/<member>.yaml".
func Files(o Options) fstest.MapFS {
	g := generator{Rand: rand.New(rand.NewPCG(o.Seed, 0))}
	for _, release := range catalog.Builtin().Releases() {
		g.releases = append(g.releases, release.Version)
	}
	for range 4 {
		g.settings = append(g.settings, g.components())
	}
	files := fstest.MapFS{}
	var networks []network
	for i := range max(o.Networks, 1) {
		n := g.network(i)
		networks = append(networks, n)
		write(files, "networks/"+n.name+".yaml", "ApplicationNetwork", n.name, object{}, n.spec)
	}
	for i := range o.Members {
		// Each network has members, the first ones most of them.
		n := networks[min(i%len(networks), g.IntN(len(networks)))]
		name := memberName(i)
		write(files, "members/"+name+".yaml", "Member", name, object{"ring": pick(g, "canary", "early", "late")}, g.member(i, name, n))
	}
	return files
}

func write(files fstest.MapFS, path, kind, name string, labels, spec object) {
	data, err := yaml.Marshal(object{
		"apiVersion": "isthmus.dev/v1alpha1", "kind": kind,
		"metadata": object{"name": name, "labels": labels, "annotations": object{"example.org/owner": "team-" + name}},
		"spec":     spec,
	})
	if err != nil {
		panic(fmt.Sprintf("encode %s %q: %v", kind, name, err)) // plain data always encodes
	}
	files[path] = &fstest.MapFile{Data: data}
}

// generator makes choices.
type generator struct {
	*rand.Rand
	releases []string
	// settings of components that several members have in common.
	settings []object
}

// pick returns one of the choices.
func pick[T any](g generator, choices ...T) T { return choices[g.IntN(len(choices))] }

// chance is true in so many of a hundred cases.
func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

// misleading are names that something might take for something else: YAML for
// numbers, a patch for the name of what it changes.
var misleading = []string{
	"123", "true", "null", "1e3", "0x10", "1-2", "2001-01-01", "mesh", "value", "discovery", "istio-proxy",
	"cluster-local", "kubernetes", "applink-system", "terminate", "name", "prod", "istiod", "shop",
}

func memberName(i int) string {
	if i < len(misleading) {
		return misleading[i]
	}
	return fmt.Sprintf("member-%05d", i)
}

// LooksLikeANumber reports whether YAML takes the text for something else than a
// string when it is not quoted.
func LooksLikeANumber(text string) bool {
	var value any
	err := yaml.Unmarshal([]byte(text), &value)
	_, ok := value.(string)
	return err == nil && !ok
}
