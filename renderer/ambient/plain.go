package ambient

import "github.com/isthmus-mesh/isthmus/renderer/bundle"

// Plain returns what a member should run, made for it alone: every chart is run
// with its own values, and nothing is kept. It says what [Engine.Drafts], filled
// in, must come to; tests compare the two. It takes a hundred times as long, half
// of that for the CRDs, which can be left out.
func Plain(r Request, crds bool) ([]bundle.Object, error) {
	objects, err := memberObjects(r)
	if err != nil {
		return nil, err
	}
	charts, err := plainCharts(r, crds)
	if err != nil {
		return nil, err
	}
	objects = append(objects, charts...)
	for _, hosted := range r.Hosted {
		moved, err := hostedControlPlane(hosted, func(r Request) ([]Draft, error) {
			charts, err := plainCharts(r, false)
			return closed(charts), err
		})
		if err != nil {
			return nil, err
		}
		objects = append(objects, moved...)
	}
	return objects, nil
}

func plainCharts(r Request, crds bool) ([]bundle.Object, error) {
	key, err := meshOf(r)
	if err != nil {
		return nil, err
	}
	all, err := jobs(r.Release, key, identityOf(r.Member))
	if err != nil {
		return nil, err
	}
	var objects []bundle.Object
	for _, j := range all {
		if crds {
			j.omit = nil
		}
		rendered, err := render(r.Release, key, j)
		if err != nil {
			return nil, err
		}
		objects = append(objects, rendered...)
	}
	return objects, nil
}
