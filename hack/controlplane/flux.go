package controlplane

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Versions of the parts of Flux that isthmus is measured against: the one that
// module flux builds, and that of the controller whose kinds it reads.
const (
	KustomizeControllerVersion = "1.9.5"
	sourceControllerVersion    = "1.9.3"
)

// KustomizeController returns the path of Flux's kustomize-controller, built
// when the cache lacks it. See [Build].
func KustomizeController(ctx context.Context, progress io.Writer) (string, error) {
	root, err := moduleDir(ctx)
	if err != nil {
		return "", err
	}
	return build(ctx, recipe{
		name: "kustomize-controller-" + KustomizeControllerVersion, dir: filepath.Join(root, "..", "flux"),
		pkg: "github.com/fluxcd/kustomize-controller", ldflags: "-s -w", usually: "8 minutes on 2 cores",
	}, progress)
}

// FluxDefinitions returns the CustomResourceDefinitions that the
// kustomize-controller needs: Kustomization, and the sources of its artifacts.
// They come from the modules of both controllers, checked by their checksums.
func FluxDefinitions(ctx context.Context) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, from := range []struct{ module, version string }{
		{"github.com/fluxcd/kustomize-controller", KustomizeControllerVersion},
		{"github.com/fluxcd/source-controller", sourceControllerVersion},
	} {
		source, err := moduleSource(ctx, from.module, "v"+from.version)
		if err != nil {
			return nil, err
		}
		objects, err := readObjects(filepath.Join(source, "config", "crd", "bases"))
		if err != nil {
			return nil, fmt.Errorf("read the kinds of %s %s: %w", from.module, from.version, err)
		}
		all = append(all, objects...)
	}
	return all, nil
}
