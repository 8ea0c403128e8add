package kubelet

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// objects are Sources.
type objects struct {
	configMaps map[string]map[string]string
	secrets    map[string]map[string][]byte
}

func (o objects) ConfigMap(name string) *corev1.ConfigMap {
	if data, ok := o.configMaps[name]; ok {
		return &corev1.ConfigMap{Data: data}
	}
	return nil
}

func (o objects) Secret(name string) *corev1.Secret {
	if data, ok := o.secrets[name]; ok {
		return &corev1.Secret{Data: data}
	}
	return nil
}

func testPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "istiod-1", Namespace: "applink-system", Labels: map[string]string{"app": "istiod"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "istiod", NodeName: "n", Containers: []corev1.Container{{Name: "discovery"}}},
		Status:     corev1.PodStatus{PodIP: "10.1.2.3"},
	}
}

func fieldRef(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func configMapRef(name, key string, optional *bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: optional,
	}}
}

func TestEnvironment(t *testing.T) {
	sources := objects{
		configMaps: map[string]map[string]string{"c": {"k": "from map"}},
		secrets:    map[string]map[string][]byte{"s": {"B": []byte("b"), "A": []byte("a")}},
	}
	yes := true
	container := &corev1.Container{
		EnvFrom: []corev1.EnvFromSource{{Prefix: "S_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}}},
		Env: []corev1.EnvVar{
			{Name: "POD", ValueFrom: fieldRef("metadata.name")},
			{Name: "ACCOUNT", ValueFrom: fieldRef("spec.serviceAccountName")},
			{Name: "APP", ValueFrom: fieldRef("metadata.labels['app']")},
			{Name: "IP", ValueFrom: fieldRef("status.podIP")},
			{Name: "MAP", ValueFrom: configMapRef("c", "k", nil)},
			{Name: "ABSENT", ValueFrom: configMapRef("none", "k", &yes)},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
			{Name: "TEXT", Value: "$(POD)-$(LATER)-$$(POD)"},
			{Name: "LATER", Value: "x"},
		},
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")}},
	}
	got, err := environment(testPod(), container, sources)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"S_A=a", "S_B=b", "POD=istiod-1", "ACCOUNT=istiod", "APP=istiod", "IP=10.1.2.3", "MAP=from map",
		"CPU=2", "TEXT=istiod-1-$(LATER)-$(POD)", "LATER=x",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestEnvironmentErrors(t *testing.T) {
	for reason, from := range map[string]*corev1.EnvVarSource{
		"a ConfigMap that is needed is missing": configMapRef("none", "k", nil),
		"a key that is needed is missing":       configMapRef("c", "none", nil),
		"an unknown field":                      fieldRef("spec.containers"),
	} {
		container := &corev1.Container{Env: []corev1.EnvVar{{Name: "X", ValueFrom: from}}}
		sources := objects{configMaps: map[string]map[string]string{"c": {"k": "v"}}}
		if env, err := environment(testPod(), container, sources); err == nil {
			t.Errorf("%s: no error, environment %q", reason, env)
		}
	}
}

func TestPayload(t *testing.T) {
	yes := true
	sources := objects{secrets: map[string]map[string][]byte{"cacerts": {"ca-cert.pem": []byte("C"), "ca-key.pem": []byte("K")}}}
	token := func(p *corev1.ServiceAccountTokenProjection) ([]byte, error) { return []byte("for " + p.Audience), nil }
	csi := func(v *corev1.CSIVolumeSource) (map[string][]byte, error) {
		return map[string][]byte{"of": []byte(v.Driver)}, nil
	}
	secret := func(name string, optional *bool, items ...corev1.KeyToPath) corev1.VolumeSource {
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name, Optional: optional, Items: items}}
	}
	for _, tt := range []struct {
		reason string
		source corev1.VolumeSource
		want   map[string][]byte // nil: an error
	}{
		{"a Secret's keys are files", secret("cacerts", nil), map[string][]byte{"ca-cert.pem": []byte("C"), "ca-key.pem": []byte("K")}},
		{"items choose and name files", secret("cacerts", nil, corev1.KeyToPath{Key: "ca-key.pem", Path: "k/key"}), map[string][]byte{"k/key": []byte("K")}},
		{"an optional Secret that is missing is empty", secret("none", &yes), map[string][]byte{}},
		{"a Secret that is needed is waited for", secret("none", nil), nil},
		{"a driver's volume", corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "d"}}, map[string][]byte{"of": []byte("d")}},
		{"the host is not ours to mount", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}, nil},
		{
			"tokens are for their audience",
			corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "istio-ca", Path: "istio-token"}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
					{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
				}}},
			}}},
			map[string][]byte{"istio-token": []byte("for istio-ca"), "labels": []byte(`app="istiod"`)},
		},
	} {
		got, err := payload(testPod(), &corev1.Volume{Name: "v", VolumeSource: tt.source}, sources, token, csi)
		if (err != nil) != (tt.want == nil) {
			t.Errorf("%s: error %v", tt.reason, err)
			continue
		}
		if len(got) == 0 && len(tt.want) == 0 {
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", tt.reason, diff)
		}
	}
}
