package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/test/apisim"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// question to the process that plays members; empty asks for counts.
type question struct {
	// Add a member of this name.
	Add string `json:"add,omitempty"`
	// Istiod says that the member has a pod of istiod, to be asked what it reads.
	Istiod bool `json:"istiod,omitempty"`
}

// reply is the answer to a question.
type reply struct {
	Kubeconfig []byte        `json:"kubeconfig,omitempty"`
	Counts     apisim.Counts `json:"counts"`
}

// play answers questions until there are no more. It is a process of its own, so
// that the memory of the members is not the reconciler's.
func play(ctx context.Context, in io.Reader, out io.Writer) error {
	gatewayAPI, err := controlplane.GatewayAPI(ctx, rig.GatewayAPI)
	if err != nil {
		return err
	}
	simulator, err := apisim.New()
	if err != nil {
		return err
	}
	defer simulator.Close()
	questions, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var asked question
		if err := questions.Decode(&asked); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		answer := reply{Counts: simulator.Counts()}
		if asked.Add != "" {
			has := gatewayAPI
			if asked.Istiod {
				has = append(slices.Clone(has), istiodPod())
			}
			if answer.Kubeconfig, err = simulator.AddMember(asked.Add, has...); err != nil {
				return err
			}
		}
		if err := replies.Encode(answer); err != nil {
			return err
		}
	}
}

// istiodPod is one that a played member has.
func istiodPod() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "istiod-0", "namespace": system, "labels": map[string]any{"app": "istiod"}},
	}}
}

// players is the process that plays members, as its parent sees it.
type players struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
	// example is the kubeconfig of the member that drift is made on.
	example []byte
}

func startPlayers(ctx context.Context, self string) (*players, error) {
	cmd := exec.CommandContext(ctx, self, "-play")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the players: %w", err)
	}
	return &players{cmd: cmd, in: in, out: json.NewDecoder(bufio.NewReader(out))}, nil
}

func (p *players) stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait() // it is killed when the context ends
}

func (p *players) ask(q question) (reply, error) {
	var answer reply
	if err := json.NewEncoder(p.in).Encode(q); err != nil {
		return answer, fmt.Errorf("ask the players: %w", err)
	}
	if err := p.out.Decode(&answer); err != nil {
		return answer, fmt.Errorf("read the players' answer: %w", err)
	}
	return answer, nil
}

func (p *players) add(name string) ([]byte, error) {
	answer, err := p.ask(question{Add: name})
	if name == example {
		p.example = answer.Kubeconfig
	}
	return answer.Kubeconfig, err
}

// addWithIstiod adds a member with an istiod that reads peers.
func (p *players) addWithIstiod(name string) ([]byte, error) {
	answer, err := p.ask(question{Add: name, Istiod: true})
	return answer.Kubeconfig, err
}

func (p *players) counts() (apisim.Counts, error) {
	answer, err := p.ask(question{})
	return answer.Counts, err
}

// countedPlayed are the columns of countsOf.
var countedPlayed = []string{"reads", "watches", "writes", "dry runs", "per member"}

func countsOf(c apisim.Counts, members int) map[string]int {
	return map[string]int{
		"reads": int(c.Reads), "watches": int(c.Watches), "writes": int(c.Writes), "dry runs": int(c.DryRuns),
		"per member": int(c.Total()) / members,
	}
}

// drift edits an object of one member, several times, and waits for the correction.
func (b *simulatedBench) drift(ctx context.Context) error {
	config, err := clientcmd.RESTConfigFromKubeConfig(b.players.example)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	maps := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(system)
	for range commits {
		if err := pauseFor(ctx, pause); err != nil {
			return err
		}
		took, err := corrected(ctx, maps)
		if err != nil {
			return err
		}
		b.took.drift.add(took)
	}
	return nil
}

// corrected is the time from an edit of the mesh config to its correction.
func corrected(ctx context.Context, maps dynamic.ResourceInterface) (time.Duration, error) {
	const name = "istio"
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	wanted, err := maps.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	events, err := maps.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: wanted.GetResourceVersion()})
	if err != nil {
		return 0, err
	}
	defer events.Stop()
	start := time.Now()
	patch := []byte(`{"data":{"mesh":"edited"}}`)
	if _, err := maps.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		return 0, err
	}
	mesh, _, _ := unstructured.NestedString(wanted.Object, "data", "mesh")
	for event := range events.ResultChan() {
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			break
		}
		if now, _, _ := unstructured.NestedString(object.Object, "data", "mesh"); now == mesh {
			return time.Since(start), nil
		}
	}
	return 0, errors.New("the edit was not corrected within a minute")
}

// freeAddress of this machine.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// readMetrics reads gauges without labels, by name.
func readMetrics(ctx context.Context, address string, names ...string) ([]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	defer response.Body.Close()
	values, lines := map[string]float64{}, bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = number
		}
	}
	out := make([]float64, len(names))
	for i, name := range names {
		value, ok := values[name]
		if !ok {
			return nil, fmt.Errorf("there is no metric %q", name)
		}
		out[i] = value
	}
	return out, lines.Err()
}
