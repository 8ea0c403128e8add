package xds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"istio.io/istio/pkg/workloadapi"
)

// typeURL of what is watched.
const typeURL = "type.googleapis.com/istio.workload.Address"

// maxMessage is the most that one response may have: a first one has all that
// there is.
const maxMessage = 64 << 20

// Options of a watch.
type Options struct {
	// Address is host:port of istiod's plain gRPC port.
	Address string
	// Changed, if set, sees the state that each response leaves, and when that came.
	// Calls come one after another. The state is not to be kept.
	Changed func(at time.Time, s *State)
}

// State is what istiod tells at one time.
type State struct {
	// Services by namespace/hostname.
	Services map[string]*workloadapi.Service
	// Workloads by uid.
	Workloads map[string]*workloadapi.Workload
}

// Of returns the workloads of a service, given as namespace/hostname, sorted by uid.
func (s *State) Of(service string) []*workloadapi.Workload {
	var out []*workloadapi.Workload
	for _, workload := range s.Workloads {
		if _, ok := workload.GetServices()[service]; ok {
			out = append(out, workload)
		}
	}
	slices.SortFunc(out, func(a, b *workloadapi.Workload) int { return strings.Compare(a.GetUid(), b.GetUid()) })
	return out
}

// Watch is a subscription to one istiod.
type Watch struct {
	changed func(time.Time, *State)
	cancel  context.CancelFunc
	done    chan struct{} // closed when nothing comes any more

	mu    sync.Mutex
	state State
	last  time.Time // when the last response came; zero before the first
	next  chan struct{}
	err   error // why nothing comes any more
}

// Open subscribes, and returns without waiting for the first response. The watch
// lives until Close, or until ctx ends.
func Open(ctx context.Context, o Options) (*Watch, error) {
	conn, err := grpc.NewClient("passthrough:///"+o.Address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("connect to istiod at %q: %w", o.Address, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err == nil {
		err = stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			// istiod sends all of this to each kind of proxy alike; ztunnel is who asks.
			Node:                   &corev3.Node{Id: "ztunnel~127.0.0.1~watch.test~test.svc.cluster.local"},
			TypeUrl:                typeURL,
			ResourceNamesSubscribe: []string{"*"},
		})
	}
	if err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("subscribe at istiod at %q: %w", o.Address, err), conn.Close())
	}
	w := &Watch{
		changed: o.Changed, cancel: cancel, done: make(chan struct{}), next: make(chan struct{}),
		state: State{Services: map[string]*workloadapi.Service{}, Workloads: map[string]*workloadapi.Workload{}},
	}
	go func() {
		defer close(w.done)
		w.end(errors.Join(fmt.Errorf("watch istiod at %q: %w", o.Address, w.receive(stream)), conn.Close()))
	}()
	return w, nil
}

// Close ends the watch, and returns when Changed is called no more.
func (w *Watch) Close() {
	w.cancel()
	<-w.done
}

// Err is why the watch has ended, nil while it goes on.
func (w *Watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Wait waits until condition returns nil, and returns when the response came that
// made it so; with one that holds already, that is the last one. The condition is
// first asked after the first response; the state that it is given is not to be
// kept. An error is that of the watch or of ctx, joined with the condition's last.
func (w *Watch) Wait(ctx context.Context, condition func(*State) error) (time.Time, error) {
	last := errors.New("istiod has not answered")
	for {
		w.mu.Lock()
		at, next, err := w.last, w.next, w.err
		if !at.IsZero() {
			last = condition(&w.state)
		}
		w.mu.Unlock()
		switch {
		case err != nil:
			return time.Time{}, errors.Join(err, last)
		case last == nil:
			return at, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return time.Time{}, errors.Join(context.Cause(ctx), last)
		}
	}
}

// receive takes in what comes until the stream ends.
func (w *Watch) receive(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient) error {
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := w.take(response, time.Now()); err != nil {
			return err
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
}

// take makes the state what it is after a response.
func (w *Watch) take(response *discoveryv3.DeltaDiscoveryResponse, at time.Time) error {
	if response.GetTypeUrl() != typeURL {
		return fmt.Errorf("istiod sent type %q, want %q", response.GetTypeUrl(), typeURL)
	}
	came, err := parse(response.GetResources())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range response.GetRemovedResources() {
		delete(w.state.Services, name)
		delete(w.state.Workloads, name)
	}
	maps.Copy(w.state.Services, came.Services)
	maps.Copy(w.state.Workloads, came.Workloads)
	w.last = at
	if w.changed != nil {
		w.changed(at, &w.state)
	}
	close(w.next)
	w.next = make(chan struct{})
	return nil
}

func parse(resources []*discoveryv3.Resource) (State, error) {
	s := State{Services: map[string]*workloadapi.Service{}, Workloads: map[string]*workloadapi.Workload{}}
	for _, resource := range resources {
		address := &workloadapi.Address{}
		if err := resource.GetResource().UnmarshalTo(address); err != nil {
			return s, fmt.Errorf("read resource %q: %w", resource.GetName(), err)
		}
		switch {
		case address.GetService() != nil:
			s.Services[resource.GetName()] = address.GetService()
		case address.GetWorkload() != nil:
			s.Workloads[resource.GetName()] = address.GetWorkload()
		default:
			return s, fmt.Errorf("resource %q is neither a service nor a workload", resource.GetName())
		}
	}
	return s, nil
}

// end wakes those who wait for what will not come.
func (w *Watch) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	close(w.next)
}
