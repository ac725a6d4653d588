package firmware

import (
	"reflect"
	"testing"
	"time"
)

func TestParseConfig(t *testing.T) {
	on := condition{models: []string{"pi4"}}
	for _, c := range []struct {
		name, text string
		on         condition
		change     func(*config)
	}{
		{"empty", "", on, func(*config) {}},
		{"all", "kernel=k\ninitramfs i followkernel\ncmdline=c\ndevice_tree=d\ndtoverlay=o\nkernel_watchdog_timeout=10\nkernel_watchdog_partition=3", on, func(c *config) {
			*c = config{kernel: "k", initramfs: []string{"i"}, cmdline: "c", deviceTree: "d", overlays: []string{"o"}, watchdog: 10 * time.Second, watchdogPartition: 3}
		}},
		{"the last counts", "kernel=a\nkernel=b\n", on, func(c *config) { c.kernel = "b" }},
		{"comments, blanks, carriage returns", "#kernel=a\r\n  kernel=b \r\n\r\n", on, func(c *config) { c.kernel = "b" }},
		{"Linux's own device trees", "upstream_kernel=1\n", on, func(c *config) { c.upstream = true }},
		{"unknown keys", "gpu_mem=16\nuart_2ndstage\nstart_x=1\nkernel_address=3\n", on, func(*config) {}},
		{"numbers that are none", "kernel_watchdog_timeout=ten\nkernel_watchdog_partition=-1\n", on, func(*config) {}},
		{"another model", "[pi3]\nkernel=a\n[all]\ncmdline=c", on, func(c *config) { c.cmdline = "c" }},
		{"this model", "[pi3]\nkernel=a\n[pi4]\nkernel=b\n[pi02]\nkernel=c\n", on, func(c *config) { c.kernel = "b" }},
		{"none", "[none]\nkernel=a\n", on, func(*config) {}},
		{"unknown filter", "[HDMI:0]\nkernel=a\n[all]\ncmdline=c\n", on, func(c *config) { c.cmdline = "c" }},
		{"not tried", "[tryboot]\nkernel=a\n", on, func(*config) {}},
		{"tried", "[tryboot]\nkernel=a\n", condition{models: on.models, tryboot: true}, func(c *config) { c.kernel = "a" }},
		{"filters add up", "[tryboot]\n[pi4]\nkernel=a\n[all]\n[pi3]\n[tryboot]\nkernel=b\n", condition{models: on.models, tryboot: true}, func(c *config) { c.kernel = "a" }},
		{"overlays with parameters", "dtoverlay=a,x=1\ndtparam=y\ndtoverlay=\ndtoverlay=b\n", on, func(c *config) { c.overlays = []string{"a", "b"} }},
		{"two archives", "initramfs a,b 0x1000\n", on, func(c *config) { c.initramfs = []string{"a", "b"} }},
		{"no archive", "initramfs a\ninitramfs\n", on, func(*config) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := config{kernel: "kernel8.img", cmdline: "cmdline.txt"}
			c.change(&want)
			if got := parseConfig(c.text, c.on); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("[pi4]\nkernel=a\ninitramfs b followkernel\n[all]\ndtoverlay=x,y\nkernel_watchdog_timeout=5\n", true)
	f.Add("[\n=\n]\ninitramfs\n", false)
	f.Fuzz(func(t *testing.T, text string, tryboot bool) {
		if c := parseConfig(text, condition{tryboot: tryboot}); c.watchdog < 0 || c.watchdogPartition < 0 {
			t.Errorf("got %+v", c)
		}
	})
}
