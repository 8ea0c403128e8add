package kubelet

import "strings"

// Release is the version that an image reference stands for: its tag without
// digest and without the variants that Istio publishes. Empty if there is no tag.
func Release(image string) string {
	image, _, _ = strings.Cut(image, "@")
	slash := strings.LastIndex(image, "/")
	_, tag, found := strings.Cut(image[slash+1:], ":")
	if !found {
		return ""
	}
	for _, variant := range []string{"-distroless", "-debug"} {
		tag = strings.TrimSuffix(tag, variant)
	}
	return tag
}
