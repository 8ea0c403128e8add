package main

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/reconciler"
)

// deployed returns what deploy/ installs, as YAML by "Kind/name".
func deployed(t *testing.T) map[string][]byte {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../../deploy")
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
// Secret written, and the one ConfigMap that the reconciler keeps.
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
		if slices.Contains(rule.Resources, "configmaps") && !slices.Equal(rule.Verbs, []string{"create"}) && !slices.Equal(rule.ResourceNames, []string{reconciler.StateName}) {
			t.Errorf("any ConfigMap may be used: %v", rule)
		}
	}
}
