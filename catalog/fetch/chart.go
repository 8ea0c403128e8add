package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing/fstest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
)

// The media types of a chart in a registry.
// Source: https://helm.sh/docs/topics/registries/
const (
	typeConfig = "application/vnd.cncf.helm.config.v1+json"
	typeChart  = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// release gathers the charts of one release, from several goroutines.
type release struct {
	wanted catalog.Release

	mu    sync.Mutex
	files fstest.MapFS
}

func (r *release) add(files fstest.MapFS) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files == nil {
		r.files = fstest.MapFS{}
	}
	maps.Copy(r.files, files)
}

func (r *release) complete() catalog.Release {
	out := r.wanted
	out.Charts = r.files
	return out
}

// chart fetches one chart of a release, verifies it and adds its files.
func (f *Fetcher) chart(ctx context.Context, r *release, chart catalog.Chart) *Failure {
	repository := r.wanted.Source.Repository + "/" + chart.Name
	wanted := fmt.Sprintf("chart %q of release %s", repository+"@"+chart.Digest, r.wanted.Version)
	files, err := f.readChart(ctx, repository, r.wanted.Version, chart)
	if err != nil {
		return chartFailure(r.wanted.Version, chart.Name, wanted, err)
	}
	r.add(files)
	return nil
}

func (f *Fetcher) readChart(ctx context.Context, repository, version string, chart catalog.Chart) (fstest.MapFS, error) {
	from, err := f.open(repository)
	if err != nil {
		return nil, err
	}
	told := func() { f.tell(fmt.Sprintf("fetch chart %s %s from %s", chart.Name, version, repository)) }
	manifest, err := f.blob(chart.Digest, maxManifest, func() ([]byte, error) {
		told()
		return from.manifest(ctx, chart.Digest)
	})
	if err != nil {
		return nil, err
	}
	layer, err := chartLayer(manifest)
	if err != nil {
		return nil, err
	}
	archive, err := f.blob(layer.Digest.String(), maxPacked, func() ([]byte, error) {
		told()
		return from.blob(ctx, layer)
	})
	if err != nil {
		return nil, err
	}
	files, err := unpack(archive, chart.Folder)
	if err != nil {
		return nil, &invalid{ChartInvalid, err.Error()}
	}
	return files, isChart(files, version, chart)
}

// blob returns what a digest names, from the cache or else from a registry, in
// either case only if it is that.
func (f *Fetcher) blob(digest string, limit int64, download func() ([]byte, error)) ([]byte, error) {
	entry := "charts/" + strings.Replace(digest, ":", "-", 1)
	if data := f.cache.read(entry, limit); data != nil && digestOf(data) == digest {
		return data, nil
	}
	data, err := download()
	if err != nil {
		return nil, err
	}
	if got := digestOf(data); got != digest {
		return nil, &invalid{ChartDigestMismatch, fmt.Sprintf("the registry sends %s in place of %s", got, digest)}
	}
	if err := f.cache.write(entry, data); err != nil {
		return nil, &invalid{CacheFailed, err.Error()}
	}
	return data, nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// chartLayer returns the descriptor of the archive that a manifest names.
func chartLayer(manifest []byte) (ocispec.Descriptor, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return ocispec.Descriptor{}, &invalid{ChartInvalid, "its manifest is not JSON"}
	}
	if m.Config.MediaType != typeConfig {
		return ocispec.Descriptor{}, &invalid{ChartInvalid, fmt.Sprintf("it is not a Helm chart but %q", m.Config.MediaType)}
	}
	var layers []ocispec.Descriptor
	for _, layer := range m.Layers {
		if layer.MediaType == typeChart {
			layers = append(layers, layer)
		}
	}
	if len(layers) != 1 {
		return ocispec.Descriptor{}, &invalid{ChartInvalid, fmt.Sprintf("its manifest names %d charts", len(layers))}
	}
	layer := layers[0]
	if layer.Digest.Validate() != nil || layer.Digest.Algorithm() != digest.SHA256 {
		return ocispec.Descriptor{}, &invalid{ChartInvalid, fmt.Sprintf("its manifest names the chart by %q, which is no SHA-256 digest", layer.Digest)}
	}
	if layer.Size > maxPacked {
		return ocispec.Descriptor{}, &invalid{ChartInvalid, fmt.Sprintf("it has %d bytes, more than %d MiB", layer.Size, maxPacked>>20)}
	}
	return layer, nil
}

// isChart checks that the files are the chart that was asked for: digests are
// easily swapped.
func isChart(files fstest.MapFS, version string, chart catalog.Chart) error {
	var about struct{ Name, Version, AppVersion string }
	file := files[chart.Folder+"/Chart.yaml"]
	if file == nil {
		return &invalid{ChartInvalid, "it has no Chart.yaml"}
	}
	if err := yaml.Unmarshal(file.Data, &about); err != nil {
		return &invalid{ChartInvalid, "its Chart.yaml cannot be read"}
	}
	if about.Name != chart.Name {
		return &invalid{ChartVersionMismatch, fmt.Sprintf("it is the chart %q", about.Name)}
	}
	if about.Version != version || about.AppVersion != version {
		return &invalid{ChartVersionMismatch, fmt.Sprintf("it is of version %q, for Istio %q", about.Version, about.AppVersion)}
	}
	return nil
}

// invalid is a failure whose reason is known.
type invalid struct {
	reason Reason
	what   string
}

func (e *invalid) Error() string { return e.what }

// chartFailure says what was wanted, what happened, and what to do.
func chartFailure(version, chart, wanted string, err error) *Failure {
	failure := &Failure{Release: version, Chart: chart}
	var known *invalid
	if errors.As(err, &known) {
		failure.Reason = known.reason
	} else {
		failure.Reason = RegistryUnreachable
	}
	failure.Message = wanted + ": " + err.Error()
	failure.Hint = map[Reason]string{
		RegistryUnreachable:         "what is in the cache needs no registry: fetch once where it can be reached, or name a mirror in charts.repository",
		RegistryCredentialsRejected: "log in to the registry (docker login, helm registry login), or let everybody read the charts",
		ChartNotFound:               "name the digest of the chart's manifest: helm pull oci://…/" + chart + " --version " + version + " prints it",
		ChartDigestMismatch:         "do not trust this registry, or the proxy before it, until you know why",
		ChartInvalid:                "name the digest of a Helm chart's manifest, not that of an image or of an index",
		ChartVersionMismatch:        "name the digest of the chart " + chart + " of version " + version,
		CacheFailed:                 "name a folder that can be written with --cache",
	}[failure.Reason]
	return failure
}
