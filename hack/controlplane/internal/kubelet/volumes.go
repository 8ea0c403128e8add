package kubelet

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// A tokenFunc returns a token for a projection, fresh enough to be used.
type tokenFunc func(*corev1.ServiceAccountTokenProjection) ([]byte, error)

// A csiFunc returns the files of an inline volume of a CSI driver.
type csiFunc func(*corev1.CSIVolumeSource) (map[string][]byte, error)

// payload is the content of a volume: files by path below it. It is empty for an
// emptyDir and for an optional source that does not exist. A nil csi refuses the
// volumes of drivers.
func payload(pod *corev1.Pod, volume *corev1.Volume, sources Sources, token tokenFunc, csi csiFunc) (map[string][]byte, error) {
	switch {
	case volume.CSI != nil && csi != nil:
		return csi(volume.CSI)
	case volume.EmptyDir != nil:
		return nil, nil
	case volume.Secret != nil:
		data, err := secretData(sources, volume.Secret.SecretName, volume.Secret.Optional)
		return selectItems(data, volume.Secret.Items, volume.Secret.Optional, err)
	case volume.ConfigMap != nil:
		data, err := configMapData(sources, volume.ConfigMap.Name, volume.ConfigMap.Optional)
		return selectItems(data, volume.ConfigMap.Items, volume.ConfigMap.Optional, err)
	case volume.DownwardAPI != nil:
		return downward(pod, volume.DownwardAPI.Items)
	case volume.Projected != nil:
		return projected(pod, volume.Projected, sources, token)
	default:
		return nil, fmt.Errorf("volume %q is of a kind that a process cannot have", volume.Name)
	}
}

func projected(pod *corev1.Pod, volume *corev1.ProjectedVolumeSource, sources Sources, token tokenFunc) (map[string][]byte, error) {
	all := map[string][]byte{}
	for _, source := range volume.Sources {
		files, err := projection(pod, source, sources, token)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, files)
	}
	return all, nil
}

func projection(pod *corev1.Pod, source corev1.VolumeProjection, sources Sources, token tokenFunc) (map[string][]byte, error) {
	switch {
	case source.Secret != nil:
		data, err := secretData(sources, source.Secret.Name, source.Secret.Optional)
		return selectItems(data, source.Secret.Items, source.Secret.Optional, err)
	case source.ConfigMap != nil:
		data, err := configMapData(sources, source.ConfigMap.Name, source.ConfigMap.Optional)
		return selectItems(data, source.ConfigMap.Items, source.ConfigMap.Optional, err)
	case source.DownwardAPI != nil:
		return downward(pod, source.DownwardAPI.Items)
	case source.ServiceAccountToken != nil:
		content, err := token(source.ServiceAccountToken)
		return map[string][]byte{source.ServiceAccountToken.Path: content}, err
	default:
		return nil, fmt.Errorf("projection of a kind that a process cannot have")
	}
}

func downward(pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, item := range items {
		if item.FieldRef == nil {
			return nil, fmt.Errorf("downward API file %q is not a field", item.Path)
		}
		value, err := field(pod, item.FieldRef.FieldPath)
		if err != nil {
			return nil, err
		}
		files[item.Path] = []byte(value)
	}
	return files, nil
}

// selectItems keeps all data, or the items under their paths.
func selectItems(data map[string][]byte, items []corev1.KeyToPath, optional *bool, err error) (map[string][]byte, error) {
	if err != nil || len(items) == 0 {
		return data, err
	}
	files := map[string][]byte{}
	for _, item := range items {
		content, ok := data[item.Key]
		if !ok && !isTrue(optional) {
			return nil, fmt.Errorf("no key %q", item.Key)
		}
		if ok {
			files[item.Path] = content
		}
	}
	return files, nil
}

func configMapData(sources Sources, name string, optional *bool) (map[string][]byte, error) {
	object := sources.ConfigMap(name)
	if object == nil {
		return nil, missing("configmap", name, optional)
	}
	data := maps.Clone(object.BinaryData)
	if data == nil {
		data = map[string][]byte{}
	}
	for key, value := range object.Data {
		data[key] = []byte(value)
	}
	return data, nil
}

func secretData(sources Sources, name string, optional *bool) (map[string][]byte, error) {
	object := sources.Secret(name)
	if object == nil {
		return nil, missing("secret", name, optional)
	}
	return object.Data, nil
}

func missing(kind, name string, optional *bool) error {
	if isTrue(optional) {
		return nil
	}
	return fmt.Errorf("%s %q not found", kind, name)
}

// keyValues is the form in which the downward API gives maps: key="value" lines.
func keyValues(values map[string]string) string {
	var lines []string
	for _, key := range sortedKeys(values) {
		lines = append(lines, key+"="+strconv.Quote(values[key]))
	}
	return strings.Join(lines, "\n")
}

func sortedKeys[V any](values map[string]V) []string {
	return slices.Sorted(maps.Keys(values))
}
