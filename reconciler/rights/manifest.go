package rights

import (
	"encoding/json"
	"strings"
	"text/template"
)

// account is the name of everything that the YAML makes for isthmus.
const account = "isthmus"

var manifest = template.Must(template.New("rights").Funcs(template.FuncMap{"quote": quote, "rule": func(rules []Rule) any {
	return withReasons(rules)
}}).Parse(`# What isthmus may do on the member {{.Member}}, and no more. Apply it there as an admin,
# and again whenever the member's bundle gets another namespace, gateway or
# cluster-wide object.
#
# A server-side apply names what it creates, so creating is bound to names too; not so
# the inventory's parts, and nothing in the system namespace.
apiVersion: v1
kind: Namespace
metadata: {name: {{.Home}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: {{.Account}}, namespace: {{.Home}}}
---
# Its token, for the kubeconfig Secret on the hub. Read it when it is filled in:
#   kubectl get secret {{.Account}} -n {{.Home}} -o jsonpath='{.data.token}' | base64 -d
#   kubectl get secret {{.Account}} -n {{.Home}} -o jsonpath='{.data.ca\.crt}' | base64 -d
# put both into a kubeconfig with the server's address, inline, and on the hub:
#   kubectl create secret generic NAME -n NAMESPACE --from-file=value=KUBECONFIG
# where NAME is the member's kubeconfigRef. Delete the Secret here to revoke the token.
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata:
  name: {{.Account}}
  namespace: {{.Home}}
  annotations: {kubernetes.io/service-account.name: {{.Account}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: {{.Account}}}
rules:
{{template "rules" rule .Cluster}}---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: {{.Account}}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{.Account}}}
subjects:
- {kind: ServiceAccount, name: {{.Account}}, namespace: {{.Home}}}
{{range .Namespaces}}---
# Stays when isthmus leaves.
apiVersion: v1
kind: Namespace
metadata:
  name: {{.Namespace}}
  annotations: {isthmus.dev/prune: Release}
{{if .Rules}}---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: {{$.Account}}, namespace: {{.Namespace}}}
rules:
{{template "rules" rule .Rules}}---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: {{$.Account}}, namespace: {{.Namespace}}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{$.Account}}}
subjects:
- {kind: ServiceAccount, name: {{$.Account}}, namespace: {{$.Home}}}
{{end}}{{end}}{{define "rules"}}{{range .}}{{if .Reason}}# {{.Reason}}
{{end}}- apiGroups: {{quote .APIGroups}}
  resources: {{quote .Resources}}
{{- if .ResourceNames}}
  resourceNames: {{quote .ResourceNames}}
{{- end}}
  verbs: {{quote .Verbs}}
{{end}}{{end}}`))

// Manifest is the YAML for a member's admin; home is the namespace of the
// ServiceAccount.
func (r Rights) Manifest(member, home string) (string, error) {
	var out strings.Builder
	err := manifest.Execute(&out, map[string]any{
		"Member": member, "Home": home, "Account": account, "Cluster": r.Cluster, "Namespaces": r.Namespaces,
	})
	return out.String(), err
}

// reasoned is a rule with its reason where the rule before has another.
type reasoned struct {
	Rule
	Reason string
}

func withReasons(rules []Rule) []reasoned {
	var out []reasoned
	for i, rule := range rules {
		next := reasoned{Rule: rule}
		if i == 0 || rules[i-1].Why != rule.Why {
			next.Reason = rule.Why
		}
		out = append(out, next)
	}
	return out
}

// quote writes a list as JSON, which YAML is.
func quote(list []string) (string, error) {
	raw, err := json.Marshal(list)
	return strings.ReplaceAll(string(raw), `","`, `", "`), err
}
