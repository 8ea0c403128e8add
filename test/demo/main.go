// Command demo shows isthmus at work on this machine: a hub, two members with
// real istiods, a Git repository, and what happens on a push, on drift, on an
// upgrade and when a member leaves. Every line that it prints is checked; it
// ends with 1 when something is not so.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	binary := flag.String("isthmus", "bin/isthmus", "the command to show")
	keep := flag.Bool("keep", false, "leave everything running until ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *binary, *keep)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, keep bool) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("%w: run make build", err)
	}
	d := newDemo(os.Stdout, binary)
	defer d.stop()
	for _, act := range []func(context.Context) error{d.start, d.push, d.discover, d.drift, d.upgrade, d.leave} {
		if err := act(ctx); err != nil {
			d.explain()
			return err
		}
	}
	d.say("done", "everything above was checked")
	if keep {
		d.invite()
		<-ctx.Done()
	}
	return nil
}
