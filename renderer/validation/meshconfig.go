package validation

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/validation/agent"
	"istio.io/istio/pkg/util/protomarshal"

	"github.com/isthmus-mesh/isthmus/fleet"
)

// CheckMeshConfig returns what is wrong with fields of Istio's MeshConfig, each
// with its path below them: fields that there are not, values of a wrong type,
// and what Istio's validator finds in each field over the defaults.
func CheckMeshConfig(fields map[string]any) []Finding {
	findings := checkMessage(fields, (&meshconfig.MeshConfig{}).ProtoReflect().Type(), "")
	if failed(findings) {
		return sorted(findings)
	}
	for name, value := range fields {
		findings = append(findings, checkMeshField(name, value)...)
	}
	return sorted(findings)
}

// checkMeshField validates one field over the defaults, and each item of a list
// by itself, so that what is wrong has a place.
func checkMeshField(name string, value any) []Finding {
	items, ok := value.([]any)
	if !ok {
		return validateMesh(name, map[string]any{name: value})
	}
	var findings []Finding
	for i, item := range items {
		findings = append(findings, validateMesh(fmt.Sprintf("%s[%d]", name, i), map[string]any{name: []any{item}})...)
	}
	if len(findings) == 0 {
		findings = validateMesh(name, map[string]any{name: value})
	}
	return findings
}

// validateMesh validates fields over the defaults.
func validateMesh(path string, fields map[string]any) []Finding {
	content, err := json.Marshal(fields)
	if err != nil {
		return []Finding{{Path: path, Message: err.Error()}}
	}
	var findings []Finding
	for _, message := range meshMessages(string(content)) {
		findings = append(findings, Finding{Path: path, Message: message})
	}
	return findings
}

// CheckMesh returns what istiod would say of a whole mesh config, as YAML.
func CheckMesh(yaml string) []string { return meshMessages(yaml) }

func meshMessages(yaml string) []string {
	// Reading it validates it, and returns the first error only.
	config, err := mesh.ApplyMeshConfigDefaults(yaml)
	if config == nil || err != nil {
		return messages(err)
	}
	_, err = agent.ValidateMeshConfig(config)
	found := messages(err)
	for _, provider := range config.ExtensionProviders {
		for _, message := range messages(checkProvider(provider)) {
			found = append(found, fmt.Sprintf("extension provider %q: %s", provider.Name, message))
		}
	}
	return found
}

// checkProvider validates a provider of one of the kinds that waypoints use.
// istiod only logs what is wrong with one, and then goes without it.
func checkProvider(provider *meshconfig.MeshConfig_ExtensionProvider) error {
	switch p := provider.Provider.(type) {
	case *meshconfig.MeshConfig_ExtensionProvider_EnvoyExtAuthzHttp:
		return agent.ValidateExtensionProviderEnvoyExtAuthzHTTP(p.EnvoyExtAuthzHttp)
	case *meshconfig.MeshConfig_ExtensionProvider_EnvoyExtAuthzGrpc:
		return agent.ValidateExtensionProviderEnvoyExtAuthzGRPC(p.EnvoyExtAuthzGrpc)
	case *meshconfig.MeshConfig_ExtensionProvider_Opentelemetry:
		return agent.ValidateExtensionProviderTracingOpentelemetry(p.Opentelemetry)
	case *meshconfig.MeshConfig_ExtensionProvider_EnvoyOtelAls:
		return agent.ValidateExtensionProviderEnvoyOtelAls(p.EnvoyOtelAls)
	case *meshconfig.MeshConfig_ExtensionProvider_EnvoyHttpAls:
		return agent.ValidateExtensionProviderEnvoyHTTPAls(p.EnvoyHttpAls)
	case *meshconfig.MeshConfig_ExtensionProvider_EnvoyTcpAls:
		return agent.ValidateExtensionProviderEnvoyTCPAls(p.EnvoyTcpAls)
	case nil:
		return errors.New("says what it is called and not what it is")
	}
	return nil
}

// checkMessage finds fields that a message does not have, and values that do not
// fit the fields that it has, at any depth.
func checkMessage(fields map[string]any, message protoreflect.MessageType, path string) []Finding {
	var findings []Finding
	descriptors := message.Descriptor().Fields()
	for name, value := range fields {
		at := name
		if path != "" {
			at = path + "." + name
		}
		// Protobuf takes trust_domain, too: then two fields of one name may meet.
		descriptor := descriptors.ByJSONName(name)
		if descriptor == nil {
			findings = append(findings, Finding{Path: at, Message: "unknown field", Hint: fleet.DidYouMean(name, jsonNames(descriptors))})
			continue
		}
		findings = append(findings, checkField(map[string]any{name: value}, descriptor, message, at)...)
	}
	return findings
}

// checkField checks one field of a message: what does not decode is looked for
// deeper where there is a deeper.
func checkField(field map[string]any, descriptor protoreflect.FieldDescriptor, message protoreflect.MessageType, path string) []Finding {
	content, err := json.Marshal(field)
	if err != nil {
		return []Finding{{Path: path, Message: err.Error()}}
	}
	err = protomarshal.Unmarshal(content, message.New().Interface())
	if err == nil {
		return nil
	}
	if descriptor.Kind() == protoreflect.MessageKind && !descriptor.IsMap() {
		inner := typeOf(descriptor, message)
		if found := checkInner(field, inner, path); len(found) > 0 {
			return found
		}
	}
	return []Finding{misfit(field[path[strings.LastIndex(path, ".")+1:]], descriptor, path, err)}
}

// misfit says why a value does not fit a field that has no more below it.
func misfit(value any, descriptor protoreflect.FieldDescriptor, path string, err error) Finding {
	if name, ok := value.(string); ok && descriptor.Kind() == protoreflect.EnumKind {
		var names []string
		for i := range descriptor.Enum().Values().Len() {
			names = append(names, string(descriptor.Enum().Values().Get(i).Name()))
		}
		return Finding{Path: path, Message: fmt.Sprintf("%q is not one of %s", name, strings.Join(names, ", ")), Hint: fleet.DidYouMean(name, names)}
	}
	message := oneLine(err.Error())
	if found, wanted, ok := strings.Cut(strings.TrimPrefix(message, "json: cannot unmarshal "), " into Go value of type "); ok {
		message = fmt.Sprintf("want %s, found a %s", wantedWord(wanted), found)
	}
	return Finding{Path: path, Message: message}
}

// wantedWord says in words what a field takes that a decoder names by a Go type.
func wantedWord(goType string) string {
	switch {
	case strings.HasPrefix(goType, "map["):
		return "fields"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "uint"), strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "float"):
		return "a number"
	}
	return "a " + goType
}

func checkInner(field map[string]any, inner protoreflect.MessageType, path string) []Finding {
	var findings []Finding
	for _, value := range field {
		switch value := value.(type) {
		case map[string]any:
			findings = checkMessage(value, inner, path)
		case []any:
			for i, item := range value {
				if fields, ok := item.(map[string]any); ok {
					findings = append(findings, checkMessage(fields, inner, fmt.Sprintf("%s[%d]", path, i))...)
				}
			}
		}
	}
	return findings
}

// typeOf returns the type of the message in a field.
func typeOf(descriptor protoreflect.FieldDescriptor, holder protoreflect.MessageType) protoreflect.MessageType {
	value := holder.New()
	if descriptor.IsList() {
		return value.Mutable(descriptor).List().NewElement().Message().Type()
	}
	return value.Mutable(descriptor).Message().Type()
}

func jsonNames(fields protoreflect.FieldDescriptors) []string {
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = fields.Get(i).JSONName()
	}
	slices.Sort(names)
	return names
}
