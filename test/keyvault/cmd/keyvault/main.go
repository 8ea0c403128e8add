// Command keyvault runs the Key Vault emulator until it is interrupted, for demos
// and for trying the conformance tests from elsewhere. It prints, as environment,
// what a client needs.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
	"github.com/isthmus-mesh/isthmus/test/keyvault"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("keyvault: ")
	var o keyvault.Options
	flag.StringVar(&o.Address, "address", "127.0.0.1:8443", "where to listen")
	flag.BoolVar(&o.PurgeProtection, "purge-protection", false, "keep what was deleted")
	flag.BoolVar(&o.NoLimits, "no-limits", false, "take any number of calls")
	flag.BoolVar(&o.Standard, "standard", false, "no keys in hardware")
	ca := flag.String("ca", "keyvault-ca.pem", "file to write the certificates of the vault and its authority to")
	secret := flag.String("client-secret", "emulated", "what the emulated application logs in with")
	flag.Parse()
	if err := run(o, *ca, *secret); err != nil {
		log.Fatal(err)
	}
}

func run(o keyvault.Options, ca, secret string) error {
	e, err := keyvault.Start(o)
	if err != nil {
		return err
	}
	defer e.Close()
	e.Entra.Lock()
	e.Entra.Secret = secret
	e.Entra.Unlock()
	if err := os.WriteFile(ca, append(e.CA(), e.Entra.CA()...), 0o600); err != nil {
		return err
	}
	fmt.Printf("ISTHMUS_KEYVAULT_URL=https://%s\nISTHMUS_KEYVAULT_CA=%s\nISTHMUS_KEYVAULT_EMULATOR=true\nISTHMUS_KEYVAULT_TOKEN=%s\n",
		e.Address(), ca, e.Entra.Token(keyvault.Audience))
	fmt.Printf("AZURE_AUTHORITY_HOST=%s\nAZURE_TENANT_ID=%s\nAZURE_CLIENT_ID=%s\nAZURE_CLIENT_SECRET=%s\n",
		e.Entra.URL(), azuretest.Tenant, azuretest.Client, secret)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	<-interrupted
	return nil
}
