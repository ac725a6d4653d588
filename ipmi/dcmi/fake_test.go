package dcmi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/fru"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

type fakeMeter struct {
	mu     sync.Mutex
	status host.MeterStatus
	limit  host.PowerLimit
	err    error
}

func (m *fakeMeter) Status() host.MeterStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

func (m *fakeMeter) Limit() host.PowerLimit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.limit
}

func (m *fakeMeter) SetLimit(l host.PowerLimit, from host.Origin) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.limit = l
	}
	return m.err
}

func (m *fakeMeter) set(s host.MeterStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = s
}

// fakeInventory is a memory; writes are how often it was written.
type fakeInventory struct {
	mu     sync.Mutex
	data   []byte
	err    error
	writes int
}

func (i *fakeInventory) Read() ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.data), i.err
}

func (i *fakeInventory) Edit(change func([]byte) ([]byte, error), _ host.Origin) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err != nil {
		return i.err
	}
	fresh, err := change(slices.Clone(i.data))
	if err != nil || bytes.Equal(fresh, i.data) {
		return err
	}
	i.data = fresh
	i.writes++
	return nil
}

type fakeNames struct {
	mu   sync.Mutex
	name string
}

func (n *fakeNames) HostName() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.name
}

func (n *fakeNames) SetHostName(name string, from host.Origin) error {
	if name == "" || from != commandtest.Origin() {
		return fmt.Errorf("name %q from %v: %w", name, from, host.ErrInvalid)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.name = name
	return nil
}

type fakeSensor struct {
	name  string
	place host.Place

	mu      sync.Mutex
	reading host.Reading
}

func (s *fakeSensor) Name() string      { return s.name }
func (s *fakeSensor) Place() host.Place { return s.place }

func (s *fakeSensor) Reading() host.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reading
}

func (s *fakeSensor) set(v float64, valid bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = host.Reading{Value: v, Valid: valid}
}

// fakePower counts what it was told; err answers each request.
type fakePower struct {
	mu    sync.Mutex
	none  bool // no power button is wired
	state host.PowerState
	err   error
	offs  int
}

func (p *fakePower) Supports(host.Action) bool { return !p.none }

func (p *fakePower) Status() host.PowerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return host.PowerStatus{State: p.state}
}

func (p *fakePower) Request(a host.Action, _ host.Cause, _ host.Origin) (*host.Operation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a != host.ForceOff {
		return nil, errors.ErrUnsupported
	}
	p.offs++
	return nil, p.err
}

type fakeEvents struct {
	sensor host.SensorChange // of the last event that has one
	mu     sync.Mutex
	kinds  []string
}

func (e *fakeEvents) Add(v host.Event) host.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kinds = append(e.kinds, v.Kind)
	if v.Sensor != nil {
		e.sensor = *v.Sensor
	}
	return v
}

func (e *fakeEvents) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.kinds
	e.kinds = nil
	return all
}

// bench is a DCMI with fakes around it: inlet sensors 1 to 10, one of a CPU and
// one of the system.
type bench struct {
	*DCMI
	meter     *fakeMeter
	inventory *fakeInventory
	names     *fakeNames
	sensors   []*fakeSensor
	power     *fakePower
	events    *fakeEvents
}

func newBench(t testing.TB, change ...func(*bench, *Options)) *bench {
	t.Helper()
	b := &bench{
		meter:     &fakeMeter{limit: host.PowerLimit{Action: host.LimitLog}},
		inventory: &fakeInventory{data: image(t, &fru.Inventory{})},
		names:     &fakeNames{name: "nitrino"},
		power:     &fakePower{state: host.StateOn},
		events:    &fakeEvents{},
	}
	db, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	o := Options{
		Features: Features{SELEntries: 1000, SELRollover: true, ChassisPower: true, SOL: true},
		Meter:    b.meter, Inventory: b.inventory, Names: b.names, Power: b.power, Events: b.events, Store: db,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for i, p := range append(slices.Repeat([]host.Place{host.PlaceInlet}, 10), host.PlaceCPU, host.PlaceSystem) {
		s := &fakeSensor{name: fmt.Sprint("sensor ", i), place: p}
		s.set(float64(20+i), true)
		b.sensors = append(b.sensors, s)
		instance := uint8(1)
		if p == host.PlaceInlet {
			instance = uint8(i + 1)
		}
		o.Thermometers = append(o.Thermometers, Thermometer{Sensor: s, RecordID: uint16(0x100 + i), Instance: instance})
	}
	for _, f := range change {
		f(b, &o)
	}
	b.DCMI = New(o)
	return b
}

func image(t testing.TB, inv *fru.Inventory) []byte {
	t.Helper()
	const size = 512
	b, err := inv.Encode(size)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, size-len(b))...)
}

// call answers also what a command put that answered a code of its own.
func (b *bench) call(t testing.TB, cmd byte, data ...byte) (command.Code, []byte) {
	t.Helper()
	for _, c := range b.Commands() {
		if c.Cmd != cmd || len(data) < c.MinLen || len(data) > c.MaxLen {
			continue
		}
		if c.NetFn != command.Group || c.Body != command.BodyDCMI {
			t.Errorf("%s is not DCMI's", c.Name)
		}
		call := command.Call{Data: data, Now: time.Unix(10_000, 0)}
		if c.Conduct != command.Reads {
			call.Origin = commandtest.Origin()
		}
		code := c.Run(&call)
		if c.Conduct != command.Reads && len(call.Reply) > command.MaxKept {
			t.Errorf("%s answers %d bytes", c.Name, len(call.Reply))
		}
		return code, call.Reply
	}
	return command.InvalidCommand, nil
}
