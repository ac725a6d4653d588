package pef

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
	"github.com/nitrino/nitrino/ipmi/lan"
	"github.com/nitrino/nitrino/ipmi/sdr"
	"github.com/nitrino/nitrino/ipmi/sel"
)

// fakeSEL is a log in memory.
type fakeSEL struct {
	mu   sync.Mutex
	list []sel.Entry
	last uint64
	grew chan struct{}
}

func (f *fakeSEL) Since(seq uint64, limit int) (found []sel.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.list {
		if e.Seq > seq && (limit == 0 || len(found) < limit) {
			found = append(found, e)
		}
	}
	return found
}

func (f *fakeSEL) Last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *fakeSEL) Wait(ctx context.Context, seq uint64) error {
	for {
		f.mu.Lock()
		last, grew := f.last, f.grew
		f.mu.Unlock()
		if last > seq {
			return nil
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// add logs an event of a sensor: its type and number, event type and data 1.
func (f *fakeSEL) add(event ...byte) uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	e := sel.Entry{Seq: f.last}
	e.Record = record(event...)
	e.Record[0] = byte(f.last)
	f.list = append(f.list, e)
	close(f.grew)
	f.grew = make(chan struct{})
	return e.ID()
}

// record is that of an event: sensor type, number, event type, data 1 to 3. Its
// time is 6B1ADE80h.
func record(event ...byte) [sel.RecordLen]byte {
	r := [sel.RecordLen]byte{2: recordEvent, 3: 0x80, 4: 0xDE, 5: 0x1A, 6: 0x6B, 7: command.BMCAddr, 9: 4}
	copy(r[10:], event)
	return r
}

type fakePower struct {
	mu     sync.Mutex
	absent []host.Action
	asked  []string
	err    error
}

func (f *fakePower) Supports(a host.Action) bool { return !slices.Contains(f.absent, a) }

func (f *fakePower) Request(a host.Action, c host.Cause, from host.Origin) (*host.Operation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, string(a)+" as "+string(c)+" "+from.String())
	return nil, f.err
}

type fakeDestinations map[int]lan.Destination

func (f fakeDestinations) Destination(n int) (lan.Destination, bool) {
	d, ok := f[n]
	return d, ok
}

func (f fakeDestinations) Community() string { return "public" }

type fakeEvents struct {
	mu   sync.Mutex
	list []host.Event
}

func (f *fakeEvents) Add(e host.Event) host.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, e)
	return e
}

// take answers the events since the last call.
func (f *fakeEvents) take() []host.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.list
	f.list = nil
	return list
}

func (f *fakeEvents) last() host.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list[len(f.list)-1]
}

// The other packages have what is needed here.
var (
	_ SEL          = (*sel.Log)(nil)
	_ Power        = (*host.Power)(nil)
	_ Destinations = (*lan.LAN)(nil)
)

// bench is a PEF with fakes around it.
type bench struct {
	*PEF
	sel    *fakeSEL
	power  *fakePower
	events *fakeEvents
	dest   fakeDestinations

	mu   sync.Mutex
	sent []string // "SECONDS DESTINATION SEQUENCE", since the bench was made
	down bool     // there is no network
	last []byte
	made time.Time

	stop func()
}

func newBench(t testing.TB) *bench {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{sel: &fakeSEL{grew: make(chan struct{})}, power: &fakePower{}, events: &fakeEvents{}, made: time.Now(), stop: func() {}}
	b.dest = fakeDestinations{0: {}, 3: {}, 4: {},
		1: {Address: netip.MustParseAddr("192.0.2.1"), Interval: 3 * time.Second, Retries: 2},
		2: {Address: netip.MustParseAddr("192.0.2.2"), Interval: 5 * time.Second, Retries: 1, Acknowledge: true},
	}
	b.make(t, Options{SEL: b.sel, Power: b.power, Destinations: b.dest, Store: db, Events: b.events,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), GUID: [16]byte{1, 2, 3}, Maker: 0x1B27, Product: 0x4455})
	return b
}

func (b *bench) make(t testing.TB, o Options) {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.PEF = p
	p.send = func(to netip.AddrPort, packet func(netip.Addr) []byte) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.down {
			return errors.New("network is unreachable")
		}
		b.last = packet(netip.MustParseAddr("192.0.2.99"))
		got, err := decodeTrap(b.last)
		if err != nil {
			return err
		}
		at := int(time.Since(b.made) / time.Second)
		b.sent = append(b.sent, time.Duration(at*int(time.Second)).String()+" "+to.String()+" "+string('0'+rune(got.pet[17])))
		return nil
	}
}

// run runs it until the test ends or the bench is stopped, and lets it begin.
func (b *bench) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
		b.stop = func() {}
	}
	synctest.Wait()
}

// restart is a crash of the board's software, and its next start.
func (b *bench) restart(t *testing.T) {
	b.stop()
	b.make(t, b.opt)
	b.run(t)
}

// network takes the network away and gives it back.
func (b *bench) network(up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = !up
}

// waiting is how many alerts are kept to be sent.
func (b *bench) waiting() int {
	b.PEF.mu.Lock()
	defer b.PEF.mu.Unlock()
	return len(b.state.Alerts)
}

func (b *bench) wantSent(t *testing.T, want ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.sent, want) {
		t.Errorf("sent\n%q, want\n%q", b.sent, want)
	}
	b.sent = nil
}

func (b *bench) wantActions(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	b.power.mu.Lock()
	defer b.power.mu.Unlock()
	if !slices.Equal(b.power.asked, want) {
		t.Errorf("asked for %q, want %q", b.power.asked, want)
	}
	b.power.asked = nil
}

func (b *bench) call(t testing.TB, cmd byte, data ...byte) (command.Code, []byte) {
	t.Helper()
	return commandtest.Call(t, b.Commands(), command.Sensor, cmd, data...)
}

func (b *bench) set(t testing.TB, param byte, data ...byte) {
	t.Helper()
	if code, _ := b.call(t, 0x12, append([]byte{param}, data...)...); code != command.OK {
		t.Fatalf("writing parameter %d, % X: %v", param, data, code)
	}
}

func (b *bench) get(t testing.TB, param byte, set ...byte) []byte {
	t.Helper()
	code, data := b.call(t, 0x13, append([]byte{param}, append(set, 0, 0)[:2]...)...)
	if code != command.OK || data[0] != 0x11 {
		t.Fatalf("reading parameter %d: %v % X", param, code, data)
	}
	return data[1:]
}

func (b *bench) wantParam(t testing.TB, want []byte, param byte, set ...byte) {
	t.Helper()
	if got := b.get(t, param, set...); !bytes.Equal(got, want) {
		t.Errorf("parameter %d %v: got % X, want % X", param, set, got, want)
	}
}

// any is a filter that matches everything.
func any(number byte, do action, policy byte) []byte {
	return []byte{number, enabled, byte(do), policy, severityCritical, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0}
}

// TestIpmitool is what ipmitool sends for `pef info`, `pef status`, `pef filter
// list`, `pef filter enable 1`, `pef policy list` and `pef policy enable 1`.
func TestIpmitool(t *testing.T) {
	b := newBench(t)
	if _, got := b.call(t, 0x10); !bytes.Equal(got, []byte{0x51, 0x2F, filters}) {
		t.Errorf("capabilities % X", got)
	}
	b.wantParam(t, []byte{policies}, 8)
	if got := b.get(t, 10); len(got) != 17 || got[0] != 0 {
		t.Errorf("GUID % X", got)
	}
	if _, got := b.call(t, 0x15); !bytes.Equal(got, []byte{0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0}) {
		t.Errorf("the last processed events of an empty log: % X", got)
	}
	b.wantParam(t, []byte{1}, 1)
	b.wantParam(t, []byte{0x2F}, 2)
	b.wantParam(t, []byte{filters}, 5)
	b.wantParam(t, []byte{1, 0x40, 1, 1, 0x10, 0xFF, 0xFF, 1, 0xFF, 1, 0x14, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 6, 1)
	b.set(t, 7, 1, 0) // it writes 0 first
	b.set(t, 7, 1, 0x80)
	b.wantParam(t, []byte{1, 0xC0}, 7, 1)
	b.wantParam(t, []byte{1, 0xC0, 1, 1, 0x10, 0xFF, 0xFF, 1, 0xFF, 1, 0x14, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 6, 1)
	b.wantParam(t, []byte{1, 0x10, 0x11, 0}, 9, 1)
	b.set(t, 9, 1, 0x18, 0x11, 0)
	b.make(t, b.opt) // all of it is kept
	b.wantParam(t, []byte{1, 0x18, 0x11, 0}, 9, 1)
	b.wantParam(t, []byte{1, 0xC0}, 7, 1)
	if n := len(b.events.list); n != 1 || b.events.list[0].Kind != "pef.changed" {
		t.Errorf("events %+v, want one for the whole burst", b.events.list)
	}
}

// TestCheckout: what ipmi-config reads of the category pef it can write back,
// and nothing has changed.
func TestCheckout(t *testing.T) {
	b := newBench(t)
	for param := range byte(5) {
		b.set(t, param, b.get(t, param)...)
	}
	for n := range byte(filters) {
		b.set(t, 6, b.get(t, 6, n+1)...)
		b.set(t, 7, b.get(t, 7, n+1)...)
	}
	for n := range byte(policies) {
		b.set(t, 9, b.get(t, 9, n+1)...)
	}
	b.wantParam(t, []byte{alertStrings}, 11)
	for n := range byte(alertStrings + 1) {
		b.set(t, 12, b.get(t, 12, n)...)
		for block := range byte(blocks) {
			b.set(t, 13, b.get(t, 13, n, block+1)...)
		}
	}
	if len(b.events.list) > 0 {
		t.Errorf("events %+v, want none", b.events.list)
	}
	// FreeIPMI writes the last block with the zero, and no more.
	b.set(t, 13, append([]byte{1, 1}, "temperature of t"...)...)
	b.set(t, 13, append([]byte{1, 2}, "he CPU\x00"...)...)
	b.set(t, 13, append([]byte{0, 1}, "volatile"...)...)
	b.make(t, b.opt)
	if got := b.config.Load().Strings[1].String(); got != "temperature of the CPU" {
		t.Errorf("alert string %q", got)
	}
	if got := b.config.Load().Strings[0].String(); got != "" {
		t.Errorf("string 0 is kept: %q", got)
	}
}

func TestBadRequests(t *testing.T) {
	b := newBench(t)
	b.opt.Power = &fakePower{absent: []host.Action{host.NMI}}
	b.make(t, b.opt)
	for _, tt := range []struct {
		cmd  byte
		data []byte
		want command.Code
	}{
		{0x12, []byte{0, 2}, command.InvalidField},
		{0x12, []byte{0, 1, 1}, command.BadLength},
		{0x12, []byte{0x81, 1}, command.InvalidField},
		{0x12, []byte{1, 0x02}, command.InvalidField},
		{0x12, []byte{2, 0x10}, command.InvalidField},
		{0x12, []byte{2, 0x20}, command.InvalidField}, // no line for it
		{0x12, []byte{3, 1, 2}, command.BadLength},
		{0x12, []byte{5, 3}, codeReadOnly},
		{0x12, []byte{8, 3}, codeReadOnly},
		{0x12, []byte{11, 3}, codeReadOnly},
		{0x12, []byte{14, 3}, codeUnsupported},
		{0x12, []byte{96, 3}, codeUnsupported},
		{0x12, append([]byte{6}, any(0, actionAlert, 1)...), command.OutOfRange},
		{0x12, append([]byte{6}, any(filters+1, actionAlert, 1)...), command.OutOfRange},
		{0x12, append([]byte{6}, any(1, actionInterrupt, 1)...), command.InvalidField},
		{0x12, append([]byte{6}, any(1, actionAlert, 1)[:20]...), command.BadLength},
		{0x12, []byte{7, 1, 0x20}, command.InvalidField},
		{0x12, []byte{7, 17, 0x80}, command.OutOfRange},
		{0x12, []byte{9, 0, 0x18, 0x11, 0}, command.OutOfRange},
		{0x12, []byte{9, 9, 0x18, 0x11, 0}, command.OutOfRange},
		{0x12, []byte{9, 1, 0x1D, 0x11, 0}, command.InvalidField},
		{0x12, []byte{9, 1, 0x18, 0x21, 0}, command.InvalidField}, // another channel
		{0x12, []byte{9, 1, 0x18, 0x19, 0}, command.InvalidField}, // no destination 9
		{0x12, []byte{9, 1, 0x10, 0x29, 0}, command.OK},           // but off
		{0x12, append([]byte{10, 2}, make([]byte, 16)...), command.InvalidField},
		{0x12, []byte{12, 5, 0, 0}, command.OutOfRange},
		{0x12, []byte{12, 1, 0x80, 0}, command.InvalidField},
		{0x12, []byte{13, 5, 1, 'a'}, command.OutOfRange},
		{0x12, []byte{13, 1, 0, 'a'}, command.OutOfRange},
		{0x12, []byte{13, 1, 6, 'a'}, command.OutOfRange},
		{0x12, []byte{13, 1, 1, 0xFF}, command.InvalidField},
		{0x12, []byte{13, 1}, command.BadLength},
		{0x13, []byte{6, 0, 0}, command.OutOfRange},
		{0x13, []byte{6, 17, 0}, command.OutOfRange},
		{0x13, []byte{9, 9, 0}, command.OutOfRange},
		{0x13, []byte{13, 1, 0}, command.OutOfRange},
		{0x13, []byte{14, 0, 0}, codeUnsupported},
		{0x13, []byte{1, 0}, command.BadLength},
		{0x14, []byte{2, 1, 0}, command.InvalidField},
		{0x14, []byte{0, 1, 0}, command.NotPresent},
		{0x16, []byte{2, 1, 0}, command.InvalidField},
		{0x16, []byte{1, 0x31, 0}, command.InvalidField},
		{0x16, []byte{1, 0xC1, 0}, command.InvalidField},
		{0x16, []byte{1, 3, 0}, command.InvalidField}, // it has no address
		{0x16, []byte{1, 1, 0x85}, command.InvalidField},
		{0x16, []byte{1, 1, 0}, command.Busy}, // not running
		{0x16, []byte{1, 1, 0, 0}, command.BadLength},
		{0x17, make([]byte, 12), command.OK},
	} {
		if got, _ := b.call(t, tt.cmd, tt.data...); got != tt.want {
			t.Errorf("command %02X, % X: got %v, want %v", tt.cmd, tt.data, got, tt.want)
		}
	}
	if code, data := b.call(t, 0x13, 0x86, 0, 0); code != command.OK || !bytes.Equal(data, []byte{0x11}) {
		t.Errorf("the revision alone: %v % X", code, data)
	}
	b.set(t, 0, 1)
	b.wantParam(t, []byte{1}, 0)
	if got, _ := b.call(t, 0x12, 0, 1); got != codeInProgress {
		t.Errorf("a second lock: %v, want %v", got, codeInProgress)
	}
	b.set(t, 0, 0)
	b.wantParam(t, []byte{0}, 0)
}

func TestMatches(t *testing.T) {
	event := record(sensorTemperature, 5, sdr.Threshold, 0x59, 0xAB, 0x0F) // upper critical going high
	for _, tt := range []struct {
		name   string
		change func(f *filter)
		want   bool
	}{
		{"as it is", func(*filter) {}, true},
		{"generator", func(f *filter) { f[4], f[5] = 0x20, 0 }, true},
		{"another generator", func(f *filter) { f[4] = 0x41 }, false},
		{"another LUN", func(f *filter) { f[5] = 1 }, false},
		{"sensor type", func(f *filter) { f[6] = 1 }, true},
		{"another sensor type", func(f *filter) { f[6] = 2 }, false},
		{"sensor number", func(f *filter) { f[7] = 5 }, true},
		{"another sensor number", func(f *filter) { f[7] = 6 }, false},
		{"trigger", func(f *filter) { f[8] = 1 }, true},
		{"the deassertion", func(f *filter) { f[8] = 0x81 }, false},
		{"offset", func(f *filter) { f[9], f[10] = 0, 0x02 }, true},
		{"other offsets", func(f *filter) { f[9], f[10] = 0xFF, 0xFD }, false},
		{"data 1, exactly", func(f *filter) { f[11], f[12], f[13] = 0xF0, 0xF0, 0x50 }, true},
		{"data 1, not exactly", func(f *filter) { f[11], f[12], f[13] = 0xF0, 0xF0, 0x40 }, false},
		{"data 2, any of the ones", func(f *filter) { f[14], f[15], f[16] = 0x50, 0x00, 0x50 }, false},
		{"data 2, one is enough", func(f *filter) { f[14], f[15], f[16] = 0x30, 0x00, 0x30 }, true},
		{"data 2, one zero", func(f *filter) { f[14], f[15], f[16] = 0x30, 0x00, 0x10 }, false},
		{"data 3, both ways", func(f *filter) { f[17], f[18], f[19] = 0x3F, 0x0F, 0x2F }, true},
		{"data 3, the exact ones differ", func(f *filter) { f[17], f[18], f[19] = 0x3F, 0x0F, 0x2E }, false},
		{"what is not compared", func(f *filter) { f[17], f[18], f[19] = 0, 0xFF, 0x55 }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := filter(any(1, actionAlert, 1)[1:])
			tt.change(&f)
			if got := f.matches(&event); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	oem := event
	oem[2] = 0xC0
	if f := filter(any(1, actionAlert, 1)[1:]); f.matches(&oem) {
		t.Error("an OEM record matches")
	}
}

// TestFactory: the factory's filters match what the board logs, once they are
// on.
func TestFactory(t *testing.T) {
	for _, tt := range []struct {
		name   string
		record [sel.RecordLen]byte
		want   byte // filter
	}{
		{"hot", record(sensorTemperature, 1, 1, 0x59), 1},
		{"no longer hot", record(sensorTemperature, 1, 0x81, 0x59), 0},
		{"warm", record(sensorTemperature, 1, 1, 0x57), 2},
		{"low voltage", record(sensorVoltage, 1, 1, 0x52), 3},
		{"fan stands", record(sensorFan, 1, 1, 0x52), 5},
		{"AC lost", record(sensorPowerUnit, sdr.NumberAC, 0x6F, 4), 8},
		{"off by itself", record(sensorPowerUnit, sdr.NumberAC, 0x6F, 0), 8},
		{"it does not go off", record(sensorPowerUnit, sdr.NumberAC, 0x6F, 5), 8},
		{"watchdog reset", record(sensorWatchdog2, sdr.NumberWatchdog, 0x6F, 0xC1), 9},
		{"pre-timeout", record(sensorWatchdog2, sdr.NumberWatchdog, 0x6F, 0xC8), 0},
		{"too much power", record(sensorOther, sdr.NumberPowerLimit, sdr.LimitExceeded, 1), 11},
		{"off", record(sensorACPI, sdr.NumberPower, 0x6F, 6), 10},
		{"controller", record(sensorHealth, sdr.NumberHealth, 0x6F, 1), 12},
		{"login", record(0x2A, sdr.NumberSession, 0x6F, 0), 0},
	} {
		c := factoryConfig(0x2F)
		e := sel.Entry{Record: tt.record}
		if w := c.plan(&e, 0x2F); w.do != "" || len(w.alerts) > 0 {
			t.Errorf("%s: a filter is on", tt.name)
		}
		for i := range c.Filters {
			c.Filters[i][0] |= enabled
		}
		w := c.plan(&e, 0x2F)
		var got byte
		if len(w.alerts) > 0 {
			got = w.alerts[0].Filter
		}
		if got != tt.want {
			t.Errorf("%s: filter %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestOwnActions: what the filter itself did to the host's power alerts, and sets
// off no power action: else a filter that resets for a restart would for ever.
func TestOwnActions(t *testing.T) {
	c := factoryConfig(0x2F)
	f := any(1, actionReset|actionAlert, 1)
	copy(c.Filters[0][:], f[1:])
	for origin, want := range map[string]host.Action{"": host.Reset, via: ""} {
		e := sel.Entry{Record: record(sensorPowerUnit, sdr.NumberAC, 0x6F, 4), Origin: host.Origin{Via: origin}}
		w := c.plan(&e, 0x2F)
		if w.do != want || len(w.alerts) != 1 {
			t.Errorf("by %q: %q and %d alerts, want %q and 1", origin, w.do, len(w.alerts), want)
		}
	}
}

// TestActions: of several actions only the first by priority is done.
func TestActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run(t)
		defer func() { b.stop() }()
		b.sel.add(1, 1, 1, 0x59)
		b.wantActions(t) // no filter is on
		b.set(t, 6, any(1, actionReset|actionInterrupt, 0)...)
		b.wantActions(t) // nor is what was logged before worked on
		b.sel.add(1, 1, 1, 0x59)
		b.wantActions(t, "reset as command by pef")
		b.set(t, 6, any(12, actionCycle, 0)...)
		b.sel.add(1, 1, 1, 0x59)
		b.wantActions(t, "cycle as command by pef")
		b.set(t, 6, any(2, actionPowerOff, 0)...)
		b.sel.add(1, 1, 1, 0x59)
		b.wantActions(t, "off as command by pef")
		b.set(t, 2, byte(actionInterrupt|actionAlert)) // the global control
		b.sel.add(1, 1, 1, 0x59)
		b.wantActions(t, "diag as command by pef")
		b.set(t, 1, 0) // PEF is off
		b.sel.add(1, 1, 1, 0x59)
		b.wantActions(t)
		b.set(t, 1, 1)
		b.wantActions(t) // what happened meanwhile is over
		b.sel.add(1, 1, 1, 0x59)
		b.wantActions(t, "diag as command by pef")
		last := b.events.last()
		if last.Kind != "pef.action" || last.Severity != host.Warning || last.Origin.Via != "pef" {
			t.Errorf("the last event is %+v", last)
		}
	})
}

// TestRestart: no action is done twice and none is lost.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run(t)
		defer func() { b.stop() }()
		b.set(t, 6, any(1, actionReset, 0)...)
		b.sel.add(1, 1, 1, 0x59)
		b.wantActions(t, "reset as command by pef")
		b.restart(t)
		b.wantActions(t)
		b.stop()
		b.sel.add(1, 1, 1, 0x59)
		b.restart(t)
		b.wantActions(t, "reset as command by pef")
		if _, got := b.call(t, 0x15); !bytes.Equal(got, []byte{0x80, 0xDE, 0x1A, 0x6B, 2, 0, 0, 0, 2, 0}) {
			t.Errorf("the last processed events: % X", got)
		}
	})
}

// TestKilled: what is on the disk while an action has just been done and its
// alert is under way.
func TestKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run(t)
		defer func() { b.stop() }()
		b.set(t, 6, any(1, actionReset|actionAlert, 1)...)
		b.set(t, 9, 1, 0x18, 0x11, 0)
		b.sel.add(1, 1, 1, 0x59)
		b.wantActions(t, "reset as command by pef")
		next, err := New(b.opt)
		if err != nil {
			t.Fatal(err)
		}
		s := &next.state
		if !next.kept || s.Processed != 1 || s.ProcessedID != 1 || s.Sequence != 1 || len(s.Alerts) != 1 || s.Alerts[0].Sequence != 1 {
			t.Errorf("the next start finds %+v", *s)
		}
	})
}

func TestAlerts(t *testing.T) {
	for _, tt := range []struct {
		name     string
		policies [][]byte
		want     []string
	}{
		{"all", [][]byte{{1, 0x18, 0x11, 0}, {2, 0x18, 0x12, 0}},
			[]string{"0s 192.0.2.1:162 1", "3s 192.0.2.1:162 1", "6s 192.0.2.1:162 1", "6s 192.0.2.2:162 1", "11s 192.0.2.2:162 1"}},
		{"the second is for when the first fails", [][]byte{{1, 0x18, 0x11, 0}, {2, 0x19, 0x12, 0}},
			[]string{"0s 192.0.2.1:162 1", "3s 192.0.2.1:162 1", "6s 192.0.2.1:162 1"}},
		{"and it fails", [][]byte{{1, 0x18, 0x12, 0}, {2, 0x19, 0x11, 0}},
			[]string{"0s 192.0.2.2:162 1", "5s 192.0.2.2:162 1", "10s 192.0.2.1:162 1", "13s 192.0.2.1:162 1", "16s 192.0.2.1:162 1"}},
		{"stop", [][]byte{{1, 0x18, 0x11, 0}, {2, 0x1A, 0x12, 0}, {3, 0x18, 0x12, 0}},
			[]string{"0s 192.0.2.1:162 1", "3s 192.0.2.1:162 1", "6s 192.0.2.1:162 1"}},
		{"no address", [][]byte{{1, 0x18, 0x13, 0}, {2, 0x1A, 0x12, 0}},
			[]string{"0s 192.0.2.2:162 1", "5s 192.0.2.2:162 1"}},
		{"another policy", [][]byte{{5, 0x28, 0x11, 0}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.run(t)
				defer func() { b.stop() }()
				b.set(t, 6, any(1, actionAlert, 1)...)
				for _, p := range tt.policies {
					b.set(t, 9, p...)
				}
				b.sel.add(1, 1, 1, 0x59)
				time.Sleep(time.Minute)
				b.wantSent(t, tt.want...)
				if n := b.waiting(); n > 0 {
					t.Errorf("%d alerts are still kept", n)
				}
			})
		})
	}
}

// TestStorm: each of many events is worked on once, and alerts are off on the
// channel.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.opt.Alerting = func() bool { return false }
		b.make(t, b.opt)
		b.run(t)
		defer func() { b.stop() }()
		b.set(t, 6, any(1, actionReset|actionAlert, 1)...)
		b.set(t, 9, 1, 0x18, 0x11, 0)
		const events = 3*batch + 5
		for range events {
			b.sel.add(1, 1, 1, 0x59)
		}
		synctest.Wait()
		b.power.mu.Lock()
		asked := len(b.power.asked)
		b.power.mu.Unlock()
		if asked != events {
			t.Errorf("%d actions, want %d", asked, events)
		}
		time.Sleep(time.Minute)
		b.wantSent(t)
		if last := b.events.last(); last.Kind != "pef.alert" || last.Severity != host.Warning {
			t.Errorf("the last event is %+v", last)
		}
		if n := b.waiting(); n > 0 {
			t.Errorf("%d alerts are still kept", n)
		}
	})
}

// ack is what a console sends to acknowledge the last trap.
func (b *bench) ack(t *testing.T, change ...int) {
	t.Helper()
	b.mu.Lock()
	got, err := decodeTrap(b.last)
	b.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	p := got.pet
	data := []byte{p[17], p[16], p[21], p[20], p[19], p[18], p[25], p[27], p[28], p[31], p[32], p[33]}
	for _, i := range change {
		data[i]++
	}
	if code, _ := b.call(t, 0x17, data...); code != command.OK {
		t.Errorf("PET Acknowledge: %v", code)
	}
}

func TestAcknowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run(t)
		defer func() { b.stop() }()
		b.set(t, 6, any(1, actionAlert, 1)...)
		b.set(t, 9, 2, 0x18, 0x12, 0)
		b.sel.add(1, 1, 1, 0x59, 0x70, 0x6E)
		synctest.Wait()
		for i := range 12 {
			b.ack(t, i) // of another trap
		}
		time.Sleep(time.Second)
		b.ack(t)
		b.ack(t)
		time.Sleep(time.Minute)
		b.wantSent(t, "0s 192.0.2.2:162 1")
		last := b.events.last()
		if last.Kind != "pef.alert" || last.Severity != "" {
			t.Errorf("the last event is %+v", last)
		}
		b.sel.add(1, 1, 1, 0x59, 0x70, 0x6E)
		time.Sleep(time.Minute)
		b.wantSent(t, "1m1s 192.0.2.2:162 2", "1m6s 192.0.2.2:162 2")
		last = b.events.last()
		if last.Kind != "pef.alert" || last.Severity != host.Warning {
			t.Errorf("the last event is %+v", last)
		}
	})
}

// TestUnsent: an alert that no network was there for outlives a restart, with
// its number.
func TestUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run(t)
		defer func() { b.stop() }()
		b.set(t, 6, any(1, actionAlert, 1)...)
		b.set(t, 9, 1, 0x18, 0x11, 0)
		b.network(false)
		b.sel.add(1, 1, 1, 0x59)
		time.Sleep(time.Minute)
		b.restart(t)
		time.Sleep(59 * time.Second)
		b.network(true)
		time.Sleep(time.Minute)
		b.wantSent(t, "2m0s 192.0.2.1:162 1", "2m3s 192.0.2.1:162 1", "2m6s 192.0.2.1:162 1")
		b.network(false)
		b.sel.add(1, 1, 1, 0x59)
		time.Sleep(offline + time.Minute)
		if n := b.waiting(); n > 0 {
			t.Errorf("%d alerts are still kept", n)
		}
		for range maxAlerts + 5 {
			b.sel.add(1, 1, 1, 0x59)
		}
		synctest.Wait()
		if n := b.waiting(); n != maxAlerts {
			t.Errorf("%d alerts are kept, want %d", n, maxAlerts)
		}
	})
}

// TestDelays: the postpone timer and the delays after a start of the host.
func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run(t)
		defer func() { b.stop() }()
		arm := func(v, want byte) {
			t.Helper()
			if code, got := b.call(t, 0x11, v); code != command.OK || !bytes.Equal(got, []byte{want}) {
				t.Errorf("Arm PEF Postpone Timer %02X: %v % X, want %02X", v, code, got, want)
			}
		}
		const reset = "reset as command by pef"
		b.set(t, 6, any(1, actionReset, 0)...)
		arm(0xFF, 0)
		arm(10, 10)
		time.Sleep(time.Hour) // no event starts it
		arm(0xFF, 10)
		b.sel.add(1, 1, 1, 0x59)
		b.wantActions(t)
		time.Sleep(4 * time.Second)
		arm(0xFF, 6)
		time.Sleep(6 * time.Second)
		b.wantActions(t, reset)
		id := b.sel.add(1, 1, 1, 0x59)
		synctest.Wait()
		if code, _ := b.call(t, 0x14, 0, byte(id), byte(id>>8)); code != command.OK { // software worked on it
			t.Errorf("Set Last Processed Event ID: %v", code)
		}
		time.Sleep(time.Minute)
		b.wantActions(t)
		arm(0xFE, 0xFE)
		b.sel.add(1, 1, 1, 0x59)
		time.Sleep(time.Hour)
		b.wantActions(t)
		arm(0, 0)
		b.wantActions(t, reset)
		arm(0xFE, 0xFE)
		b.sel.add(sensorACPI, sdr.NumberPower, 0x6F, 6) // the host is off, and its software with it
		b.wantActions(t, reset)
		arm(0xFF, 0)

		b.set(t, 1, controlPEF|controlStartupDelay)
		b.set(t, 3, 30)
		b.sel.add(sensorBoot, sdr.NumberBoot, 0x6F, 7)
		time.Sleep(29 * time.Second)
		b.wantActions(t)
		time.Sleep(time.Second)
		b.wantActions(t, reset)

		b.set(t, 1, controlPEF|controlAlertDelay)
		b.set(t, 4, 20)
		b.set(t, 6, any(1, actionAlert, 1)...)
		b.set(t, 9, 1, 0x18, 0x11, 0)
		b.made = time.Now()
		b.sel.add(sensorBoot, sdr.NumberBoot, 0x6F, 7)
		time.Sleep(21 * time.Second)
		b.wantSent(t, "20s 192.0.2.1:162 1")

		b.call(t, 0x14, 1, byte(id), byte(id>>8)) // the board is to begin again behind it
		synctest.Wait()
		if got := b.waiting(); got != 5 {
			t.Errorf("%d alerts wait, want 5: that under way, and those of the four entries behind", got)
		}
	})
}

func TestAlertImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run(t)
		defer func() { b.stop() }()
		status := func(want byte) {
			t.Helper()
			if code, got := b.call(t, 0x16, 1, 0x41, 0); code != command.OK || !bytes.Equal(got, []byte{want}) {
				t.Errorf("status %v % X, want %02X", code, got, want)
			}
		}
		status(immediateNone)
		b.set(t, 13, append([]byte{0, 1}, "by hand"...)...)
		if code, _ := b.call(t, 0x16, 1, 0x01, 0x80); code != command.OK {
			t.Errorf("Alert Immediate: %v", code)
		}
		synctest.Wait()
		status(immediateRunning)
		if code, _ := b.call(t, 0x16, 1, 0x01, 0); code != codeAlertRunning {
			t.Errorf("a second one: %v, want %v", code, codeAlertRunning)
		}
		time.Sleep(time.Minute)
		status(immediateSuccess)
		if got, err := decodeTrap(b.last); err != nil || got.text() != "by hand" || got.specific != 0 {
			t.Errorf("the trap is %+v, %v", got, err)
		}
		if code, got := b.call(t, 0x16, 1, 0x81, 0); code != command.OK || !bytes.Equal(got, []byte{immediateNone}) {
			t.Errorf("clearing the status: %v % X", code, got)
		}
		if code, _ := b.call(t, 0x16, 1, 0x02, 0, 0x20, 4, 1, 7, 1, 0x59, 0x70, 0x6E); code != command.OK {
			t.Errorf("Alert Immediate with an event: %v", code)
		}
		time.Sleep(time.Minute)
		status(immediateFailed)
		if got, err := decodeTrap(b.last); err != nil || got.specific != 0x010109 || got.pet[28] != 7 {
			t.Errorf("the trap is %+v, %v", got, err)
		}

		// A script that asks without end does not fill the log.
		b.events.take()
		for range 100 {
			if code, _ := b.call(t, 0x16, 1, 0x03, 0); code == command.OK {
				t.Fatal("destination 3 has no address")
			}
			if code, _ := b.call(t, 0x16, 1, 0x01, 0); code != command.OK {
				t.Fatalf("Alert Immediate: %v", code)
			}
			time.Sleep(10 * time.Second)
		}
		told := b.events.take()
		if n := len(told); n < 10 || n > 100*10/60+1 {
			t.Errorf("%d events in %d s, want one a minute", n, 100*10)
		}
		for _, e := range told {
			if e.Kind != "pef.alert" || e.Origin != commandtest.Origin() {
				t.Errorf("got the event %+v, want one by %v", e, commandtest.Origin())
			}
		}
	})
}

// TestSameAgain: what is there already is not written again.
func TestSameAgain(t *testing.T) {
	b := newBench(t)
	id := b.sel.add(1, 7, 1, 0x59)
	for _, tt := range []struct {
		name string
		cmd  byte
		data []byte
	}{
		{"last processed by software", 0x14, []byte{0, byte(id), 0}},
		{"last processed by the board", 0x14, []byte{1, byte(id), 0}},
		{"startup delay", 0x12, []byte{3, 9}},
	} {
		if code, _ := b.call(t, tt.cmd, tt.data...); code != command.OK {
			t.Errorf("%s: %v", tt.name, code)
		}
		count := 0
		if err := b.opt.Store.Update(func(tx store.Tx) error { return tx.Delete(bucket, []byte(stateKey)) }); err != nil {
			t.Fatal(err)
		}
		if code, _ := b.call(t, tt.cmd, tt.data...); code != command.OK {
			t.Errorf("%s again: %v", tt.name, code)
		}
		if err := b.opt.Store.View(func(tx store.Tx) error { count = len(tx.Get(bucket, []byte(stateKey))); return nil }); err != nil {
			t.Fatal(err)
		}
		if count != 0 {
			t.Errorf("%s again: the state was written", tt.name)
		}
	}
}

func FuzzCommands(f *testing.F) {
	commandtest.Fuzz(f, newBench(f).Commands())
}
