package metrics

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/nitrino/nitrino/host"
)

const eventsName = "nitrino_events_total"

// describe begins a metric family.
func describe(b *bytes.Buffer, name, kind, help string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// gauge writes a family of one value.
func gauge(b *bytes.Buffer, name, help string, value float64) {
	describe(b, name, "gauge", help)
	metrics.WriteGaugeFloat64(b, name, value)
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// write writes all that there is; what has no wire has no metric.
func (h *Handler) write(b *bytes.Buffer) {
	describe(b, "nitrino_build_info", "gauge", "The software that runs on the board.")
	metrics.WriteGaugeUint64(b, "nitrino_build_info"+labels("version", h.opt.Version, "goversion", runtime.Version()), 1)
	gauge(b, "nitrino_uptime_seconds", "How long the software has been running.", time.Since(h.began).Seconds())

	h.power(b)
	h.sensors(b)

	w := h.opt.Host.Watchdog.Status()
	gauge(b, "nitrino_host_watchdog_running", "1 while the host's watchdog timer counts down.", truth(w.Running))
	gauge(b, "nitrino_host_watchdog_remaining_seconds", "What is left on the host's watchdog timer.", w.Left.Seconds())

	sessions := map[string]uint64{}
	for _, s := range h.opt.Auth.Sessions() {
		sessions[s.Via]++
	}
	if len(sessions) > 0 {
		describe(b, "nitrino_sessions", "gauge", "Open sessions, by the front-end that they were opened over.")
		for _, via := range slices.Sorted(maps.Keys(sessions)) {
			metrics.WriteGaugeUint64(b, "nitrino_sessions"+labels("via", via), sessions[via])
		}
	}

	var counted bytes.Buffer
	h.counted.WritePrometheus(&counted)
	if counted.Len() > 0 {
		describe(b, eventsName, "counter", "Events of the log since the software started: logins, power transitions, failed services and all else.")
		b.Write(counted.Bytes())
	}
	metrics.WriteProcessMetrics(b)
}

func (h *Handler) power(b *bytes.Buffer) {
	p := h.opt.Host.Power.Status()
	describe(b, "nitrino_host_power_state", "gauge", "1 for the state that the host's power is in.")
	for _, s := range []host.PowerState{host.StateUnknown, host.StateOff, host.StatePoweringOn, host.StateOn, host.StatePoweringOff, host.StateAsleep} {
		metrics.WriteGaugeFloat64(b, "nitrino_host_power_state"+labels("state", string(s)), truth(p.State == s))
	}
	gauge(b, "nitrino_host_power_fault", "1 if the last power action failed, or the power went by itself.", truth(p.Fault))
	if p.StandbyWired {
		gauge(b, "nitrino_host_ac_power", "1 while the host has AC power.", truth(p.Standby))
	}
	if on, known := h.opt.Host.Power.Hours(); known {
		describe(b, "nitrino_host_power_on_seconds_total", "counter", "How long the host was on in its life.")
		metrics.WriteCounterFloat64(b, "nitrino_host_power_on_seconds_total", on.Seconds())
	}
	if m := h.opt.Host.Meter; m != nil {
		if s := m.Status(); s.Valid {
			gauge(b, "nitrino_host_power_watts", "What the host draws.", s.Now)
		}
	}
}

// A quantity is what sensors measure, as Prometheus names it.
type quantity struct {
	of         host.Quantity
	name, help string
	scale      float64 // to the base unit
}

func quantities() []quantity {
	return []quantity{
		{host.Temperature, "nitrino_sensor_temperature_celsius", "Temperatures.", 1},
		{host.Voltage, "nitrino_sensor_volts", "Voltages.", 1},
		{host.Current, "nitrino_sensor_amperes", "Currents.", 1},
		{host.FanSpeed, "nitrino_sensor_fan_rpm", "Fans' revolutions per minute.", 1},
		{host.Wattage, "nitrino_sensor_watts", "Powers.", 1},
		{host.Humidity, "nitrino_sensor_humidity_ratio", "Relative humidities, 0 to 1.", 0.01},
	}
}

func (h *Handler) sensors(b *bytes.Buffer) {
	type reading struct {
		*host.Sensor
		host.Reading
	}
	var all []reading
	for _, x := range h.opt.Host.Sensors.List() {
		all = append(all, reading{x, x.Reading()})
	}
	if len(all) == 0 {
		return
	}
	label := func(r reading) string { return labels("sensor", r.Name(), "place", string(r.Place())) }
	for _, q := range quantities() {
		begun := false
		for _, r := range all {
			if r.Quantity() != q.of || !r.Valid {
				continue
			}
			if !begun {
				describe(b, q.name, "gauge", q.help)
				begun = true
			}
			metrics.WriteGaugeFloat64(b, q.name+label(r), r.Value*q.scale)
		}
	}
	describe(b, "nitrino_sensor_up", "gauge", "1 for a sensor that has a reading.")
	for _, r := range all {
		metrics.WriteGaugeFloat64(b, "nitrino_sensor_up"+label(r), truth(r.Valid))
	}
	describe(b, "nitrino_sensor_limit_crossed", "gauge", "1 for a sensor whose reading is beyond a limit.")
	for _, r := range all {
		metrics.WriteGaugeFloat64(b, "nitrino_sensor_limit_crossed"+label(r), truth(r.Valid && r.Crossed != 0))
	}
}
