package kubelet

import (
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Sources are the ConfigMaps and Secrets of a pod's namespace.
type Sources interface {
	// ConfigMap and Secret return nil for an object that does not exist.
	ConfigMap(name string) *corev1.ConfigMap
	Secret(name string) *corev1.Secret
}

// environment resolves the variables of a container, in order, as NAME=value.
func environment(pod *corev1.Pod, container *corev1.Container, sources Sources) ([]string, error) {
	values := map[string]string{}
	var names []string
	set := func(name, value string) {
		if _, known := values[name]; !known {
			names = append(names, name)
		}
		values[name] = value
	}
	for _, from := range container.EnvFrom {
		data, err := envFrom(from, sources)
		if err != nil {
			return nil, err
		}
		for _, key := range sortedKeys(data) {
			set(from.Prefix+key, string(data[key]))
		}
	}
	for _, variable := range container.Env {
		if variable.ValueFrom == nil {
			set(variable.Name, expand(variable.Value, values))
			continue
		}
		value, found, err := valueFrom(pod, container, variable.ValueFrom, sources)
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", variable.Name, err)
		}
		if found {
			set(variable.Name, value)
		}
	}
	env := make([]string, len(names))
	for i, name := range names {
		env[i] = name + "=" + values[name]
	}
	return env, nil
}

func envFrom(from corev1.EnvFromSource, sources Sources) (map[string][]byte, error) {
	switch {
	case from.ConfigMapRef != nil:
		return configMapData(sources, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		return secretData(sources, from.SecretRef.Name, from.SecretRef.Optional)
	default:
		return nil, nil
	}
}

// valueFrom returns found = false for what is optional and missing.
func valueFrom(pod *corev1.Pod, container *corev1.Container, from *corev1.EnvVarSource, sources Sources) (value string, found bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err = field(pod, from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		return limit(container, from.ResourceFieldRef)
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		data, err := configMapData(sources, ref.Name, ref.Optional)
		return pick(data, ref.Key, ref.Optional, err)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		data, err := secretData(sources, ref.Name, ref.Optional)
		return pick(data, ref.Key, ref.Optional, err)
	default:
		return "", false, fmt.Errorf("its source is not supported")
	}
}

func pick(data map[string][]byte, key string, optional *bool, err error) (string, bool, error) {
	if err != nil {
		return "", false, err
	}
	value, found := data[key]
	if !found && !isTrue(optional) {
		return "", false, fmt.Errorf("no key %q", key)
	}
	return string(value), found, nil
}

var subscript = regexp.MustCompile(`^metadata\.(labels|annotations)\['(.+)'\]$`)

// field reads one field of the downward API.
func field(pod *corev1.Pod, path string) (string, error) {
	if match := subscript.FindStringSubmatch(path); match != nil {
		if match[1] == "labels" {
			return pod.Labels[match[2]], nil
		}
		return pod.Annotations[match[2]], nil
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return keyValues(pod.Labels), nil
	case "metadata.annotations":
		return keyValues(pod.Annotations), nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "status.podIP", "status.podIPs":
		return pod.Status.PodIP, nil
	case "status.hostIP", "status.hostIPs":
		return pod.Status.HostIP, nil
	default:
		return "", fmt.Errorf("no field %q", path)
	}
}

// limit reads a limit of CPU, in whole cores. Without a limit a node answers
// with all it has; kwok's nodes claim a thousand cores, so this machine's count
// here. Memory is left out: a process here has no memory limit.
func limit(container *corev1.Container, ref *corev1.ResourceFieldSelector) (string, bool, error) {
	switch ref.Resource {
	case "limits.cpu":
		if cores, ok := container.Resources.Limits[corev1.ResourceCPU]; ok {
			return strconv.FormatInt(cores.Value(), 10), true, nil
		}
		return strconv.Itoa(runtime.NumCPU()), true, nil
	case "limits.memory":
		return "", false, nil
	default:
		return "", false, fmt.Errorf("no resource %q", ref.Resource)
	}
}

var reference = regexp.MustCompile(`\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)`)

// expand replaces $(NAME) by earlier values, as Kubernetes does: unknown names
// stay, $$ is a dollar.
func expand(text string, values map[string]string) string {
	return reference.ReplaceAllStringFunc(text, func(match string) string {
		if match == "$$" {
			return "$"
		}
		if value, ok := values[strings.TrimSuffix(strings.TrimPrefix(match, "$("), ")")]; ok {
			return value
		}
		return match
	})
}

func isTrue(b *bool) bool { return b != nil && *b }
