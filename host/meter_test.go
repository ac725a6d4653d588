package host

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// watts adds a wattage sensor.
func (r *rig) watts(name string, place Place) *fakeGauge {
	return r.gauge(name, func(p *SensorPart) { p.Quantity, p.Place, p.Max = Wattage, place, 2000 })
}

func TestMeterOf(t *testing.T) {
	for _, tt := range []struct {
		name   string
		places []Place
		want   float64 // of sensors with 1, 2, 4 … W; 0: there is no meter
	}{
		{"none", nil, 0},
		{"other", []Place{PlaceBoard, PlaceCPU}, 0},
		{"system", []Place{PlaceBoard, PlaceSystem, PlacePSU}, 2},
		{"supplies", []Place{PlaceCPU, PlacePSU, PlacePSU}, 6},
	} {
		inVirtualTime(t, func(t *testing.T, r *rig) {
			for i, place := range tt.places {
				r.watts(string(rune('a'+i)), place).set(float64(int(1) << i))
			}
			h := r.boot()
			if h.Meter == nil != (tt.want == 0) {
				t.Fatalf("%s: got %v", tt.name, h.Meter)
			}
			if tt.want == 0 {
				return
			}
			if got := h.Meter.Status(); !got.Valid || got.Now != tt.want || got.At.IsZero() {
				t.Errorf("%s: got %+v, want %v W", tt.name, got, tt.want)
			}
		})
	}
}

func TestMeterStatistics(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		a, b := r.watts("a", PlacePSU), r.watts("b", PlacePSU)
		a.set(100)
		b.set(20)
		h := r.boot()
		start := time.Now()
		if got := h.Meter.Status(); !got.Since.IsZero() || got.Average != 0 {
			t.Errorf("at first: got %+v, want no statistics", got)
		}
		time.Sleep(500 * ms)
		for _, w := range []float64{100, 300, 50} { // a second each
			a.set(w)
			time.Sleep(time.Second)
		}
		b.fail(errors.New("gone"))
		time.Sleep(10 * time.Second) // these do not count
		synctest.Wait()
		got := h.Meter.Status()
		want := MeterStatus{Now: 70, At: got.At, Min: 70, Max: 320, Average: (120 + 120 + 320 + 70) / 4., Since: start.Add(time.Second)}
		if got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		// What is long ago does not count any more.
		b.fail(nil)
		time.Sleep(meterSpan + time.Minute)
		if got := h.Meter.Status(); got.Max != 320 || got.Average < 70 || got.Average > 71 || !got.Since.Equal(want.Since) {
			t.Errorf("after %v: got %+v", meterSpan, got)
		}
		time.Sleep(meterSpan)
		if got := h.Meter.Status(); got.Max != 70 || got.Average != 70 || time.Since(got.Since) < meterSpan {
			t.Errorf("after %v: got %+v", 2*meterSpan, got)
		}
	})
}

func TestPowerLimit(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		g := r.watts("w", PlaceSystem)
		g.set(300)
		h := r.boot()
		r.must(PowerOn)
		admin := Origin{Via: "test", User: "admin"}
		for _, l := range []PowerLimit{
			{Active: true, Watts: 200},
			{Active: true, Action: LimitLog},
			{Watts: -1, Action: LimitLog},
			{Watts: 100, Action: LimitLog, Correction: -1},
			{Watts: 100, Action: LimitLog, Period: -1},
		} {
			if err := h.Meter.SetLimit(l, admin); !errors.Is(err, ErrInvalid) {
				t.Errorf("%+v: got %v, want %v", l, err, ErrInvalid)
			}
		}
		before := h.Events.Last()
		l := PowerLimit{Active: true, Watts: 400, Correction: 5 * time.Second, Period: time.Second, Action: LimitLog}
		for range 2 {
			if err := h.Meter.SetLimit(l, admin); err != nil {
				t.Fatal(err)
			}
		}
		r.wantTold(before, "power.limit-changed")
		time.Sleep(time.Minute)
		before = h.Events.Last()
		g.set(401)
		time.Sleep(4 * time.Second) // shorter than the correction
		g.set(400)
		time.Sleep(time.Minute)
		r.wantTold(before)
		g.set(401)
		time.Sleep(8 * time.Second)
		r.wantTold(before, "power.limit")
		time.Sleep(time.Hour) // once
		g.set(399)
		time.Sleep(3 * time.Second)
		r.wantTold(before, "power.limit", "power.limit-cleared")
		r.want(StateOn)

		g.set(401)
		time.Sleep(8 * time.Second)
		before = h.Events.Last()
		wide := l
		wide.Watts = 500
		for _, l := range []PowerLimit{wide, l} {
			if err := h.Meter.SetLimit(l, admin); err != nil {
				t.Fatal(err)
			}
		}
		r.wantTold(before, "power.limit-cleared", "power.limit-changed", "power.limit-changed")
		g.set(399)

		r.crash(false)
		if got := r.h.Meter.Limit(); got != l {
			t.Errorf("after a crash: got %+v, want %+v", got, l)
		}
		l.Action = LimitOff
		if err := r.h.Meter.SetLimit(l, admin); err != nil {
			t.Fatal(err)
		}
		before = r.h.Events.Last()
		r.deaf = true // and it ignores the button at first
		g.set(1000)
		time.Sleep(30 * time.Second)
		r.want(StateOn)
		r.change(func() { r.deaf = false })
		time.Sleep(time.Minute)
		r.want(StateOff)
		r.wantTold(before, "power.limit", "power.request", "power.failed", "power.request", "power.off")
		time.Sleep(time.Hour)
		r.wantTold(before, "power.limit", "power.request", "power.failed", "power.request", "power.off")
	})
}

// A draw that swings around the limit does not fill the log.
func TestPowerLimitChatters(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		g := r.watts("w", PlaceSystem)
		h := r.boot()
		if err := h.Meter.SetLimit(PowerLimit{Active: true, Watts: 100, Action: LimitLog}, Origin{}); err != nil {
			t.Fatal(err)
		}
		before := h.Events.Last()
		for i := range 600 {
			g.set(100 + float64(i%2))
			time.Sleep(time.Second)
		}
		if got := len(r.told(before)); got < hushBurst || got > 2*(hushBurst+2) {
			t.Errorf("events in 10 min: got %d, want %d at most", got, 2*(hushBurst+2))
		}
	})
}

func TestPowerLimitUnsupported(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.watts("w", PlaceSystem)
		r.parts.PowerButton = nil
		h := r.boot()
		if err := h.Meter.SetLimit(PowerLimit{Active: true, Watts: 1, Action: LimitOff}, Origin{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
		}
		if err := h.Meter.SetLimit(PowerLimit{Active: true, Watts: 1, Action: LimitLog}, Origin{}); err != nil {
			t.Error(err)
		}
	})
}
