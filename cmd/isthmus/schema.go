package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/docs/schema"
)

func newSchema(p *printer) *cobra.Command {
	return &cobra.Command{
		Use:   "schema [KIND]",
		Short: "Print the JSON Schema of the fleet's files, for editors",
		Long: `Print the JSON Schema (draft-07) of the fleet's files, for editors: that of
KIND, or one that fits files of every kind. It is of this isthmus, and needs no
network. docs/editor.md says where editors want it.`,
		Example:   "  isthmus schema > .isthmus.schema.json\n  isthmus schema Member",
		Args:      hintArgs(cobra.MaximumNArgs(1)),
		ValidArgs: schema.Kinds,
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := schemaFor(args)
			if err != nil {
				return err
			}
			return p.json(json.RawMessage(data))
		},
	}
}

func schemaFor(args []string) ([]byte, error) {
	if len(args) == 0 {
		return schema.OfAnyKind()
	}
	known := slices.ContainsFunc(schema.Kinds, func(kind string) bool { return strings.EqualFold(kind, args[0]) })
	if !known {
		return nil, withHint(fmt.Errorf("no kind %q", args[0]), "the kinds are "+strings.Join(schema.Kinds, ", "))
	}
	return schema.Of(args[0])
}
