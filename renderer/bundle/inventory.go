package bundle

// Inventory lists what a bundle consists of, as written to inventory.json.
type Inventory struct {
	// APIVersion is "isthmus.dev/v1alpha1", Kind is "Inventory".
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Member and Network that the bundle is for.
	Member  string `json:"member"`
	Network string `json:"network"`
	// Release of Istio.
	Release string `json:"release"`
	// Digest of the bundle.
	Digest string `json:"digest"`
	// Entries in the order of the bundle.
	Entries []Entry `json:"entries"`
}

// Entry identifies one object.
type Entry struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Stage     Stage  `json:"stage"`
}

// Inventory returns the list of the bundle's objects.
func (b Bundle) Inventory() Inventory {
	entries := make([]Entry, 0, len(b.Objects))
	for _, object := range b.Objects {
		gvk := object.Object.GroupVersionKind()
		entries = append(entries, Entry{
			Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind,
			Namespace: object.Object.GetNamespace(), Name: object.Object.GetName(),
			Stage: object.Stage,
		})
	}
	return Inventory{
		APIVersion: "isthmus.dev/v1alpha1", Kind: "Inventory",
		Member: b.Member, Network: b.Network, Release: b.Release, Digest: b.Digest,
		Entries: entries,
	}
}
