package fetch_test

import (
	"archive/tar"
	"context"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/catalog/fetch"
	"github.com/isthmus-mesh/isthmus/catalog/fetch/fetchtest"
)

const version = "1.31.9"

func needs(source catalog.Source) catalog.Needs {
	release, _ := catalog.Builtin().Derive(version, source)
	return catalog.Needs{Releases: []catalog.Release{release}}
}

func fetched(t *testing.T, o fetch.Options, needs catalog.Needs) (*catalog.Catalog, fetch.Failures) {
	t.Helper()
	return fetch.New(o).Fetch(context.Background(), catalog.Builtin(), needs)
}

// The charts are what was pushed, offline they come from the cache, and a cache
// that was damaged is mended.
func TestCharts(t *testing.T) {
	t.Parallel()
	registry := fetchtest.Start(t)
	source := registry.PushRelease(t, "istio/charts", "1.31.0", version)
	options := fetch.Options{Cache: t.TempDir()}

	c, failures := fetched(t, options, needs(source))
	if len(failures) > 0 {
		t.Fatal(failures)
	}
	sameCharts(t, c)

	// Whoever moves the tag moves nothing: the digest is what counts.
	registry.Push(t, "istio/charts/istiod", version, fetchtest.TypeConfig,
		fetchtest.Layer{MediaType: fetchtest.TypeChart, Data: []byte("not what was pinned")})
	if _, failures := fetched(t, fetch.Options{Cache: t.TempDir()}, needs(source)); len(failures) > 0 {
		t.Errorf("after the tag has moved: %v", failures)
	}

	damage(t, options.Cache)
	c, failures = fetched(t, options, needs(source))
	if len(failures) > 0 {
		t.Fatalf("with a damaged cache: %v", failures)
	}
	sameCharts(t, c)

	together(t, fetch.Options{Cache: t.TempDir()}, source)

	registry.Stop()
	c, failures = fetched(t, options, needs(source))
	if len(failures) > 0 {
		t.Fatalf("offline, with a cache: %v", failures)
	}
	sameCharts(t, c)

	damage(t, options.Cache)
	for _, tt := range []struct{ reason, cache string }{
		{"offline, with a damaged cache", options.Cache},
		{"offline, without a cache", t.TempDir()},
	} {
		_, failures := fetched(t, fetch.Options{Cache: tt.cache}, needs(source))
		if len(failures) != 4 || failures[0].Reason != fetch.RegistryUnreachable || !failures[0].Transient() {
			t.Errorf("%s: %+v", tt.reason, failures)
			continue
		}
		if !strings.Contains(failures[0].Message, source.Repository) || failures[0].Hint == "" {
			t.Errorf("%s: the failure does not say what and what to do: %+v", tt.reason, failures[0])
		}
	}
}

// sameCharts compares the charts of the fetched release with those that they were
// made from.
func sameCharts(t *testing.T, c *catalog.Catalog) {
	t.Helper()
	release, ok := c.Release(version)
	if !ok {
		t.Fatalf("release %s is not in the catalog", version)
	}
	like, _ := c.Release("1.31.0")
	for _, chart := range release.Source.Charts() {
		want := fetchtest.ChartFiles(t, like, chart, version)
		got := fetchtest.ChartFiles(t, release, chart, version)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("chart %s (-want +got):\n%s", chart.Name, diff)
		}
	}
	if resolved, err := c.Resolve("", "1.31"); err != nil || resolved.Version != version {
		t.Errorf(`"1.31" leads to %q, %v`, resolved.Version, err)
	}
	if resolved, err := c.Resolve(catalog.Rapid, ""); err != nil || resolved.Version != "1.31.0" {
		t.Errorf("the channel leads to %q, %v", resolved.Version, err)
	}
}

// together fetches with several fetchers at once into one cache, as processes do
// that share it.
func together(t *testing.T, o fetch.Options, source catalog.Source) {
	t.Helper()
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			if _, failures := fetch.New(o).Fetch(context.Background(), catalog.Builtin(), needs(source)); len(failures) > 0 {
				t.Errorf("several at once: %v", failures)
			}
		})
	}
	work.Wait()
	left, err := filepath.Glob(filepath.Join(o.Cache, "charts", ".new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in the cache: %v, %v", left, err)
	}
}

// damage changes a byte in every entry of a cache.
func damage(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestChartsRefused(t *testing.T) {
	t.Parallel()
	registry := fetchtest.Start(t)
	good := registry.PushRelease(t, "istio/charts", "1.31.0", version)
	other := registry.PushRelease(t, "older/charts", "1.31.0", "1.31.8")
	push := func(configType string, layers ...fetchtest.Layer) string {
		return registry.Push(t, "istio/charts/istiod", "bad", configType, layers...)
	}
	archive := func(entries ...tar.Header) string {
		return push(fetchtest.TypeConfig, fetchtest.Layer{MediaType: fetchtest.TypeChart, Data: fetchtest.PackHeaders(t, entries, func(string) string { return "" })})
	}
	chart := fetchtest.Layer{MediaType: fetchtest.TypeChart, Data: fetchtest.Pack(t, "istiod", map[string]string{"values.yaml": "{}"})}
	bomb := fetchtest.Layer{MediaType: fetchtest.TypeChart, Data: fetchtest.Pack(t, "istiod", map[string]string{"values.yaml": strings.Repeat(" ", 40<<20)})}
	huge := chart
	huge.Size = 1 << 40
	for _, tt := range []struct {
		reason string
		istiod string
		want   fetch.Reason
		says   string
	}{
		{"a digest that nothing has", fetchtest.DigestOf([]byte("nothing")), fetch.ChartNotFound, "does not have it"},
		{"an image", push("application/vnd.oci.image.config.v1+json", chart), fetch.ChartInvalid, "not a Helm chart"},
		{"a chart without an archive", push(fetchtest.TypeConfig), fetch.ChartInvalid, "0 charts"},
		{"a layer that says it is huge", push(fetchtest.TypeConfig, huge), fetch.ChartInvalid, "more than 8 MiB"},
		{"an archive that unpacks to more than it may", push(fetchtest.TypeConfig, bomb), fetch.ChartInvalid, "too large"},
		{"an archive that is none", push(fetchtest.TypeConfig, fetchtest.Layer{MediaType: fetchtest.TypeChart, Data: []byte("text")}), fetch.ChartInvalid, "unpack"},
		{"no Chart.yaml", push(fetchtest.TypeConfig, chart), fetch.ChartInvalid, "no Chart.yaml"},
		{"a path that leads out", archive(tar.Header{Name: "istiod/../../../etc/passwd"}), fetch.ChartInvalid, "leads out"},
		{"an absolute path", archive(tar.Header{Name: "/etc/passwd"}), fetch.ChartInvalid, "leads out"},
		{"a link", archive(tar.Header{Name: "istiod/values.yaml", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), fetch.ChartInvalid, "not a file"},
		{"one file twice", archive(tar.Header{Name: "istiod/a"}, tar.Header{Name: "istiod/a"}), fetch.ChartInvalid, "twice"},
		{"the digest of another chart", good.Digests.CNI, fetch.ChartNotFound, "does not have it"},
	} {
		source := good
		source.Digests.Istiod = tt.istiod
		refused(t, tt.reason, source, tt.want, tt.says)
	}
	// In a registry with one repository for all, digests can be swapped.
	swapped := other
	refused(t, "charts of another version", swapped, fetch.ChartVersionMismatch, `version "1.31.8"`)
}

func refused(t *testing.T, reason string, source catalog.Source, want fetch.Reason, says string) {
	t.Helper()
	c, failures := fetched(t, fetch.Options{Cache: t.TempDir()}, needs(source))
	if c != nil || len(failures) == 0 {
		t.Errorf("%s: accepted", reason)
		return
	}
	failure := failures[len(failures)-1]
	if failure.Reason != want || !strings.Contains(failure.Message, says) || failure.Transient() || failure.Hint == "" {
		t.Errorf("%s: got %s %q (hint %q), want %s with %q", reason, failure.Reason, failure.Message, failure.Hint, want, says)
	}
}

// Registries that answer otherwise than a good one does, played by a proxy before
// a good one.
func TestRegistriesThatMisbehave(t *testing.T) {
	t.Parallel()
	registry := fetchtest.Start(t)
	good := registry.PushRelease(t, "istio/charts", "1.31.0", version)
	behind, err := url.Parse("http://" + registry.Host)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	for _, tt := range []struct {
		reason string
		answer func(http.ResponseWriter, *http.Request) (done bool)
		want   fetch.Reason
		says   string
	}{
		{"one that wants credentials", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Basic realm="charts"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}, fetch.RegistryCredentialsRejected, "credentials"},
		{"one that forbids", func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			return true
		}, fetch.RegistryCredentialsRejected, "403"},
		{"one that sends another manifest", func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			_, _ = w.Write([]byte(`{"schemaVersion":2}`))
			return true
		}, fetch.ChartDigestMismatch, "not what was asked for"},
		{"one that sends another manifest under the right name", func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Docker-Content-Digest", filepath.Base(r.URL.Path))
			_, _ = w.Write([]byte(`{"schemaVersion":2}`))
			return true
		}, fetch.ChartDigestMismatch, "in place of"},
		{"one that never ends", func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Docker-Content-Digest", filepath.Base(r.URL.Path))
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Content-Length", "1099511627776")
			for sent := 0; sent < 8<<20; sent += 1 << 16 {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					break
				}
			}
			return true
		}, fetch.ChartInvalid, "too large"},
	} {
		proxy := httputil.NewSingleHostReverseProxy(behind)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if !tt.answer(w, r) {
				proxy.ServeHTTP(w, r)
			}
		}))
		source := good
		source.Repository = strings.TrimPrefix(server.URL, "http://") + "/istio/charts"
		refused(t, tt.reason, source, tt.want, tt.says)
		server.Close()
	}
	if asked.Load() == 0 {
		t.Error("nobody asked the registries")
	}
}

// Credentials come from docker's configuration and are sent to their registry.
func TestCredentials(t *testing.T) {
	t.Parallel()
	registry := fetchtest.Start(t)
	good := registry.PushRelease(t, "istio/charts", "1.31.0", version)
	behind, err := url.Parse("http://" + registry.Host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(behind)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "reader" || password != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="charts"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	good.Repository = host + "/istio/charts"
	config := func(auth string) string {
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, []byte(`{"auths": {"`+host+`": {"auth": "`+auth+`"}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	right := fetch.Credentials{File: config("cmVhZGVyOnMzY3JldA==")}
	wrong := fetch.Credentials{File: config("cmVhZGVyOndyb25n")}
	if _, failures := fetched(t, fetch.Options{Cache: t.TempDir(), Credentials: right}, needs(good)); len(failures) > 0 {
		t.Errorf("with credentials: %v", failures)
	}
	_, failures := fetched(t, fetch.Options{Cache: t.TempDir(), Credentials: wrong}, needs(good))
	if len(failures) == 0 || failures[0].Reason != fetch.RegistryCredentialsRejected {
		t.Errorf("with a wrong password: %+v", failures)
	}
	for _, failure := range failures {
		if strings.Contains(failure.Message+failure.Hint, "wrong") {
			t.Errorf("the password is in %+v", failure)
		}
	}
}

func gatewayAPINeeds(version, channel string) catalog.Needs {
	return catalog.Needs{GatewayAPIs: []catalog.GatewayAPI{{Version: version, Channel: channel}}}
}

// Every version that the catalog knows is what its checksum says, and comes from
// the cache when there is no proxy.
func TestGatewayAPI(t *testing.T) {
	t.Parallel()
	versions := catalog.GatewayAPIVersions()
	proxy := fetchtest.ModuleProxy(t, versions...)
	for _, version := range versions {
		for _, channel := range []string{catalog.ChannelStandard, catalog.ChannelExperimental} {
			cache := t.TempDir()
			online := fetch.Options{Cache: cache, ModuleProxy: "direct|" + proxy}
			first := manifests(t, online, version, channel)
			if !strings.Contains(first["gateway.networking.k8s.io_gateways.yaml"], "bundle-version: "+version) {
				t.Errorf("%s %s has no Gateway: %d files", version, channel, len(first))
			}
			if first["kustomization.yaml"] != "" {
				t.Errorf("%s %s has a file that is no manifest", version, channel)
			}
			policy := first["gateway.networking.k8s.io_vap_safeupgrades.yaml"] != ""
			if want := catalog.Compare(version, "v1.5.0") >= 0; policy != want {
				t.Errorf("%s %s has the policy of safe upgrades: %t", version, channel, policy)
			}
			if diff := cmp.Diff(first, manifests(t, fetch.Options{Cache: cache}, version, channel)); diff != "" {
				t.Errorf("%s %s from the cache (-want +got):\n%s", version, channel, diff)
			}
			damage(t, cache)
			if diff := cmp.Diff(first, manifests(t, online, version, channel)); diff != "" {
				t.Errorf("%s %s from a damaged cache (-want +got):\n%s", version, channel, diff)
			}
		}
	}
}

func manifests(t *testing.T, o fetch.Options, version, channel string) map[string]string {
	t.Helper()
	c, failures := fetched(t, o, gatewayAPINeeds(version, channel))
	if len(failures) > 0 {
		t.Fatal(failures)
	}
	files, ok := c.GatewayAPI(catalog.GatewayAPI{Version: version, Channel: channel})
	if !ok {
		t.Fatalf("%s %s is not in the catalog", version, channel)
	}
	out := map[string]string{}
	names, err := fs.Glob(files, "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(content)
	}
	return out
}

// Proxies that answer otherwise than a good one does.
func TestModuleProxiesThatMisbehave(t *testing.T) {
	t.Parallel()
	const version = "v1.5.1"
	good := strings.TrimPrefix(fetchtest.ModuleProxy(t, version), "file://")
	module, err := os.ReadFile(filepath.Join(good, catalog.GatewayAPIModule, "@v", version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	serve := func(status int, body []byte) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write(body)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	other := fetchtest.ModuleProxy(t, "v1.6.0")
	another, err := os.ReadFile(filepath.Join(strings.TrimPrefix(other, "file://"), catalog.GatewayAPIModule, "@v", "v1.6.0.zip"))
	if err != nil {
		t.Fatal(err)
	}
	cut := serve(http.StatusOK, module[:len(module)/2])
	for _, tt := range []struct {
		reason, proxy string
		version       string
		want          fetch.Reason
	}{
		{"no proxy at all", "", version, fetch.ModuleProxyMissing},
		{"a list without an address", "direct,off", version, fetch.ModuleProxyMissing},
		{"a proxy that is away", "http://user:s3cret@127.0.0.1:1", version, fetch.ModuleProxyUnreachable},
		{"a proxy that fails", serve(http.StatusBadGateway, nil), version, fetch.ModuleProxyUnreachable},
		{"a proxy that does not have it", serve(http.StatusNotFound, nil), version, fetch.ModuleNotFound},
		{"a folder that does not have it", "file:///nowhere", version, fetch.ModuleNotFound},
		{"a proxy that sends another version", serve(http.StatusOK, another), version, fetch.ModuleChecksumMismatch},
		{"a proxy that sends half of it", cut, version, fetch.ModuleChecksumMismatch},
		{"a version that nobody vouches for", serve(http.StatusOK, module), "v1.5.0", fetch.ModuleNotFound},
	} {
		c, failures := fetched(t, fetch.Options{Cache: t.TempDir(), ModuleProxy: tt.proxy}, gatewayAPINeeds(tt.version, "standard"))
		if c != nil || len(failures) != 1 || failures[0].Reason != tt.want || failures[0].Hint == "" {
			t.Errorf("%s: %+v, want %s", tt.reason, failures, tt.want)
			continue
		}
		if strings.Contains(failures[0].Message+failures[0].Hint, "s3cret") {
			t.Errorf("%s: the password is in %+v", tt.reason, failures[0])
		}
	}
	if c, failures := fetched(t, fetch.Options{Cache: t.TempDir(), ModuleProxy: serve(http.StatusOK, module)}, gatewayAPINeeds(version, "standard")); c == nil {
		t.Errorf("over HTTP: %v", failures)
	}
}
