package console

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

func (s *Server) powerRows() []row {
	rows := []row{{
		name: "power status", bare: true, role: auth.ReadOnly, run: powerStatus,
		does:  "show the host's power state",
		flags: []flag{{name: "-q", does: "no words: exit code 0 while the host is on, else 1"}},
	}}
	for _, a := range host.Actions {
		does := map[host.Action]string{
			host.PowerOn:         "switch the host on",
			host.ForceOff:        "switch the host off at once, by a long press",
			host.GracefulOff:     "ask the host's system to shut down",
			host.GracefulRestart: "ask the host's system to shut down, then switch on",
			host.Cycle:           "switch off at once, pause, switch on",
			host.Reset:           "press the reset button",
			host.NMI:             "send a diagnostic interrupt (NMI)",
			host.PressButton:     "press the power button once",
		}[a]
		rows = append(rows, row{
			name: "power " + string(a), role: auth.Operator, does: does, absent: !s.opt.Host.Power.Supports(a),
			flags: []flag{{name: "-n", long: "--no-wait", does: "do not wait for the outcome"}},
			run:   func(ctx context.Context, c *call) error { return power(ctx, c, a) },
		})
	}
	return append(rows, row{
		name: "power policy", args: "[always-off|always-on|last-state]", role: auth.ReadOnly, run: powerPolicy,
		does: "show or set what the host does when power returns",
		words: func(n int) []string {
			return only(n, 0, string(host.AlwaysOff), string(host.AlwaysOn), string(host.LastState))
		},
	})
}

// only gives the words for argument number at.
func only(n, at int, words ...string) []string {
	if n != at {
		return nil
	}
	return words
}

func powerStatus(_ context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	st := c.s.opt.Host.Power.Status()
	if c.flag("-q") {
		if st.State != host.StateOn {
			return errNotOn
		}
		return nil
	}
	c.printf("power:         %s\n", st.State)
	c.printf("since:         %s\n", stamp(st.Since))
	if st.StandbyWired {
		c.printf("standby power: %s\n", yes(st.Standby))
	}
	c.printf("restart cause: %s\n", st.RestartCause)
	c.printf("policy:        %s\n", st.Restore)
	if st.ACFailed {
		c.printf("last loss:     power failure\n")
	}
	if st.Fault {
		c.printf("fault:         the last power request failed, or the power went by itself\n")
	}
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// stamp writes times in UTC: whoever reads may be anywhere.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func power(ctx context.Context, c *call, a host.Action) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	p := c.s.opt.Host.Power
	seen := p.Status()
	op, err := p.Request(a, host.CauseCommand, c.origin)
	if err != nil {
		return err
	}
	if c.flag("-n") {
		return nil
	}
	// With a terminal each state is shown as it comes; a script gets the
	// last one.
	wait, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		select {
		case <-op.Done():
			cancel()
		case <-wait.Done():
		}
	})
	var shown host.PowerState
	for old := seen; p.Wait(wait, old) == nil; {
		old = p.Status()
		if c.tty && old.State != seen.State {
			seen, shown = old, old.State
			c.printf("%s\n", shown)
		}
	}
	select {
	case <-op.Done():
	default:
		return errors.New("no longer waiting; the request goes on")
	}
	state := p.Status().State
	if err := op.Err(); err != nil {
		return fmt.Errorf("%w; the host is %s", err, state)
	}
	if state != shown {
		c.printf("%s\n", state)
	}
	return nil
}

func powerPolicy(_ context.Context, c *call) error {
	if err := c.counts(0, 1); err != nil {
		return err
	}
	if len(c.args) == 0 {
		c.printf("%s\n", c.s.opt.Host.Power.Status().Restore)
		return nil
	}
	if err := c.need(auth.Operator); err != nil {
		return err
	}
	return c.s.opt.Host.Power.SetRestorePolicy(host.RestorePolicy(c.args[0]), c.origin)
}

// bootNames are the words for boot targets, in the order of the help text.
func bootNames() []struct {
	word   string
	target host.BootTarget
} {
	return []struct {
		word   string
		target host.BootTarget
	}{
		{"none", host.BootDefault},
		{"pxe", host.BootPXE},
		{"disk", host.BootDisk},
		{"cd", host.BootCD},
		{"usb", host.BootUSB},
		{"bios", host.BootBIOSSetup},
		{"uefi-http", host.BootUEFIHTTP},
	}
}

func (s *Server) hostRows() []row {
	var targets []string
	if s.opt.Host.Boot != nil {
		can := map[host.BootTarget]bool{host.BootDefault: true}
		for _, t := range s.opt.Host.Boot.Targets() {
			can[t] = true
		}
		for _, b := range bootNames() {
			if can[b.target] {
				targets = append(targets, b.word)
			}
		}
	}
	return []row{{
		name: "boot", args: "[none|pxe|disk|cd|usb|bios|uefi-http]", role: auth.ReadOnly, run: boot,
		does: "show or set what the host boots next", absent: s.opt.Host.Boot == nil,
		flags: []flag{
			{name: "--once", does: "for one boot (as without an option)"},
			{name: "--always", does: "for every boot from now on"},
			{name: "--uefi", does: "boot by UEFI"},
			{name: "--legacy", does: "boot as a BIOS does"},
		},
		words: func(n int) []string { return only(n, 0, targets...) },
	}, {
		name: "identify", args: "[on|off|SECONDS]", role: auth.ReadOnly, run: identify,
		does: "show or switch the ID light", absent: s.opt.Host.Identify == nil,
		words: func(n int) []string { return only(n, 0, "on", "off") },
	}, {
		name: "events", role: auth.ReadOnly, run: events,
		does: "show the event log",
		flags: []flag{
			{name: "-f", long: "--follow", does: "go on with new events until Ctrl-C"},
			{name: "-n", long: "--lines", value: "N", does: "the last N events; 0: all (20; 10 with -f)"},
			{name: "--json", does: "one JSON object a line"},
		},
	}}
}

func boot(_ context.Context, c *call) error {
	if err := c.counts(0, 1); err != nil {
		return err
	}
	if len(c.args) == 0 {
		if len(c.flags) > 0 {
			return fmt.Errorf("%w: an option needs a target: %s", errUsage, c.row.usage())
		}
		c.printBoot(c.s.opt.Host.Boot.Get())
		return nil
	}
	if err := c.need(auth.Operator); err != nil {
		return err
	}
	if c.flag("--once") && c.flag("--always") || c.flag("--uefi") && c.flag("--legacy") {
		return fmt.Errorf("%w: --once and --always, and --uefi and --legacy, exclude each other", errUsage)
	}
	o := host.BootOverride{Continuous: c.flag("--always")}
	switch {
	case c.flag("--uefi"):
		o.Mode = host.BootModeUEFI
	case c.flag("--legacy"):
		o.Mode = host.BootModeLegacy
	}
	for _, b := range bootNames() {
		if b.word == c.args[0] {
			o.Target = b.target
		}
	}
	if o.Target == "" {
		return fmt.Errorf("%w: %s", errUsage, c.row.usage())
	}
	return c.s.opt.Host.Boot.Set(o, c.origin)
}

func (c *call) printBoot(o host.BootOverride) {
	for _, b := range bootNames() {
		if b.target != o.Target {
			continue
		}
		c.printf("%s", b.word)
		if o.Target != host.BootDefault {
			times := "once"
			if o.Continuous {
				times = "always"
			}
			c.printf(" %s", times)
		}
	}
	if o.Mode != host.BootModeDefault {
		c.printf(" %s", o.Mode)
	}
	if !o.Expires.IsZero() {
		c.printf(" until %s", stamp(o.Expires))
	}
	c.printf("\n")
}

func identify(_ context.Context, c *call) error {
	if err := c.counts(0, 1); err != nil {
		return err
	}
	if len(c.args) == 0 {
		on := "off"
		if c.s.opt.Host.Identify.On() {
			on = "on"
		}
		c.printf("%s\n", on)
		return nil
	}
	if err := c.need(auth.Operator); err != nil {
		return err
	}
	d, err := identifyTime(c.args[0])
	if err != nil {
		return err
	}
	return c.s.opt.Host.Identify.Set(d, c.origin)
}

// maxIdentify bounds a light that is to go out by itself.
const maxIdentify = 24 * time.Hour

func identifyTime(s string) (time.Duration, error) {
	switch s {
	case "on":
		return -1, nil
	case "off":
		return 0, nil
	}
	n, err := number(s, 1, int(maxIdentify/time.Second))
	if err != nil {
		return 0, err
	}
	return time.Duration(n) * time.Second, nil
}
