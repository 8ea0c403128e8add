package ambient

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	chartutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
)

// The charts of a release, by their folder.
const (
	chartBase    = "base"
	chartIstiod  = "istio-control/istio-discovery"
	chartCNI     = "istio-cni"
	chartZtunnel = "ztunnel"
)

// unread are templates whose output nothing reads: notes for people, and a copy
// of the values that istiod never looks at.
var unread = []string{"templates/NOTES.txt", "templates/configmap-values.yaml"}

// crdTemplate is the part of chart base that has the CRDs: a megabyte.
const crdTemplate = "templates/crds.yaml"

// job is one run of a chart.
type job struct {
	chart  string
	values map[string]any
	// omit are files of the chart to leave out.
	omit []string
}

// loadChart parses the chart of a job.
func loadChart(release catalog.Release, j job) (*chart.Chart, error) {
	root := path.Join("charts", j.chart)
	var files []*archive.BufferedFile
	err := fs.WalkDir(release.Charts, root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative := strings.TrimPrefix(file, root+"/")
		if slices.Contains(unread, relative) || slices.Contains(j.omit, relative) {
			return nil
		}
		data, err := fs.ReadFile(release.Charts, file)
		if err != nil {
			return err
		}
		files = append(files, &archive.BufferedFile{Name: relative, Data: data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read chart %q of release %s: %w", j.chart, release.Version, err)
	}
	parsed, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("parse chart %q of release %s: %w", j.chart, release.Version, err)
	}
	// The charts in Istio's source tree all say 1.0.0; its release tooling puts
	// the version in, and the version ends up in labels.
	parsed.Metadata.Version, parsed.Metadata.AppVersion = release.Version, release.Version
	return parsed, nil
}

// runChart renders a chart into the namespace and returns its objects, in the
// order of the templates' names.
func runChart(release catalog.Release, namespace string, j job) ([]*unstructured.Unstructured, error) {
	parsed, err := loadChart(release, j)
	if err != nil {
		return nil, err
	}
	kubernetes, err := common.ParseKubeVersion(release.Kubernetes.Max)
	if err != nil {
		return nil, fmt.Errorf("read Kubernetes version of release %s: %w", release.Version, err)
	}
	// IsUpgrade stays false: charts leave fields out on an upgrade, and what a
	// member should run must not depend on what it ran before.
	options := common.ReleaseOptions{Name: "istio", Namespace: namespace, Revision: 1, IsInstall: true}
	input, err := chartutil.ToRenderValues(parsed, j.values, options, &common.Capabilities{
		KubeVersion: *kubernetes, APIVersions: common.DefaultVersionSet,
	})
	if err != nil {
		return nil, fmt.Errorf("set values of chart %q of release %s: %w", j.chart, release.Version, err)
	}
	// It ends up in the label app.kubernetes.io/managed-by.
	input["Release"].(map[string]any)["Service"] = "isthmus"
	rendered, err := engine.Render(parsed, input)
	if err != nil {
		return nil, fmt.Errorf("render chart %q of release %s: %w", j.chart, release.Version, err)
	}
	var objects []*unstructured.Unstructured
	for _, template := range slices.Sorted(maps.Keys(rendered)) {
		decoded, err := decode(rendered[template])
		if err != nil {
			return nil, fmt.Errorf("decode %q of release %s: %w", template, release.Version, err)
		}
		objects = append(objects, decoded...)
	}
	return objects, nil
}

// decode returns the objects of a stream of YAML documents.
func decode(stream string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, document := range strings.Split("\n"+stream, "\n---") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		data, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			return nil, err
		}
		if string(data) == "null" {
			continue // comments only
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(data); err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}
