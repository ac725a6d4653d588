package host

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// fakeSelector remembers what it was asked for.
type fakeSelector struct {
	mu  sync.Mutex
	got []BootTarget
	err error
}

func (s *fakeSelector) Targets() []BootTarget { return []BootTarget{BootPXE, BootDisk} }

func (s *fakeSelector) SelectBoot(_ context.Context, t BootTarget, m BootMode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m == BootModeUEFI {
		return errors.ErrUnsupported
	}
	if s.err == nil {
		s.got = append(s.got, t)
	}
	return s.err
}

func (s *fakeSelector) take() []BootTarget {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

func withBoot(t *testing.T, f func(t *testing.T, r *rig, s *fakeSelector)) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		s := &fakeSelector{}
		r.parts.Boot = s
		r.boot()
		s.take()
		f(t, r, s)
	})
}

func TestBootOnce(t *testing.T) {
	for _, tt := range []struct {
		name       string
		continuous bool
		after      BootTarget
		calls      []BootTarget
	}{
		{"once", false, BootDefault, []BootTarget{BootPXE, BootDefault}},
		{"continuous", true, BootPXE, []BootTarget{BootPXE}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withBoot(t, func(t *testing.T, r *rig, s *fakeSelector) {
				if err := r.h.Boot.Set(BootOverride{Target: BootPXE, Continuous: tt.continuous}, Origin{}); err != nil {
					t.Fatal(err)
				}
				r.must(PowerOn)
				if got := s.take(); !slices.Equal(got, tt.calls) {
					t.Errorf("selector: got %v, want %v", got, tt.calls)
				}
				if got := r.h.Boot.Get().Target; got != tt.after {
					t.Errorf("after the boot: got %s, want %s", got, tt.after)
				}
				if got := r.h.Boot.Current().Target; got != BootPXE {
					t.Errorf("current: got %s, want %s", got, BootPXE)
				}
				r.must(Reset)
				synctest.Wait()
				if got := r.h.Boot.Current().Target; got != tt.after {
					t.Errorf("current after a reset: got %s, want %s", got, tt.after)
				}
			})
		})
	}
}

func TestBootExpires(t *testing.T) {
	withBoot(t, func(t *testing.T, r *rig, s *fakeSelector) {
		o := BootOverride{Target: BootDisk, Expires: time.Now().Add(time.Minute)}
		if err := r.h.Boot.Set(o, Origin{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if got := r.h.Boot.Get().Target; got != BootDisk {
			t.Errorf("after 59 s: got %s, want %s", got, BootDisk)
		}
		time.Sleep(2 * time.Second)
		if got := s.take(); !slices.Equal(got, []BootTarget{BootDisk, BootDefault}) {
			t.Errorf("selector: got %v, want Hdd, None", got)
		}
		if got := r.h.Boot.Get().Target; got != BootDefault {
			t.Errorf("after 61 s: got %s, want %s", got, BootDefault)
		}
	})
}

func TestBootSurvivesRestart(t *testing.T) {
	withBoot(t, func(t *testing.T, r *rig, s *fakeSelector) {
		want := BootOverride{Target: BootPXE, Mode: BootModeLegacy, Continuous: true}
		if err := r.h.Boot.Set(want, Origin{}); err != nil {
			t.Fatal(err)
		}
		s.take()
		r.reboot(true)
		if got := r.h.Boot.Get(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := s.take(); !slices.Equal(got, []BootTarget{BootPXE}) {
			t.Errorf("selector: got %v, want Pxe again", got)
		}
	})
}

func TestBootRefuses(t *testing.T) {
	withBoot(t, func(t *testing.T, r *rig, s *fakeSelector) {
		for _, tt := range []struct {
			o    BootOverride
			want error
		}{
			{BootOverride{Target: BootBIOSSetup}, errors.ErrUnsupported},
			{BootOverride{Target: BootPXE, Mode: BootModeUEFI}, errors.ErrUnsupported},
			{BootOverride{Target: BootPXE, Mode: "Open Firmware"}, ErrInvalid},
		} {
			if err := r.h.Boot.Set(tt.o, Origin{}); !errors.Is(err, tt.want) {
				t.Errorf("Set(%+v): got %v, want %v", tt.o, err, tt.want)
			}
		}
		if got := r.h.Boot.Get(); got.Target != BootDefault {
			t.Errorf("after refusals: got %+v, want none", got)
		}
	})
}

// A mode without a target stands, and an override on top of it passes.
func TestBootMode(t *testing.T) {
	withBoot(t, func(t *testing.T, r *rig, s *fakeSelector) {
		set := func(o BootOverride) {
			t.Helper()
			if err := r.h.Boot.Set(o, Origin{}); err != nil {
				t.Fatal(err)
			}
		}
		want := func(when string, o BootOverride) {
			t.Helper()
			synctest.Wait()
			if got := r.h.Boot.Get(); got != o {
				t.Errorf("%s: got %+v, want %+v", when, got, o)
			}
		}
		standing := BootOverride{Target: BootDefault, Mode: BootModeLegacy}
		if err := r.h.Boot.Set(BootOverride{Target: BootDefault, Mode: BootModeUEFI}, Origin{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a mode that the selector refuses: got %v, want %v", err, errors.ErrUnsupported)
		}
		want("refused", BootOverride{Target: BootDefault})
		set(BootOverride{Target: BootDefault, Mode: BootModeLegacy, Continuous: true, Expires: time.Now().Add(time.Minute)})
		want("set", standing)
		if got := r.h.Events.Since(0, 0); !slices.ContainsFunc(got, func(e Event) bool {
			return e.Kind == "boot.override" && e.Message == "The host boots in Legacy mode, from what its firmware chooses, from now on."
		}) {
			t.Errorf("no event tells of the mode: %v", got)
		}
		time.Sleep(time.Hour)
		want("an hour later", standing)
		r.must(PowerOn)
		want("after a boot", standing)
		once := BootOverride{Target: BootPXE}
		set(once)
		want("with an override", once)
		r.reboot(true)
		want("after a restart", once)
		r.must(Reset)
		want("after its boot", standing)
		r.reboot(true)
		want("after another restart", standing)
		set(BootOverride{Target: BootDefault})
		want("cleared", BootOverride{Target: BootDefault})
	})
}

func TestIdentify(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		light := &fakeLine{}
		r.parts.IDLight = light
		h := r.boot()
		for _, tt := range []struct {
			set  time.Duration
			wait time.Duration
			want bool
		}{
			{15 * time.Second, 14 * time.Second, true},
			{15 * time.Second, 16 * time.Second, false},
			{-1, time.Hour, true},
			{0, 0, false},
		} {
			if err := h.Identify.Set(tt.set, Origin{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(tt.wait)
			synctest.Wait()
			if got := h.Identify.On(); got != tt.want || light.active != tt.want {
				t.Errorf("%v after Set(%v): got %v and the line %v, want %v", tt.wait, tt.set, got, light.active, tt.want)
			}
		}
	})
}

func TestUUIDStays(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		first := r.boot().UUID
		if again := r.reboot(true).UUID; first != again || first == [16]byte{} {
			t.Errorf("got %x, then %x", first, again)
		}
		if first[6]>>4 != 4 || first[8]>>6 != 2 {
			t.Errorf("%x is not a version 4 UUID", first)
		}
	})
}

// What a boot used up is over, whatever else goes wrong: it is retried at the
// selector, and neither shown nor used again.
func TestBootSelectorFails(t *testing.T) {
	withBoot(t, func(t *testing.T, r *rig, s *fakeSelector) {
		fail := func(err error) { s.mu.Lock(); s.err = err; s.mu.Unlock() }
		if err := r.h.Boot.Set(BootOverride{Target: BootPXE}, Origin{}); err != nil {
			t.Fatal(err)
		}
		fail(errors.New("selector is gone"))
		r.must(PowerOn)
		time.Sleep(time.Minute)
		if got := r.h.Boot.Get().Target; got != BootDefault {
			t.Errorf("override after its boot: got %s", got)
		}
		r.must(Reset)
		time.Sleep(time.Minute)
		if got := r.h.Boot.Current().Target; got != BootDefault {
			t.Errorf("the second boot: got %s", got)
		}
		failures := 0
		for _, e := range r.h.Events.Since(0, 0) {
			if e.Kind == "boot.override" && e.Severity == Warning {
				failures++
			}
		}
		if failures != 1 {
			t.Errorf("the failure was told %d times, want once", failures)
		}
		s.take()
		fail(nil)
		time.Sleep(selectRetry)
		if got := s.take(); !slices.Equal(got, []BootTarget{BootDefault}) {
			t.Errorf("selector: got %v, want None as soon as it works", got)
		}
		// And it is not on the disk either.
		r.crash(true)
		if got := r.h.Boot.Get().Target; got != BootDefault {
			t.Errorf("after a restart: got %s", got)
		}
	})
}

// An override that could not be saved is refused, and the selector keeps the
// one that is shown.
func TestBootNotSaved(t *testing.T) {
	withBoot(t, func(t *testing.T, r *rig, s *fakeSelector) {
		full, err := store.Open(filepath.Join(t.TempDir(), "full"))
		if err != nil {
			t.Fatal(err)
		}
		if err := full.Close(); err != nil { // no write succeeds
			t.Fatal(err)
		}
		b := r.h.Boot
		good := b.db
		b.db = full
		if err := b.Set(BootOverride{Target: BootPXE}, Origin{}); err == nil {
			t.Error("Set: got no error")
		}
		b.db = good
		if got := s.take(); !slices.Equal(got, []BootTarget{BootPXE, BootDefault}) || b.Get().Target != BootDefault {
			t.Errorf("selector: got %v, shown %s, want the old one at both", got, b.Get().Target)
		}
	})
}

// A boot that begins as the software starts or ends uses its override up.
func TestBootAtTheEdges(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		s := &fakeSelector{}
		r.parts.Boot = s
		r.boot()
		b := r.h.Boot
		for _, run := range []func(){
			func() { // before run's first look
				ctx, cancel := context.WithCancel(t.Context())
				b.booted()
				done := make(chan struct{})
				go func() { b.run(ctx); close(done) }()
				synctest.Wait()
				cancel()
				<-done
			},
			func() { // after its last one
				b.booted()
				if got := b.Get().Target; got != BootDefault {
					t.Errorf("as the boot began: got %s, want none for the next one", got)
				}
				b.settle()
			},
		} {
			if err := r.again(nil); err != nil {
				t.Fatal(err)
			}
			if err := b.Set(BootOverride{Target: BootPXE}, Origin{}); err != nil {
				t.Fatal(err)
			}
			run()
			if got := b.Get().Target; got != BootDefault || b.Current().Target != BootPXE {
				t.Errorf("got %s next after %s, want none after Pxe", got, b.Current().Target)
			}
			s.take()
		}
	})
}

// An override that is over is not used, though its clearing is still to come.
func TestBootExpiredNotUsed(t *testing.T) {
	withBoot(t, func(t *testing.T, r *rig, s *fakeSelector) {
		b := r.h.Boot
		b.mu.Lock()
		b.now = BootOverride{Target: BootPXE, Expires: time.Now()}
		b.mu.Unlock()
		b.booted()
		if got := b.Current().Target; got != BootDefault {
			t.Errorf("current: got %s, want none", got)
		}
	})
}

// A light that a run which died left on is put out; one that is stuck is told.
func TestIdentifyBegins(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		light := &fakeLine{active: true}
		r.parts.IDLight = light
		r.boot()
		if light.active {
			t.Error("the light is on")
		}
		light.err, light.errOff = errors.New("stuck"), true
		r.h.Identify.begin()
		if got := r.kinds(0); !slices.Contains(got, "wire.failed") {
			t.Errorf("events: got %v, want wire.failed", got)
		}
		light.err = nil
	})
}

// A boot that begins while Run ends uses its override up too.
func TestBootAsRunEnds(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.Boot, r.parts.Standby = &fakeSelector{}, &slowSense{r.standby}
		b := r.boot().Boot
		if err := b.Set(BootOverride{Target: BootPXE}, Origin{}); err != nil {
			t.Fatal(err)
		}
		go r.stop()
		time.Sleep(500 * ms)
		b.booted()
		time.Sleep(5 * time.Second)
		if got := r.boot().Boot.Get().Target; got != BootDefault {
			t.Errorf("got %s, want none", got)
		}
	})
}

func TestBootExtend(t *testing.T) {
	withBoot(t, func(t *testing.T, r *rig, s *fakeSelector) {
		b := r.h.Boot
		extend := func(end time.Time) {
			t.Helper()
			if err := b.Extend(end, Origin{}); err != nil {
				t.Fatal(err)
			}
		}
		want := func(when string, target BootTarget) {
			t.Helper()
			synctest.Wait()
			if got := b.Get().Target; got != target {
				t.Errorf("%s: got %s, want %s", when, got, target)
			}
		}
		set := func(expires time.Time) {
			t.Helper()
			if err := b.Set(BootOverride{Target: BootPXE, Expires: expires}, Origin{}); err != nil {
				t.Fatal(err)
			}
		}
		extend(time.Now().Add(time.Hour)) // there is none
		want("none", BootDefault)
		set(time.Time{})
		extend(time.Now().Add(time.Second)) // it has no end
		time.Sleep(time.Hour)
		want("without an end", BootPXE)
		set(time.Now().Add(time.Minute))
		time.Sleep(59 * time.Second)
		before := r.h.Events.Last()
		extend(time.Now().Add(time.Minute))
		time.Sleep(59 * time.Second)
		want("extended", BootPXE)
		extend(time.Time{})
		r.wantTold(before, "boot.override") // another end is no news, none is
		time.Sleep(time.Hour)
		want("without an end now", BootPXE)
		r.crash(false)
		b = r.h.Boot
		want("after a crash", BootPXE)
		set(time.Now().Add(time.Minute))
		extend(time.Now().Add(10 * time.Second))
		time.Sleep(11 * time.Second)
		want("shortened", BootDefault)
		extend(time.Now().Add(time.Hour)) // it is over
		want("over", BootDefault)
		set(time.Now().Add(time.Minute))
		r.must(PowerOn)
		extend(time.Now().Add(time.Hour))
		want("used", BootDefault)
	})
}

// TestRepeatedSettingsAreNoNews: scripts light the ID light and set the boot
// override again and again.
func TestRepeatedSettingsAreNoNews(t *testing.T) {
	withBoot(t, func(t *testing.T, r *rig, s *fakeSelector) {
		id := &Identify{line: &fakeLine{start: time.Now()}, events: r.h.Events}
		before := r.h.Events.Last()
		for _, d := range []time.Duration{15 * time.Second, 15 * time.Second, 20 * time.Second, -1, -1, 15 * time.Second, 0, 0} {
			if err := id.Set(d, Origin{}); err != nil {
				t.Fatal(err)
			}
		}
		r.wantTold(before, "identify", "identify", "identify", "identify")
		before = r.h.Events.Last()
		for i := range 5 {
			o := BootOverride{Target: BootPXE, Expires: time.Now().Add(time.Duration(i+1) * time.Minute)}
			if err := r.h.Boot.Set(o, Origin{}); err != nil {
				t.Fatal(err)
			}
		}
		r.wantTold(before, "boot.override")
	})
}
