package sel

import (
	"encoding/binary"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
	"github.com/nitrino/nitrino/ipmi/sdr"
)

// fakeSensors has one gauge, whose raw numbers are its values, and events that
// are switched off.
type fakeSensors struct {
	mu  sync.Mutex
	off map[[2]uint8]bool // number, offset
}

func (f *fakeSensors) Gauge(name string) (sdr.Gauge, bool) {
	if name != "CPU" {
		return sdr.Gauge{}, false
	}
	return sdr.Gauge{Number: 3, Type: 0x01, Factors: sdr.Factors{M: 1}}, true
}

func (f *fakeSensors) Enabled(number, offset uint8, deassert bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.off[[2]uint8{number, offset}]
}

func (f *fakeSensors) disable(number, offset uint8) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = map[[2]uint8]bool{{number, offset}: true}
}

// rig is a log over a real event log in a store.
type rig struct {
	*Log
	t       testing.TB
	path    string
	db      *store.Store
	events  *host.Events
	sensors *fakeSensors
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "state.db"), sensors: &fakeSensors{}}
	r.open()
	t.Cleanup(func() { must(t, r.db.Close()) }) // a second Close is no error
	return r
}

// open makes the log of what is in the store, as a start of the board does.
func (r *rig) open() {
	r.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	var err error
	r.db, err = store.Open(r.path)
	must(r.t, err)
	r.events, err = host.OpenEvents(r.db, quiet)
	must(r.t, err)
	r.Log, err = New(Options{Events: r.events, Sensors: r.sensors, Clock: NewClock(r.db, r.events, quiet), Store: r.db, Log: quiet,
		UserID: func(name string) uint8 { return uint8(len(name)) }})
	must(r.t, err)
}

// restart ends the board's software without a clean end: what the event log
// has not written is lost.
func (r *rig) restart() {
	r.t.Helper()
	must(r.t, r.db.Close())
	r.open()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// add logs events, and has them taken up.
func (r *rig) add(events ...host.Event) {
	r.t.Helper()
	for _, e := range events {
		r.events.Add(e)
	}
	if !r.follow() {
		r.t.Error("the records were not written")
	}
}

// call runs a storage command that has to answer want.
func (r *rig) call(want command.Code, cmd byte, data ...byte) []byte {
	r.t.Helper()
	code, reply := commandtest.Call(r.t, r.Commands(), command.Storage, cmd, data...)
	if code != want {
		r.t.Errorf("command %02Xh % X: got %v, want %v", cmd, data, code, want)
	}
	return reply
}

// reservation makes one.
func (r *rig) reservation() (low, high byte) {
	r.t.Helper()
	id := r.call(command.OK, 0x42)
	if len(id) != 2 || id[0] == 0 && id[1] == 0 {
		r.t.Fatalf("got the reservation % X", id)
	}
	return id[0], id[1]
}

// records reads the log as consoles do.
func (r *rig) records() (all [][RecordLen]byte) {
	r.t.Helper()
	if r.entries() == 0 {
		r.call(command.NotPresent, 0x43, 0, 0, 0, 0, 0, 0xFF)
		return nil
	}
	next := []byte{0, 0}
	for {
		reply := r.call(command.OK, 0x43, 0, 0, next[0], next[1], 0, 0xFF)
		if len(reply) != 2+RecordLen {
			r.t.Fatalf("Get SEL Entry answers % X", reply)
		}
		all = append(all, [RecordLen]byte(reply[2:]))
		if next = reply[:2]; next[0] == 0xFF && next[1] == 0xFF {
			return all
		}
		if len(all) > host.MaxEvents {
			r.t.Fatal("the log has no end")
		}
	}
}

func (r *rig) ids() (all []uint16) {
	r.t.Helper()
	for _, x := range r.records() {
		all = append(all, binary.LittleEndian.Uint16(x[:]))
	}
	return all
}

func (r *rig) wantIDs(want ...uint16) {
	r.t.Helper()
	if got := r.ids(); !slices.Equal(got, want) {
		r.t.Errorf("record IDs: got %v, want %v", got, want)
	}
}

func (r *rig) entries() int {
	r.t.Helper()
	return int(binary.LittleEndian.Uint16(r.call(command.OK, 0x40)[1:]))
}

func (r *rig) kinds(from uint64) (all []string) {
	for _, e := range r.events.Since(from, 0) {
		all = append(all, e.Kind)
	}
	return all
}

// The fakes, and those of package sdr, stand for these.
var (
	_ Sensors   = (*sdr.Repository)(nil)
	_ sdr.Clock = (*Clock)(nil)
)
