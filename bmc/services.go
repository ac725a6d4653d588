package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/console"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/supervise"
	"github.com/nitrino/nitrino/ipmi"
)

// A service is a front-end that the settings switch on and off.
type service struct {
	name string
	// key holds the settings that the service depends on, "" where they switch
	// it off; another key makes it start anew.
	key func(Settings) string
	// listen opens its socket and returns what serves it until ctx ends, and
	// closes it.
	listen func(Settings) (serve func(ctx context.Context) error, at string, err error)
	// at takes the address for Addresses.
	at func(*Addresses, string)

	now string // the key it runs with
}

// begin starts the service if it is switched on. A socket that cannot be
// opened is told at once.
func (s *service) begin(group *supervise.Group, set Settings, at *Addresses) error {
	s.now = s.key(set)
	if s.now == "" {
		return nil
	}
	serve, where, err := s.listen(set)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.at(at, where)
	return group.Start(s.name, s.run(set, serve))
}

// run is the service for the supervisor: it serves first, and listens again
// each time it is started again.
func (s *service) run(set Settings, first func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		serve := first
		first = nil
		if serve == nil {
			var err error
			if serve, _, err = s.listen(set); err != nil {
				return err
			}
		}
		return serve(ctx)
	}
}

// apply starts, stops or restarts the service as changed settings ask.
func (s *service) apply(group *supervise.Group, set Settings) error {
	want := s.key(set)
	if want == s.now {
		return nil
	}
	was := s.now
	s.now = want
	if want == "" {
		return group.Stop(s.name)
	}
	if was == "" {
		return group.Start(s.name, s.run(set, nil))
	}
	return group.Replace(s.name, s.run(set, nil))
}

// services are the front-ends, in the order of their start.
func (b *BMC) services(w web, group *supervise.Group) ([]*service, error) {
	pages, err := w.start(group)
	if err != nil {
		return nil, err
	}
	h, k, r := w.host, w.keys, w.run
	return []*service{
		{
			name: "https",
			key:  enabled(func(s Settings) (bool, any) { return s.HTTPS.Enabled, "" }),
			at:   func(a *Addresses, at string) { a.HTTPS = at },
			listen: func(Settings) (func(context.Context) error, string, error) {
				l, err := net.Listen("tcp", join(r.Address, r.HTTPS))
				if err != nil {
					return nil, "", err
				}
				return func(ctx context.Context) error { return serveHTTPS(ctx, l, pages, k.tls, b.log) }, l.Addr().String(), nil
			},
		},
		{
			name: "ssh",
			key:  enabled(func(s Settings) (bool, any) { return s.SSH.Enabled, "" }),
			at:   func(a *Addresses, at string) { a.SSH = at },
			listen: func(Settings) (func(context.Context) error, string, error) {
				var disks block.Manager // nil: there is no disk process
				if r.Disk != nil {
					disks = b.Disks
				}
				srv, err := console.New(console.Options{
					Host: h, Auth: b.Users, Settings: b.changer(), Disks: disks, HostKey: k.ssh, Version: b.opt.Version, Log: b.log,
					Config: func() console.Config {
						s := b.Settings.Get()
						return console.Config{HostName: s.HostName, MaxSessions: s.SSH.MaxSessions, IdleTimeout: s.SSH.IdleTimeout}
					},
				})
				if err != nil {
					return nil, "", err
				}
				l, err := net.Listen("tcp", join(r.Address, r.SSH))
				if err != nil {
					return nil, "", err
				}
				return func(ctx context.Context) error { return srv.Serve(ctx, l) }, l.Addr().String(), nil
			},
		},
		{
			name: "ipmi",
			// The rest of its settings counts without a new start.
			key: enabled(func(s Settings) (bool, any) { return s.IPMI.Enabled, s.IPMI.config() }),
			at:  func(a *Addresses, at string) { a.IPMI = at },
			listen: func(s Settings) (func(context.Context) error, string, error) {
				return b.listenIPMI(s, h, r, w.net, group)
			},
		},
	}, nil
}

// enabled makes a service's key of a switch and what else it depends on.
func enabled(f func(Settings) (bool, any)) func(Settings) string {
	return func(s Settings) string {
		on, depends := f(s)
		if !on {
			return ""
		}
		return fmt.Sprintf("on %v", depends)
	}
}

func join(address string, port int) string {
	return net.JoinHostPort(address, strconv.Itoa(port))
}

// firmware takes the numbers of a version such as "0.1.0".
func firmware(version string) (major, minor uint8) {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	number := func(i int, limit uint64) uint8 {
		if i >= len(parts) {
			return 0
		}
		n, err := strconv.ParseUint(parts[i], 10, 8)
		if err != nil {
			return 0 // a development version has words there
		}
		return uint8(min(n, limit))
	}
	return number(0, 127), number(1, 99)
}

// selfTest says what does not work of that which IPMI has a bit for (table
// 20-4): the log that cannot be written, and software that fails.
func selfTest(group *supervise.Group) ipmi.SelfTest {
	const sel, firmware = 1 << 7, 1 << 0
	var result ipmi.SelfTest
	for _, h := range group.Health() {
		switch {
		case h.State == supervise.Running:
		case h.Service == "events":
			result |= sel
		default:
			result |= firmware
		}
	}
	return result
}

// healthy says whether no service fails.
func healthy(group *supervise.Group) bool {
	return !slices.ContainsFunc(group.Health(), func(h supervise.Health) bool {
		return h.State == supervise.Failing || h.State == supervise.Stuck
	})
}

// reportText is what an event says of a service.
func reportText(s supervise.Report) string {
	if s.Err == nil {
		return fmt.Sprintf("The service %s runs again.", s.Service)
	}
	return fmt.Sprintf("The service %s is %s: %v.", s.Service, s.State, s.Err)
}

// changer lets front-ends change the settings; each change is an event.
func (b *BMC) changer() changer { return changer{b} }

// A changer is the settings as the console's commands see them.
type changer struct{ b *BMC }

// Show returns the part of the document at a dotted path.
func (c changer) Show(path string) ([]byte, error) { return c.b.Settings.Show(path) }

// Paths lists every path that Set takes.
func (c changer) Paths() []string { return c.b.Settings.Paths() }

// Set changes one value for good.
func (c changer) Set(path, value string, by host.Origin) error {
	if by.Via == console.Via && path == "ssh.enabled" && value == "false" {
		return errors.New("SSH cannot be switched off over SSH: nobody could switch it on again")
	}
	before := c.b.Settings.Generation()
	if err := c.b.Settings.Set(path, value); err != nil {
		return err
	}
	if c.b.Settings.Generation() == before {
		return nil // it was so already; a script may say so each minute
	}
	c.b.Events.Add(host.Event{Kind: "settings.changed", Origin: by, Message: fmt.Sprintf("The setting %s was changed to %s.", path, withoutSecrets(path, value))})
	return nil
}

// Unset gives a value back to the layers below.
func (c changer) Unset(path string, by host.Origin) error {
	before := c.b.Settings.Generation()
	if err := c.b.Settings.Unset(path); err != nil {
		return err
	}
	if c.b.Settings.Generation() == before {
		return nil
	}
	c.b.Events.Add(host.Event{Kind: "settings.changed", Origin: by, Message: fmt.Sprintf("The setting %s was given back to the files below.", path)})
	return nil
}

var _ console.Users = (*auth.Auth)(nil)
