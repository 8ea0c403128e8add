package fleet

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	schemafiles "github.com/isthmus-mesh/isthmus/docs/schema"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// schema is the part of JSON Schema that the published schemas use.
type schema struct {
	Type                 string             `json:"type"`
	Format               string             `json:"format"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties extra              `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	Required             []string           `json:"required"`
	Enum                 []string           `json:"enum"`
	Pattern              string             `json:"pattern"`
	MinLength            int                `json:"minLength"`
	MaxLength            *int               `json:"maxLength"`
	MinItems             int                `json:"minItems"`
	MaxItems             *int               `json:"maxItems"`
	Minimum              *int64             `json:"minimum"`
	Maximum              *int64             `json:"maximum"`
	ListMapKeys          []string           `json:"x-kubernetes-list-map-keys"`
	// Free is true for a mapping of fields that are not ours to know.
	Free bool `json:"x-kubernetes-preserve-unknown-fields"`

	pattern *regexp.Regexp
}

// extra is what properties without a name of their own are: nil when there may
// be none.
type extra struct{ *schema }

// UnmarshalJSON reads "false" or a schema.
func (e *extra) UnmarshalJSON(data []byte) error {
	if string(data) == "false" {
		return nil
	}
	return json.Unmarshal(data, &e.schema)
}

// fields returns the names of the properties, sorted.
func (s *schema) fields() []string { return slices.Sorted(maps.Keys(s.Properties)) }

// compile prepares the patterns of a schema and everything in it.
func (s *schema) compile() {
	if s == nil {
		return
	}
	if s.Pattern != "" {
		s.pattern = regexp.MustCompile(s.Pattern)
	}
	for _, property := range s.Properties {
		property.compile()
	}
	s.AdditionalProperties.compile()
	s.Items.compile()
}

// schemas of the kinds that are written in Git.
var schemas = sync.OnceValue(func() map[string]*schema {
	out := map[string]*schema{}
	for _, kind := range []string{v1alpha1.ApplicationNetworkKind, v1alpha1.MemberKind} {
		name := fmt.Sprintf("%s.%s.json", strings.ToLower(kind), v1alpha1.GroupVersion.Version)
		data, err := schemafiles.Files.ReadFile(name)
		if err == nil {
			out[kind] = &schema{}
			err = json.Unmarshal(data, out[kind])
		}
		if err != nil {
			// The schemas are part of the program: this is a build that is broken.
			panic(fmt.Sprintf("read embedded schema %q: %v", name, err))
		}
		out[kind].compile()
	}
	return out
})

func schemaOf(kind string) *schema { return schemas()[kind] }

const (
	durationPattern = `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	labelPattern    = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	domainPattern   = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
)

// patternWords say in words what each pattern of the schemas wants.
var patternWords = map[string]string{
	`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`:        "a UUID such as 11111111-2222-3333-4444-555555555555",
	`^(/([^/~]|~[01])+)+$`:                                        "a JSON pointer such as /spec/replicas",
	`^[0-9a-f]{40}$`:                                              "40 hexadecimal digits",
	durationPattern:                                               `a duration such as "24h", "90m" or "1h30m"`,
	labelPattern:                                                  "lower-case letters, digits and dashes, with a letter or digit at both ends",
	domainPattern:                                                 "lower-case letters, digits, dashes and dots, with a letter or digit at both ends of each part",
	`^[a-z0-9]([a-z0-9-]{1,22}[a-z0-9])$`:                         "3 to 24 lower-case letters, digits and dashes, with a letter or digit at both ends",
	`^[a-z]([-a-z0-9]*[a-z0-9])?$`:                                "lower-case letters, digits and dashes, beginning with a letter and ending with a letter or digit",
	`^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$`:                  "letters, digits, dashes, dots and underscores, with a letter or digit at both ends",
	`^[a-zA-Z0-9]([-._a-zA-Z0-9]*[_a-zA-Z0-9])?$`:                 "letters, digits, dashes, dots and underscores, beginning with a letter or digit",
	`^[-._a-zA-Z0-9]+$`:                                           "letters, digits, dashes, dots and underscores",
	`^([1-9][0-9]{0,5}m|[1-9][0-9]{0,3}|[0-9]{1,4}\.[0-9]{1,3})$`: `an amount of CPU such as "500m" or "2"`,
	`^[1-9][0-9]{0,11}(Ki|Mi|Gi|k|M|G)?$`:                         `an amount of memory such as "512Mi" or "2Gi"`,
	`^[a-z0-9]([-.a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]([-._a-z0-9]*[a-z0-9])?)*$`: `a registry such as "registry.example.com/istio"`,
	`^https://`:                          `an address that begins with "https://"`,
	`^https?://`:                         `an address that begins with "https://" or "http://"`,
	`^(https?|ssh|file)://.*$`:           `an address that begins with "https://", "http://", "ssh://" or "file://"`,
	`^[1-9][0-9]?%$`:                     `a share such as "50%"`,
	`^(100|[0-9]{1,2}(\.[0-9]{1,2})?)%$`: `a share such as "1%" or "0.1%"`,
	`^sha256:[0-9a-f]{64}$`:              `a digest, "sha256:" and 64 hexadecimal digits`,
	`^[0-9]+\.[0-9]+\.[0-9]+$`:           `a full version such as "1.30.4"`,
	`^[0-9a-zA-Z-]+$`:                    "letters, digits and dashes",
	`^v[0-9]+\.[0-9]+\.[0-9]+$`:          `a full version such as "v1.5.1"`,
	`^([1-9][0-9]*|[1-9][0-9]?%|100%)$`:  `a count such as "3" or a share such as "25%"`,
	`^[0-9]+\.[0-9]+(\.[0-9]+)?$`:        `a minor such as "1.30" or a full version such as "1.30.4"`,
	`^([01][0-9]|2[0-3]):[0-5][0-9]$`:    `a time of day such as "02:00"`,
}
