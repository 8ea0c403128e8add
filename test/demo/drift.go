package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// drift changes a member behind isthmus' back and shows that it is put back.
func (d *demo) drift(ctx context.Context) error {
	member, err := d.rig.ClientOf(stays)
	if err != nil {
		return err
	}
	ztunnel := client.ObjectKey{Namespace: system, Name: "ztunnel"}
	var daemonSet appsv1.DaemonSet
	if err := member.Get(ctx, ztunnel, &daemonSet); err != nil {
		return err
	}
	if err := member.Delete(ctx, &daemonSet); err != nil {
		return err
	}
	old, start := daemonSet.UID, time.Now()
	err = quickly(ctx, func() error {
		if err := member.Get(ctx, ztunnel, &daemonSet); err != nil {
			return err
		}
		return wantNot("UID of DaemonSet ztunnel", old, daemonSet.UID)
	})
	if err != nil {
		return err
	}
	d.say("drift", "DaemonSet %s deleted on %s: back after %d ms", ztunnel, stays, time.Since(start).Milliseconds())

	var config corev1.ConfigMap
	mesh := client.ObjectKey{Namespace: system, Name: "istio"}
	if err := member.Get(ctx, mesh, &config); err != nil {
		return err
	}
	want := config.Data["mesh"]
	config.Data["mesh"] = "trustDomain: somebody.else\n"
	if err := member.Update(ctx, &config); err != nil {
		return err
	}
	start = time.Now()
	err = quickly(ctx, func() error {
		if err := member.Get(ctx, mesh, &config); err != nil {
			return err
		}
		if config.Data["mesh"] != want {
			return fmt.Errorf("ConfigMap istio is still edited")
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.say("drift", "ConfigMap %s edited on %s: put back after %d ms", mesh, stays, time.Since(start).Milliseconds())
	return nil
}

func wantNot(what string, old, now types.UID) error {
	if old == now {
		return fmt.Errorf("%s is still %s", what, old)
	}
	return nil
}

// quickly polls every few milliseconds, so that a latency means something.
func quickly(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// checkIstiod asks the running istiod for its version and its east-west gateway
// for its address.
func (d *demo) checkIstiod(ctx context.Context, name, release string) error {
	member, err := d.rig.ClientOf(name)
	if err != nil {
		return err
	}
	return rig.Eventually(ctx, time.Minute, func() error {
		istiods := d.rig.Members[name].Istiods()
		if len(istiods) != 1 {
			return fmt.Errorf("%d istiods run on %s", len(istiods), name)
		}
		version, err := get(ctx, istiods[0].Monitoring+"/version")
		if err != nil {
			return err
		}
		if !strings.Contains(version, release) {
			return fmt.Errorf("istiod on %s says it is %s", name, version)
		}
		gateway := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway"}}
		if err := member.Get(ctx, client.ObjectKey{Namespace: system, Name: "istio-eastwestgateway"}, gateway); err != nil {
			return err
		}
		addresses, _, err := unstructured.NestedSlice(gateway.Object, "status", "addresses")
		if err != nil || len(addresses) == 0 {
			return fmt.Errorf("the east-west gateway of %s has no address", name)
		}
		address, _ := addresses[0].(map[string]any)
		version, _, _ = strings.Cut(version, "-")
		d.say("istiod", "%s: version %s answers; east-west gateway at %v", name, version, address["value"])
		return nil
	})
}

func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
