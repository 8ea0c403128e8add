package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/diff"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/test/edits"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestForetold makes every edit of test/edits on a real cluster, and takes it back:
// each time the objects that are created, changed, removed and released there, and the
// workloads whose pods are replaced, are those that the review has foretold. What
// happens is seen by reading the cluster before and after, not from what is applied.
func TestForetold(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plane, err := controlplane.Start(ctx, controlplane.Options{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Stop()
	cluster, err := plane.Cluster(ctx, east, controlplane.ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.InstallGatewayAPI(ctx, rig.GatewayAPI); err != nil {
		t.Fatal(err)
	}
	config, err := member.Config(cluster.Kubeconfig(), member.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := member.Connect(config)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()

	p := prophet{member: m, target: apply.NewTarget(m), renderer: renderer.New(catalog.Builtin())}
	base := p.side(t, "base", edits.Base())
	p.deliver(ctx, t, base)
	made := 0
	for _, edit := range edits.All {
		files, err := edit.Apply()
		if err != nil {
			t.Fatal(err)
		}
		head := p.side(t, edit.Name, files)
		if !slices.ContainsFunc(head.Decisions, func(d plan.Decision) bool { return d.Member.Name == east }) {
			continue
		}
		for _, step := range [][2]diff.Side{{base, head}, {head, base}} {
			made++
			before := p.look(ctx, t)
			began := time.Now()
			p.deliver(ctx, t, step[1])
			want, got := foretold(diff.Compare(step[0], step[1])), before.becomes(p.look(ctx, t))
			if !slices.Equal(want, got) {
				t.Errorf("%s to %s:\nforetold %s\nhappened %s", step[0].Name, step[1].Name, strings.Join(want, ", "), strings.Join(got, ", "))
			}
			t.Logf("%s to %s: %d things in %s", step[0].Name, step[1].Name, len(got), time.Since(began).Round(time.Millisecond))
		}
	}
	if made < 60 {
		t.Errorf("only %d deliveries were compared", made)
	}
}

// prophet delivers fleets to one real member.
type prophet struct {
	member   *member.Member
	target   *apply.Target
	renderer *renderer.Renderer
	commits  int
}

// side renders a fleet for a cluster without an istiod: nobody answers its webhooks,
// so they match nothing, in both fleets alike.
func (p *prophet) side(t *testing.T, name string, files fs.FS) diff.Side {
	t.Helper()
	quiet := fstest.MapFS{}
	err := fs.WalkDir(files, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, file)
		if file == network {
			text := string(data)
			const patch = `
  - target: {kind: ValidatingWebhookConfiguration}
    patch: |
      - {op: add, path: /webhooks/0/objectSelector, value: {matchLabels: {example.com/validated: "true"}}}
`
			if strings.Contains(text, "\n  patches:\n") {
				text = strings.Replace(text, "\n  patches:\n", "\n  patches:"+patch, 1)
			} else {
				text += "  patches:" + patch
			}
			data = []byte(text)
		}
		quiet[file] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	loaded, problems := fleet.Load(quiet)
	if len(problems.Errors()) > 0 {
		t.Fatalf("%s: %v", name, problems.Errors())
	}
	result, err := p.renderer.Render(loaded, plan.Observed{})
	if err != nil || len(result.Problems.Errors()) > 0 {
		t.Fatalf("%s: %v %v", name, err, result.Problems.Errors())
	}
	return diff.Side{Name: name, Fleet: loaded, Decisions: result.Decisions, Bundles: result.Bundles}
}

// deliver applies the member's bundle of a side and waits until it is rolled out.
// Gateways stay as they are: nobody programs them here.
func (p *prophet) deliver(ctx context.Context, t *testing.T, side diff.Side) {
	t.Helper()
	i := slices.IndexFunc(side.Bundles, func(b bundle.Bundle) bool { return b.Member == east })
	b := side.Bundles[i]
	p.commits++
	set := apply.Set{
		Mesh:    apply.Mesh{Network: b.Network, SystemNamespace: b.SystemNamespace},
		Release: b.Release, Commit: fmt.Sprintf("c%d", p.commits), Digest: b.Digest, Objects: b.Objects,
	}
	_, err := apply.Apply(ctx, p.target, set, apply.Options{Timeout: 3 * time.Minute, StageTimeout: time.Minute, GatewayTimeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatalf("deliver %s: %v", side.Name, err)
	}
}

// foretold is what a report says of the member, as sorted lines.
func foretold(report diff.Report) []string {
	var out []string
	for _, o := range report.Objects {
		if !slices.Contains(o.Members, east) {
			continue
		}
		name := o.Kind + " " + cmp.Or(o.Namespace, "-") + "/" + o.Name
		out = append(out, string(o.Action)+" "+name)
		if o.Restarts {
			out = append(out, "Restart "+name)
		}
	}
	slices.Sort(out)
	return out
}

// sight is what a cluster has of the mesh.
type sight struct {
	// objects by kind and name.
	objects map[string]seen
	// pods by the Deployment or DaemonSet that they are of.
	pods map[string][]types.UID
}

// seen is one object: ours, or released when it no longer has our label.
type seen struct {
	uid     types.UID
	content string
	ours    bool
}

// look reads everything that a bundle may have, whoever's it is.
func (p *prophet) look(ctx context.Context, t *testing.T) sight {
	t.Helper()
	s := sight{objects: map[string]seen{}, pods: map[string][]types.UID{}}
	lists, err := p.member.Discovery.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range list.APIResources {
			if !slices.Contains(resource.Verbs, "list") || transient[resource.Kind] {
				continue
			}
			items, err := p.member.Dynamic.Resource(group.WithResource(resource.Name)).List(ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatalf("list %s: %v", resource.Name, err)
			}
			for _, item := range items.Items {
				s.add(item)
			}
		}
	}
	return s
}

// transient kinds are what controllers make of others.
var transient = map[string]bool{
	"Event": true, "Lease": true, "Endpoints": true, "EndpointSlice": true, "ReplicaSet": true, "ControllerRevision": true, "Node": true,
}

func (s sight) add(o unstructured.Unstructured) {
	if o.GetKind() == "Pod" {
		for _, owner := range o.GetOwnerReferences() {
			name := owner.Name
			kind := owner.Kind
			if kind == "ReplicaSet" {
				kind, name = "Deployment", name[:strings.LastIndex(name, "-")]
			}
			key := kind + " " + o.GetNamespace() + "/" + name
			s.pods[key] = append(s.pods[key], o.GetUID())
		}
		return
	}
	_, ours := o.GetLabels()[bundle.NetworkLabel]
	key := o.GetKind() + " " + cmp.Or(o.GetNamespace(), "-") + "/" + o.GetName()
	if strings.HasPrefix(o.GetName(), "isthmus-inventory") {
		return // it says what is delivered, and is part of no bundle
	}
	uid := o.GetUID()
	delete(o.Object, "status")
	metadata := o.Object["metadata"].(map[string]any)
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid"} {
		delete(metadata, field)
	}
	annotations := o.GetAnnotations()
	delete(annotations, "deprecated.daemonset.template.generation")
	delete(annotations, "deployment.kubernetes.io/revision")
	o.SetAnnotations(annotations)
	content, err := json.Marshal(o.Object)
	if err != nil {
		panic(errors.Join(err, errors.New(key))) // it came as JSON
	}
	s.objects[key] = seen{uid, string(content), ours}
}

// becomes says what has happened between two looks, as sorted lines.
func (s sight) becomes(now sight) []string {
	var out []string
	for key, after := range now.objects {
		before, existed := s.objects[key]
		switch {
		case after.ours && (!existed || !before.ours):
			out = append(out, "Create "+key)
		case after.ours && before.uid != after.uid:
			out = append(out, "Recreate "+key)
		case after.ours && before.content != after.content:
			out = append(out, "Change "+key)
		case existed && before.ours && !after.ours:
			out = append(out, "Release "+key)
		}
	}
	for key, before := range s.objects {
		if _, stays := now.objects[key]; !stays && before.ours {
			out = append(out, "Remove "+key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(now.pods)) {
		old := s.pods[key]
		if len(old) > 0 && !slices.ContainsFunc(now.pods[key], func(uid types.UID) bool { return slices.Contains(old, uid) }) {
			out = append(out, "Restart "+key)
		}
	}
	slices.Sort(out)
	return out
}
