package keyvault

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/isthmus-mesh/isthmus/fleet/vaultname"
	"github.com/isthmus-mesh/isthmus/reconciler/azure"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// answer is an error answer of the service.
type answer struct {
	status     int
	code       string // the outer code
	inner      string // the innermost code
	message    string
	retryAfter time.Duration
}

// answerOf takes an answer apart; false when the error is none.
func answerOf(err error, now time.Time) (answer, bool) {
	response := (*azcore.ResponseError)(nil)
	if !errors.As(err, &response) {
		return answer{}, false
	}
	a := answer{status: response.StatusCode, code: response.ErrorCode}
	if response.RawResponse == nil {
		return a, true
	}
	a.retryAfter = azure.RetryAfter(response.RawResponse, now)
	type codes struct {
		Code    string          `json:"code"`
		Message string          `json:"message"`
		Inner   json.RawMessage `json:"innererror"`
	}
	var body struct {
		Error codes `json:"error"`
	}
	// The SDK has read the body already. One that is not the service's has no code.
	raw, err := runtime.Payload(response.RawResponse)
	if err != nil || json.Unmarshal(raw, &body) != nil {
		return a, true
	}
	a.message = body.Error.Message
	for inner := body.Error; len(inner.Inner) > 0; {
		next := codes{}
		if json.Unmarshal(inner.Inner, &next) != nil || next.Code == "" {
			break
		}
		a.inner, inner = next.Code, next
	}
	return a, true
}

// operation is one kind of call.
type operation struct {
	// name is for metrics, doing for people.
	name, doing string
	budget      budget
	cost        int
	// role is what the identity needs for it.
	role  string
	write bool
}

const (
	cryptoUser     = "Key Vault Crypto User"
	cryptoOfficer  = "Key Vault Crypto Officer"
	secretsOfficer = "Key Vault Secrets Officer"
)

var (
	getKey     = operation{name: "key_get", doing: "read key", budget: keyCalls, cost: 1, role: cryptoUser}
	listKey    = operation{name: "key_list", doing: "list the versions of key", budget: keyCalls, cost: 1, role: cryptoUser}
	signKey    = operation{name: "key_sign", doing: "sign with key", budget: keyCalls, cost: 1, role: cryptoUser}
	createKey  = operation{name: "key_create", doing: "make key", budget: keyCreates, cost: 1, role: cryptoOfficer, write: true}
	getSecret  = operation{name: "secret_get", doing: "read secret", budget: otherCalls, cost: 1, role: secretsOfficer}
	listSecret = operation{name: "secret_list", doing: "list the versions of secret", budget: otherCalls, cost: 1, role: secretsOfficer}
	setSecret  = operation{name: "secret_set", doing: "write secret", budget: secretSets, cost: 1, role: secretsOfficer, write: true}
)

// explain says what became of a call. Texts of the service hold addresses and ids,
// so only its codes are taken over.
func (v *Vault) explain(ctx context.Context, op operation, name string, err error) error {
	if err == nil {
		return nil
	}
	e := &trust.VaultError{Op: fmt.Sprintf("%s %q of %s", op.doing, name, v.host)}
	say := func(reason trust.VaultReason, message, hint string) error {
		e.Reason, e.Message, e.Hint = reason, message, hint
		return e
	}
	if own := (*trust.VaultError)(nil); errors.As(err, &own) {
		return own
	}
	if a, ok := answerOf(err, v.o.Now()); ok {
		e.RetryAfter = a.retryAfter
		return v.explainAnswer(op, name, a, e)
	}
	var (
		login      *azure.Error
		challenge  *challengeError
		dns        *net.DNSError
		untrusted  *tls.CertificateVerificationError
		syntax     *json.SyntaxError
		mistyped   *json.UnmarshalTypeError
		connection net.Error
	)
	switch {
	case ctx.Err() != nil:
		e.Err = ctx.Err()
		return say(trust.VaultUnavailable, "given up", "")
	case errors.As(err, &login):
		e.RetryAfter = login.RetryAfter
		return say(loginReason(login.Kind), login.Error(), "")
	case errors.As(err, &challenge):
		return say(trust.VaultUnauthorized, challenge.text, "check that the address is that of a Key Vault in the cloud that the fleet names")
	case errors.As(err, &dns) && dns.IsNotFound:
		return say(trust.VaultMissing, "there is no such host",
			"check spec.trust.vault.url; a vault that was deleted is brought back with `az keyvault recover`; one with a private endpoint needs its DNS zone privatelink.vaultcore.azure.net where the reconciler runs")
	case errors.As(err, &untrusted):
		return say(trust.VaultUnavailable, "the certificate of the vault is not trusted", "a proxy that inspects TLS may be in between: let the vault's host through")
	case errors.Is(err, errTooLong), errors.As(err, &syntax), errors.As(err, &mistyped):
		return say(trust.VaultCorrupt, "the answer cannot be read", "a proxy may be in between")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return say(trust.VaultUnavailable, "the answer broke off", "")
	case errors.Is(err, context.DeadlineExceeded):
		return say(trust.VaultUnavailable, "no answer in time", "")
	case errors.As(err, &connection), errors.Is(err, io.EOF):
		return say(trust.VaultUnavailable, "no connection", "check the network between the reconciler and the vault")
	}
	// What is left are the SDK's own errors about an answer; they may quote it.
	return say(trust.VaultCorrupt, "the answer cannot be read", "")
}

func loginReason(kind azure.Kind) trust.VaultReason {
	switch kind {
	case azure.Throttled:
		return trust.VaultThrottled
	case azure.Failing, azure.Unreachable, azure.Canceled:
		return trust.VaultUnavailable
	}
	return trust.VaultUnauthorized
}

// explainAnswer says what an error answer means.
func (v *Vault) explainAnswer(op operation, name string, a answer, e *trust.VaultError) error {
	say := func(reason trust.VaultReason, message, hint string) error {
		e.Reason, e.Message, e.Hint = reason, message, hint
		return e
	}
	rights := fmt.Sprintf("give the identity the role %q on the vault; a new role takes up to ten minutes", op.role)
	switch {
	case readOnly(a) && op.write:
		return say(trust.VaultReadOnly, "the vault takes no writes now", "it does so while Azure fails over to another region, for minutes: nothing is to be done")
	case a.status == http.StatusNotFound && (a.code == "KeyNotFound" || a.code == "SecretNotFound"):
		return fmt.Errorf("%s: %w", e.Op, trust.ErrNotFound)
	case a.status == http.StatusNotFound:
		return say(trust.VaultMissing, "the answer is no Key Vault's", "check spec.trust.vault.url, and for a proxy in between")
	case a.status == http.StatusUnauthorized:
		return say(trust.VaultUnauthorized, "the vault does not take the identity's token", "check that the identity is of the vault's tenant, and the cloud")
	case a.status == http.StatusForbidden:
		return v.explainForbidden(a, rights, say)
	case a.status == http.StatusConflict && a.inner == "ObjectIsDeletedButRecoverable":
		noun := strings.SplitN(op.name, "_", 2)[0]
		return say(trust.VaultSoftDeleted, "the name belongs to one that was deleted",
			fmt.Sprintf("bring it back with `az keyvault %s recover --vault-name %s --name %s`: it may be what members trust; purge it only if that is certain",
				noun, strings.SplitN(v.host, ".", 2)[0], vaultname.KeyVault(name)))
	case a.status == http.StatusConflict:
		return say(trust.VaultUnavailable, "the vault is busy with the same object ("+codes(a)+")", "")
	case a.status == http.StatusTooManyRequests:
		return say(trust.VaultThrottled, "too many requests", "others may use the same vault: give the mesh one of its own")
	case a.status == http.StatusBadRequest && op.name == "key_create":
		return say(trust.VaultKeyUnsuitable, "the vault does not make such a key ("+codes(a)+")", "keys in hardware need a vault of the SKU premium")
	case a.status == http.StatusBadRequest && op.name == "key_sign":
		return say(trust.VaultKeyUnsuitable, "the key does not sign that ("+codes(a)+")", "")
	case a.status >= http.StatusInternalServerError, a.status == http.StatusRequestTimeout:
		return say(trust.VaultUnavailable, fmt.Sprintf("the vault answers %d", a.status), "")
	}
	return say(trust.VaultCorrupt, fmt.Sprintf("an answer that is not expected: %d (%s)", a.status, codes(a)), "")
}

func (v *Vault) explainForbidden(a answer, rights string, say func(trust.VaultReason, string, string) error) error {
	// Older versions of the service have no inner code for what a key is.
	has := func(code, text string) bool { return a.inner == code || strings.Contains(a.message, text) }
	switch {
	case a.code == "" && a.inner == "":
		return say(trust.VaultForbidden, "something between the reconciler and the vault refuses", "check for a proxy in between")
	case a.inner == "ForbiddenByFirewall":
		return say(trust.VaultFirewall, "the vault's firewall does not let us in",
			"allow the reconciler's address with `az keyvault network-rule add`, or give the vault a private endpoint in its network")
	case a.inner == "ForbiddenByConnection":
		return say(trust.VaultFirewall, "the vault is closed to public networks",
			"reach it by a private endpoint: its name must resolve to that where the reconciler runs")
	case has("KeyDisabled", "disabled key"):
		return say(trust.VaultKeyDisabled, "the key is disabled", "enable it with `az keyvault key set-attributes --enabled true`, or let the root be replaced")
	case has("KeyExpired", "expired key"):
		return say(trust.VaultKeyDisabled, "the key has expired", "give its version a later end with `az keyvault key set-attributes --expires`, or let the root be replaced")
	case has("KeyNotYetValid", "not yet valid"):
		return say(trust.VaultKeyDisabled, "the key is not valid yet", "give its version an earlier begin with `az keyvault key set-attributes --not-before`")
	case has("SecretDisabled", "disabled secret"):
		return say(trust.VaultKeyDisabled, "the secret is disabled", "enable it with `az keyvault secret set-attributes --enabled true`")
	case has("KeyOperationForbidden", "not permitted on this key"):
		return say(trust.VaultKeyUnsuitable, "the key may not sign", "its key operations must have sign")
	case a.inner == "VaultDisabled":
		return say(trust.VaultForbidden, "the vault is disabled", "")
	}
	return say(trust.VaultForbidden, "the identity may not do that ("+codes(a)+")", rights)
}

// readOnly recognises a vault in a failover. What it answers is not published, so
// any word of it counts.
func readOnly(a answer) bool {
	text := strings.ToLower(a.code + " " + a.inner + " " + a.message)
	return strings.Contains(text, "read-only") || strings.Contains(text, "readonly") || strings.Contains(text, "read only")
}

// codes are those of an answer, which do not change from one try to the next.
func codes(a answer) string {
	switch {
	case a.inner != "" && a.inner != a.code:
		return a.code + ", " + a.inner
	case a.code != "":
		return a.code
	}
	return "no code"
}
