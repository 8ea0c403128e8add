package main

import "github.com/spf13/cobra"

// noArgs and oneArg are cobra's checks with a hint.
var (
	noArgs = hintArgs(cobra.NoArgs)
	oneArg = hintArgs(cobra.ExactArgs(1))
)

// helpOnly makes a command that only groups others print its help.
func helpOnly(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return withHint(cobra.NoArgs(cmd, args), "see "+cmd.CommandPath()+" --help")
	}
	return cmd.Help()
}

func hintArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return withHint(check(cmd, args), "usage: "+cmd.UseLine())
	}
}
