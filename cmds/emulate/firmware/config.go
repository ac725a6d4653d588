package firmware

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// A config is what config.txt decides of a boot.
type config struct {
	kernel     string
	initramfs  []string // concatenated
	cmdline    string
	deviceTree string // empty: what the model's firmware takes by itself
	upstream   bool   // the names of Linux's own device trees
	overlays   []string

	watchdog          time.Duration
	watchdogPartition int
}

// A condition is what the filters of config.txt are held against.
type condition struct {
	models  []string // names of this model's filters: pi4
	tryboot bool
}

// parseConfig reads config.txt as the firmware does: filters hide the lines
// below them, filters of different kinds add up until [all], an unknown filter
// hides its lines, an unknown key is skipped, the last value counts.
func parseConfig(text string, on condition) config {
	c := config{kernel: "kernel8.img", cmdline: "cmdline.txt"}
	model, try := true, true
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			switch name = strings.ToLower(strings.TrimSuffix(name, "]")); name {
			case "all":
				model, try = true, true
			case "tryboot":
				try = on.tryboot
			default: // a model, "none", or what no board of ours is
				model = slices.Contains(on.models, name)
			}
			continue
		}
		if model && try && line != "" && line[0] != '#' {
			c.set(line)
		}
	}
	return c
}

func (c *config) set(line string) {
	// This one has no equals sign, and an address where it goes.
	if words := strings.Fields(line); words[0] == "initramfs" {
		c.initramfs = nil
		if len(words) > 1 {
			c.initramfs = strings.Split(words[1], ",")
		}
		return
	}
	key, value, ok := strings.Cut(line, "=")
	if !ok {
		return
	}
	switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
	case "kernel":
		c.kernel = value
	case "cmdline":
		c.cmdline = value
	case "device_tree":
		c.deviceTree = value
	case "upstream_kernel":
		c.upstream = value == "1"
	case "dtoverlay":
		// Parameters follow the name. An empty name ends them.
		if name, _, _ := strings.Cut(value, ","); name != "" {
			c.overlays = append(c.overlays, name)
		}
	case "kernel_watchdog_timeout":
		if n, ok := number(value); ok {
			c.watchdog = time.Duration(n) * time.Second
		}
	case "kernel_watchdog_partition":
		if n, ok := number(value); ok {
			c.watchdogPartition = n
		}
	}
}

// number reads a small decimal number; what is none leaves a setting as it was.
func number(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil
}
