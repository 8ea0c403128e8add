package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8slabels "k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler"
)

var kustomizeLock sync.Mutex

// deployed returns what deploy/ installs, as YAML by "Kind/name".
func deployed(t *testing.T) map[string][]byte {
	t.Helper()
	return built(t, "../../deploy")
}

// built returns what a folder installs, as YAML by "Kind/name".
func built(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	// Kustomize keeps state that all builds of a process share.
	kustomizeLock.Lock()
	defer kustomizeLock.Unlock()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string][]byte{}
	for _, object := range built.Resources() {
		data, err := object.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		namespace := object.GetNamespace()
		if kind := object.GetKind(); namespace != reconciler.DefaultNamespace && kind != "Namespace" && kind != "CustomResourceDefinition" {
			t.Errorf("%s %s is in namespace %q", kind, object.GetName(), namespace)
		}
		objects[object.GetKind()+"/"+object.GetName()] = data
	}
	return objects
}

func decode[T any](t *testing.T, objects map[string][]byte, name string) T {
	t.Helper()
	var out T
	data, ok := objects[name]
	if !ok {
		t.Fatalf("deploy installs no %s", name)
	}
	if err := yaml.UnmarshalStrict(data, &out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// TestDeployment: what is installed must start. Flags that the command does not
// have, or that name another namespace, would only show in a crash loop.
func TestDeployment(t *testing.T) {
	t.Parallel()
	objects := deployed(t)
	pod := decode[appsv1.Deployment](t, objects, "Deployment/isthmus").Spec.Template.Spec
	container := pod.Containers[0]
	cmd := newRun()
	if container.Args[0] != cmd.Name() {
		t.Errorf("the container runs %q", container.Args[0])
	}
	if err := cmd.ParseFlags(container.Args[1:]); err != nil {
		t.Error(err)
	}
	if got := cmd.Flag("namespace").Value.String(); got != reconciler.DefaultNamespace {
		t.Errorf("the reconciler looks into namespace %q", got)
	}
	for _, flag := range []string{"vault", "cache"} {
		folder := cmd.Flag(flag).Value.String()
		if !slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(folder, m.MountPath) }) {
			t.Errorf("--%s=%s is on no volume, and the root is read-only", flag, folder)
		}
	}
	for _, crd := range []string{"fleets", "members", "applicationnetworks"} {
		if objects["CustomResourceDefinition/"+crd+".isthmus.dev"] == nil {
			t.Errorf("the CRD of %s is not installed", crd)
		}
	}
}

// TestDeploymentIsRestricted: the namespace enforces the restricted Pod Security
// Standard, so a pod that asks for more would never start.
// Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
func TestDeploymentIsRestricted(t *testing.T) {
	t.Parallel()
	objects := deployed(t)
	namespace := decode[corev1.Namespace](t, objects, "Namespace/"+reconciler.DefaultNamespace)
	if got := namespace.Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("the namespace enforces %q", got)
	}
	pod := decode[appsv1.Deployment](t, objects, "Deployment/isthmus").Spec.Template.Spec
	if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot ||
		s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the pod may run as root or without seccomp: %+v", s)
	}
	s := pod.Containers[0].SecurityContext
	if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
		s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
		t.Errorf("the container may gain privileges: %+v", s)
	}
}

// TestDeploymentAsksForLittle: no wildcard, nothing outside of the namespace, no
// Secret written, and no ConfigMap removed.
func TestDeploymentAsksForLittle(t *testing.T) {
	t.Parallel()
	objects := deployed(t)
	for name := range objects {
		if strings.HasPrefix(name, "ClusterRole") {
			t.Errorf("%s reaches beyond the namespace", name)
		}
	}
	rules := append(decode[rbacv1.Role](t, objects, "Role/isthmus").Rules,
		decode[rbacv1.Role](t, objects, "Role/isthmus-replicas").Rules...)
	for _, rule := range rules {
		words := slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs)
		if slices.Contains(words, "*") {
			t.Errorf("a rule has a wildcard: %v", rule)
		}
		if slices.Contains(rule.Resources, "secrets") && !slices.Equal(rule.Verbs, []string{"get", "list", "watch"}) {
			t.Errorf("secrets may be written: %v", rule.Verbs)
		}
		if slices.Contains(rule.Resources, "configmaps") && !slices.Equal(rule.Verbs, []string{"get", "list", "watch", "create", "update"}) {
			t.Errorf("ConfigMaps may be removed: %v", rule)
		}
	}
}

// TestDeploymentHA: two replicas that may be on two nodes, of which one stays.
func TestDeploymentHA(t *testing.T) {
	t.Parallel()
	// As docs/scale.md has it.
	files := filesys.MakeFsOnDisk()
	folder, err := os.MkdirTemp(".", "ha-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := files.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte("resources: [../../../deploy]\ncomponents: [../../../deploy/ha]\n")); err != nil {
		t.Fatal(err)
	}
	objects := built(t, folder)
	deployment := decode[appsv1.Deployment](t, objects, "Deployment/isthmus")
	if n := deployment.Spec.Replicas; n == nil || *n < 2 {
		t.Errorf("replicas: %v", n)
	}
	if s := deployment.Spec.Strategy; s.Type != appsv1.RollingUpdateDeploymentStrategyType || s.RollingUpdate == nil || s.RollingUpdate.MaxUnavailable.IntValue() != 0 {
		t.Errorf("an update takes replicas away before others take part: %+v", s)
	}
	volume := decode[corev1.PersistentVolumeClaim](t, objects, "PersistentVolumeClaim/isthmus-vault")
	if !slices.Equal(volume.Spec.AccessModes, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}) {
		t.Errorf("the vault is mounted by one node only: %v", volume.Spec.AccessModes)
	}
	labels := deployment.Spec.Template.Labels
	budget := decode[policyv1.PodDisruptionBudget](t, objects, "PodDisruptionBudget/isthmus")
	selectors := []*metav1.LabelSelector{budget.Spec.Selector}
	for _, spread := range deployment.Spec.Template.Spec.TopologySpreadConstraints {
		selectors = append(selectors, spread.LabelSelector)
	}
	if len(selectors) < 2 {
		t.Error("replicas are not spread")
	}
	for _, selector := range selectors {
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil || s.Empty() || !s.Matches(k8slabels.Set(labels)) {
			t.Errorf("%v does not select the pods: %v", selector, err)
		}
	}
}

// TestDeploymentLimitsMemory: Go has to know the container's limit, and keep off
// it; without, the kernel ends the process where a collection would have done.
func TestDeploymentLimitsMemory(t *testing.T) {
	container := decode[appsv1.Deployment](t, deployed(t), "Deployment/isthmus").Spec.Template.Spec.Containers[0]
	i := slices.IndexFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == memoryLimitVariable })
	if i < 0 || container.Env[i].ValueFrom == nil || container.Env[i].ValueFrom.ResourceFieldRef == nil || container.Env[i].ValueFrom.ResourceFieldRef.Resource != "limits.memory" {
		t.Fatalf("%s is not the container's limit: %+v", memoryLimitVariable, container.Env)
	}
	limit := container.Resources.Limits.Memory().Value()
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv(memoryLimitVariable, strconv.FormatInt(limit, 10))
	before, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer func() {
		debug.SetMemoryLimit(before)
		debug.SetGCPercent(percent)
	}()
	t.Setenv("GOGC", "100")
	if err := limitMemory(); err != nil {
		t.Fatal(err)
	}
	if got := debug.SetMemoryLimit(-1); limit == 0 || got > limit*95/100 || got < limit*8/10 {
		t.Errorf("Go is limited to %d of %d bytes", got, limit)
	}
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("GOGC is set to 100, and Go takes %d", got)
	}
	t.Setenv("GOGC", "")
	if err := limitMemory(); err != nil {
		t.Fatal(err)
	}
	if got := debug.SetGCPercent(100); got != garbagePercent {
		t.Errorf("Go takes %d, want %d", got, garbagePercent)
	}
	t.Setenv(memoryLimitVariable, "lots")
	if limitMemory() == nil {
		t.Error("a limit that is no number is accepted")
	}
}

// TestOneStorageVersion: of each kind one version is stored, and it is the one
// that this isthmus reads and writes. A second one needs a conversion, see
// docs/decisions/0009-api-versions.md.
func TestOneStorageVersion(t *testing.T) {
	t.Parallel()
	found := 0
	for name, data := range deployed(t) {
		if !strings.HasPrefix(name, "CustomResourceDefinition/") {
			continue
		}
		found++
		var crd struct {
			Spec struct {
				Versions []struct {
					Name            string
					Served, Storage bool
				}
			}
		}
		if err := yaml.Unmarshal(data, &crd); err != nil {
			t.Fatal(err)
		}
		var stored []string
		for _, version := range crd.Spec.Versions {
			if version.Storage {
				stored = append(stored, version.Name)
			}
		}
		if !slices.Equal(stored, []string{v1alpha1.GroupVersion.Version}) {
			t.Errorf("%s stores %v", name, stored)
		}
	}
	if found != 3 {
		t.Errorf("%d CRDs", found)
	}
}
