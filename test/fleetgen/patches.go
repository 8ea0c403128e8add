package fleetgen

import "fmt"

// Some of these look at what is a member's own, some only seem to; all fit every
// member of every release.
func (g generator) networkPatches(namespace string) []any {
	patches := []any{
		patch(nil, fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, metadata: {name: istiod, namespace: %s}, spec: {template: {spec: {containers: [{name: discovery, env: [{name: EXTRA, value: %q}]}]}}}}", namespace, fmt.Sprint(g.IntN(9)))),
		patch(object{"kind": "DaemonSet|Deployment", "labelSelector": "isthmus.dev/component!=cni"}, "{metadata: {annotations: {example.com/team: mesh}}}"),
		patch(object{"kind": "DaemonSet", "name": "z.*", "namespace": namespace}, "[{op: add, path: /spec/template/spec/containers/0/env/-, value: {name: MORE, value: member-00042}}]"),
		patch(object{"labelSelector": "isthmus.dev/component in (policy,namespaces)"}, "{metadata: {labels: {east: ISTHMUS_CLUSTER}}}"),
		patch(object{"kind": "ConfigMap", "name": "istio-sidecar-injector"}, "[{op: test, path: /kind, value: ConfigMap}, {op: add, path: /data/more, value: shop}]"),
		patch(object{"kind": "DaemonSet", "name": "ztunnel"}, "[{op: move, from: /spec/template/spec/containers/0/env/5/value, path: /metadata/annotations/moved}, {op: add, path: /spec/template/spec/containers/0/env/5/value, value: again}]"),
		patch(object{"kind": "Gateway", "group": "gateway.networking.k8s.io", "version": "v1", "name": "istio-eastwestgateway|waypoint"}, "{spec: {infrastructure: {labels: {a: b}}}}"),
		patch(object{"kind": "Namespace", "annotationSelector": "isthmus.dev/prune"}, "[{op: add, path: /metadata/labels/a, value: b}]"),
		patch(object{"group": "apps|", "version": "v.", "kind": "ServiceAccount|Service", "annotationSelector": "!example.com/none"}, "{metadata: {annotations: {a: b}}}"),
	}
	g.Shuffle(len(patches), func(i, j int) { patches[i], patches[j] = patches[j], patches[i] })
	return patches[:g.IntN(len(patches))]
}

func (g generator) memberPatches(name string) []any {
	return []any{
		pick(g,
			patch(object{"kind": "HorizontalPodAutoscaler", "name": "istiod"}, "[{op: replace, path: /spec/maxReplicas, value: 9}]"),
			patch(object{"kind": "Deployment", "name": "istiod"}, fmt.Sprintf("{metadata: {annotations: {own: %q}}}", name)),
			patch(object{"kind": "DaemonSet", "name": "ztunnel"}, "{spec: {template: {spec: {containers: [{name: istio-proxy, env: [{name: NETWORK, $patch: delete}]}]}}}}"),
			patch(object{"kind": "DaemonSet"}, "[{op: remove, path: /spec/updateStrategy}]"),
		),
	}
}

// patch is an entry of spec.patches.
func patch(target object, text string) object {
	out := object{"patch": text}
	if target != nil {
		out["target"] = target
	}
	return out
}
