package ambient

import "sync"

// cache makes values once for each key and keeps them as long as they are used.
// It may be used by several goroutines at once.
type cache[K comparable, V any] struct {
	mu      sync.Mutex
	entries map[K]*entry[V]
}

type entry[V any] struct {
	once  sync.Once
	value V
	err   error
	// used since the last sweep.
	used bool
}

// use returns the entry of a key, marked as used; nothing is made.
func (c *cache[K, V]) use(key K) *entry[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.entries[key]
	if found == nil {
		found = &entry[V]{}
		if c.entries == nil {
			c.entries = map[K]*entry[V]{}
		}
		c.entries[key] = found
	}
	found.used = true
	return found
}

// get returns the value of a key, which is made if there is none.
func (c *cache[K, V]) get(key K, make func() (V, error)) (V, error) {
	found := c.use(key)
	found.once.Do(func() { found.value, found.err = make() })
	return found.value, found.err
}

// sweep drops what was not used since the last sweep.
func (c *cache[K, V]) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, entry := range c.entries {
		if !entry.used {
			delete(c.entries, key)
		}
		entry.used = false
	}
}
