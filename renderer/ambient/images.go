package ambient

import (
	"cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// variant of Istio's images that the profile "ambient" chooses.
const variant = "-distroless"

func (s settings) hub(release catalog.Release) string {
	if s.Images == nil {
		return release.Hub
	}
	return cmp.Or(s.Images.Registry, release.Hub)
}

// digests returns the digests of the release's images, nil when they are not
// pinned. Planning refuses a release that should be pinned and is not.
func (s settings) digests(release catalog.Release) *v1alpha1.ImageDigests {
	if s.Images == nil {
		return nil
	}
	for i := range s.Images.Digests {
		if s.Images.Digests[i].Release == release.Version {
			return &s.Images.Digests[i]
		}
	}
	return nil
}

// pinned returns an image by its digest; the tag stays for people to read, and
// nobody resolves it.
func (s settings) pinned(release catalog.Release, image string, digest v1alpha1.Digest) string {
	return s.hub(release) + "/" + image + ":" + release.Tag + variant + "@" + string(digest)
}

func (s settings) pullSecrets() []any {
	if s.Images == nil {
		return nil
	}
	var names []any
	for _, name := range s.Images.PullSecrets {
		names = append(names, string(name))
	}
	return names
}

func withPullSecrets(global map[string]any, s settings) map[string]any {
	if names := s.pullSecrets(); len(names) > 0 {
		global["imagePullSecrets"] = names
	}
	return global
}
