package controlplane

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// GatewayAPIManager is the field manager of [Cluster.InstallGatewayAPI].
const GatewayAPIManager = "gateway-api-installer"

// resources of the kinds that the standard channel consists of.
var gatewayAPIResources = map[string]schema.GroupVersionResource{
	"CustomResourceDefinition":         {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
	"ValidatingAdmissionPolicy":        {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"},
	"ValidatingAdmissionPolicyBinding": {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"},
}

// InstallGatewayAPI applies the standard channel of the Gateway API, a version
// such as "v1.5.1", and returns when its kinds are served. The manifests come
// from module sigs.k8s.io/gateway-api, checked by its checksum. It can be applied
// again, also with a newer version.
func (c *Cluster) InstallGatewayAPI(ctx context.Context, version string) error {
	objects, err := GatewayAPI(ctx, version)
	if err != nil {
		return err
	}
	config, err := restConfig(c.kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	for _, object := range objects {
		resource, ok := gatewayAPIResources[object.GetKind()]
		if !ok {
			return fmt.Errorf("no resource known for %s %q of Gateway API %s", object.GetKind(), object.GetName(), version)
		}
		options := metav1.ApplyOptions{FieldManager: GatewayAPIManager, Force: true}
		if _, err := client.Resource(resource).Apply(ctx, object.GetName(), object, options); err != nil {
			return fmt.Errorf("apply %s %q: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return waitFor(ctx, "the Gateway API to be served", nil, func(ctx context.Context) error {
		return established(ctx, client, objects)
	})
}

// GatewayAPI returns the objects that [Cluster.InstallGatewayAPI] applies.
func GatewayAPI(ctx context.Context, version string) ([]*unstructured.Unstructured, error) {
	source, err := moduleSource(ctx, "sigs.k8s.io/gateway-api", version)
	if err != nil {
		return nil, err
	}
	objects, err := readObjects(filepath.Join(source, "config", "crd", "standard"))
	if err != nil {
		return nil, fmt.Errorf("read Gateway API %s: %w", version, err)
	}
	return objects, nil
}

func established(ctx context.Context, client dynamic.Interface, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		current, err := client.Resource(gatewayAPIResources[object.GetKind()]).Get(ctx, object.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !conditionTrue(current, "Established") {
			return fmt.Errorf("CustomResourceDefinition %q is not established", object.GetName())
		}
	}
	return nil
}

func conditionTrue(object *unstructured.Unstructured, kind string) bool {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, item := range conditions {
		if condition, ok := item.(map[string]any); ok && condition["type"] == kind {
			return condition["status"] == "True"
		}
	}
	return false
}

// readObjects reads the manifests of a folder, in order of file names.
func readObjects(dir string) ([]*unstructured.Unstructured, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, document := range strings.Split(string(content), "\n---") {
			object := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
			}
			if kind := object.GetKind(); kind != "" && kind != "Kustomization" {
				objects = append(objects, object)
			}
		}
	}
	if len(objects) == 0 {
		return nil, fmt.Errorf("no manifests in %s", dir)
	}
	return objects, nil
}
