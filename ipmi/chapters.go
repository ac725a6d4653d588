package ipmi

import (
	"context"
	"fmt"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/dcmi"
	"github.com/nitrino/nitrino/ipmi/fru"
	"github.com/nitrino/nitrino/ipmi/lan"
	"github.com/nitrino/nitrino/ipmi/pef"
	"github.com/nitrino/nitrino/ipmi/sdr"
	"github.com/nitrino/nitrino/ipmi/sel"
	"github.com/nitrino/nitrino/ipmi/system"
	"github.com/nitrino/nitrino/ipmi/user"
	"github.com/nitrino/nitrino/ipmi/watchdog"
)

// A Board is what the commands see and change of the board's settings. None of
// what only reads waits.
type Board struct {
	// Users are the accounts as the user commands change them.
	Users user.Users
	// Channel is the access to the LAN channel, and Keys has K_G.
	Channel user.Channel
	Keys    user.Keys
	// Names are what the board is called.
	Names dcmi.Names
	// Network is the board's own network; nil: it has none, and Fixed is where
	// it answers.
	Network lan.Network
	Fixed   lan.State
	// Lockout is how many wrong secrets lock a user out.
	Lockout func() lan.Lockout
	// SetCycleInterval sets how long a power cycle leaves the host off.
	SetCycleInterval func(time.Duration, host.Origin) error
}

// A chapter is a package of commands, and what it does in the background; nil:
// nothing.
type chapter struct {
	commands []command.Command
	run      func(context.Context) error
}

// chapters makes the chapters that need no session.
func (s *Server) chapters(o Options) ([]chapter, error) {
	h := o.Host
	clock := sel.NewClock(o.Store, h.Events, o.Log)
	sensors := make([]sdr.Sensor, 0, len(h.Sensors.List()))
	for _, x := range h.Sensors.List() {
		sensors = append(sensors, x)
	}
	repository, err := sdr.New(sdr.Options{
		Sensors: sensors, Power: h.Power, Watchdog: h.Watchdog,
		Buttons: h.Panel, PowerLimit: h.Meter != nil, Inventory: true,
		Name: "nitrino", Clock: clock, Events: h.Events, Store: o.Store, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	log, err := sel.New(sel.Options{Events: h.Events, Sensors: repository, Clock: clock, UserID: s.userID, Store: o.Store, Log: o.Log})
	if err != nil {
		return nil, err
	}
	network, err := lan.New(lan.Options{
		Network: o.Board.Network, Fixed: o.Board.Fixed, Port: o.Port, CipherSuites: s.suiteIDs,
		Lockout: o.Board.Lockout, Store: o.Store, Events: h.Events, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	filter, err := pef.New(pef.Options{
		SEL: log, Power: h.Power, Destinations: network, Store: o.Store, Events: h.Events, Log: o.Log,
		GUID: h.UUID, Maker: o.Device.Manufacturer, Product: o.Device.Product, Entity: entity(repository),
		Alerting: func() bool { return o.Board.Channel.Access(false).Alerts },
	})
	if err != nil {
		return nil, err
	}
	power := dcmi.New(dcmi.Options{
		Features: dcmi.Features{
			SELEntries: host.MaxEvents, SELRollover: true, ChassisPower: h.Power.Supports(host.PowerOn),
			SOL: h.Console != nil, VLAN: o.Board.Network != nil,
		},
		Meter: meter(h), Inventory: h.Inventory, Names: o.Board.Names, Thermometers: thermometers(h, repository),
		Power: h.Power, Events: h.Events, Store: o.Store, Log: o.Log,
	})
	return []chapter{
		{system.New(system.Options{Power: h.Power, Logging: log, Event: s.host.event, Store: o.Store, Log: o.Log}).Commands(), nil},
		{watchdog.New(h.Watchdog, o.Log).Commands(), nil},
		{user.New(user.Options{Users: o.Board.Users, Channel: o.Board.Channel, Keys: o.Board.Keys, Log: o.Log}).Commands(), nil},
		{repository.Commands(), nil},
		{log.Commands(), log.Run},
		{fru.New(fru.Options{Inventory: h.Inventory, Identity: h.Identity, UUID: h.UUID, Log: o.Log}).Commands(), nil},
		{filter.Commands(), filter.Run},
		{network.Commands(), nil},
		{power.Commands(), power.Run},
	}, nil
}

// meter is nil where there is none, and not a pointer that is.
func meter(h *host.Host) dcmi.Meter {
	if h.Meter == nil {
		return nil
	}
	return h.Meter
}

// thermometers are the temperature sensors with their places in the repository,
// whose gauges have the order of the host's sensors.
func thermometers(h *host.Host, r *sdr.Repository) (list []dcmi.Thermometer) {
	gauges := r.Gauges()
	for i, x := range h.Sensors.List() {
		if x.Quantity() == host.Temperature {
			list = append(list, dcmi.Thermometer{Sensor: x, RecordID: gauges[i].Record, Instance: gauges[i].Instance})
		}
	}
	return list
}

// entity tells of a gauge by its number, which part it belongs to.
func entity(r *sdr.Repository) func(number byte) (id, instance byte) {
	gauges := r.Gauges()
	return func(number byte) (id, instance byte) {
		for _, g := range gauges {
			if g.Number == number {
				return g.Entity, g.Instance
			}
		}
		return 0, 0
	}
}

// suiteIDs are the cipher suites on offer.
func (s *Server) suiteIDs() []byte {
	ids := make([]byte, 0, len(s.suites))
	for i := len(s.suites) - 1; i >= 0; i-- { // preference falls as numbers do
		ids = append(ids, s.suites[i].id)
	}
	return ids
}

// runAll runs what the chapters do until ctx ends, or one of them fails.
func runAll(ctx context.Context, list []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(list))
	for _, run := range list {
		go func() { ended <- run(ctx) }()
	}
	var first error
	for range list {
		err := <-ended
		if first == nil && ctx.Err() == nil {
			first = fmt.Errorf("ipmi: %w", err)
			cancel()
		}
	}
	if first == nil {
		return ctx.Err()
	}
	return first
}
