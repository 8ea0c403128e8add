//go:build !unix

package trust

import (
	"errors"
	"os"
)

// lockFile says that there are no such locks here.
func lockFile(*os.File) error { return errors.ErrUnsupported }
