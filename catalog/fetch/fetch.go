package fetch

import (
	"context"
	"io/fs"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/catalog"
)

// parallel downloads of one call.
const parallel = 4

// Options of a fetcher.
type Options struct {
	// Cache is the folder to keep what was fetched in; created when needed. Empty:
	// nothing is kept.
	Cache string
	// ModuleProxy is where Go modules come from, as GOPROXY has it: of a list the
	// first https, http or file address is taken. Empty: none.
	ModuleProxy string
	// Credentials for registries. Zero: anonymous.
	Credentials Credentials
	// Progress, where set, is told what is being downloaded; it must not block and
	// is called from several goroutines.
	Progress func(doing string)
}

// Fetcher fetches. It may be used by several goroutines at once.
type Fetcher struct {
	options Options
	cache   cache
	http    *http.Client
}

// New returns a fetcher. Nothing is read or created before it is used.
func New(o Options) *Fetcher {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	transport.ResponseHeaderTimeout = 30 * time.Second
	return &Fetcher{options: o, cache: cache{o.Cache}, http: &http.Client{Transport: transport}}
}

// Fetch returns the catalog with everything that is needed, or all that stands in
// the way. What is in the cache is verified and costs no request.
func (f *Fetcher) Fetch(ctx context.Context, c *catalog.Catalog, needs catalog.Needs) (*catalog.Catalog, Failures) {
	if needs.Empty() {
		return c, nil
	}
	var (
		mu       sync.Mutex
		failures Failures
		work     errgroup.Group
	)
	work.SetLimit(parallel)
	try := func(fetch func() *Failure) {
		work.Go(func() error {
			if failure := fetch(); failure != nil {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, *failure)
			}
			return nil
		})
	}
	added := catalog.Additions{GatewayAPIs: map[catalog.GatewayAPI]fs.FS{}}
	charts := make([]release, len(needs.Releases))
	for i, wanted := range needs.Releases {
		charts[i].wanted = wanted
		for _, chart := range wanted.Source.Charts() {
			try(func() *Failure { return f.chart(ctx, &charts[i], chart) })
		}
	}
	for _, api := range needs.GatewayAPIs {
		try(func() *Failure {
			files, failure := f.gatewayAPI(ctx, api)
			mu.Lock()
			defer mu.Unlock()
			added.GatewayAPIs[api] = files
			return failure
		})
	}
	_ = work.Wait() // failures are collected
	if len(failures) > 0 {
		failures.sort()
		return nil, failures
	}
	for i := range charts {
		added.Releases = append(added.Releases, charts[i].complete())
	}
	return c.With(added), nil
}

func (f *Fetcher) tell(doing string) {
	if f.options.Progress != nil {
		f.options.Progress(doing)
	}
}
