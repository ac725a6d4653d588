package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeGauge is a gauge that a test sets.
type fakeGauge struct {
	mu    sync.Mutex
	value float64
	err   error
	takes time.Duration
	reads int
}

func (g *fakeGauge) set(v float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.value = v
}

func (g *fakeGauge) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
}

func (g *fakeGauge) slow(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.takes = d
}

func (g *fakeGauge) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reads
}

func (g *fakeGauge) Read(ctx context.Context) (float64, error) {
	g.mu.Lock()
	g.reads++
	takes := g.takes
	g.mu.Unlock()
	if takes > 0 {
		if err := pause(ctx, takes); err != nil {
			return 0, err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.value, g.err
}

// gauge adds a sensor of 0 to 100 to the parts.
func (r *rig) gauge(name string, change func(p *SensorPart)) *fakeGauge {
	g := &fakeGauge{value: 20}
	p := SensorPart{Name: name, Quantity: Temperature, Place: PlaceInlet, Min: 0, Max: 100, Gauge: g}
	if change != nil {
		change(&p)
	}
	r.parts.Sensors = append(r.parts.Sensors, p)
	return g
}

func (r *rig) sensor(name string) *Sensor {
	for _, x := range r.h.Sensors.List() {
		if x.Name() == name {
			return x
		}
	}
	r.t.Fatalf("no sensor %q", name)
	return nil
}

// told are the events after from, in short.
func (r *rig) told(from uint64) (told []string) {
	synctest.Wait()
	for _, e := range r.h.Events.Since(from, 0) {
		s := e.Kind
		switch {
		case e.Sensor != nil && e.Sensor.Limit != 0:
			s += fmt.Sprintf(" %s %v %v/%v", e.Sensor.Limit, e.Sensor.Beyond, e.Sensor.Value, e.Sensor.At)
		case e.Sensor != nil:
			s += " " + e.Sensor.Name
		case e.Watchdog != nil:
			s += fmt.Sprintf(" %s %q", e.Watchdog.Use, e.Watchdog.Action)
		}
		told = append(told, s)
	}
	return told
}

func (r *rig) wantTold(from uint64, want ...string) {
	r.t.Helper()
	if got := r.told(from); !slices.Equal(got, want) {
		r.t.Errorf("events:\n got %q\nwant %q", got, want)
	}
}

func TestSensorPolled(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		fast, stuck, bad := r.gauge("fast", nil), r.gauge("stuck", nil), r.gauge("bad", nil)
		stuck.slow(time.Hour)
		bad.fail(errors.New("no chip"))
		r.boot()
		for i := range 20 {
			fast.set(float64(i))
			time.Sleep(sensorPeriod)
			synctest.Wait()
			got := r.sensor("fast").Reading()
			if want := (Reading{Value: float64(i), At: got.At, Valid: true}); got != want || time.Since(got.At) > sensorPeriod {
				t.Fatalf("after %d s: got %+v, want %+v", i, got, want)
			}
		}
		if got := fast.count(); got != 21 {
			t.Errorf("reads in 20 s: got %d, want 21", got)
		}
		for _, name := range []string{"stuck", "bad"} {
			if got := r.sensor(name).Reading(); got.Valid {
				t.Errorf("%s: got %+v, want it invalid", name, got)
			}
		}
		// Each failure is told once, and once that it is over.
		r.wantTold(0, "sensor.failed bad", "sensor.failed stuck")
		before := r.h.Events.Last()
		bad.fail(nil)
		stuck.slow(0)
		time.Sleep(10 * time.Second)
		r.wantTold(before, "sensor.restored bad", "sensor.restored stuck")
		// The end of Run is no failure.
		before = r.h.Events.Last()
		stuck.slow(2 * time.Second)
		time.Sleep(3500 * ms)
		r.stop()
		r.wantTold(before)
		for _, x := range r.h.Sensors.List() {
			if x.Reading().Valid {
				t.Errorf("%s: it is valid after the end of Run", x.Name())
			}
		}
	})
}

// deafGauge does not mind its context.
type deafGauge struct{ answers chan float64 }

func (g deafGauge) Read(context.Context) (float64, error) { return <-g.answers, nil }

func TestSensorStale(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		g := deafGauge{make(chan float64, 1)}
		r.gauge("t", func(p *SensorPart) { p.Gauge = g })
		r.boot()
		g.answers <- 7
		time.Sleep(5 * time.Second)
		if got := r.sensor("t").Reading(); !got.Valid || got.Value != 7 {
			t.Errorf("got %+v, want 7", got)
		}
		time.Sleep(5 * time.Second)
		if got := r.sensor("t").Reading(); got.Valid {
			t.Errorf("got %+v, want it invalid", got)
		}
		close(g.answers)
	})
}

// What is kept and cannot be read is told, and not used.
func TestDamagedRecords(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.watts("w", PlaceSystem)
		r.boot()
		for _, at := range [][2]string{{limitsBucket, "w"}, {meterBucket, limitKey}, {powerBucket, hoursKey}} {
			if err := r.h.Power.saver.db.PutJSON(at[0], at[1], "junk"); err != nil {
				t.Fatal(err)
			}
		}
		before := r.h.Events.Last()
		r.reboot(false)
		r.wantTold(before, "power.record", "sensor.record w", "power.limit-record")
		if got := r.h.Meter.Limit(); got != (PowerLimit{Action: LimitLog}) {
			t.Errorf("power limit: got %+v", got)
		}
		r.wantHours("anew", 0, 0)
	})
}

// A slow gauge is read as often as it can be.
func TestSensorSlow(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		g := r.gauge("slow", nil)
		g.slow(2500 * ms)
		r.boot()
		time.Sleep(30*time.Second + 500*ms)
		if got := r.sensor("slow").Reading(); !got.Valid || time.Since(got.At) > 3*time.Second {
			t.Errorf("got %+v, want it valid", got)
		}
		if got := g.count(); got < 11 {
			t.Errorf("reads: got %d, want 11", got)
		}
		r.wantTold(0)
	})
}

func TestSensorLimits(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		g := r.gauge("t", func(p *SensorPart) {
			p.Limits = Limits{LowerCritical: new(5.0), UpperCaution: new(40.0), UpperCritical: new(50.0), UpperFatal: new(60.0), Hysteresis: 2}
		})
		r.boot()
		for _, tt := range []struct {
			to      float64
			crossed Limit
			told    []string
		}{
			{39.9, 0, nil},
			{40, UpperCaution, []string{"sensor.limit upper caution true 40/40"}},
			{39, UpperCaution, nil},
			{38, 0, []string{"sensor.limit upper caution false 38/40"}},
			{39.9, 0, nil},
			{55, UpperCaution | UpperCritical, []string{"sensor.limit upper caution true 55/40", "sensor.limit upper critical true 55/50"}},
			{60, UpperCaution | UpperCritical | UpperFatal, []string{"sensor.limit upper fatal true 60/60"}},
			{4, LowerCritical, []string{"sensor.limit upper fatal false 4/60", "sensor.limit upper critical false 4/50",
				"sensor.limit upper caution false 4/40", "sensor.limit lower critical true 4/5"}},
			{6.9, LowerCritical, nil},
			{7, 0, []string{"sensor.limit lower critical false 7/5"}},
		} {
			before := r.h.Events.Last()
			g.set(tt.to)
			time.Sleep(2 * time.Second)
			r.wantTold(before, tt.told...)
			if got := r.sensor("t").Reading(); got.Crossed != tt.crossed || got.Value != tt.to {
				t.Errorf("at %v: got %+v, want %#x crossed", tt.to, got, tt.crossed)
			}
		}
		// A gauge that fails and works again has crossed nothing.
		g.set(45)
		time.Sleep(2 * time.Second)
		before := r.h.Events.Last()
		g.fail(errors.New("gone"))
		time.Sleep(time.Minute)
		g.fail(nil)
		time.Sleep(2 * time.Second)
		r.wantTold(before, "sensor.failed t", "sensor.restored t")
	})
}

// A reading that dances on its limit does not fill the log.
func TestSensorChatters(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		g := r.gauge("t", func(p *SensorPart) { p.Limits.UpperCaution = new(40.0) })
		r.boot()
		for i := range 600 {
			g.set(40 - float64(i%2))
			time.Sleep(time.Second)
		}
		if got := len(r.told(0)); got > hushBurst+2 {
			t.Errorf("events in 10 min: got %d, want at most %d", got, hushBurst+2)
		}
	})
}

func TestSensorSetLimits(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.gauge("t", func(p *SensorPart) { p.Limits.UpperCaution = new(40.0) })
		r.boot()
		time.Sleep(time.Second)
		admin := Origin{Via: "test", User: "admin"}
		x := r.sensor("t")
		for name, l := range map[string]Limits{
			"lower above upper":          {LowerCaution: new(40.0), UpperCaution: new(40.0)},
			"lower above a harder upper": {LowerFatal: new(50.0), UpperCaution: new(60.0), UpperFatal: new(45.0)},
			"below the range":            {LowerFatal: new(-1.0)},
			"above the range":            {UpperFatal: new(100.1)},
			"hysteresis":                 {Hysteresis: -1},
		} {
			if err := x.SetLimits(l, admin); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
			}
		}
		same := 40.0
		if err := x.SetLimits(Limits{UpperCaution: &same}, admin); err != nil {
			t.Error(err)
		}
		r.wantTold(0)
		low := 15.0
		if err := x.SetLimits(Limits{LowerFatal: new(1.0), LowerCritical: new(1.0), UpperCaution: &low}, admin); err != nil {
			t.Fatal(err)
		}
		low = 99 // what is the caller's stays so
		// What is beyond the new limits is told at once.
		r.wantTold(0, "sensor.limits-changed t", "sensor.limit upper caution true 20/15")
		if got := r.h.Events.Since(0, 1)[0].Origin; got != admin {
			t.Errorf("origin: got %v, want %v", got, admin)
		}
		if got := x.Limits(); *got.UpperCaution != 15 {
			t.Errorf("upper caution: got %v, want 15", *got.UpperCaution)
		}
		r.crash(false)
		if got := r.sensor("t").Limits(); *got.UpperCaution != 15 || *got.LowerFatal != 1 || got.UpperFatal != nil {
			t.Errorf("after a crash: got %+v", got)
		}
		// Limits that fit no longer are left aside.
		r.parts.Sensors[0].Max = 30
		r.parts.Sensors[0].Limits = Limits{}
		if err := r.sensor("t").SetLimits(Limits{UpperFatal: new(90.0)}, admin); err != nil {
			t.Fatal(err)
		}
		r.reboot(false)
		if got := r.sensor("t").Limits(); got != (Limits{}) {
			t.Errorf("out of the range: got %+v, want none", got)
		}
	})
}

// Consoles set the limits of one side one after the other, and those of now may
// be in the way ("ipmitool sensor thresh t upper 60 70 80").
func TestSensorLimitsOneByOne(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.gauge("t", func(p *SensorPart) {
			p.Limits = Limits{LowerFatal: new(3.0), LowerCritical: new(4.0), LowerCaution: new(5.0), UpperCaution: new(40.0), UpperCritical: new(50.0), UpperFatal: new(60.0)}
		})
		x := r.boot().Sensors.List()[0]
		for _, c := range []func(*Limits){
			func(l *Limits) { l.UpperCaution = new(70.0) },
			func(l *Limits) { l.UpperCritical = new(80.0) },
			func(l *Limits) { l.UpperFatal = new(90.0) },
			func(l *Limits) { l.LowerFatal = new(6.0) },
			func(l *Limits) { l.LowerCritical = new(7.0) },
			func(l *Limits) { l.LowerCaution = new(8.0) },
		} {
			l := x.Limits()
			c(&l)
			if err := x.SetLimits(l, Origin{}); err != nil {
				t.Error(err)
			}
		}
		r.crash(false)
		l := r.sensor("t").Limits()
		got := []float64{*l.LowerFatal, *l.LowerCritical, *l.LowerCaution, *l.UpperCaution, *l.UpperCritical, *l.UpperFatal}
		if want := []float64{6, 7, 8, 70, 80, 90}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// What hangs on the host's power means nothing while it is off or asleep, nor
// as it comes on.
func TestSensorHostPower(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		g := r.gauge("fan", func(p *SensorPart) {
			p.HostPower, p.Quantity, p.Limits.LowerCritical = true, FanSpeed, new(10.0)
		})
		g.set(0)
		r.boot()
		want := func(when string, valid bool, crossed Limit) {
			t.Helper()
			synctest.Wait()
			if got := r.sensor("fan").Reading(); got.Valid != valid || got.Crossed != crossed {
				t.Errorf("%s: got %+v, want valid %v, crossed %#x", when, got, valid, crossed)
			}
		}
		time.Sleep(10 * time.Second)
		want("off", false, 0)
		if got := g.count(); got != 0 {
			t.Errorf("reads while off: got %d, want 0", got)
		}
		r.must(PowerOn)
		time.Sleep(time.Second)
		want("coming on", false, 0)
		g.set(50)
		time.Sleep(5 * time.Second)
		want("on", true, 0)
		g.set(5)
		time.Sleep(2 * time.Second)
		want("failing", true, LowerCritical)
		before := r.h.Events.Last()
		wake := r.blink()
		g.set(0)
		time.Sleep(10 * time.Second)
		want("asleep", false, 0)
		r.wantTold(before, "power.asleep")
		wake(true)
		g.set(50)
		time.Sleep(10 * time.Second)
		want("awake", true, 0)
		g.slow(800 * ms)
		time.Sleep(1100 * ms)
		r.turnOff() // in the middle of a reading
		g.set(0)
		time.Sleep(10 * time.Second)
		want("off again", false, 0)
		if got := r.kinds(before); slices.Contains(got, "sensor.limit") {
			t.Errorf("events: got %v, want none of limits", got)
		}
	})
}

func TestSensorParts(t *testing.T) {
	g := &fakeGauge{}
	for name, parts := range map[string][]SensorPart{
		"no name":     {{Min: 0, Max: 1, Gauge: g}},
		"long name":   {{Name: "a sensor with a long name", Min: 0, Max: 1, Gauge: g}},
		"not ASCII":   {{Name: "Lüfter", Min: 0, Max: 1, Gauge: g}},
		"no gauge":    {{Name: "x", Min: 0, Max: 1}},
		"no range":    {{Name: "x", Gauge: g}},
		"bad limits":  {{Name: "x", Min: 0, Max: 1, Gauge: g, Limits: Limits{UpperFatal: new(2.0)}}},
		"upper order": {{Name: "x", Min: 0, Max: 1, Gauge: g, Limits: Limits{UpperCaution: new(0.9), UpperCritical: new(0.8)}}},
		"lower order": {{Name: "x", Min: 0, Max: 1, Gauge: g, Limits: Limits{LowerCaution: new(0.1), LowerFatal: new(0.2)}}},
		"twice":       {{Name: "x", Min: 0, Max: 1, Gauge: g}, {Name: "x", Min: 0, Max: 1, Gauge: g}},
	} {
		inVirtualTime(t, func(t *testing.T, r *rig) {
			h := r.boot()
			_, err := New(Parts{Sensors: parts}, Options{Store: h.Power.saver.db, Events: h.Events, Log: h.Power.log, Power: r.cfg})
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
			}
		})
	}
}

// A round in which nothing happens costs no memory.
func TestSensorPollAllocates(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.gauge("w", func(p *SensorPart) { p.Quantity, p.Place, p.HostPower = Wattage, PlaceSystem, true })
		r.comesOn()
		h := r.boot()
		time.Sleep(10 * time.Second)
		x := r.sensor("w")
		r.stop() // the poll below is the only one
		ctx := context.Background()
		h.Power.mu.Lock()
		h.Power.led = led{known: true, good: true}
		h.Power.mu.Unlock()
		if got := testing.AllocsPerRun(100, func() { x.poll(ctx, ctx); h.Meter.sample(time.Now()) }); got != 0 {
			t.Errorf("got %v allocations a round, want 0", got)
		}
		if !x.Reading().Valid {
			t.Error("the reading is not valid")
		}
	})
}
