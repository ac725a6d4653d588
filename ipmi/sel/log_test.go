package sel

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

var (
	on  = host.Event{Kind: "power.on"}
	off = host.Event{Kind: "power.off"}
)

// Each kind of event is the record that it should be.
func TestRecords(t *testing.T) {
	at := time.Unix(0x60000000, 0)
	console := host.Origin{Via: "ipmi", User: "admin", Source: "192.0.2.1"}
	person := host.Origin{Via: "redfish", User: "operator", Source: "192.0.2.1"}
	crossed := func(l host.Limit, beyond bool) *host.SensorChange {
		return &host.SensorChange{Name: "CPU", Limit: l, Beyond: beyond, Value: 91, At: 90}
	}
	for _, tt := range []struct {
		event host.Event
		want  string // sensor type, number, direction and type, data
	}{
		{host.Event{Kind: "power.on"}, "22 e0 6f 00 ff ff"},
		{host.Event{Kind: "power.asleep"}, "22 e0 6f 03 ff ff"},
		{host.Event{Kind: "power.off"}, "22 e0 6f 06 ff ff"},
		{host.Event{Kind: "power.ac-lost"}, "09 e1 6f 04 ff ff"},
		{host.Event{Kind: "power.ac-restored"}, "09 e1 ef 04 ff ff"},
		{host.Event{Kind: "power.failed"}, "09 e1 6f 05 ff ff"},
		{host.Event{Kind: "power.nmi"}, "13 e8 6f 00 ff ff"},
		{host.Event{Kind: "power.limit"}, "0b e9 05 01 ff ff"},
		{host.Event{Kind: "power.limit-cleared"}, "0b e9 85 01 ff ff"},
		{host.Event{Kind: "power.restarted", Origin: console}, "1d e4 6f f7 01 01"},
		{host.Event{Kind: "power.restarted", Origin: person}, "1d e4 6f c7 01 ff"},
		{host.Event{Kind: "power.restarted", Origin: host.Origin{Via: "panel"}}, "1d e4 6f c7 02 ff"},
		{host.Event{Kind: "power.restarted", Origin: host.Origin{Via: "host"}}, "1d e4 6f c7 0a ff"},
		{host.Event{Kind: "power.restarted", Origin: host.Origin{Via: "pef"}}, "1d e4 6f c7 08 ff"},
		{host.Event{Kind: "power.restarted", Origin: host.Origin{Via: "other"}}, "1d e4 6f c7 00 ff"},
		{host.Event{Kind: "power.restarted"}, "1d e4 6f c7 04 ff"},
		{host.Event{Kind: "panel.power-button"}, "14 e3 6f 00 ff ff"},
		{host.Event{Kind: "panel.reset-button"}, "14 e3 6f 02 ff ff"},
		{host.Event{Kind: "watchdog.expired", Watchdog: &host.WatchdogChange{Use: host.WatchdogSMSOS, Action: host.Cycle}}, "23 e2 6f c3 04 ff"},
		{host.Event{Kind: "watchdog.expired", Watchdog: &host.WatchdogChange{Use: host.WatchdogBIOSFRB2}}, "23 e2 6f c0 01 ff"},
		{host.Event{Kind: "watchdog.pre-timeout", Watchdog: &host.WatchdogChange{Use: host.WatchdogOEM, Action: host.Reset, Pre: true}}, "23 e2 6f c8 25 ff"},
		{host.Event{Kind: "watchdog.expired"}, "23 e2 6f 00 ff ff"},
		{host.Event{Kind: "watchdog.set"}, ""},
		{host.Event{Kind: "sensor.limit", Sensor: crossed(host.UpperCritical, true)}, "01 03 01 59 5b 5a"},
		{host.Event{Kind: "sensor.limit", Sensor: crossed(host.UpperCritical, false)}, "01 03 81 59 5b 5a"},
		{host.Event{Kind: "sensor.limit", Sensor: crossed(host.LowerCaution, true)}, "01 03 01 50 5b 5a"},
		{host.Event{Kind: "sensor.limit", Sensor: crossed(host.LowerFatal, true)}, "01 03 01 54 5b 5a"},
		{host.Event{Kind: "sensor.limit", Sensor: &host.SensorChange{Name: "gone"}}, ""},
		{host.Event{Kind: "sensor.limit"}, ""},
		{host.Event{Kind: "thermal.limit", Sensor: crossed(host.UpperCritical, true)}, "01 03 01 59 5b 5a"},
		{host.Event{Kind: "thermal.limit-cleared", Sensor: crossed(host.UpperCritical, false)}, "01 03 81 59 5b 5a"},
		{host.Event{Kind: "thermal.limit-failed"}, "09 e1 6f 05 ff ff"},
		{host.Event{Kind: "sensor.failed", Sensor: &host.SensorChange{Name: "CPU"}}, "28 e7 6f c4 03 ff"},
		{host.Event{Kind: "sensor.restored", Sensor: &host.SensorChange{Name: "CPU"}}, "28 e7 ef c4 03 ff"},
		{host.Event{Kind: "sensor.failed"}, "28 e7 6f 04 ff ff"},
		{host.Event{Kind: "sensor.limits-changed", Sensor: crossed(0, false)}, ""},
		{host.Event{Kind: "auth.login", Origin: console}, "2a e5 6f f0 05 01"},
		{host.Event{Kind: "auth.login", Origin: person}, "2a e5 6f c0 08 ff"},
		{host.Event{Kind: "auth.failed", Origin: console}, "2a e5 6f 32 ff 01"},
		{host.Event{Kind: "auth.failed", Origin: person}, "2a e5 6f 02 ff ff"},
		{host.Event{Kind: "auth.locked", Origin: person}, "2a e5 6f 03 ff ff"},
		{host.Event{Kind: "auth.user-created", Origin: person}, ""},
		{host.Event{Kind: "wire.failed"}, "28 e7 6f 01 ff ff"},
		{host.Event{Kind: "wire.restored"}, "28 e7 ef 01 ff ff"},
		{host.Event{Kind: "service.failing"}, "28 e7 6f 01 ff ff"},
		{host.Event{Kind: "network.up"}, ""},
		{host.Event{Kind: "sel.added", Data: []byte{1, 2, 3}}, ""},
	} {
		r := newRig(t)
		tt.event.Time = at
		r.add(tt.event)
		all := r.records()
		if tt.want == "" {
			if len(all) != 0 {
				t.Errorf("%+v: got % x, want no record", tt.event, all)
			}
			continue
		}
		if len(all) != 1 {
			t.Errorf("%+v: got %d records, want one", tt.event, len(all))
			continue
		}
		if got, want := fmt.Sprintf("% x", all[0]), "01 00 02 00 00 00 60 20 00 04 "+tt.want; got != want {
			t.Errorf("%+v:\ngot  %s\nwant %s", tt.event, got, want)
		}
	}
}

// The table has each kind once, and only sensors and events that there are.
func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if seen[k.Kind] {
			t.Errorf("%s is there twice", k.Kind)
		}
		seen[k.Kind] = true
		if k.Number != 0 && (k.Type == 0 || k.Event == 0) || k.Text == "" {
			t.Errorf("%+v is not complete", k)
		}
	}
}

// A restart of the board, clean or not, changes no record.
func TestRestart(t *testing.T) {
	r := newRig(t)
	r.add(on, host.Event{Kind: "identify"}, off, on)
	r.wantIDs(1, 2, 3)
	before := r.records()
	r.restart()
	if got := r.records(); !slices.Equal(got, before) {
		t.Errorf("after a restart: got % x, want % x", got, before)
	}
	// The event log lost its lines, and the SEL showed their records.
	if got := r.Since(0, 0); len(got) != 3 || got[0].Severity != host.OK || got[0].Seq != 1 {
		t.Errorf("got %+v", got)
	}
	r.add(off)
	r.wantIDs(1, 2, 3, 4)

	low, high := r.reservation()
	r.call(command.OK, 0x46, low, high, 2, 0)
	r.restart()
	r.wantIDs(1, 3, 4)
	low, high = r.reservation()
	r.call(command.OK, 0x47, low, high, 'C', 'L', 'R', 0xAA)
	r.restart()
	r.wantIDs(5)
	r.add(on)
	r.wantIDs(5, 6)
}

// What happened while nobody made records is made up for, and events that were
// not to be recorded are not recorded later.
func TestMadeUp(t *testing.T) {
	r := newRig(t)
	r.sensors.disable(0xE0, 6)
	r.add(on, off)
	r.wantIDs(1)
	r.sensors.off = nil
	for range 3 {
		r.events.Add(on)
	}
	flushed(t, r.events)
	r.restart()
	r.wantIDs(1, 2, 3, 4)
}

// flushed writes the event log to the store.
func flushed(t testing.TB, e *host.Events) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// The event log is there before the SEL is.
func TestFirstStart(t *testing.T) {
	r := newRig(t)
	must(t, r.db.Update(func(tx store.Tx) error {
		return errors.Join(tx.DeleteBelow(recordBucket, key(1<<63)), tx.Delete(stateBucket, []byte(stateKey)))
	}))
	for range 1200 {
		r.events.Add(on)
		r.events.Add(host.Event{Kind: "network.up"})
	}
	flushed(t, r.events)
	r.restart()
	if got := r.ids(); len(got) != 1200 || got[0] != 1 || got[1199] != 1200 {
		t.Errorf("got %d records", len(got))
	}
}

// IDs begin again, without 0000h and FFFFh.
func TestWrap(t *testing.T) {
	r := newRig(t)
	must(t, r.db.PutJSON(stateBucket, stateKey, state{NextID: 0xFFFD, Added: never, Erased: never}))
	r.restart()
	r.add(on, off, on, off)
	r.wantIDs(0xFFFD, 0xFFFE, 1, 2)
	for _, id := range []uint16{0xFFFD, 0xFFFE, 1, 2} {
		got := r.call(command.OK, 0x43, 0, 0, byte(id), byte(id>>8), 0, 2)
		if len(got) != 4 || got[2] != byte(id) || got[3] != byte(id>>8) {
			t.Errorf("record %04Xh: got % X", id, got)
		}
	}
	for _, id := range []uint16{3, 0xFFFC, 0x8000} {
		r.call(command.NotPresent, 0x43, 0, 0, byte(id), byte(id>>8), 0, 0xFF)
	}
}

// A state that cannot be read loses no record, and gives no ID again.
func TestDamagedState(t *testing.T) {
	for _, bad := range []string{"nonsense", "{}", `{"next_id":"x"}`} {
		r := newRig(t)
		r.add(on, off)
		must(t, r.db.Update(func(tx store.Tx) error {
			return errors.Join(tx.Put(stateBucket, []byte(stateKey), []byte(bad)), tx.Put(stateBucket, []byte(clockKey), []byte(bad)),
				tx.Put(recordBucket, []byte("bad"), []byte("bad")))
		}))
		r.restart()
		r.add(on)
		r.wantIDs(1, 2, 3)
	}
}

// The log holds what the event log holds, and says so.
func TestFull(t *testing.T) {
	r := newRig(t)
	space := func() (bytes, units, entries int, overflow bool) {
		t.Helper()
		info, units4 := r.call(command.OK, 0x40), r.call(command.OK, 0x41)
		return int(info[3]) | int(info[4])<<8, int(units4[4]) | int(units4[5])<<8, int(info[1]) | int(info[2])<<8, info[13]&0x80 != 0
	}
	check := func(bytes, units, entries int, overflow bool) {
		t.Helper()
		b, u, e, o := space()
		if b != bytes || u != units || e != entries || o != overflow {
			t.Errorf("got %d bytes, %d units free, %d entries, overflow %v, want %d, %d, %d, %v", b, u, e, o, bytes, units, entries, overflow)
		}
	}
	check(0xFFFF, host.MaxEvents, 0, false)
	r.add(on)
	check((host.MaxEvents-1)*16, host.MaxEvents-1, 1, false)
	r.add(slices.Repeat([]host.Event{{Kind: "network.up"}}, 95)...)
	check(4000*16, 4000, 1, false)
	r.add(slices.Repeat([]host.Event{on}, 4000)...)
	check(0, 0, 4001, false)
	r.add(on)
	check(95*16, 95, 4001, true) // the 95 others are the next that go
	r.add(slices.Repeat([]host.Event{off}, 5000)...)
	check(0, 0, host.MaxEvents, true)
	ids := r.ids()
	// The first of the 5000 were gone before anybody looked.
	if ids[0] != 4003 || ids[len(ids)-1] != 4002+host.MaxEvents {
		t.Errorf("got records %d to %d", ids[0], ids[len(ids)-1])
	}
	r.restart()
	if got := r.ids(); !slices.Equal(got, ids) {
		t.Errorf("after a restart: %d records from %d on", len(got), got[0])
	}
	low, high := r.reservation()
	r.call(command.OK, 0x47, low, high, 'C', 'L', 'R', 0xAA)
	check((host.MaxEvents-1)*16, host.MaxEvents-1, 1, false)
}

// A store that does not work leaves the log in memory.
func TestStoreFails(t *testing.T) {
	r := newRig(t)
	r.add(on)
	must(t, r.db.Close())
	r.events.Add(off)
	if r.follow() {
		t.Error("a closed store took a record")
	}
	r.wantIDs(1, 2)
	low, high := r.reservation()
	r.call(command.Unspecified, 0x46, low, high, 1, 0)
	r.call(command.Unspecified, 0x47, low, high, 'C', 'L', 'R', 0xAA)
	r.call(command.Unspecified, 0x49, 1, 2, 3, 4)
	r.call(command.Unspecified, 0x5D, 1, 0)
	if r.SetLogging(false, host.Origin{}) == nil || !r.Logging() {
		t.Error("logging was switched off where nothing is kept")
	}
	r.wantIDs(1, 2)
}

// Run makes records as events come, and readers hear of them.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		heard := make(chan error)
		go func() { heard <- r.Wait(ctx, 0) }()
		synctest.Wait()
		select {
		case err := <-heard:
			t.Fatalf("Wait ended before there was a record: %v", err)
		default:
		}
		r.events.Add(host.Event{Kind: "network.up"})
		r.events.Add(host.Event{Kind: "power.lost", Severity: host.Critical, Origin: host.Origin{Via: "host"}})
		r.events.Add(on)
		if err := <-heard; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		got := r.Since(0, 0)
		if len(got) != 2 || got[0].Seq != 2 || got[0].ID() != 1 || got[0].Severity != host.Critical || got[0].Origin.Via != "host" || got[1].Seq != 3 {
			t.Errorf("got %+v", got)
		}
		if got := r.Since(2, 5); len(got) != 1 || got[0].Seq != 3 || r.Last() != 3 {
			t.Errorf("got %+v, the last is %d", got, r.Last())
		}
		if got := r.Since(0, 1); len(got) != 1 || got[0].Seq != 2 {
			t.Errorf("got %+v", got)
		}
		// The store fails for a while: Run goes on.
		must(t, r.db.Close())
		r.events.Add(off)
		time.Sleep(time.Minute)
		r.wantIDs(1, 2, 3)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: got %v", err)
		}
		if err := r.Wait(ctx, 99); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait: got %v", err)
		}
	})
}

// Consoles that read, add and clear at once each see a log that makes sense.
func TestConcurrent(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = r.Run(ctx) }) // it ends with ctx
	var consoles sync.WaitGroup
	for n := range 3 {
		consoles.Go(func() {
			for i := range 40 {
				switch id := r.call(command.OK, 0x42); {
				case n == 0 && i%10 == 9:
					// Another record may have come in between.
					commandtest.Call(t, r.Commands(), command.Storage, 0x47, id[0], id[1], 'C', 'L', 'R', 0xAA)
				case n == 0:
					r.events.Add(on)
				default:
					got := r.call(command.OK, 0x44, 0, 0, 0xE0, byte(n), byte(i), 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
					if n == 1 {
						commandtest.Call(t, r.Commands(), command.Storage, 0x46, id[0], id[1], got[0], got[1])
					}
				}
				last := uint64(0)
				for _, e := range r.Since(0, 0) {
					if e.Seq <= last {
						t.Errorf("record %d comes after %d", e.Seq, last)
					}
					last = e.Seq
				}
			}
		})
	}
	consoles.Wait()
	cancel()
	tasks.Wait()
	before := r.records()
	r.restart()
	if got := r.records(); !slices.Equal(got, before) {
		t.Errorf("after a restart there are %d records, want %d", len(got), len(before))
	}
}

// childEnv holds the file that the test binary, run as the child of TestKilled,
// writes to.
const childEnv = "SEL_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		fmt.Fprintln(os.Stderr, showLoop(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// showLoop logs events, and says on standard output which records can be seen.
func showLoop(path string) error {
	quiet := slog.New(slog.DiscardHandler)
	db, err := store.Open(path)
	if err != nil {
		return err
	}
	events, err := host.OpenEvents(db, quiet)
	if err != nil {
		return err
	}
	l, err := New(Options{Events: events, Sensors: &fakeSensors{}, Clock: NewClock(db, events, quiet), Store: db, Log: quiet})
	if err != nil {
		return err
	}
	ctx := context.Background()
	go func() { _ = events.Run(ctx) }() // ends with the process
	go func() { _ = l.Run(ctx) }()
	seen := l.Last()
	for n := 0; ; n++ {
		for range n % 7 {
			events.Add(on)
			events.Add(host.Event{Kind: "network.up"})
		}
		events.Add(off)
		if err := l.Wait(ctx, seen); err != nil {
			return err
		}
		for _, e := range l.Since(seen, 0) {
			seen = e.Seq
			if _, err := fmt.Printf("%x\n", e.Record); err != nil {
				return err
			}
		}
	}
}

// After a crash at any time, records that were shown are as they were.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	shown := map[uint16]string{}
	for range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		kill := time.AfterFunc(200*time.Millisecond, func() {
			if err := cmd.Process.Kill(); err != nil {
				t.Errorf("killing the child: %v", err)
			}
		})
		for lines := bufio.NewScanner(out); lines.Scan(); {
			line := lines.Text()
			raw, err := hex.DecodeString(line)
			if err != nil || len(raw) != RecordLen {
				break // cut in its line
			}
			id := uint16(raw[0]) | uint16(raw[1])<<8
			if old, ok := shown[id]; ok {
				t.Errorf("record %d was given again: %s, and before %s", id, line, old)
			}
			shown[id] = line
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
		kill.Stop()
		r := &rig{t: t, path: path, sensors: &fakeSensors{}}
		r.open()
		now := map[uint16]string{}
		for _, x := range r.records() {
			now[uint16(x[0])|uint16(x[1])<<8] = hex.EncodeToString(x[:])
		}
		for id, was := range shown {
			if now[id] != was && !(now[id] == "" && len(now) > 2000) { // the oldest may have gone
				t.Errorf("record %d: got %s, want %s", id, now[id], was)
			}
		}
		must(t, r.db.Close())
	}
	if len(shown) < 10 {
		t.Errorf("only %d records were shown", len(shown))
	}
}

// Event logging can be switched off, which is kept and told.
func TestLogging(t *testing.T) {
	r := newRig(t)
	from := host.Origin{Via: "ipmi", User: "admin"}
	r.events.Add(on) // not taken up yet
	must(t, r.SetLogging(false, from))
	must(t, r.SetLogging(false, from))
	r.add(off, on)
	r.wantIDs(1, 2)
	if got := r.records()[1]; got[atEvent] != 0x10 || got[atEvent+2] != 0x6F || got[atEvent+3] != 3 {
		t.Errorf("got % X, want all event logging disabled", got)
	}
	r.call(command.OK, 0x44, 0, 0, 0xE0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)
	r.restart()
	if r.Logging() {
		t.Error("after a restart events are logged again")
	}
	r.add(off)
	must(t, r.SetLogging(true, from))
	if !r.Logging() {
		t.Error("events are not logged again")
	}
	r.add(off)
	r.wantIDs(1, 2, 3, 4, 5)
	if got := r.records()[3]; got[atEvent] != 0x10 || got[atEvent+2] != 0xEF {
		t.Errorf("got % X, want the deassertion of all event logging disabled", got)
	}
	if got := strings.Join(r.kinds(0), " "); strings.Count(got, "sel.logging-off") > 1 || strings.Count(got, "sel.logging-on") != 1 {
		t.Errorf("events: got %s", got)
	}
}
