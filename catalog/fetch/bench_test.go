package fetch_test

import (
	"context"
	"testing"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/catalog/fetch"
	"github.com/isthmus-mesh/isthmus/catalog/fetch/fetchtest"
)

// BenchmarkFromCache is what a release and the Gateway API cost each run once they
// are in the cache: verified and unpacked.
func BenchmarkFromCache(b *testing.B) {
	registry := fetchtest.Start(b)
	wanted := needs(registry.PushRelease(b, "istio/charts", "1.31.0", version))
	wanted.GatewayAPIs = []catalog.GatewayAPI{{Version: "v1.6.0", Channel: catalog.ChannelStandard}}
	fetcher := fetch.New(fetch.Options{Cache: b.TempDir(), ModuleProxy: fetchtest.ModuleProxy(b, "v1.6.0")})
	if _, failures := fetcher.Fetch(context.Background(), catalog.Builtin(), wanted); len(failures) > 0 {
		b.Fatal(failures)
	}
	registry.Stop()
	for b.Loop() {
		if _, failures := fetcher.Fetch(context.Background(), catalog.Builtin(), wanted); len(failures) > 0 {
			b.Fatal(failures)
		}
	}
}
