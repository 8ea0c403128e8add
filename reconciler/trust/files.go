package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/fleet/vaultname"
)

// file keeps the files of a member's CA in an entry of the vault each, where the
// policy asks for that. The document is what counts: files that differ from it, as
// after a process that ended between two of them, are written again. Who reads them
// in the order of [vaultname.Files] meanwhile never takes those of two CAs for one.
func (a *Authority) file(ctx context.Context, r Request, m *memberState) error {
	if !r.Policy.Files || m.filed == m.chain.String() {
		return nil
	}
	files, err := m.chain.files()
	if err != nil {
		return err
	}
	m.filed = ""
	for _, file := range slices.Backward(vaultname.Files(r.Policy.CRL)) {
		content, has := files[file]
		if !has {
			// istiod would refuse the CA with an empty one.
			return fmt.Errorf("keep %s in an entry of its own: a root that an issuing CA has signed has no revocation lists; "+
				"set spec.trust.revocation to Disabled, or deliver by another mode than SecretProviderClass", file)
		}
		name := vaultname.File(r.Policy.Network, r.Member, file)
		document, err := a.vault.Get(ctx, name)
		if err == nil && bytes.Equal(document.Data, content) {
			continue
		}
		if err == nil || errors.Is(err, ErrNotFound) {
			err = a.vault.Put(ctx, name, Document{Data: content, NotAfter: m.chain.NotAfter()})
		}
		if err != nil {
			return fmt.Errorf("keep %s in an entry of its own: %w", file, err)
		}
	}
	m.filed = m.chain.String()
	return nil
}
