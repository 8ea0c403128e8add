package policy

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/renderer/diff"
)

// change is what rules see: the part of a report that is of one network, as plain
// values.
type change struct {
	risk     diff.Risk
	effects  []diff.Effect
	members  []any
	rings    []any
	restarts []any
	objects  []any
}

func (c change) empty() bool { return len(c.effects) == 0 && len(c.objects) == 0 }

// has tells whether one of the effects happens.
func (c change) has(ids []string) bool {
	return slices.ContainsFunc(c.effects, func(e diff.Effect) bool { return slices.Contains(ids, e.ID) })
}

// changeOf a network.
func changeOf(network string, base, head diff.Side, report diff.Report) change {
	c := change{risk: diff.RiskNone, rings: []any{}, members: []any{}, restarts: []any{}, objects: []any{}}
	for _, e := range report.Effects {
		if e.Network != network {
			continue
		}
		c.effects = append(c.effects, e)
		if e.Risk.AtLeast(c.risk) {
			c.risk = e.Risk
		}
	}
	mine := map[string]bool{}
	for _, name := range report.Impact.Members {
		before, after := base.Fleet.Member(name), head.Fleet.Member(name)
		m := after
		if after == nil {
			m = before
		}
		if m == nil || m.Spec.ApplicationNetwork != network {
			continue
		}
		mine[name] = true
		labels := map[string]any{}
		for key, value := range m.Labels {
			labels[key] = value
		}
		ring := ""
		if side := head.Fleet.Network(network); side != nil {
			ring = side.RingOf(m)
		}
		c.members = append(c.members, map[string]any{
			"name": name, "labels": labels, "ring": ring, "windows": len(m.Spec.MaintenanceWindows),
			"location": m.Spec.Location, "disrupted": slices.Contains(report.Impact.Disrupted, name),
			"joins": before == nil, "leaves": after == nil, "suspended": m.Spec.Suspend,
			"releaseBefore": releaseOf(base, name), "releaseAfter": releaseOf(head, name),
		})
	}
	for _, r := range report.Impact.Rings {
		if r.Network == network {
			c.rings = append(c.rings, r.Name)
		}
	}
	for _, r := range report.Impact.Restarts {
		if names := among(r.Members, mine); len(names) > 0 {
			c.restarts = append(c.restarts, map[string]any{
				"component": string(r.Component), "kind": r.Kind, "namespace": r.Namespace, "name": r.Name, "members": names})
		}
	}
	for _, o := range report.Objects {
		names := among(o.Members, mine)
		if len(names) == 0 {
			continue
		}
		c.objects = append(c.objects, map[string]any{
			"action": string(o.Action), "component": string(o.Component), "apiVersion": o.APIVersion, "kind": o.Kind,
			"namespace": o.Namespace, "name": o.Name, "restarts": o.Restarts, "members": names,
			"object": content(o.After()), "oldObject": content(o.Before()),
		})
	}
	return c
}

// content of an object; of none it is empty, so that a rule may look into it.
func content(object map[string]any) map[string]any {
	if object == nil {
		return map[string]any{}
	}
	return object
}

func among(names []string, wanted map[string]bool) []any {
	var out []any
	for _, name := range names {
		if wanted[name] {
			out = append(out, name)
		}
	}
	return out
}

func releaseOf(side diff.Side, member string) string {
	for _, d := range side.Decisions {
		if d.Member.Name == member {
			return d.Release.Version
		}
	}
	return ""
}

// values of the change, by the names that rules call them.
func (c change) values() map[string]any {
	effects := make([]any, 0, len(c.effects))
	for _, e := range c.effects {
		members := make([]any, 0, len(e.Members))
		for _, name := range e.Members {
			members = append(members, name)
		}
		effects = append(effects, map[string]any{
			"id": e.ID, "area": string(e.Area), "risk": string(e.Risk), "title": e.Title, "members": members})
	}
	return map[string]any{
		"risk": string(c.risk), "riskLevel": slices.Index(diff.Risks, c.risk),
		"effects": effects, "members": c.members, "rings": c.rings, "restarts": c.restarts, "objects": c.objects,
	}
}
