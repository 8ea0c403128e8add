package renderer_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// trusting are members on every release that is new enough, with the trust given
// as fields of spec.trust.
func trusting(oldest, trust string) fstest.MapFS {
	files := fstest.MapFS{"network.yaml": {Data: []byte(networkFile + "  trust:\n" + trust)}}
	for _, release := range catalog.Builtin().Releases() {
		if release.AtLeast(oldest) {
			name := "m" + strings.ReplaceAll(release.Version, ".", "-")
			files[name+".yaml"] = &fstest.MapFile{Data: []byte(memberFile(name, release.Version))}
		}
	}
	return files
}

const inKeyVault = `    vault: {type: KeyVault, url: "https://prod-mesh.vault.azure.net"}
`

// mustFind fails the test when the object is not there.
func mustFind(t *testing.T, b bundle.Bundle, kind, name string) *unstructured.Unstructured {
	t.Helper()
	object := find(b, kind, name)
	if object == nil {
		t.Fatalf("%s: no %s %q", b.Member, kind, name)
	}
	return object
}

func TestRevocationIsReadEverywhere(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		trust := "    revocation: Disabled\n"
		if enabled {
			trust = "    revocation: CRL\n"
		}
		bundles := render(t, load(t, trusting("1.29", trust)))
		if len(bundles) < 3 {
			t.Fatalf("%d bundles", len(bundles))
		}
		for _, b := range bundles {
			ztunnel := mustFind(t, b, "DaemonSet", "ztunnel")
			mounted := volumeOf(ztunnel, "crl-volume") != nil
			list := env(t, ztunnel)["CRL_PATH"]
			read := env(t, mustFind(t, b, "Deployment", "istiod"))["PILOT_ENABLE_CA_CRL"]
			if got := mounted && list != "" && read == "true"; got != enabled || mounted != enabled {
				t.Errorf("%s, enabled %t: mounted %t, path %q, istiod %q", b.Release, enabled, mounted, list, read)
			}
		}
	}
}

// A missing list must not keep node proxies from starting: istiod makes it later.
func TestRevocationListMayBeMissing(t *testing.T) {
	for _, b := range render(t, load(t, trusting("1.29", "    revocation: CRL\n"))) {
		volume := volumeOf(mustFind(t, b, "DaemonSet", "ztunnel"), "crl-volume")
		if optional, _, _ := unstructured.NestedBool(volume, "configMap", "optional"); !optional {
			t.Errorf("%s: the volume is %v", b.Release, volume)
		}
	}
}

// volumeOf returns a volume of an object's pods, or nil.
func volumeOf(object *unstructured.Unstructured, name string) map[string]any {
	volumes, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "volumes")
	for _, volume := range volumes {
		if volume := volume.(map[string]any); volume["name"] == name {
			return volume
		}
	}
	return nil
}

// deliveries are what the modes bring into a bundle for the CA.
var deliveries = []struct{ name, trust, kind string }{
	{"direct", "    delivery: {mode: Direct}\n", ""},
	{"external secret", inKeyVault + "    delivery: {mode: ExternalSecret, store: {kind: SecretStore, name: vault}}\n", "ExternalSecret"},
	{"mounted", inKeyVault + `    delivery:
      mode: SecretProviderClass
      azure: {clientID: 00000000-0000-0000-0000-000000000001, tenantID: 00000000-0000-0000-0000-000000000002}
`, "SecretProviderClass"},
}

func TestDeliveryOfTheCA(t *testing.T) {
	for _, tt := range deliveries {
		for _, b := range render(t, load(t, trusting("1.27", tt.trust))) {
			for _, kind := range []string{"ExternalSecret", "SecretProviderClass"} {
				object := find(b, kind, "cacerts")
				if (object != nil) != (kind == tt.kind) {
					t.Errorf("%s, %s: %s is there: %t", tt.name, b.Release, kind, object != nil)
				}
			}
			for _, entry := range b.Inventory().Entries {
				if entry.Name == "cacerts" && entry.Kind == tt.kind && (entry.Stage != bundle.StageFoundation || entry.Namespace != "applink-system") {
					t.Errorf("%s, %s: %+v is not before istiod", tt.name, b.Release, entry)
				}
				if entry.Kind == "Secret" {
					t.Errorf("%s, %s: a bundle with a Secret: %+v", tt.name, b.Release, entry)
				}
			}
			istiod := mustFind(t, b, "Deployment", "istiod")
			// The peers' tokens are files beside it, and may be missing.
			tokens, allowed := volumeOf(istiod, v1alpha1.PeerTokens), env(t, istiod)["PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS"]
			if diff := cmp.Diff(map[string]any{"secretName": v1alpha1.PeerTokens, "optional": true}, tokens["secret"]); diff != "" {
				t.Errorf("%s, %s: the peers' tokens (-want +got):\n%s", tt.name, b.Release, diff)
			}
			if at := mountOf(istiod, v1alpha1.PeerTokens); at != v1alpha1.PeerTokensPath || allowed != "tokenFile" {
				t.Errorf("%s, %s: the peers' tokens are mounted at %q, and istiod takes %q", tt.name, b.Release, at, allowed)
			}
			directory, volume := env(t, istiod)["ROOT_CA_DIR"], volumeOf(istiod, "isthmus-cacerts")
			if waits := tt.kind != ""; (directory != "") != waits || (volume != nil) != waits {
				t.Errorf("%s, %s: ROOT_CA_DIR %q, volume %v", tt.name, b.Release, directory, volume)
			}
			if _, csi := volume["csi"]; csi != (tt.kind == "SecretProviderClass") {
				t.Errorf("%s, %s: volume %v", tt.name, b.Release, volume)
			}
			if secret, ok := volume["secret"].(map[string]any); ok && secret["optional"] != nil {
				t.Errorf("%s, %s: istiod starts without a CA, and makes one of its own", tt.name, b.Release)
			}
			if directory != "" && mountOf(istiod, "isthmus-cacerts") != directory {
				t.Errorf("%s, %s: mounted at %q, read at %q", tt.name, b.Release, mountOf(istiod, "isthmus-cacerts"), directory)
			}
		}
	}
}

// mountOf returns where the first container has a volume.
func mountOf(object *unstructured.Unstructured, volume string) string {
	containers, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
	mounts, _, _ := unstructured.NestedSlice(containers[0].(map[string]any), "volumeMounts")
	for _, mount := range mounts {
		if mount := mount.(map[string]any); mount["name"] == volume {
			return mount["mountPath"].(string)
		}
	}
	return ""
}

func TestExternalSecretNamesTheMembersEntry(t *testing.T) {
	for _, b := range render(t, load(t, trusting("1.31", deliveries[1].trust))) {
		want := map[string]any{
			"refreshInterval": "5m",
			"secretStoreRef":  map[string]any{"kind": "SecretStore", "name": "vault"},
			"target":          map[string]any{"name": "cacerts", "creationPolicy": "Orphan", "deletionPolicy": "Retain"},
			"dataFrom":        []any{map[string]any{"extract": map[string]any{"key": "isthmus--prod--members--" + b.Member}}},
		}
		if diff := cmp.Diff(want, mustFind(t, b, "ExternalSecret", "cacerts").Object["spec"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", b.Member, diff)
		}
	}
}

// The provider reads the list of files as YAML of texts that are YAML, and the files
// in that order: the key first and the certificate last, see vaultname.Files.
func TestMountedFilesAreThoseOfTheMember(t *testing.T) {
	for _, tt := range []struct {
		name, trust string
		files       []string
		login       map[string]string
	}{
		{"workload identity", deliveries[2].trust, []string{"ca-key.pem", "cert-chain.pem", "root-cert.pem", "ca-cert.pem"}, map[string]string{
			"clientID": "00000000-0000-0000-0000-000000000001", "cloudName": "AzurePublicCloud", "keyvaultName": "prod-mesh",
		}},
		{"an identity of the nodes in another cloud, with a list of what is revoked", `    revocation: CRL
    vault: {type: KeyVault, url: "https://prod-mesh.vault.usgovcloudapi.net"}
    delivery:
      mode: SecretProviderClass
      azure: {identity: ManagedIdentity, clientID: 00000000-0000-0000-0000-000000000001, tenantID: 00000000-0000-0000-0000-000000000002}
`, []string{"ca-key.pem", "cert-chain.pem", "root-cert.pem", "ca-crl.pem", "ca-cert.pem"}, map[string]string{
			"userAssignedIdentityID": "00000000-0000-0000-0000-000000000001", "useVMManagedIdentity": "true", "cloudName": "AzureUSGovernmentCloud", "keyvaultName": "prod-mesh",
		}},
	} {
		for _, b := range render(t, load(t, trusting("1.31", tt.trust))) {
			parameters, _, _ := unstructured.NestedStringMap(mustFind(t, b, "SecretProviderClass", "cacerts").Object, "spec", "parameters")
			var list struct{ Array []string }
			if err := yaml.Unmarshal([]byte(parameters["objects"]), &list); err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, text := range list.Array {
				var file struct{ ObjectName, ObjectType, ObjectAlias string }
				if err := yaml.Unmarshal([]byte(text), &file); err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprint(file))
			}
			for _, file := range tt.files {
				want = append(want, fmt.Sprintf("{isthmus--prod--members--%s--%s secret %s}", b.Member, strings.TrimSuffix(file, ".pem"), file))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: files (-want +got):\n%s", tt.name, diff)
			}
			tt.login["tenantID"] = "00000000-0000-0000-0000-000000000002"
			delete(parameters, "objects")
			if diff := cmp.Diff(tt.login, parameters); diff != "" {
				t.Errorf("%s: login (-want +got):\n%s", tt.name, diff)
			}
		}
	}
}

// What keeps members trusting each other is no patch's to turn off.
func TestPatchesLeaveTrustOn(t *testing.T) {
	const patches = `  patches:
  - target: {kind: Deployment, name: istiod}
    patch: |
      spec: {template: {spec: {containers: [{name: discovery, env: [{name: %s, value: "%s"}]}]}}}
`
	for _, tt := range []struct{ variable, value, trust string }{
		{"ISTIO_MULTIROOT_MESH", "false", ""},
		{"PILOT_ENABLE_CA_CRL", "false", "  trust: {revocation: CRL}\n"},
		{"ROOT_CA_DIR", "/tmp", ""},
		{"EXAMPLE", "1", ""}, // people's own
	} {
		files := fstest.MapFS{
			"network.yaml": {Data: []byte(networkFile + tt.trust + fmt.Sprintf(patches, tt.variable, tt.value))},
			"one.yaml":     {Data: []byte(memberFile("one", "1.31.0"))},
		}
		result, err := shared.Render(load(t, files), plan.Observed{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range result.Problems.Errors() {
			got = append(got, p.Reason+" "+p.Message)
		}
		var want []string
		if tt.variable != "EXAMPLE" {
			want = append(want, "PatchNotAllowed Deployment applink-system/istiod: the patch changes the variable "+tt.variable)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.variable, diff)
		}
	}
}
