package xds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"istio.io/istio/pkg/workloadapi"
)

const cart = "shop/cart.shop.svc.cluster.local"

// server plays an istiod: it sends what it is given, and tells what it got.
type server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	send chan *discoveryv3.DeltaDiscoveryResponse
	got  chan *discoveryv3.DeltaDiscoveryRequest
}

func (s *server) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	go func() {
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			s.got <- request
		}
	}()
	for {
		select {
		case response, ok := <-s.send:
			if !ok {
				return errors.New("istiod goes")
			}
			if err := stream.Send(response); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func serve(t *testing.T) (*server, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s := &server{send: make(chan *discoveryv3.DeltaDiscoveryResponse), got: make(chan *discoveryv3.DeltaDiscoveryRequest, 10)}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	go func() { _ = g.Serve(listener) }()
	t.Cleanup(g.Stop)
	return s, listener.Addr().String()
}

func resource(t *testing.T, name string, address *workloadapi.Address) *discoveryv3.Resource {
	t.Helper()
	packed, err := anypb.New(address)
	check(t, err)
	return &discoveryv3.Resource{Name: name, Resource: packed}
}

func service(t *testing.T, name string) *discoveryv3.Resource {
	t.Helper()
	return resource(t, name, &workloadapi.Address{Type: &workloadapi.Address_Service{Service: &workloadapi.Service{Hostname: name}}})
}

func workload(t *testing.T, uid string, services ...string) *discoveryv3.Resource {
	t.Helper()
	w := &workloadapi.Workload{Uid: uid, Services: map[string]*workloadapi.PortList{}}
	for _, name := range services {
		w.Services[name] = &workloadapi.PortList{}
	}
	return resource(t, uid, &workloadapi.Address{Type: &workloadapi.Address_Workload{Workload: w}})
}

func respond(nonce string, removed []string, resources ...*discoveryv3.Resource) *discoveryv3.DeltaDiscoveryResponse {
	return &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: nonce, Resources: resources, RemovedResources: removed}
}

// backends is a condition: the uids of the workloads of a service.
func backends(want ...string) func(*State) error {
	return func(s *State) error {
		var got []string
		for _, w := range s.Of(cart) {
			got = append(got, w.GetUid())
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("backends %q, want %q", got, want)
		}
		return nil
	}
}

func TestWatchFollows(t *testing.T) {
	t.Parallel()
	istiod, address := serve(t)
	var seen []string
	w, err := Open(t.Context(), Options{Address: address, Changed: func(_ time.Time, s *State) {
		seen = append(seen, fmt.Sprintf("%d services, %d backends", len(s.Services), len(s.Of(cart))))
	}})
	check(t, err)
	if request := <-istiod.got; request.GetTypeUrl() != typeURL || fmt.Sprint(request.GetResourceNamesSubscribe()) != "[*]" {
		t.Errorf("subscribed to %s: %q", request.GetTypeUrl(), request.GetResourceNamesSubscribe())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	istiod.send <- respond("1", nil, service(t, cart), workload(t, "b", cart), workload(t, "a", cart), workload(t, "c", "shop/other"))
	first, err := w.Wait(ctx, backends("a", "b"))
	check(t, err)
	if ack := <-istiod.got; ack.GetResponseNonce() != "1" || len(ack.GetResourceNamesSubscribe()) > 0 || ack.GetErrorDetail() != nil {
		t.Errorf("acknowledged by %v", ack)
	}
	istiod.send <- respond("2", []string{"a"}, workload(t, "d", cart))
	second, err := w.Wait(ctx, backends("b", "d"))
	check(t, err)
	if !second.After(first) {
		t.Errorf("the second response came at %s, the first at %s", second, first)
	}
	again, err := w.Wait(ctx, backends("b", "d"))
	check(t, err)
	if again != second {
		t.Errorf("what holds already came at %s, want %s", again, second)
	}
	istiod.send <- respond("3", []string{cart, "b", "d"})
	_, err = w.Wait(ctx, func(s *State) error {
		if len(s.Services) > 0 {
			return errors.New("the service is still there")
		}
		return nil
	})
	check(t, err)
	w.Close()
	if want := "1 services, 2 backends; 1 services, 2 backends; 0 services, 0 backends"; strings.Join(seen, "; ") != want {
		t.Errorf("states seen: %q, want %q", seen, want)
	}
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	istiod, address := serve(t)
	w, err := Open(t.Context(), Options{Address: address})
	check(t, err)
	defer w.Close()

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Wait(short, backends()); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("without any response: %v", err)
	}
	istiod.send <- respond("1", nil, workload(t, "a", cart))
	short, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Wait(short, backends("b")); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `backends ["a"], want ["b"]`) {
		t.Errorf("with another response: %v", err)
	}

	close(istiod.send)
	if _, err := w.Wait(t.Context(), backends("b")); err == nil || !strings.Contains(err.Error(), "istiod goes") {
		t.Errorf("when istiod goes: %v", err)
	}
	if w.Err() == nil {
		t.Error("a watch that has broken does not say so")
	}
	// What was there is not what is.
	if _, err := w.Wait(t.Context(), backends("a")); err == nil {
		t.Error("a watch that has broken still answers")
	}
}

func TestWatchRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for name, response := range map[string]*discoveryv3.DeltaDiscoveryResponse{
		"neither a service nor a workload":             respond("1", nil, resource(t, "x", &workloadapi.Address{})),
		`istiod sent type "type.googleapis.com/other"`: {TypeUrl: "type.googleapis.com/other"},
		`read resource "y"`:                            respond("1", nil, &discoveryv3.Resource{Name: "y", Resource: &anypb.Any{TypeUrl: typeURL, Value: []byte{0xff}}}),
	} {
		istiod, address := serve(t)
		w, err := Open(t.Context(), Options{Address: address})
		check(t, err)
		istiod.send <- response
		if _, err := w.Wait(t.Context(), backends()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %s", err, name)
		}
		w.Close()
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
