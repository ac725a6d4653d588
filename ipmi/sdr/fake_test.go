package sdr

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

// fakeGauge is a sensor whose limits are kept in memory.
type fakeGauge struct {
	name            string
	quantity        host.Quantity
	place           host.Place
	lowest, highest float64

	mu      sync.Mutex
	reading host.Reading
	limits  host.Limits
	sets    int
	from    host.Origin
}

func (g *fakeGauge) Name() string              { return g.name }
func (g *fakeGauge) Quantity() host.Quantity   { return g.quantity }
func (g *fakeGauge) Place() host.Place         { return g.place }
func (g *fakeGauge) Range() (float64, float64) { return g.lowest, g.highest }

func (g *fakeGauge) Reading() host.Reading {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reading
}

func (g *fakeGauge) Limits() host.Limits {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limits
}

func (g *fakeGauge) SetLimits(l host.Limits, from host.Origin) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.UpperCaution != nil && l.UpperCritical != nil && *l.UpperCaution > *l.UpperCritical {
		return fmt.Errorf("%w: the order", host.ErrInvalid)
	}
	g.limits, g.from = l, from
	g.sets++
	return nil
}

// fakeHost is a host's power and watchdog.
type fakeHost struct {
	status   host.PowerStatus
	watchdog host.WatchdogStatus
	absent   []host.Action
}

func (f *fakeHost) Supports(a host.Action) bool { return !slices.Contains(f.absent, a) }
func (f *fakeHost) Status() host.PowerStatus    { return f.status }

type fakeWatchdog struct{ *fakeHost }

func (f fakeWatchdog) Status() host.WatchdogStatus { return f.watchdog }

// fakeClock counts from 1000 at each look.
type fakeClock struct{ now uint32 }

func (c *fakeClock) Time(time.Time) uint32 {
	c.now++
	return 1000 + c.now
}

func (c *fakeClock) Set(t uint32, _ time.Time, _ host.Origin) error {
	c.now = t - 1000
	return nil
}

// fakeEvents keeps what was told.
type fakeEvents struct{ told []host.Event }

func (f *fakeEvents) Add(e host.Event) host.Event {
	f.told = append(f.told, e)
	return e
}

func at(v float64) *float64 { return &v }

// rig is a repository of three gauges and all other sensors.
type rig struct {
	*Repository
	t      testing.TB
	gauges []*fakeGauge
	host   *fakeHost
	events *fakeEvents
	opt    Options
}

func newRig(t testing.TB, change ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, events: &fakeEvents{}, host: &fakeHost{status: host.PowerStatus{State: host.StateOn, PowerGood: true, StandbyWired: true, Standby: true}}}
	r.gauges = []*fakeGauge{
		{name: "CPU Temp", quantity: host.Temperature, place: host.PlaceCPU, lowest: -40, highest: 125,
			limits: host.Limits{UpperCaution: at(80), UpperCritical: at(90.3), Hysteresis: 2}},
		{name: "12V", quantity: host.Voltage, place: host.PlaceSystem, lowest: 0, highest: 16},
		{name: "P", quantity: host.Wattage, place: host.PlacePSU, lowest: 0, highest: 510},
	}
	db, err := store.Open(filepath.Join(t.TempDir(), "state.db"))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	r.opt = Options{Power: r.host, Watchdog: fakeWatchdog{r.host}, Buttons: true, PowerLimit: true, Inventory: true,
		Name: "nitrino", Clock: &fakeClock{}, Events: r.events, Store: db, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(r)
	}
	r.restart()
	return r
}

// restart makes the repository of what is in the store.
func (r *rig) restart() {
	r.t.Helper()
	r.opt.Sensors = nil
	for _, g := range r.gauges {
		r.opt.Sensors = append(r.opt.Sensors, g)
	}
	var err error
	r.Repository, err = New(r.opt)
	must(r.t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sensor and storage run a command that has to answer want.
func (r *rig) sensor(want command.Code, cmd byte, data ...byte) []byte {
	r.t.Helper()
	return r.call(want, command.Sensor, cmd, data...)
}

func (r *rig) storage(want command.Code, cmd byte, data ...byte) []byte {
	r.t.Helper()
	return r.call(want, command.Storage, cmd, data...)
}

func (r *rig) call(want command.Code, n command.NetFn, cmd byte, data ...byte) []byte {
	r.t.Helper()
	code, reply := commandtest.Call(r.t, r.Commands(), n, cmd, data...)
	if code != want {
		r.t.Errorf("command %02Xh/%02Xh % X: got %v, want %v", n, cmd, data, code, want)
	}
	return reply
}

// wants compares an answer with bytes as hex.
func (r *rig) wants(got []byte, want string) {
	r.t.Helper()
	if s := fmt.Sprintf("% x", got); s != want {
		r.t.Errorf("got  %s\nwant %s", s, want)
	}
}

// The fakes stand for these.
var (
	_ Sensor   = (*host.Sensor)(nil)
	_ Power    = (*host.Power)(nil)
	_ Watchdog = (*host.Watchdog)(nil)
	_ Events   = (*host.Events)(nil)
)
