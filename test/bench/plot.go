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

// plot draws the CPU time over the number of members, both axes linear from zero,
// with the time of one member beside each point. It reads on light and on dark.
func plot(all []scaled) []byte {
	largest := all[len(all)-1]
	_, most, _ := spread(largest.busy)
	x := func(members int) float64 {
		return plotLeft + float64(members)/float64(largest.members)*(plotRight-plotLeft)
	}
	y := func(seconds float64) float64 { return plotBottom - seconds/most*(plotBottom-plotTop) }
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="CPU time over the number of members">
<style>
  text { font: 12px sans-serif; fill: #57606a }
  .axis { stroke: #8c959f } .grid { stroke: #8c959f; stroke-opacity: .25 }
  .line { stroke: #0969da; stroke-width: 2; fill: none } .point { fill: #0969da }
  @media (prefers-color-scheme: dark) { text { fill: #9198a1 } .line { stroke: #4493f8 } .point { fill: #4493f8 } }
</style>
<text x="%d" y="20">CPU seconds from nothing to files, by members; beside each point: milliseconds per member</text>
`, plotWidth, plotHeight, plotLeft)
	for i := range plotTicks + 1 {
		members, seconds := largest.members*i/plotTicks, most*float64(i)/plotTicks
		fmt.Fprintf(&out, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`+"\n", plotLeft, plotRight, y(seconds), y(seconds))
		fmt.Fprintf(&out, `<text x="%d" y="%.1f" text-anchor="end">%.3g s</text>`+"\n", plotLeft-offset, y(seconds)+offset/2, seconds)
		fmt.Fprintf(&out, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(members), plotBottom+plotLabelBelow, members)
	}
	fmt.Fprintf(&out, `<path class="axis" fill="none" d="M%d %dV%dH%d"/>`+"\n", plotLeft, plotTop, plotBottom, plotRight)
	out.WriteString(`<path class="line" d="`)
	for i, one := range all {
		_, seconds, _ := spread(one.busy)
		fmt.Fprintf(&out, "%c%.1f %.1f", "ML"[min(i, 1)], x(one.members), y(seconds))
	}
	out.WriteString(`"/>` + "\n")
	for i, one := range all {
		_, seconds, _ := spread(one.busy)
		at, anchor := x(one.members), "start"
		if i == len(all)-1 {
			anchor, at = "end", at-2*offset
		}
		fmt.Fprintf(&out, `<circle class="point" cx="%.1f" cy="%.1f" r="4"/>`+"\n", x(one.members), y(seconds))
		// Small fleets are close together: their labels go up.
		fmt.Fprintf(&out, `<text x="%.1f" y="%.1f" text-anchor="%s">%d: %.3g ms</text>`+"\n",
			at+offset, y(seconds)-float64(max(0, 2-i)*plotLabelBelow)+offset/2, anchor, one.members, 1000*one.perMember())
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}
