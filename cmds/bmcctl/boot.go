package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
)

// A boot is the boot override of a system (ComputerSystem's Boot).
type boot struct {
	Enabled string   `json:"BootSourceOverrideEnabled"`
	Target  string   `json:"BootSourceOverrideTarget"`
	Mode    string   `json:"BootSourceOverrideMode"`
	Targets []string `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
}

func bootCommands() []command {
	return []command{
		{name: "boot show", help: "show what the host boots next, and what it could", setup: plain(showBoot)},
		{name: "boot set", args: "TARGET", help: "choose what the host boots next", values: map[string][]string{"TARGET": {"pxe", "disk", "cd", "usb", "bios", "http"}}, setup: setBoot},
		{name: "boot clear", help: "let the host boot as its own settings say", setup: plain(clearBoot)},
	}
}

// A bootReport is what boot show prints.
type bootReport struct {
	Enabled string   `json:"enabled"` // Disabled, Once or Continuous
	Target  string   `json:"target"`
	Mode    string   `json:"mode,omitempty"`
	Targets []string `json:"targets"`
}

func showBoot(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	s, err := p.system(c)
	if err != nil {
		return err
	}
	if s.Boot.Enabled == "" {
		return fmt.Errorf("boot: %w", errUnsupported)
	}
	r := bootReport{s.Boot.Enabled, s.Boot.Target, s.Boot.Mode, s.Boot.Targets}
	return p.show(r, func(w io.Writer) {
		field(w, "Override", r.Enabled)
		field(w, "Target", r.Target)
		field(w, "Mode", r.Mode)
		field(w, "Targets", strings.Join(r.Targets, " "))
	})
}

// target finds Redfish's word for what a person calls a boot target.
func (b boot) target(text string) (string, error) {
	names := map[string]string{"disk": "Hdd", "bios": "BiosSetup", "setup": "BiosSetup", "http": "UefiHttp", "uefi-http": "UefiHttp", "pxe": "Pxe", "cd": "Cd", "usb": "Usb", "none": "None"}
	wanted := names[strings.ToLower(text)]
	if wanted == "" {
		wanted = text
	}
	for _, t := range b.Targets {
		if strings.EqualFold(t, wanted) {
			return t, nil
		}
	}
	if len(b.Targets) == 0 {
		return wanted, nil // the service does not say
	}
	return "", fmt.Errorf("boot target %s: %w: it offers %s", text, errUnsupported, strings.Join(b.Targets, ", "))
}

// bootPatch is the body that changes an override.
type bootPatch struct {
	Boot struct {
		Enabled string `json:"BootSourceOverrideEnabled"`
		Target  string `json:"BootSourceOverrideTarget,omitempty"`
		Mode    string `json:"BootSourceOverrideMode,omitempty"`
	}
}

func setBoot(f *flag.FlagSet) call {
	persistent := f.Bool("persistent", false, "for every boot from now on, not only the next")
	uefi := f.Bool("uefi", false, "boot by UEFI")
	legacy := f.Bool("legacy", false, "boot by a legacy BIOS")
	return func(ctx context.Context, p *program, args []string) error {
		if *uefi && *legacy {
			return usagef("-uefi and -legacy together: want one of them")
		}
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		s, err := p.system(c)
		if err != nil {
			return err
		}
		if s.Boot.Enabled == "" {
			return fmt.Errorf("boot: %w", errUnsupported)
		}
		var body bootPatch
		if body.Boot.Target, err = s.Boot.target(args[0]); err != nil {
			return err
		}
		body.Boot.Enabled = "Once"
		if *persistent {
			body.Boot.Enabled = "Continuous"
		}
		switch {
		case *uefi:
			body.Boot.Mode = "UEFI"
		case *legacy:
			body.Boot.Mode = "Legacy"
		}
		if err := c.patch(s.URI, body); err != nil {
			return err
		}
		return p.done("%s boots from %s: %s", s.ID, body.Boot.Target, strings.ToLower(body.Boot.Enabled))
	}
}

func clearBoot(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	s, err := p.system(c)
	if err != nil {
		return err
	}
	if s.Boot.Enabled == "" {
		return fmt.Errorf("boot: %w", errUnsupported)
	}
	var body bootPatch
	body.Boot.Enabled = "Disabled"
	if err := c.patch(s.URI, body); err != nil {
		return err
	}
	return p.done("%s boots as its own settings say", s.ID)
}
