package host

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
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
