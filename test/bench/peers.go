package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing/fstest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/test/apisim"
)

// quietFor is how long nothing has to be written for all to be done.
const quietFor = 5 * time.Second

// peersPatience is how long a change may take: that of a hundred members is ten thousand
// tokens.
const peersPatience = 30 * time.Minute

// meshed is what a fleet of so many members takes that all discover each other.
type meshed struct {
	members        int
	join, rotation meshChange
	memory, heap   float64 // MiB, when all is done
}

// meshChange is what one change took until every reader had its credentials, and what
// was asked until nothing was written any more.
type meshChange struct {
	took time.Duration
	apisim.Counts
	hub int // writes to the hub
}

// benchPeers grows a fleet whose members all discover each other, has one more member
// join at each size, and then all tokens replaced.
func benchPeers(ctx context.Context, s settings) ([]Table, error) {
	players, err := startPlayers(ctx, s.self)
	if err != nil {
		return nil, err
	}
	defer players.stop()
	metrics, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return onGround(ctx, s, nil, controlplane.ClusterOptions{}, func(r *reconciler) ([]Table, error) {
		b := &peersBench{simulatedBench: simulatedBench{settings: s, ground: r.ground, reconciler: r, players: players, metrics: metrics}}
		r.ground.patience = peersPatience
		for _, members := range s.peers {
			if err := b.size(ctx, members); err != nil {
				return nil, err
			}
		}
		return []Table{peersTable(s, b.took)}, drawPeers(s.plotPeers, b.took)
	}, "--metrics-address="+metrics)
}

// peersBench is one run.
type peersBench struct {
	simulatedBench
	// replaced is the time that tokens are not to be from before; nil for none.
	replaced *metav1.Time
	took     []meshed
}

// size measures a fleet of so many members.
func (b *peersBench) size(ctx context.Context, members int) error {
	fmt.Fprintf(b.settings.progress, "bench: have %d members discover each other\n", members)
	if _, err := b.change(ctx, members-1); err != nil {
		return err
	}
	one := meshed{members: members}
	var err error
	if one.join, err = b.change(ctx, members); err != nil {
		return err
	}
	if err := pauseFor(ctx, b.settings.settle); err != nil {
		return err
	}
	if one.memory, _, err = b.reconciler.memory(); err != nil {
		return err
	}
	found, err := readMetrics(ctx, b.metrics, "go_memstats_heap_inuse_bytes")
	if err != nil {
		return err
	}
	one.heap = found[0] / (1 << 20)
	b.replaced = &metav1.Time{Time: time.Now().Truncate(time.Second)}
	if one.rotation, err = b.change(ctx, members); err != nil {
		return err
	}
	fmt.Fprintf(b.settings.progress, "bench: %+v\n", one)
	b.took = append(b.took, one)
	return nil
}

// change delivers a fleet of so many members, and returns when each has the credentials
// that it is to have.
func (b *peersBench) change(ctx context.Context, members int) (meshChange, error) {
	if err := b.join(ctx, members); err != nil {
		return meshChange{}, err
	}
	files, err := meshedFleet(b.ground.members, b.replaced)
	if err != nil {
		return meshChange{}, err
	}
	before, err := b.players.counts()
	if err != nil {
		return meshChange{}, err
	}
	start := time.Now()
	if _, err := b.reconciler.deliver(ctx, files); err != nil {
		return meshChange{}, err
	}
	if err := b.ground.await(ctx, kindMember, b.ground.members, b.discovers); err != nil {
		return meshChange{}, err
	}
	took := time.Since(start)
	after, err := b.quiet(ctx)
	if err != nil {
		return meshChange{}, err
	}
	hub, err := b.hubWrites(start)
	return meshChange{took, after.Minus(before), hub}, err
}

// join adds members that are played until there are so many.
func (b *peersBench) join(ctx context.Context, members int) error {
	return b.ground.grow(ctx, members, b.players.addWithIstiod)
}

// discovers tells whether a member has read all others by tokens as they are to be.
func (b *peersBench) discovers(member *unstructured.Unstructured) bool {
	anchor := peering.Anchor(member.GetName(), v1alpha1.PeerCredentials{ReplaceIssuedBefore: b.replaced}, "", time.Now())
	peers, _, _ := unstructured.NestedSlice(member.Object, "status", "discovery", "peers")
	for _, one := range peers {
		pair, _ := one.(map[string]any)
		is, _, _ := unstructured.NestedString(pair, "credential", "anchor")
		if pair["state"] != string(v1alpha1.PeerSynced) || is != anchor {
			return false
		}
	}
	return len(peers) == len(b.ground.members)-1
}

// quiet returns the counts when no member was written to for a while.
func (b *peersBench) quiet(ctx context.Context) (apisim.Counts, error) {
	last, err := b.players.counts()
	for err == nil {
		if err = pauseFor(ctx, quietFor); err != nil {
			break
		}
		var now apisim.Counts
		if now, err = b.players.counts(); err != nil || now.Writes == last.Writes && now.Tokens == last.Tokens {
			return now, err
		}
		last = now
	}
	return last, err
}

// hubWrites counts what others than this program have written to the hub.
func (b *peersBench) hubWrites(since time.Time) (int, error) {
	ours := contenders(since, time.Now())
	found, err := b.ground.Hub.Writes(func(w controlplane.Write) bool { return ours(w) && !w.DryRun })
	return len(found), err
}

// meshedFleet is the example's network with members that all discover each other.
func meshedFleet(names []string, replaced *metav1.Time) (fstest.MapFS, error) {
	files, err := realFleet(names)
	if err != nil {
		return nil, err
	}
	discovery := ""
	if replaced != nil {
		discovery = fmt.Sprintf("  discovery: {credentials: {replaceIssuedBefore: %q}}\n", replaced.UTC().Format(time.RFC3339))
	}
	data := files["network.yaml"].Data
	if !bytes.Contains(data, []byte(discoversNobody)) {
		return nil, errors.New("the fleet's members do not discover nobody")
	}
	files["network.yaml"].Data = bytes.Replace(data, []byte(discoversNobody), []byte(discovery), 1)
	return files, nil
}

func peersTable(s settings, all []meshed) Table {
	t := Table{
		Title:   "Members that all discover each other",
		Counted: []string{"members", "credentials", "tokens", "writes", "reads", "hub writes", "memory MiB", "heap MiB"},
		Notes: []string{
			"Members are played by package apisim, each with an istiod that says it reads all of which it has a credential; the hub and isthmus run are real.",
			"Credentials: what all members have together. Tokens: those that were made. Writes: those to all members, tokens aside, until nothing was written for " + quietFor.String() + ".",
			"One more joins: its own delivery is part of it. All tokens replaced: by replaceIssuedBefore; the old anchors go minutes later, which is not counted.",
			fmt.Sprintf("Memory is the process's, %s after the join.", s.settle),
		},
	}
	row := func(name string, one meshed, c meshChange) *Row {
		r := newRow("%s", name)
		r.add(c.took)
		r.Counts = map[string]int{
			"members": one.members, "credentials": one.credentials(), "tokens": int(c.Tokens), "writes": int(c.Writes),
			"reads": int(c.Reads + c.Forwards), "hub writes": c.hub, "memory MiB": int(one.memory), "heap MiB": int(one.heap),
		}
		return r
	}
	for _, one := range all {
		t.Rows = append(t.Rows,
			row(fmt.Sprintf("one more joins %d, until all read each other", one.members-1), one, one.join),
			row(fmt.Sprintf("all tokens of %d replaced, until all read by new ones", one.members), one, one.rotation))
	}
	return t
}

// credentials of all members together.
func (m meshed) credentials() int { return m.members * (m.members - 1) }

// drawPeers draws the writes of a replacement of all tokens over the members, if a path
// is given.
func drawPeers(path string, all []meshed) error {
	if path == "" {
		return nil
	}
	points := make([]point, 0, len(all))
	for _, one := range all {
		points = append(points, point{float64(one.members), float64(one.rotation.Writes + one.rotation.Tokens),
			fmt.Sprintf("%d: %d credentials, %.0f MiB", one.members, one.credentials(), one.memory)})
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, plotLine(labels{
		title: "Writes and tokens when all credentials are replaced, by members; beside it: memory", about: "writes over the number of members",
	}, points), 0o644)
}

// sizesIn reads sizes of fleets that grow, such as 10,50,100.
func sizesIn(text string) ([]int, error) {
	var sizes []int
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(one))
		if err != nil || n < 3 {
			return nil, fmt.Errorf("%q is not a number of members from 3", one)
		}
		sizes = append(sizes, n)
	}
	if !slices.IsSorted(sizes) || len(slices.Compact(slices.Clone(sizes))) < len(sizes) {
		return nil, fmt.Errorf("%q does not grow", text)
	}
	return sizes, nil
}
