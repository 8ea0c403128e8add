package main

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// version is set by the linker when make builds the command.
var version string

// versionInfo is the JSON form of the version.
type versionInfo struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Version    string `json:"version"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
}

func newVersion(p *printer) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of isthmus",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			info := currentVersion()
			if format == formatJSON {
				return p.json(info)
			}
			p.answer("isthmus %s (%s, %s)", info.Version, info.Go, info.Platform)
			return nil
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

func currentVersion() versionInfo {
	built := version
	if info, ok := debug.ReadBuildInfo(); ok && built == "" {
		built = info.Main.Version
	}
	return versionInfo{
		APIVersion: v1alpha1.GroupVersion.String(),
		Kind:       "Version",
		Version:    cmp.Or(built, "(devel)"),
		Go:         runtime.Version(),
		Platform:   runtime.GOOS + "/" + runtime.GOARCH,
	}
}
