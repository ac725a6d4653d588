package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reports collects what a group tells.
type reports struct {
	mu   sync.Mutex
	list []string
}

func (r *reports) add(p Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, fmt.Sprintf("%s %s %v", p.Service, p.State, p.Err))
}

func (r *reports) check(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.list, want) {
		t.Errorf("reports: got %q, want %q", r.list, want)
	}
}

func newGroup(t *testing.T) (*Group, *reports, *bytes.Buffer) {
	t.Helper()
	r, out := &reports{}, &bytes.Buffer{} // slog's handler writes one line at a time, under a lock
	return New(slog.New(slog.NewTextHandler(out, nil)), r.add), r, out
}

func wellBehaved(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

func states(g *Group) string {
	var list []string
	for _, h := range g.Health() {
		list = append(list, fmt.Sprintf("%s %s %d", h.Service, h.State, h.Failures))
	}
	return strings.Join(list, ", ")
}

func wantStates(t *testing.T, g *Group, want string) {
	t.Helper()
	if got := states(g); got != want {
		t.Errorf("health: got %q, want %q", got, want)
	}
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r, _ := newGroup(t)
		begin := time.Now()
		var starts []time.Duration
		must(t, g.Start("a", func(context.Context) error {
			starts = append(starts, time.Since(begin))
			return errors.New("no wire")
		}))
		time.Sleep(2 * time.Minute)
		must(t, g.Close(t.Context()))
		var want []time.Duration
		at := time.Duration(0)
		for delay := 100 * time.Millisecond; at < 2*time.Minute; delay = min(2*delay, 30*time.Second) {
			want = append(want, at)
			at += delay
		}
		if !slices.Equal(starts, want) {
			t.Errorf("started at %v, want %v", starts, want)
		}
		r.check(t, "a failing no wire")
	})
}

func TestRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r, out := newGroup(t)
		runs := 0
		var gaps []time.Duration
		var ended time.Time
		must(t, g.Start("a", func(ctx context.Context) error {
			if !ended.IsZero() {
				gaps = append(gaps, time.Since(ended))
			}
			defer func() { ended = time.Now() }()
			switch runs++; runs {
			case 1, 2:
				return fmt.Errorf("failure %d", runs)
			case 3: // long enough for health, then a failure that is new
				time.Sleep(HealthyAfter + time.Second)
				return nil
			case 4: // not long enough
				time.Sleep(HealthyAfter - time.Second)
				return errors.New("too soon")
			}
			return wellBehaved(ctx)
		}))
		time.Sleep(10 * time.Millisecond)
		wantStates(t, g, "a failing 1")
		time.Sleep(time.Second) // third run
		wantStates(t, g, "a failing 2")
		if h := g.Health()[0]; h.Err == nil || h.Err.Error() != "failure 2" {
			t.Errorf("health's error: got %v, want failure 2", h.Err)
		}
		time.Sleep(HealthyAfter)
		wantStates(t, g, "a running 0")
		time.Sleep(time.Second)
		wantStates(t, g, "a failing 1")
		time.Sleep(HealthyAfter)
		wantStates(t, g, "a failing 2")
		time.Sleep(HealthyAfter)
		wantStates(t, g, "a running 0")
		r.check(t, "a failing failure 1", "a running <nil>", "a failing "+ErrReturned.Error(), "a running <nil>")
		must(t, g.Close(t.Context()))
		// The third gap starts over: its run was healthy. The fourth does not.
		if want := []time.Duration{100e6, 200e6, 100e6, 200e6}; !slices.Equal(gaps, want) {
			t.Errorf("pauses: got %v, want %v", gaps, want)
		}
		if n := strings.Count(out.String(), "service failed"); n != 4 {
			t.Errorf("%d failures are in the log, want each of 4:\n%s", n, out)
		}
	})
}

func explode() { panic("short circuit") }

func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r, out := newGroup(t)
		must(t, g.Start("bystander", wellBehaved))
		must(t, g.Start("a", func(context.Context) error { explode(); return nil }))
		must(t, g.Start("b", func(context.Context) error { runtime.Goexit(); return nil }))
		time.Sleep(50 * time.Millisecond)
		wantStates(t, g, "bystander running 0, a failing 1, b failing 1")
		time.Sleep(100 * time.Millisecond)
		wantStates(t, g, "bystander running 0, a failing 2, b failing 2")
		if p, ok := errors.AsType[*PanicError](g.Health()[1].Err); !ok || p.Value != "short circuit" {
			t.Errorf("got %v, want the panic", g.Health()[1].Err)
		}
		must(t, g.Close(t.Context()))
		slices.Sort(r.list)
		r.check(t, "a failing panic: short circuit", "b failing the service ended its goroutine")
		if !strings.Contains(out.String(), "supervise.explode") {
			t.Errorf("the log lacks the stack:\n%s", out)
		}
	})
}

// A panic while the service is being stopped is a defect all the same.
func TestPanicAtStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r, _ := newGroup(t)
		must(t, g.Start("a", func(ctx context.Context) error { <-ctx.Done(); explode(); return nil }))
		synctest.Wait()
		must(t, g.Stop("a"))
		r.check(t, "a failing panic: short circuit")
		wantStates(t, g, "")
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r, _ := newGroup(t)
		ended := false
		must(t, g.Start("a", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(StopLimit - time.Second)
			ended = true
			return errors.New("whatever")
		}))
		wantErr(t, g.Start("a", wellBehaved), ErrRunning)
		synctest.Wait()
		must(t, g.Stop("a"))
		if !ended {
			t.Error("Stop did not wait for the service")
		}
		wantErr(t, g.Stop("a"), ErrNotFound)

		// In the pause after a failure it stops at once.
		must(t, g.Start("a", func(context.Context) error { return errors.New("down") }))
		time.Sleep(20 * time.Second)
		before := time.Now()
		must(t, g.Stop("a"))
		if took := time.Since(before); took != 0 {
			t.Errorf("Stop took %v in the pause, want none", took)
		}
		r.check(t, "a failing down")
		wantStates(t, g, "")
	})
}

func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r, _ := newGroup(t)
		release := make(chan struct{})
		active, most := 0, 0
		count := func(f func()) {
			active++
			most = max(most, active)
			f()
			active--
		}
		must(t, g.Start("a", func(context.Context) error { count(func() { <-release }); return nil }))
		synctest.Wait()
		before := time.Now()
		wantErr(t, g.Stop("a"), ErrStuck)
		if took := time.Since(before); took != StopLimit {
			t.Errorf("Stop took %v, want %v", took, StopLimit)
		}
		wantStates(t, g, "a stuck 0")
		wantErr(t, g.Stop("a"), ErrStuck)
		r.check(t, "a stuck "+ErrStuck.Error()) // once

		// Successors wait for it, and give way to one another meanwhile.
		must(t, g.Start("a", func(context.Context) error { t.Error("ran though it was replaced"); return nil }))
		synctest.Wait()
		wantStates(t, g, "a waiting 0")
		must(t, g.Replace("a", func(ctx context.Context) error {
			count(func() { <-ctx.Done() })
			return nil
		}))
		synctest.Wait()
		wantStates(t, g, "a waiting 0")
		close(release)
		synctest.Wait()
		wantStates(t, g, "a running 0")
		must(t, g.Close(t.Context()))
		if most != 1 || active != 0 {
			t.Errorf("at most %d ran at once, %d do still; want 1 and 0", most, active)
		}
	})
}

func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r, _ := newGroup(t)
		var trace []string
		slow := func(name string) func(context.Context) error {
			return func(ctx context.Context) error {
				trace = append(trace, name+" begins")
				<-ctx.Done()
				time.Sleep(time.Second)
				trace = append(trace, name+" ends")
				return nil
			}
		}
		must(t, g.Start("first", wellBehaved))
		must(t, g.Replace("a", slow("one"))) // was not there
		must(t, g.Start("last", wellBehaved))
		synctest.Wait()
		must(t, g.Replace("a", slow("two")))
		synctest.Wait()
		must(t, g.Replace("a", slow("three")))
		synctest.Wait()
		wantStates(t, g, "first running 0, a running 0, last running 0")
		must(t, g.Close(t.Context()))
		want := []string{"one begins", "one ends", "two begins", "two ends", "three begins", "three ends"}
		if !slices.Equal(trace, want) {
			t.Errorf("got %q, want %q", trace, want)
		}
		r.check(t)
	})
}

func TestReplaceStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r, _ := newGroup(t)
		release := make(chan struct{})
		must(t, g.Start("a", func(context.Context) error { <-release; return nil }))
		synctest.Wait()
		wantErr(t, g.Replace("a", wellBehaved), ErrStuck)
		wantStates(t, g, "a waiting 0")
		r.check(t, "a stuck "+ErrStuck.Error())
		close(release)
		synctest.Wait()
		wantStates(t, g, "a running 0")
		must(t, g.Close(t.Context()))
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, _ := newGroup(t)
		var trace []string
		for _, name := range []string{"a", "b", "c"} {
			must(t, g.Start(name, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(time.Second)
				trace = append(trace, name)
				return nil
			}))
		}
		synctest.Wait()
		must(t, g.Close(t.Context()))
		if want := []string{"c", "b", "a"}; !slices.Equal(trace, want) {
			t.Errorf("ended in the order %q, want %q", trace, want)
		}
		wantErr(t, g.Start("d", wellBehaved), ErrClosed)
		wantErr(t, g.Replace("d", wellBehaved), ErrClosed)
		must(t, g.Close(t.Context()))
	})
}

func TestCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r, _ := newGroup(t)
		told := false
		must(t, g.Start("told", func(ctx context.Context) error { <-ctx.Done(); told = true; return nil }))
		must(t, g.Start("slow", func(ctx context.Context) error { <-ctx.Done(); time.Sleep(5 * time.Second); return nil }))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		before := time.Now()
		err := g.Close(ctx)
		wantErr(t, err, context.DeadlineExceeded)
		if took := time.Since(before); took != time.Second {
			t.Errorf("Close took %v, want 1s", took)
		}
		if err == nil || !strings.Contains(err.Error(), "slow") {
			t.Errorf("the error %v does not name the slow service", err)
		}
		synctest.Wait()
		if !told {
			t.Error("the other service was not told to end")
		}
		must(t, g.Close(t.Context())) // the slow one returns meanwhile
		r.check(t)
	})
}

// Many callers at once, for the race detector: the methods stay consistent.
func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, _ := newGroup(t)
		var mu sync.Mutex
		active := map[string]int{}
		run := func(name string) func(context.Context) error {
			return func(ctx context.Context) error {
				mu.Lock()
				active[name]++
				if active[name] > 1 {
					t.Errorf("two of %s run at once", name)
				}
				mu.Unlock()
				<-ctx.Done()
				mu.Lock()
				active[name]--
				mu.Unlock()
				return ctx.Err()
			}
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 50 {
					name := string(rune('a' + (i+j)%3))
					if err := g.Replace(name, run(name)); err != nil {
						t.Errorf("Replace: %v", err)
					}
					if err := g.Stop(name); err != nil && !errors.Is(err, ErrNotFound) {
						t.Errorf("Stop: %v", err)
					}
					_ = g.Health() // only its locking is of interest here
				}
			})
		}
		wg.Wait()
		must(t, g.Close(t.Context()))
		for name, n := range active {
			if n != 0 {
				t.Errorf("%d of %s run after Close", n, name)
			}
		}
	})
}
