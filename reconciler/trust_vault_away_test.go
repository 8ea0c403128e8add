package reconciler

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/azure"
	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/keyvault"
	emulator "github.com/isthmus-mesh/isthmus/test/keyvault"
)

// TestVaultAwayInARotation: a Key Vault, spoken to by the real SDK, is away in each
// step of the replacement of intermediates and of a root, after one member has taken
// the step and before the other; and the process is ended meanwhile. Both keep what
// they have, the one that waits says why and how long that lasts, no workload is ever
// refused, and when the vault is back the replacement goes on.
func TestVaultAwayInARotation(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault emulator.Faults
		says  string
	}{
		// With Retry-After the SDK does not try again by itself, and the test is not slow.
		"503":                  {emulator.Faults{Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", RetryAfter: time.Hour}, "the vault answers 503"},
		"403":                  {emulator.Faults{Status: http.StatusForbidden, Code: "Forbidden", Inner: "ForbiddenByRbac", Message: "Caller is not authorized."}, "the identity may not do that"},
		"no answer":            {emulator.Faults{Latency: time.Hour}, "no answer in time"},
		"it takes nothing new": {emulator.Faults{ReadOnly: true, RetryAfter: time.Hour}, "takes no writes now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAway(t, tt.fault, tt.says)
			a.intermediates()
			a.root()
		})
	}
}

// awayVault is a world whose vault can be away.
type awayVault struct {
	*rotationWorld
	vault *emulator.Emulator
	fault emulator.Faults
	says  string
}

func newAway(t *testing.T, fault emulator.Faults, says string) *awayVault {
	t.Helper()
	timeout := 10 * time.Second
	if fault.Latency > 0 {
		timeout = 400 * time.Millisecond // it is waited for often
	}
	// The vault dates what it has by the same clock, which has to go on by itself, too:
	// it is waited for before what was made first is believed to be that.
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	vault, err := emulator.Start(emulator.Options{Now: now, NoLimits: true})
	must(t, err)
	t.Cleanup(vault.Close)
	vault.Entra.Secret = "czNjcmV0"
	open := func() trust.Vault {
		vault, err := keyvault.Open(keyvault.Options{
			URL: vault.URL(), HTTP: vault.HTTP(), Now: now,
			Clouds: map[v1alpha1.AzureCloud]cloud.Configuration{v1alpha1.AzurePublic: vault.Entra.Cloud()},
			Identity: azure.Identity{
				Kind: v1alpha1.AzureServicePrincipal, ClientID: azuretest.Client, TenantID: azuretest.Tenant,
				Secret: map[string][]byte{"clientSecret": []byte(vault.Entra.Secret)},
			},
			Timeout: timeout,
		})
		must(t, err)
		return vault
	}
	return &awayVault{newRotationWorld(t, now, func(d time.Duration) { ahead.Add(int64(d)) }, open), vault, fault, says}
}

func (a *awayVault) intermediates() {
	a.t.Helper()
	serials := func() (out []string) {
		for _, m := range a.members {
			out = append(out, m.hub.Status.Trust.Issued.Serial)
		}
		return out
	}
	before := serials()
	a.say(func(trust *v1alpha1.Trust) { trust.Intermediate.ReplaceIssuedBefore = &metav1.Time{Time: a.now()} })
	a.during("intermediates are due")
	a.until("both have new intermediates", func() bool {
		now := serials()
		return a.proven() && now[0] != before[0] && now[1] != before[1]
	})
}

func (a *awayVault) root() {
	a.t.Helper()
	a.say(func(trust *v1alpha1.Trust) { trust.Root.ReplaceIssuedBefore = &metav1.Time{Time: a.now()} })
	// Nobody can make the new root: that concerns the network, and no member.
	a.withoutVault("a root is due", func() {
		is := a.hub.Status.Trust
		if i := slices.IndexFunc(is.Blockers, func(b v1alpha1.TrustBlocker) bool { return b.Reason == string(trust.BlockedVault) }); i < 0 ||
			is.Step != string(trust.StepNewRoot) || !strings.Contains(is.Blockers[i].Message, a.says) {
			a.t.Errorf("a root is due, and the network says %s: %+v, want that of %q", is.Step, is.Blockers, a.says)
		}
	})
	done, last := a.settledWith(2), trust.StepNewRoot
	var steps []trust.Step
	for range rotationMost {
		a.tick()
		p, failure := a.r.ledger.where(a.t.Context(), a.following(), nil)
		if failure != nil {
			a.t.Fatal(failure)
		}
		if p.Step != last && p.Step != trust.StepNewRoot && p.Step != trust.StepSettled {
			steps, last = append(steps, p.Step), p.Step
			a.during(string(p.Step))
		}
		if a.work(); done() {
			break
		}
	}
	if want := []trust.Step{trust.StepTrustBoth, trust.StepSignByNew, trust.StepTrustNew}; !done() || !slices.Equal(steps, want) {
		a.t.Errorf("the vault was away at %v, want %v; the network: %+v", steps, want, a.hub.Status.Trust)
	}
}

// during takes the vault away after the first member has taken a step.
func (a *awayVault) during(step string) {
	a.t.Helper()
	first, second := a.members[0], a.members[1]
	before := first.secret
	for range 5 { // a call may take too long where the machine is busy
		if a.turn(first); !reflect.DeepEqual(before, first.secret) {
			break
		}
	}
	if reflect.DeepEqual(before, first.secret) {
		a.t.Fatalf("%s: %s has nothing new: %s", step, first.name, first.trustReady().Message)
	}
	a.withoutVault(step, func() {
		lasts := second.istiod.NotAfter().UTC().Format(time.RFC3339)
		if c := second.trustReady(); c.Status != metav1.ConditionFalse || c.Reason != status.ReasonCAUnavailable ||
			!strings.Contains(c.Message, a.says) || !strings.Contains(c.Message, lasts) {
			a.t.Errorf("%s: %s says %s, %s: %q, want why and %s", step, second.name, c.Status, c.Reason, c.Message, lasts)
		}
	})
}

// withoutVault lets the vault be away for a turn of one process, and for one of the
// next; said is called at the end of both.
func (a *awayVault) withoutVault(step string, said func()) {
	a.t.Helper()
	a.vault.Break(a.fault)
	defer a.vault.Mend()
	for next := range 2 {
		if next > 0 {
			a.start()
		}
		var secrets []any
		for _, m := range a.members {
			secrets = append(secrets, m.secret)
		}
		a.round()
		for i, m := range a.members {
			if !reflect.DeepEqual(m.secret, secrets[i]) {
				a.t.Errorf("%s: the CA of %s has changed without the vault", step, m.name)
			}
			if ready := readyOf(m.hub); ready.Status != metav1.ConditionTrue {
				a.t.Errorf("%s: %s is not delivered to: %s", step, m.name, ready.Message)
			}
		}
		said()
	}
}
