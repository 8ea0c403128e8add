package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
)

// forgeFlags say, in place of the CI system, which repository of which forge is meant.
type forgeFlags struct {
	target       forge.Target
	kind, caFile string
}

func (f *forgeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.kind, "forge", "", "GitHub, GitLab, Gitea (also for Forgejo) or AzureDevOps")
	flags.StringVar(&f.target.API, "api-url", "", "URL of the forge's API, such as https://HOST/api/v1")
	flags.StringVar(&f.target.Repository, "repository", "", "repository on the forge: owner/name; project/repository on Azure DevOps")
	flags.StringVar(&f.target.TokenVariable, "token-variable", "", "environment variable that holds the token")
	flags.StringVar(&f.caFile, "ca-file", "", "certificates, as PEM, that the forge's is signed by")
	_ = cmd.RegisterFlagCompletionFunc("forge", cobra.FixedCompletions(
		[]string{string(forge.GitHub), string(forge.GitLab), string(forge.Gitea), string(forge.AzureDevOps)}, cobra.ShellCompDirectiveNoFileComp))
}

// given is what the flags say.
func (f forgeFlags) given() forge.Target {
	target := f.target
	target.Forge = forge.Kind(f.kind)
	return target
}

// ca are the forge's certificates; nil for the system's.
func (f forgeFlags) ca() ([]byte, error) {
	if f.caFile == "" {
		return nil, nil
	}
	data, err := os.ReadFile(f.caFile)
	if err != nil {
		return nil, fmt.Errorf("read the forge's CA: %w", err)
	}
	return data, nil
}

func (f forgeFlags) client(target forge.Target) (*forge.Client, error) {
	ca, err := f.ca()
	if err != nil {
		return nil, err
	}
	return forge.New(target, forge.Options{Token: forge.Token(os.Getenv(target.TokenVariable)), CA: ca})
}

// environment is what a CI system tells this job.
func environment() forge.Environment {
	return forge.Environment{Getenv: os.Getenv, Files: os.DirFS("/")}
}
