package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

// discoveryOptions are those of commands that show what members discover.
type discoveryOptions struct {
	hub             hubFlags
	format          string
	network, member string
	problems        bool
}

// discoveryCommand makes a command one of them.
func discoveryCommand(cmd *cobra.Command, opts *discoveryOptions, run func(ctx context.Context) error) {
	cmd.Args = hintArgs(cobra.MaximumNArgs(1))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(opts.format); err != nil {
			return err
		}
		if len(args) > 0 {
			opts.network = args[0]
		}
		return run(cmd.Context())
	}
	opts.hub.add(cmd)
	formatFlag(cmd, &opts.format)
	cmd.Flags().StringVar(&opts.member, "member", "", "only what concerns this member")
}

func newServices(p *printer) *cobra.Command {
	var opts discoveryOptions
	cmd := &cobra.Command{
		Use:   "services [NETWORK]",
		Short: "Print which services members discover, who reaches them, and why others do not",
		Long: `Print the services that members discover of each other, as their istiods serve
them: for each member its ready endpoints and all, the address of its gateway and the
waypoint, and how each other member's endpoints are reached from it: their number, or
why not. What is to be changed is on stderr, or with --problems the answer. The hub is
asked, and no member. Exits with 1 if something is to be changed.`,
		Example: "  isthmus services\n  isthmus services prod --member east\n  isthmus services --problems -o json",
	}
	discoveryCommand(cmd, &opts, func(ctx context.Context) error { return services(ctx, p, opts) })
	cmd.Flags().BoolVar(&opts.problems, "problems", false, "print only what is to be changed")
	return cmd
}

func services(ctx context.Context, p *printer, opts discoveryOptions) error {
	hub, err := opts.hub.connect()
	if err != nil {
		return err
	}
	networks, members, err := opts.read(ctx, hub)
	if err != nil {
		return err
	}
	views, err := readViews(ctx, hub, opts.hub.namespace)
	if err != nil {
		return err
	}
	report := newServicesReport(networks, members, views)
	report.only(opts)
	if opts.format == formatJSON {
		if err := p.json(report); err != nil {
			return err
		}
	} else {
		report.print(p, opts)
	}
	if !report.fine() {
		return errProblems
	}
	return nil
}

// read reads what the hub has of networks and members, without members that leave.
func (o discoveryOptions) read(ctx context.Context, hub dynamic.Interface) ([]v1alpha1.ApplicationNetwork, []v1alpha1.Member, error) {
	networks, err := list[v1alpha1.ApplicationNetwork](ctx, hub, o.hub.namespace, "applicationnetworks")
	if err != nil {
		return nil, nil, err
	}
	members, err := list[v1alpha1.Member](ctx, hub, o.hub.namespace, "members")
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, n := range networks {
		names = append(names, n.Name)
	}
	if o.network != "" {
		if err := known("network", o.network, names); err != nil {
			return nil, nil, err
		}
		networks = slices.DeleteFunc(networks, func(n v1alpha1.ApplicationNetwork) bool { return n.Name != o.network })
		members = slices.DeleteFunc(members, func(m v1alpha1.Member) bool { return m.Spec.ApplicationNetwork != o.network })
	}
	names = nil
	for _, m := range members {
		names = append(names, m.Name)
	}
	if o.member != "" {
		if err := known("member", o.member, names); err != nil {
			return nil, nil, err
		}
		// The others of its network stay: they are what it is compared with.
		i := slices.Index(names, o.member)
		of := members[i].Spec.ApplicationNetwork
		networks = slices.DeleteFunc(networks, func(n v1alpha1.ApplicationNetwork) bool { return n.Name != of })
	}
	members = slices.DeleteFunc(members, func(m v1alpha1.Member) bool { return m.DeletionTimestamp != nil })
	slices.SortFunc(networks, func(a, b v1alpha1.ApplicationNetwork) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(members, func(a, b v1alpha1.Member) int { return strings.Compare(a.Name, b.Name) })
	return networks, members, nil
}

// known refuses a name that the hub does not know.
func known(kind, name string, names []string) error {
	if slices.Contains(names, name) {
		return nil
	}
	err := fmt.Errorf("no %s %q on the hub", kind, name)
	if hint := fleet.DidYouMean(name, names); hint != "" {
		return withHint(err, hint)
	}
	return err
}

// readViews reads what the hub knows of services, by member. What cannot be read is
// as if it were not there.
func readViews(ctx context.Context, hub dynamic.Interface, namespace string) (map[string]*peering.View, error) {
	out := map[string]*peering.View{}
	opts := metav1.ListOptions{LabelSelector: reconciler.ServicesLabel, Limit: 50}
	for {
		found, err := hub.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(namespace).List(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("list configmaps in namespace %q of the hub: %w", namespace, err)
		}
		for _, item := range found.Items {
			var config corev1.ConfigMap
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &config); err != nil {
				continue
			}
			name, ok := strings.CutPrefix(config.Name, reconciler.ServicesPrefix)
			if view, err := peering.DecodeView(config.BinaryData[reconciler.ServicesKey]); err == nil && ok {
				out[name] = &view
			}
		}
		if opts.Continue = found.GetContinue(); opts.Continue == "" {
			return out, nil
		}
	}
}

// servicesReport is the JSON form of what members discover.
type servicesReport struct {
	APIVersion string                  `json:"apiVersion"`
	Kind       string                  `json:"kind"`
	Networks   []networkServicesReport `json:"networks"`
}

type networkServicesReport struct {
	Name     string              `json:"name"`
	Services []peering.Service   `json:"services"`
	Members  []memberKnownReport `json:"members"`
}

// memberKnownReport says what is known of a member itself.
type memberKnownReport struct {
	Name  string `json:"name"`
	Known bool   `json:"known"`
	// Why nothing is known, or nothing new.
	Why string `json:"why,omitempty"`
}

func newServicesReport(networks []v1alpha1.ApplicationNetwork, members []v1alpha1.Member, views map[string]*peering.View) *servicesReport {
	report := &servicesReport{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ServicesReport", Networks: []networkServicesReport{}}
	for _, n := range networks {
		network := networkServicesReport{Name: n.Name, Members: []memberKnownReport{}}
		var joined []peering.Member
		for _, m := range members {
			if m.Spec.ApplicationNetwork != n.Name {
				continue
			}
			one := peering.Member{Name: m.Name, View: views[m.Name]}
			state := memberKnownReport{Name: m.Name, Known: one.View != nil}
			if d := m.Status.Discovery; d != nil {
				one.Peers = d.Peers
				if i := slices.IndexFunc(d.Problems, func(p v1alpha1.ServiceProblem) bool { return p.Reason == peering.NotAsked }); i >= 0 {
					state.Why = d.Problems[i].Message
				}
			}
			joined, network.Members = append(joined, one), append(network.Members, state)
		}
		network.Services = peering.Join(joined).Services()
		report.Networks = append(report.Networks, network)
	}
	return report
}

// only leaves out what was not asked for.
func (r *servicesReport) only(opts discoveryOptions) {
	if opts.member == "" {
		return
	}
	for i := range r.Networks {
		n := &r.Networks[i]
		n.Members = slices.DeleteFunc(n.Members, func(m memberKnownReport) bool { return m.Name != opts.member })
		for j := range n.Services {
			s := &n.Services[j]
			s.Members = slices.DeleteFunc(s.Members, func(m peering.InMember) bool { return m.Member != opts.member })
			s.Problems = slices.DeleteFunc(s.Problems, func(p peering.Problem) bool { return p.Member != opts.member })
		}
	}
}

// fine says that nothing is to be changed.
func (r *servicesReport) fine() bool {
	return !slices.ContainsFunc(r.Networks, func(n networkServicesReport) bool {
		return slices.ContainsFunc(n.Services, func(s peering.Service) bool { return len(s.Problems) > 0 }) ||
			slices.ContainsFunc(n.Members, func(m memberKnownReport) bool { return m.Why != "" })
	})
}

func (r *servicesReport) print(p *printer, opts discoveryOptions) {
	if len(r.Networks) == 0 {
		p.note("no networks in namespace %s of the hub", opts.hub.namespace)
	}
	rows := [][]string{{"NETWORK", "SERVICE", "MEMBER", "ENDPOINTS", "GATEWAY", "WAYPOINT", "REACHES"}}
	problems := [][]string{{"NETWORK", "SERVICE", "MEMBER", "REASON", "MESSAGE"}}
	for _, n := range r.Networks {
		for _, s := range n.Services {
			for _, m := range s.Members {
				rows = append(rows, []string{n.Name, s.Name, m.Member, endpoints(m), orDash(m.Gateway), orDash(m.Waypoint), reaches(m)})
			}
			for _, one := range s.Problems {
				problems = append(problems, []string{n.Name, s.Name, one.Member, one.Reason, one.Message})
			}
		}
	}
	switch {
	case opts.problems && len(problems) > 1:
		p.table(problems)
	case opts.problems:
	case len(rows) > 1:
		p.table(rows)
		for _, row := range problems[1:] {
			p.note("%s on %s: %s: %s", row[1], row[2], row[3], row[4])
		}
	default:
		p.note("no services that members discover")
		p.note("hint: give a Service the label istio.io/global=true, or name it in discovery.exports of the network")
	}
	for _, n := range r.Networks {
		for _, m := range n.Members {
			switch {
			case m.Why != "":
				p.note("member %s: %s", m.Name, m.Why)
			case !m.Known:
				p.note("member %s: nothing is known of its services yet", m.Name)
			}
		}
	}
}

// endpoints that are ready, and all.
func endpoints(m peering.InMember) string {
	switch m.Has {
	case peering.HasExported:
		return fmt.Sprintf("%d/%d", m.Ready, m.Ready+m.Unready)
	case peering.HasLocal:
		return "local"
	case peering.HasUnknown:
		return "?"
	}
	return "-"
}

// reaches are the other members' endpoints, or why they are not reached.
func reaches(m peering.InMember) string {
	var out []string
	for _, path := range m.From {
		if path.Reason != "" {
			out = append(out, path.Member+": "+path.Reason)
		} else {
			out = append(out, fmt.Sprintf("%s: %d", path.Member, path.Endpoints))
		}
	}
	return orDash(strings.Join(out, ", "))
}
