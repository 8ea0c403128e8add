package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

const inventoryName = "isthmus-inventory"

// InventorySubject is the ConfigMap that holds the inventory of a member.
func InventorySubject(mesh Mesh) Subject {
	return Subject{Version: "v1", Kind: "ConfigMap", Namespace: mesh.SystemNamespace, Name: inventoryName}
}

// stored is an inventory as read from or written to the member.
type stored struct {
	Inventory
	resourceVersion string
	parts           []string
	live            fingerprint
}

var errNoInventory = errors.New("there is no inventory")

func configMaps(mesh Mesh) string {
	return path.Join("/api/v1/namespaces", mesh.SystemNamespace, "configmaps")
}

// readInventory returns errNoInventory where there is none.
func (t *Target) readInventory(ctx context.Context, mesh Mesh) (*stored, error) {
	config, err := t.readConfigMap(ctx, mesh, inventoryName)
	if apierrors.IsNotFound(err) {
		return nil, errNoInventory
	}
	if err != nil {
		return nil, member.Wrap("read the inventory", err)
	}
	h, err := parseHead(config.Data["inventory.json"])
	if err != nil {
		return nil, err
	}
	out := &stored{resourceVersion: config.ResourceVersion, parts: h.Parts, live: fingerprintOf(&config.ObjectMeta)}
	if h.Inventory != nil {
		out.Inventory = *h.Inventory
		return out, nil
	}
	var raw []byte
	for _, name := range h.Parts {
		part, err := t.readConfigMap(ctx, mesh, name)
		if apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("read the inventory: its part %q is missing", name)
		}
		if err != nil {
			return nil, member.Wrap("read a part of the inventory", err)
		}
		raw = append(raw, part.Data["part"]...)
	}
	if err := json.Unmarshal(raw, &out.Inventory); err != nil {
		return nil, fmt.Errorf("parse the inventory: %w", err)
	}
	return out, nil
}

func (t *Target) readConfigMap(ctx context.Context, mesh Mesh, name string) (*corev1.ConfigMap, error) {
	raw, err := t.wire.read(ctx, path.Join(configMaps(mesh), name))
	if err != nil {
		return nil, err
	}
	config := &corev1.ConfigMap{}
	return config, json.Unmarshal(raw, config)
}

// writeInventory stores an inventory in place of the one that was read. It
// fails with reason Conflict if another process wrote in between.
func (t *Target) writeInventory(ctx context.Context, mesh Mesh, before *stored, next Inventory) (*stored, error) {
	next.Network = mesh.Network
	h, parts := next.split(maxPart)
	for name, content := range parts {
		if before != nil && slices.Contains(before.parts, name) {
			continue
		}
		body := inventoryObject(mesh, name, "", map[string]string{"part": content})
		if _, err := t.wire.put(ctx, configMaps(mesh), name, body, true); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, objectError(InventorySubject(mesh), "", "write", err)
		}
	}
	raw, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	version := ""
	if before != nil {
		version = before.resourceVersion
	}
	body := inventoryObject(mesh, inventoryName, version, map[string]string{"inventory.json": string(raw)})
	written, err := t.wire.put(ctx, configMaps(mesh), inventoryName, body, version == "")
	if err != nil {
		return nil, objectError(InventorySubject(mesh), "", "write", err)
	}
	after := &stored{
		Inventory: next, resourceVersion: written.ResourceVersion, parts: h.Parts, live: fingerprintOf(&written.ObjectMeta),
	}
	t.setInventory(after)
	return after, t.dropParts(ctx, mesh, before, after)
}

func inventoryObject(mesh Mesh, name, version string, data map[string]string) []byte {
	raw, err := json.Marshal(corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: mesh.SystemNamespace, ResourceVersion: version,
			Labels: map[string]string{LabelNetwork: mesh.Network, LabelComponent: "inventory"},
		},
		Data: data,
	})
	if err != nil {
		panic(err) // strings only
	}
	return raw
}

// dropParts deletes the parts that the head names no more.
func (t *Target) dropParts(ctx context.Context, mesh Mesh, before, after *stored) error {
	if before == nil {
		return nil
	}
	for _, name := range before.parts {
		if slices.Contains(after.parts, name) {
			continue
		}
		at := path.Join(configMaps(mesh), name)
		part, err := t.wire.get(ctx, at)
		if err == nil {
			err = t.wire.delete(ctx, at, part.UID)
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return objectError(InventorySubject(mesh), "", "delete an old part of", err)
		}
	}
	return nil
}

func (t *Target) setInventory(s *stored) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inventory = s
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Target) lastInventory() *stored {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inventory
}
