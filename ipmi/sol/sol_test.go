package sol

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// fakeConsole is a port that keeps what is written. Its watchers have rings of
// 1000 bytes.
type fakeConsole struct {
	mu      sync.Mutex
	all     []byte
	grew    chan struct{}
	written []byte
	err     error
	block   chan struct{} // where not nil, writes wait for it
}

func newConsole() *fakeConsole { return &fakeConsole{grew: make(chan struct{})} }

func (f *fakeConsole) say(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, s...)
	close(f.grew)
	f.grew = make(chan struct{})
}

func (f *fakeConsole) Write(p []byte) (int, error) {
	f.mu.Lock()
	block, err := f.block, f.err
	f.mu.Unlock()
	if block != nil {
		<-block
	}
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written = append(f.written, p...)
	return len(p), nil
}

func (f *fakeConsole) Break(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.written = append(f.written, "<break>"...)
	}
	return f.err
}

func (f *fakeConsole) typed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return string(f.written)
}

func (f *fakeConsole) set(block chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.block, f.err = block, err
}

func (f *fakeConsole) Watch(replay int) Watcher {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeWatcher{f, len(f.all) - replay}
}

type fakeWatcher struct {
	f  *fakeConsole
	at int
}

func (w *fakeWatcher) Next(ctx context.Context, p []byte) (n int, lost int64, err error) {
	for {
		w.f.mu.Lock()
		if oldest := len(w.f.all) - 1000; w.at < oldest {
			lost += int64(oldest - w.at)
			w.at = oldest
		}
		n = copy(p, w.f.all[w.at:])
		grew := w.f.grew
		w.f.mu.Unlock()
		if n > 0 {
			w.at += n
			return n, lost, nil
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return 0, lost, ctx.Err()
		}
	}
}

// fakeStore keeps one value.
type fakeStore struct {
	mu  sync.Mutex
	raw []byte
	err error
}

func (f *fakeStore) GetJSON(_, _ string, v any) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.raw == nil {
		return false, f.err
	}
	return true, errors.Join(f.err, json.Unmarshal(f.raw, v))
}

func (f *fakeStore) PutJSON(_, _ string, v any) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.raw, err = json.Marshal(v)
	}
	return errors.Join(err, f.err)
}

// user is a console at the end of a carrier: it acknowledges at once what comes.
type user struct {
	t      *testing.T
	x      *Stream
	mu     sync.Mutex
	seq    byte
	n      uint32
	shown  []byte
	status []byte // of packets that have a number or a status, each once
	deaf   bool
}

func (u *user) Send(p []byte) {
	h, data, ok := parse(p)
	if !ok {
		u.t.Errorf("sent % X", p)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.deaf {
		return
	}
	u.shown = append(u.shown, data...)
	if h.op != 0 {
		u.status = append(u.status, h.op)
	}
	if h.seq != 0 {
		u.n++
		u.x.Receive(nil, []byte{0, h.seq, byte(len(data)), 0}, u.n, true, time.Now())
	}
}

func (u *user) types(s string) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seq = u.seq%15 + 1
	u.n++
	return u.x.Receive(nil, append([]byte{u.seq, 0, 0, 0}, s...), u.n, true, time.Now())
}

func (u *user) screen() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return string(u.shown)
}

func (u *user) statuses() []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.status)
}

type bench struct {
	*SOL
	t       *testing.T
	console *fakeConsole
	store   *fakeStore
	off     atomic.Bool
	rate    int
	told    []string
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, console: newConsole(), store: &fakeStore{}, rate: 115200}
	b.SOL = b.open()
	return b
}

func (b *bench) open() *SOL {
	return New(Options{
		Console: b.console, Store: b.store, Log: slog.New(slog.DiscardHandler),
		Off: func() bool { return b.off.Load() }, BitRate: func() int { return b.rate }, Port: func() uint16 { return 623 },
		Changed: func(what string, from host.Origin) { b.told = append(b.told, what+" "+from.String()) },
	})
}

// start runs SOL in the bubble of a test, which it must end by the function.
func (b *bench) start() (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx); !errors.Is(err, context.Canceled) {
			b.t.Errorf("Run = %v, want %v", err, context.Canceled)
		}
	})
	synctest.Wait()
	return func() { cancel(); running.Wait() }
}

func (b *bench) activate(n int) *user {
	b.t.Helper()
	u := &user{t: b.t}
	u.mu.Lock()
	defer u.mu.Unlock()
	x, err := b.Activate(n, u)
	if err != nil {
		b.t.Fatalf("Activate %d: %v", n, err)
	}
	u.x = x
	return u
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.start()()
		b.console.say("before anybody watches")
		u, v := b.activate(1), b.activate(3)
		synctest.Wait()
		text := strings.Repeat("All work and no play makes Jack a dull boy.\r\n", 20)
		b.console.say(text)
		time.Sleep(time.Second)
		if u.screen() != text || v.screen() != text {
			t.Errorf("screens %q and %q, want both %q", u.screen(), v.screen(), text)
		}
		if got := u.types("root\r"); len(got) != 0 {
			t.Errorf("the first is answered % X before it is written", got)
		}
		synctest.Wait()
		for i, s := range []string{"uname\r", "exit\r"} {
			if got, want := u.types(s), []byte{0, byte(i + 2), byte(len(s)), 0}; !bytes.Equal(got, want) {
				t.Errorf("answer % X, want % X", got, want)
			}
		}
		time.Sleep(time.Millisecond)
		if got, want := b.console.typed(), "root\runame\rexit\r"; got != want {
			t.Errorf("typed %q, want %q", got, want)
		}
	})
}

// TestSlowConsole: it loses the oldest and is told; the other one has all.
func TestSlowConsole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.start()()
		slow, quick := b.activate(1), b.activate(2)
		synctest.Wait()
		slow.mu.Lock()
		slow.deaf = true
		slow.mu.Unlock()
		var all strings.Builder
		for i := range 300 {
			line := fmt.Sprintf("line %4d\n", i)
			all.WriteString(line)
			b.console.say(line)
			time.Sleep(10 * time.Millisecond)
		}
		slow.mu.Lock()
		slow.deaf = false
		slow.mu.Unlock()
		time.Sleep(5 * time.Second)
		if quick.screen() != all.String() {
			t.Errorf("the quick one has %d bytes of %d", len(quick.screen()), all.Len())
		}
		before, rest, cut := strings.Cut(slow.screen(), "\r\n[")
		lost, after, _ := strings.Cut(rest, " bytes were lost: the connection is too slow]\r\n")
		if want := all.String(); !cut || !strings.HasPrefix(want, before) || !strings.HasSuffix(want, after) ||
			fmt.Sprint(len(want)-len(before)-len(after)) != lost {
			t.Errorf("the slow one has %q, then %q bytes lost, then %q", before, lost, after)
		}
		if !bytes.Equal(slow.statuses(), []byte{statusOverrun}) {
			t.Errorf("status % X, want the overrun once", slow.statuses())
		}
	})
}

// TestPortHangs: nothing waits for a port that takes nothing but who types.
func TestPortHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.start()()
		u := b.activate(1)
		block := make(chan struct{})
		b.console.set(block, nil)
		u.types("x")
		b.console.say("still here")
		time.Sleep(time.Second)
		if got := u.screen(); got != "still here" {
			t.Errorf("screen %q", got)
		}
		b.End(u.x, "")
		v := b.activate(1)
		v.types("y")
		close(block)
		time.Sleep(time.Second)
		if got := b.console.typed(); got != "xy" {
			t.Errorf("typed %q, want %q", got, "xy")
		}
	})
}

func TestPortAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.start()()
		u := b.activate(1)
		b.console.set(nil, errors.New("the serial port is not open"))
		u.types("x")
		time.Sleep(time.Second)
		if got, want := u.screen(), "\r\n[not sent: the serial port is not open]\r\n"; got != want {
			t.Errorf("screen %q, want %q", got, want)
		}
		if !bytes.Equal(u.statuses(), []byte{statusNACK}) {
			t.Errorf("status % X, want a NACK", u.statuses())
		}
		b.console.set(nil, nil)
		u.types("y")
		time.Sleep(time.Second)
		if got := b.console.typed(); got != "y" {
			t.Errorf("typed %q", got)
		}
	})
}

func TestPowerIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.start()()
		u := b.activate(1)
		b.off.Store(true)
		time.Sleep(time.Second)
		b.off.Store(false)
		time.Sleep(time.Second)
		if want := []byte{statusNACK | statusUnavailable, statusNACK}; !bytes.Equal(u.statuses(), want) {
			t.Errorf("status % X, want % X", u.statuses(), want)
		}
	})
}

func TestActivate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		want := func(n int, want error) {
			t.Helper()
			if _, err := b.Activate(n, &user{t: t}); !errors.Is(err, want) {
				t.Errorf("Activate %d = %v, want %v", n, err, want)
			}
		}
		want(1, ErrStopped)
		stop := b.start()
		for _, n := range []int{0, 5, 15} {
			want(n, host.ErrInvalid)
		}
		var users []*user
		for n := range Instances {
			users = append(users, b.activate(n+1))
			synctest.Wait()
			want(n+1, ErrActive)
		}
		want(5, ErrLimit)
		b.End(users[1].x, "deactivated by admin")
		b.End(users[1].x, "twice")
		if users[1].x.Active() || b.Active(2) != nil {
			t.Error("it is still active")
		}
		synctest.Wait()
		if got, want := users[1].screen(), "\r\n[SOL ends: deactivated by admin]\r\n"; got != want {
			t.Errorf("screen %q, want %q", got, want)
		}
		if want := []byte{statusNACK | statusDeactivated}; !bytes.Equal(users[1].statuses(), want) {
			t.Errorf("status % X, want % X", users[1].statuses(), want)
		}
		if got := users[1].types("x"); len(got) != 0 {
			t.Errorf("typing is answered % X", got)
		}
		users[1] = b.activate(2)
		b.End(users[0].x, "")
		synctest.Wait()
		if got := users[0].screen(); got != "" {
			t.Errorf("who ended it is told %q", got)
		}
		if code := b.set(paramEnable, 0); code != command.OK {
			t.Errorf("disabling = %v", code)
		}
		synctest.Wait()
		if got := users[3].statuses(); !bytes.Equal(got, []byte{statusNACK | statusDeactivated}) {
			t.Errorf("status % X after disabling", got)
		}
		want(1, ErrDisabled)
		b.set(paramEnable, 1)
		u := b.activate(4)
		synctest.Wait()
		stop()
		want(1, ErrStopped)
		if got := u.statuses(); !bytes.Equal(got, []byte{statusNACK | statusDeactivated}) {
			t.Errorf("status % X after the end", got)
		}
		defer b.start()()
		b.activate(1)
	})
}

func (b *bench) set(which byte, data ...byte) command.Code {
	c := command.Call{Data: append([]byte{command.ChannelCurrent, which}, data...), Origin: host.Origin{Via: "ipmi", User: "admin"}}
	return b.setParameter(&c)
}

func (b *bench) get(which byte) (command.Code, []byte) {
	c := command.Call{Data: []byte{command.ChannelLAN, which, 0, 0}}
	return b.getParameter(&c), c.Reply
}

func TestParameters(t *testing.T) {
	for _, test := range []struct {
		which byte
		data  []byte
		code  command.Code
		want  []byte // then
	}{
		{0, []byte{1}, command.OK, []byte{1}},
		{0, []byte{2}, command.InvalidField, []byte{0}},
		{0, []byte{0}, command.OK, []byte{0}},
		{0, nil, command.BadLength, []byte{0}},
		{1, []byte{0}, command.OK, []byte{0}},
		{1, []byte{1}, command.OK, []byte{1}},
		{1, []byte{1, 1}, command.BadLength, []byte{1}},
		{2, []byte{0xC4}, command.OK, []byte{0xC4}},
		{2, []byte{0xC1}, command.InvalidField, []byte{0xC3}},
		{2, []byte{0xC6}, command.InvalidField, []byte{0xC3}},
		{2, []byte{0x83}, command.InvalidField, []byte{0xC3}},
		{2, []byte{0x43}, command.InvalidField, []byte{0xC3}},
		{3, []byte{20, 200}, command.OK, []byte{20, 200}},
		{3, []byte{0, 96}, command.InvalidField, []byte{10, 96}},
		{3, []byte{10, 0}, command.InvalidField, []byte{10, 96}},
		{3, []byte{10}, command.BadLength, []byte{10, 96}},
		{4, []byte{3, 50}, command.OK, []byte{3, 50}},
		{5, []byte{0x0A}, command.OK, []byte{0x0A}},
		{5, []byte{0x07}, command.OutOfRange, []byte{0x0A}},
		{6, []byte{0x0A}, command.OK, []byte{0x0A}},
		{6, []byte{0x06}, command.OutOfRange, []byte{0x0A}},
		{7, []byte{1}, codeReadOnly, []byte{1}},
		{8, []byte{0x6F, 0x50}, command.OK, []byte{0x6F, 0x50}},
		{8, []byte{0x6F, 0x02}, command.OK, []byte{0x6F, 0x02}},
		{9, []byte{1}, codeNoParameter, nil},
		{192, []byte{1}, codeNoParameter, nil},
	} {
		b := newBench(t)
		if code := b.set(test.which, test.data...); code != test.code {
			t.Errorf("parameter %d = % X: %v, want %v", test.which, test.data, code, test.code)
		}
		code, got := b.get(test.which)
		if test.want == nil {
			if code != codeNoParameter {
				t.Errorf("parameter %d: %v, want %v", test.which, code, codeNoParameter)
			}
			continue
		}
		if want := append([]byte{0x11}, test.want...); code != command.OK || !bytes.Equal(got, want) {
			t.Errorf("parameter %d = % X: then %v % X, want % X", test.which, test.data, code, got, want)
		}
		if again := b.open().Settings(); again != b.Settings() {
			t.Errorf("parameter %d: after a restart %+v, want %+v", test.which, again, b.Settings())
		}
		if changed := b.Settings() != DefaultSettings(); (len(b.told) == 1) != changed {
			t.Errorf("parameter %d = % X: told %q", test.which, test.data, b.told)
		}
	}
}

func TestParametersOtherwise(t *testing.T) {
	b := newBench(t)
	call := func(run func(*command.Call) command.Code, data ...byte) (command.Code, []byte) {
		c := command.Call{Data: data}
		return run(&c), c.Reply
	}
	for _, test := range []struct {
		data []byte
		code command.Code
		want []byte
	}{
		{[]byte{0x81, 3, 0, 0}, command.OK, []byte{0x11}},
		{[]byte{0x02, 3, 0, 0}, command.InvalidField, nil},
		{[]byte{0x01, 3, 1, 0}, command.InvalidField, nil},
		{[]byte{0x01, 3, 0, 1}, command.InvalidField, nil},
		{[]byte{0x81, 99, 0, 0}, codeNoParameter, nil},
	} {
		if code, got := call(b.getParameter, test.data...); code != test.code || !bytes.Equal(got, test.want) {
			t.Errorf("get % X = %v % X, want %v % X", test.data, code, got, test.code, test.want)
		}
	}
	if code, _ := call(b.setParameter, 0x02, 1, 1); code != command.InvalidField {
		t.Errorf("another channel: %v", code)
	}
	b.set(0, 1)
	if code := b.set(0, 1); code != codeNotComplete {
		t.Errorf("set in progress twice: %v, want %v", code, codeNotComplete)
	}
	b.rate = 1500000 // has no number
	for _, which := range []byte{5, 6} {
		if code, _ := b.get(which); code != codeNoParameter {
			t.Errorf("rate without a number: get %v", code)
		}
		if code := b.set(which, 0x0A); code != codeNoParameter {
			t.Errorf("rate without a number: set %v", code)
		}
	}
	b.store.err = errors.New("disk")
	if code := b.set(1, 0); code != command.Unspecified || !b.Settings().Enabled {
		t.Errorf("a disk that fails: %v, enabled: %v", code, b.Settings().Enabled)
	}
	for _, raw := range []string{"{", `{"privilege":9}`, `{"accumulate":0}`} {
		b.store.raw, b.store.err = []byte(raw), nil
		if got := b.open().Settings(); got != DefaultSettings() {
			t.Errorf("%s is read as %+v", raw, got)
		}
	}
}

func FuzzCommands(f *testing.F) {
	f.Add(byte(0), []byte{1, 0, 1})
	f.Add(byte(1), []byte{1, 4, 0, 0})
	b := &bench{console: newConsole(), store: &fakeStore{}, rate: 115200}
	b.SOL = b.open()
	list := b.Commands()
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		cmd := list[int(which)%len(list)]
		if len(data) < cmd.MinLen || len(data) > cmd.MaxLen {
			return
		}
		c := command.Call{Data: slices.Clone(data)}
		code := cmd.Run(&c)
		if len(c.Reply) > command.MaxKept || code != command.OK && code < 0x80 {
			t.Errorf("%s % X = %v % X", cmd.Name, data, code, c.Reply)
		}
		if err := b.Settings().validate(); err != nil {
			t.Error(err)
		}
	})
}
