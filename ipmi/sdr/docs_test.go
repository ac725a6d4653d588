package sdr

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/doctable"
)

// sensorTable renders the sensors that are no gauges: those of a fully wired
// board, and which of them a board without wires has.
func sensorTable(t *testing.T) string {
	bare := newRig(t, func(r *rig) {
		r.host.absent = []host.Action{host.PowerOn, host.NMI}
		r.host.status = host.PowerStatus{}
		r.opt.Buttons, r.opt.PowerLimit = false, false
	})
	var b strings.Builder
	b.WriteString("| number | name | sensor type | event type | SDR | only where wired |\n|---|---|---|---|---|---|\n")
	for _, x := range newRig(t).sensors {
		if x.gauge != nil {
			continue
		}
		record := fmt.Sprintf("%02Xh, compact", typeCompact)
		if x.state == nil {
			record = fmt.Sprintf("%02Xh, event-only", typeEventOnly)
		}
		wired := ""
		if bare.byNum[x.number] == nil {
			wired = "yes"
		}
		fmt.Fprintf(&b, "| %02Xh | %s | %02Xh | %02Xh | %s | %s |\n", x.number, x.name, x.sensorType, x.eventType, record, wired)
	}
	return b.String()
}

// TestDocs holds docs/ipmi.md to the sensors that there are;
// go test ./ipmi/sdr -run TestDocs -update writes its table.
func TestDocs(t *testing.T) { doctable.Check(t, "../../docs/ipmi.md", "sensors", sensorTable(t)) }
