package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/block"
)

// A farServer is an NBD server that tests take away.
type farServer struct {
	mu     sync.Mutex
	err    error       // of those who dial
	report func(error) // of who has dialed last
}

func (f *farServer) answer(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *farServer) dial(ctx context.Context, uri string, report func(error)) (block.Device, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	f.report = report
	return dialMemory(ctx, uri, report)
}

// TestOutage: people are told of a server that is away for longer than the grace, and
// then that it is back; of one that was away for less they hear nothing.
func TestOutage(t *testing.T) {
	refused, changed := errors.New("connection refused"), errors.New("another disk")
	after := func(d time.Duration) func(*watched, *farServer) {
		return func(*watched, *farServer) { time.Sleep(d); synctest.Wait() }
	}
	dials := func(err error) func(*watched, *farServer) { return func(_ *watched, f *farServer) { f.answer(err) } }
	device := func(err error) func(*watched, *farServer) { return func(_ *watched, f *farServer) { f.report(err) } }
	fails := func(want string) func(*watched, *farServer) {
		return func(w *watched, _ *farServer) {
			if info := must(w.Get("clone"))(t); info.Failed != want && !(want != "" && strings.HasSuffix(info.Failed, want)) {
				t.Errorf("got failed %q, want %q", info.Failed, want)
			}
		}
	}
	const soon, late = grace - time.Second, grace + time.Second
	for what, tt := range map[string]struct {
		first error // of dialing, at the start
		steps []func(*watched, *farServer)
		want  []string
	}{
		"not there at the start": {refused, []func(*watched, *farServer){
			fails("connection refused"), after(soon - lastRetry), dials(nil), after(lastRetry), fails(""),
		}, nil},
		"not there for longer": {refused, []func(*watched, *farServer){
			after(soon), dials(changed), after(lastRetry + 2*time.Second), fails("another disk"), after(10 * lastRetry), dials(nil), after(lastRetry), fails(""), after(late),
		}, []string{"volume.unreachable: connection refused", "volume.reachable"}},
		"lost for a moment": {nil, []func(*watched, *farServer){
			device(refused), after(soon), fails(""), device(nil), after(late), device(refused), after(soon), device(nil), after(late),
		}, nil},
		"lost": {nil, []func(*watched, *farServer){
			device(refused), after(late), fails("connection refused"), after(late), device(nil), fails(""), after(late),
		}, []string{"volume.unreachable: connection refused", "volume.reachable"}},
		"another one comes back": {nil, []func(*watched, *farServer){
			device(refused), after(late), device(changed), fails("another disk"), device(nil),
		}, []string{"volume.unreachable: connection refused", "volume.unreachable: another disk", "volume.reachable"}},
		"another one comes back soon": {nil, []func(*watched, *farServer){
			device(refused), device(changed), after(late),
		}, []string{"volume.unreachable: another disk"}},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := openAt(t, quickFolder(t), nil)
				w.create(t, block.CreateRequest{Name: "image", Upstream: "nbd://u:secret@server/export", ReadOnly: true})
				w.create(t, block.CreateRequest{Name: "clone", Clone: "image"})
				w.mu.Lock()
				w.events = nil // of their creation
				w.mu.Unlock()
				far := &farServer{err: tt.first}
				w.opt.Dial = far.dial
				_, release, err := w.Use("clone")
				ok(t, err)
				synctest.Wait()
				for _, step := range tt.steps {
					step(w, far)
				}
				// What nobody uses is nobody's outage.
				release()
				if far.report != nil {
					far.report(refused)
				}
				time.Sleep(late)
				synctest.Wait()
				w.mu.Lock()
				var got []string
				for _, e := range w.events {
					text := e.Kind
					if i := strings.LastIndex(e.Message, ": "); i >= 0 {
						text = fmt.Sprint(e.Kind, strings.TrimSuffix(e.Message[i:], "."))
					}
					if !strings.Contains(e.Message, "clone") || !strings.Contains(e.Message, "image") {
						t.Errorf("%q does not name the volumes", e.Message)
					}
					got = append(got, text)
				}
				w.mu.Unlock()
				if !slices.Equal(got, tt.want) {
					t.Errorf("got events %q, want %q", got, tt.want)
				}
			})
		})
	}
}
