package signature

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Reason says why a signature does not count. Values are stable.
type Reason string

// The reasons.
const (
	// ReasonUnsigned: there is no signature.
	ReasonUnsigned Reason = "Unsigned"
	// ReasonUnknownSigner: none of the keys made the signature.
	ReasonUnknownSigner Reason = "UnknownSigner"
	// ReasonKeyExpired: the key, or the time in which it may sign, is over or has
	// not begun.
	ReasonKeyExpired Reason = "KeyExpired"
	// ReasonKeyRevoked: its owner took the key back.
	ReasonKeyRevoked Reason = "KeyRevoked"
	// ReasonWrongNamespace: the signature was made for another purpose, or the key
	// may not sign commits.
	ReasonWrongNamespace Reason = "WrongNamespace"
	// ReasonInvalidSignature: the signature is not one of these bytes.
	ReasonInvalidSignature Reason = "InvalidSignature"
	// ReasonInvalidKeys: the keys cannot be read.
	ReasonInvalidKeys Reason = "InvalidKeys"
)

// Error is why a signature does not count.
type Error struct {
	Reason  Reason
	Message string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

func refuse(reason Reason, format string, args ...any) error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

const (
	beginPGP = "-----BEGIN PGP SIGNATURE-----"
	beginSSH = "-----BEGIN SSH SIGNATURE-----"
)

// Verify returns who signed the payload: an OpenPGP key's fingerprint, or an SSH
// key's principal and fingerprint. Else the error is an [Error].
func (k Keys) Verify(payload []byte, signature string, now time.Time) (string, error) {
	switch {
	case strings.TrimSpace(signature) == "":
		return "", refuse(ReasonUnsigned, "not signed")
	case strings.HasPrefix(signature, beginPGP):
		return k.verifyPGP(payload, signature, now)
	case strings.HasPrefix(signature, beginSSH):
		return k.verifySSH(payload, signature, now)
	}
	return "", refuse(ReasonInvalidSignature, "signed in a way that is neither OpenPGP nor SSH")
}

// Commit parts a commit, as Git stores it, into what was signed and the
// signature, empty for none.
func Commit(object []byte) (payload []byte, signature string, err error) {
	head, message, found := bytes.Cut(object, []byte("\n\n"))
	if !found {
		head, message = object, nil
	}
	var kept, text []string
	signatures, inside := 0, false
	for _, line := range strings.Split(string(head), "\n") {
		value, begins := strings.CutPrefix(line, "gpgsig ")
		more, continues := strings.CutPrefix(line, " ")
		switch {
		case begins:
			signatures++
			inside, text = true, append(text, value)
		case inside && continues:
			text = append(text, more)
		default:
			inside, kept = false, append(kept, line)
		}
	}
	if signatures > 1 {
		return nil, "", errors.New("the commit has more than one signature")
	}
	payload = []byte(strings.Join(kept, "\n"))
	if found {
		payload = append(append(payload, "\n\n"...), message...)
	}
	return payload, strings.Join(text, "\n"), nil
}

// Tag parts an annotated tag, as Git stores it, into what was signed and the
// signature, empty for none: it is the end of the message.
func Tag(object []byte) (payload []byte, signature string) {
	at := -1
	for _, begin := range []string{beginPGP, beginSSH} {
		at = max(at, bytes.LastIndex(object, []byte("\n"+begin)))
	}
	if at < 0 {
		return object, ""
	}
	return object[:at+1], string(object[at+1:])
}
