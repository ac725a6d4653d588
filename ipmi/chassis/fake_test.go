package chassis

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

// fakeHost is power, boot and identify. A request that has err answers it.
type fakeHost struct {
	mu      sync.Mutex
	status  host.PowerStatus
	asked   []string
	err     error
	hold    chan struct{} // where not nil, requests wait for it
	boots   host.BootOverride
	absent  []host.Action
	targets []host.BootTarget
	hours   time.Duration // less than 0: nobody can tell
	light   bool
}

func newHost() *fakeHost {
	return &fakeHost{
		status:  host.PowerStatus{State: host.StateOff, Restore: host.LastState, RestartCause: host.CauseUnknown},
		boots:   host.BootOverride{Target: host.BootDefault},
		targets: []host.BootTarget{host.BootPXE, host.BootDisk, host.BootCD, host.BootBIOSSetup, host.BootUEFIHTTP},
	}
}

func (f *fakeHost) note(what string, o host.Origin) error {
	f.mu.Lock()
	f.asked = append(f.asked, what+" for "+o.String())
	hold, err := f.hold, f.err
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return err
}

func (f *fakeHost) calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

func (f *fakeHost) change(g func(*fakeHost)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g(f)
}

type fakePower struct{ *fakeHost }

func (f fakePower) Supports(a host.Action) bool { return !slices.Contains(f.absent, a) }

func (f fakePower) Request(a host.Action, c host.Cause, o host.Origin) (*host.Operation, error) {
	if !f.Supports(a) {
		return nil, errors.ErrUnsupported
	}
	return nil, f.note(string(a)+" as "+string(c), o)
}

func (f fakePower) Status() host.PowerStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

func (f fakePower) SetRestorePolicy(p host.RestorePolicy, o host.Origin) error {
	err := f.note("policy "+string(p), o)
	if err == nil {
		f.change(func(h *fakeHost) { h.status.Restore = p })
	}
	return err
}

type fakeBoot struct{ *fakeHost }

func (f fakeBoot) Get() host.BootOverride {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.boots.Expires.IsZero() && !time.Now().Before(f.boots.Expires) {
		return host.BootOverride{Target: host.BootDefault}
	}
	return f.boots
}

func (f fakeBoot) Set(b host.BootOverride, o host.Origin) error {
	err := f.note("boot "+string(b.Target), o)
	if err == nil {
		f.change(func(h *fakeHost) { h.boots = b })
	}
	return err
}

type fakeIdentify struct{ *fakeHost }

func (f fakeIdentify) On() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.light
}

func (f fakeIdentify) Set(d time.Duration, o host.Origin) error {
	err := f.note("identify "+d.String(), o)
	if err == nil {
		f.change(func(h *fakeHost) { h.light = d != 0 })
	}
	return err
}

func (f fakePower) Hours() (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hours, f.hours >= 0
}

func (f fakeBoot) Targets() []host.BootTarget { return f.targets }

func (f fakeBoot) Extend(expires time.Time, _ host.Origin) error {
	f.change(func(h *fakeHost) {
		if h.boots.Target != host.BootDefault && !h.boots.Expires.IsZero() {
			h.boots.Expires = expires
		}
	})
	return nil
}

// rig is a chassis with fakes behind it.
type rig struct {
	*Chassis
	host *fakeHost
}

func newRig(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	h := newHost()
	o := Options{
		Power: fakePower{h}, Boot: fakeBoot{h}, Identify: fakeIdentify{h},
		Has:              func(command.NetFn, uint8) bool { return false },
		SetCycleInterval: func(d time.Duration, o host.Origin) error { return h.note("off time "+d.String(), o) },
		Log:              slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, f := range change {
		f(&o)
	}
	return &rig{New(o), h}
}

func (r *rig) call(t testing.TB, cmd byte, data ...byte) (command.Code, []byte) {
	t.Helper()
	return commandtest.Call(t, r.Commands(), command.Chassis, cmd, data...)
}
