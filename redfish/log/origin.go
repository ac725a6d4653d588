package log

import (
	"slices"
	"strings"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/resource"
)

// OfHost says whether an event is about the host: all that its wires, sensors,
// power, boot and consoles tell. The others are about the board.
func OfHost(e host.Event) bool {
	switch e.Kind {
	case "watchdog.missing": // the board's own
		return false
	case "sel.added", "sel.event": // what the host, or a console, put into the SEL
		return true
	}
	area, _, _ := strings.Cut(e.Kind, ".")
	return slices.Contains([]string{"power", "boot", "sensor", "thermal", "watchdog", "console", "media", "identify", "inventory", "panel", "wire", "gpio"}, area)
}

// OriginOf makes the function that finds the resource that an event is about:
// its sensor, the system, a service, the disks that are served, or the manager. sensorURI is where a sensor
// is shown; "" is nowhere.
func OriginOf(sensorURI func(name string) string) func(host.Event) string {
	return func(e host.Event) string {
		if e.Sensor != nil {
			if uri := sensorURI(e.Sensor.Name); uri != "" {
				return uri
			}
		}
		if OfHost(e) {
			return resource.SystemURI
		}
		switch area, _, _ := strings.Cut(e.Kind, "."); area {
		case "auth", "login":
			return resource.AccountServiceURI
		case "subscription":
			return resource.EventServiceURI
		case "update":
			return resource.UpdateServiceURI
		case "volume", "volumes":
			return resource.StorageURI
		case "iscsi":
			return resource.ISCSIFabricURI
		}
		return resource.ManagerURI
	}
}
