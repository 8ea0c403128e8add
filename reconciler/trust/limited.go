package trust

import (
	"context"
	"crypto"
)

// parallel is how many calls a process has at a vault at once: enough to fill the
// time that one far away takes to answer, and the two seconds that a Key Vault takes
// to say who was first. Its limits are kept by the vault itself.
const parallel = 64

// limited is a vault with at most so many calls at once.
type limited struct {
	vault Vault
	slots chan struct{}
}

func call[T any](ctx context.Context, slots chan struct{}, run func() (T, error)) (T, error) {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
		return run()
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (l limited) Key(ctx context.Context, name, version string) (Key, error) {
	return l.key(call(ctx, l.slots, func() (Key, error) { return l.vault.Key(ctx, name, version) }))
}

func (l limited) CreateKey(ctx context.Context, name string, spec KeySpec) (Key, error) {
	return l.key(call(ctx, l.slots, func() (Key, error) { return l.vault.CreateKey(ctx, name, spec) }))
}

func (l limited) key(key Key, err error) (Key, error) {
	if err != nil {
		return nil, err
	}
	return limitedKey{key, l.slots}, nil
}

func (l limited) Get(ctx context.Context, name string) (Document, error) {
	return call(ctx, l.slots, func() (Document, error) { return l.vault.Get(ctx, name) })
}

func (l limited) Create(ctx context.Context, name string, document Document) error {
	_, err := call(ctx, l.slots, func() (struct{}, error) { return struct{}{}, l.vault.Create(ctx, name, document) })
	return err
}

func (l limited) Put(ctx context.Context, name string, document Document) error {
	_, err := call(ctx, l.slots, func() (struct{}, error) { return struct{}{}, l.vault.Put(ctx, name, document) })
	return err
}

type limitedKey struct {
	Key
	slots chan struct{}
}

func (k limitedKey) Sign(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error) {
	return call(ctx, k.slots, func() ([]byte, error) { return k.Key.Sign(ctx, digest, hash) })
}
