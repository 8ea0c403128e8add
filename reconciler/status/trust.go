package status

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrustReady is the condition that says whether a member's istiod signs with the
// CA that the member was given; it is there once the member was given one.
const TrustReady = "TrustReady"

// Trust is what is known of a member's CA.
type Trust struct {
	// Serial number of the CA that the member was given, and when it expires.
	Serial   string
	NotAfter time.Time
	// Proven says that istiod signs with it and gives its roots; Unproven why that is
	// not known.
	Proven   bool
	Unproven string
	// Unavailable is why the vault could not be used; empty when it could. The
	// member keeps what it has.
	Unavailable string
}

// conditions returns TrustReady, or nothing while there is no CA.
func (t Trust) conditions() []metav1.Condition {
	if t.Serial == "" {
		return nil
	}
	lasts := "the CA of serial number " + t.Serial + ", which lasts until " + t.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case t.Unavailable != "":
		return []metav1.Condition{condition(TrustReady, metav1.ConditionFalse, ReasonCAUnavailable, t.Unavailable+"; the member keeps "+lasts)}
	case t.Proven:
		return []metav1.Condition{condition(TrustReady, metav1.ConditionTrue, ReasonTrustProven, "istiod signs with "+lasts)}
	case t.Unproven != "":
		return []metav1.Condition{condition(TrustReady, metav1.ConditionFalse, ReasonTrustUnproven, t.Unproven)}
	}
	return []metav1.Condition{condition(TrustReady, metav1.ConditionUnknown, ReasonTrustUnproven, "istiod was not asked yet for "+lasts)}
}
