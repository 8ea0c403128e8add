package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
)

// memoryLimitVariable is the memory that the process may use, in bytes, as the
// downward API tells a container.
const memoryLimitVariable = "ISTHMUS_MEMORY_LIMIT"

// garbagePercent is how much garbage there may be for what is in use, in percent:
// half of what Go lets grow by itself. A reconciler that rests makes next to none,
// and what it holds for its members is resident with the garbage on top.
const garbagePercent = 50

// limitMemory makes Go collect garbage harder, and harder still before the kernel
// ends the process. A GOGC or GOMEMLIMIT that somebody has set counts more.
func limitMemory() error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	text := os.Getenv(memoryLimitVariable)
	if text == "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	limit, err := strconv.ParseInt(text, 10, 64)
	if err != nil || limit <= 0 {
		return withHint(fmt.Errorf("%s: %q is no number of bytes", memoryLimitVariable, text), "give it the container's memory limit, or leave it out")
	}
	// A tenth is left for what Go does not count: code, stacks of C, the kernel.
	debug.SetMemoryLimit(limit / 10 * 9)
	return nil
}
