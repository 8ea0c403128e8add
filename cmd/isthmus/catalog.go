package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

func newCatalog(p *printer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "catalog",
		Short: "Print the Istio releases, channels and hazards that isthmus knows",
		Args:  cobra.ArbitraryArgs,
		RunE:  helpOnly,
	}
	cmd.AddCommand(newCatalogList(p, catalog.Builtin()), newCatalogShow(p, catalog.Builtin()))
	return cmd
}

// releaseReport is the JSON form of one release.
type releaseReport struct {
	catalog.Release
	Channels []string         `json:"channels,omitempty"`
	Hazards  []catalog.Hazard `json:"hazards,omitempty"`
}

// releaseList is the JSON form of the catalog.
type releaseList struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Items      []releaseReport `json:"items"`
}

// releaseDocument is the JSON form of one release on its own.
type releaseDocument struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	releaseReport
}

func newCatalogList(p *printer, known *catalog.Catalog) *cobra.Command {
	var (
		format, folder string
		from           fetchFlags
	)
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Print every release, newest first",
		Example: "  isthmus catalog list\n  isthmus catalog list --fleet fleet-example",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			if folder != "" {
				var err error
				if known, err = catalogOf(cmd.Context(), p, folder, from); err != nil {
					return err
				}
			}
			if format == formatJSON {
				return p.json(listReleases(known))
			}
			rows := [][]string{{"RELEASE", "CHANNEL", "KUBERNETES", "GATEWAY API", "UPGRADE FROM", "END OF LIFE", "HAZARDS"}}
			for _, r := range known.Releases() {
				rows = append(rows, []string{
					r.Version, orDash(strings.Join(channelsOf(known, r.Version), ",")), r.Kubernetes.String(),
					r.GatewayAPI, r.UpgradeFrom, orDash(r.EndOfLife), fmt.Sprint(len(known.HazardsOf(r.Version))),
				})
			}
			p.table(rows)
			return nil
		},
	}
	formatFlag(cmd, &format)
	cmd.Flags().StringVar(&folder, "fleet", "", "folder of a fleet whose own releases are printed too")
	_ = cmd.MarkFlagDirname("fleet")
	from.add(cmd)
	return cmd
}

// catalogOf returns the catalog with the releases that a fleet declares.
func catalogOf(ctx context.Context, p *printer, folder string, from fetchFlags) (*catalog.Catalog, error) {
	loaded, problems, err := loadFolder(folder)
	if err != nil {
		return nil, err
	}
	var known *catalog.Catalog
	if loaded != nil {
		var unfit fleet.Problems
		if known, unfit, err = from.complete(ctx, p, loaded); err != nil {
			return nil, err
		}
		problems = append(problems, unfit...)
	}
	if known == nil {
		p.noteProblems(problems.Errors())
		return nil, errProblems
	}
	return known, nil
}

func newCatalogShow(p *printer, known *catalog.Catalog) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "show RELEASE",
		Short:   "Print one release and its hazards",
		Long:    "Print one release and its hazards. RELEASE is a full version, a minor, which\nmeans its newest patch, or a channel.",
		Example: "  isthmus catalog show 1.30.4\n  isthmus catalog show Stable -o json",
		Args:    oneArg,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var versions []string
			for _, r := range known.Releases() {
				versions = append(versions, r.Version)
			}
			return versions, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			release, err := findRelease(known, args[0])
			if err != nil {
				return withHint(err, "isthmus catalog list prints every release")
			}
			if format == formatJSON {
				return p.json(releaseDocument{
					APIVersion: v1alpha1.GroupVersion.String(), Kind: "Release",
					releaseReport: reportRelease(known, release),
				})
			}
			printRelease(p, known, release)
			return nil
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

// findRelease finds a release by version, minor or channel.
func findRelease(known *catalog.Catalog, name string) (catalog.Release, error) {
	for _, channel := range known.Channels() {
		if strings.EqualFold(channel.Name, name) {
			return known.Resolve(channel.Name, "")
		}
	}
	return known.Resolve("", name)
}

func listReleases(known *catalog.Catalog) releaseList {
	list := releaseList{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ReleaseList"}
	for _, release := range known.Releases() {
		list.Items = append(list.Items, reportRelease(known, release))
	}
	return list
}

func reportRelease(known *catalog.Catalog, release catalog.Release) releaseReport {
	return releaseReport{
		Release:  release,
		Channels: channelsOf(known, release.Version),
		Hazards:  known.HazardsOf(release.Version),
	}
}

// channelsOf are the names of the channels that lead to a version.
func channelsOf(known *catalog.Catalog, version string) []string {
	var names []string
	for _, channel := range known.Channels() {
		if channel.Version == version {
			names = append(names, channel.Name)
		}
	}
	return names
}

func printRelease(p *printer, known *catalog.Catalog, r catalog.Release) {
	p.table([][]string{
		{"release", r.Version},
		{"channel", orDash(strings.Join(channelsOf(known, r.Version), ","))},
		{"images", r.Hub + "/*:" + r.Tag},
		{"kubernetes", r.Kubernetes.String()},
		{"gateway api", r.GatewayAPI},
		{"upgrade from", r.UpgradeFrom},
		{"end of life", orDash(r.EndOfLife)},
	})
	hazards := known.HazardsOf(r.Version)
	p.answer("")
	p.answer("%s", counted(len(hazards), "hazard"))
	for _, h := range hazards {
		p.answer("")
		p.answer("%s: %s", h.ID, h.Summary)
		if h.Handled {
			p.answer("  handled by isthmus: %s", h.Advice)
		} else {
			p.answer("  hint: %s", h.Advice)
		}
		if len(h.Fixed) > 0 {
			p.answer("  fixed in %s", strings.Join(h.Fixed, ", "))
		}
		if h.Issue != "" {
			p.answer("  see %s", h.Issue)
		}
	}
}
