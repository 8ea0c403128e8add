package main

import (
	"bytes"
	"fmt"
)

// The plot's size and the corner of its axes, in pixels.
const (
	plotWidth, plotHeight  = 640, 320
	plotLeft, plotBottom   = 70, 270
	plotRight, plotTop     = 610, 40
	plotTicks              = 5
	plotLabelBelow, offset = 18, 8
)

// plot draws the CPU time over the number of members, with the time of one member
// beside each point.
func plot(all []scaled) []byte {
	points := make([]point, 0, len(all))
	for _, one := range all {
		_, seconds, _ := spread(one.busy)
		points = append(points, point{float64(one.members), seconds, fmt.Sprintf("%d: %.3g ms", one.members, 1000*one.perMember())})
	}
	return plotLine(labels{
		title: "CPU seconds from nothing to files, by members; beside each point: milliseconds per member",
		about: "CPU time over the number of members", unit: "s",
	}, points)
}

// point of a plot, with what stands beside it.
type point struct {
	x, y float64
	text string
}

// labels of a plot; the unit is that of the vertical axis.
type labels struct{ title, about, unit string }

// plotLine draws points, whose last is the largest, on axes that are linear from
// zero. It reads on light and on dark.
func plotLine(l labels, points []point) []byte {
	largest := points[len(points)-1]
	x := func(value float64) float64 { return plotLeft + value/largest.x*(plotRight-plotLeft) }
	y := func(value float64) float64 { return plotBottom - value/largest.y*(plotBottom-plotTop) }
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">
<style>
  text { font: 12px sans-serif; fill: #57606a }
  .axis { stroke: #8c959f } .grid { stroke: #8c959f; stroke-opacity: .25 }
  .line { stroke: #0969da; stroke-width: 2; fill: none } .point { fill: #0969da }
  @media (prefers-color-scheme: dark) { text { fill: #9198a1 } .line { stroke: #4493f8 } .point { fill: #4493f8 } }
</style>
<text x="%d" y="20">%s</text>
`, plotWidth, plotHeight, l.about, plotLeft, l.title)
	for i := range plotTicks + 1 {
		across, up := largest.x*float64(i)/plotTicks, largest.y*float64(i)/plotTicks
		fmt.Fprintf(&out, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`+"\n", plotLeft, plotRight, y(up), y(up))
		fmt.Fprintf(&out, `<text x="%d" y="%.1f" text-anchor="end">%.3g %s</text>`+"\n", plotLeft-offset, y(up)+offset/2, up, l.unit)
		fmt.Fprintf(&out, `<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(across), plotBottom+plotLabelBelow, across)
	}
	fmt.Fprintf(&out, `<path class="axis" fill="none" d="M%d %dV%dH%d"/>`+"\n", plotLeft, plotTop, plotBottom, plotRight)
	out.WriteString(`<path class="line" d="`)
	for i, p := range points {
		fmt.Fprintf(&out, "%c%.1f %.1f", "ML"[min(i, 1)], x(p.x), y(p.y))
	}
	out.WriteString(`"/>` + "\n")
	for i, p := range points {
		at, anchor := x(p.x), "start"
		if i == len(points)-1 {
			anchor, at = "end", at-2*offset
		}
		fmt.Fprintf(&out, `<circle class="point" cx="%.1f" cy="%.1f" r="4"/>`+"\n", x(p.x), y(p.y))
		// Small fleets are close together: their labels go up.
		fmt.Fprintf(&out, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n",
			at+offset, y(p.y)-float64(max(0, 2-i)*plotLabelBelow)+offset/2, anchor, p.text)
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}
