package host

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

func openEvents(t *testing.T, path string) (*Events, *store.Store) {
	t.Helper()
	db, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := OpenEvents(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return l, db
}

func TestEventsSurviveRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		total := 0
		for run := range 3 {
			l, db := openEvents(t, path)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- l.Run(ctx) }()
			if got := l.Last(); got != uint64(total) {
				t.Errorf("run %d: last: got %d, want %d", run, got, total)
			}
			for range MaxEvents/2 + 10 {
				total++
				if e := l.Add(Event{Kind: "test", Message: "m", Origin: Origin{User: "u"}}); e.ID != uint64(total) || e.Severity != OK || e.Time.IsZero() {
					t.Fatalf("Add: got %+v, want id %d, a severity and a time", e, total)
				}
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run: %v", err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
		l, db := openEvents(t, path)
		defer db.Close()
		got := l.Since(0, 0)
		if len(got) != MaxEvents || got[0].ID != uint64(total-MaxEvents+1) || got[len(got)-1].ID != uint64(total) {
			t.Errorf("kept: got %d events from %d, want the last %d of %d", len(got), got[0].ID, MaxEvents, total)
		}
	})
}

func TestEventsSince(t *testing.T) {
	l, db := openEvents(t, filepath.Join(t.TempDir(), "db"))
	defer db.Close()
	for range 10 {
		l.Add(Event{Kind: "test"})
	}
	for _, tt := range []struct {
		id           uint64
		limit, n     int
		first, final uint64
	}{{0, 0, 10, 1, 10}, {0, 3, 3, 1, 3}, {7, 0, 3, 8, 10}, {10, 0, 0, 0, 0}, {99, 5, 0, 0, 0}} {
		got := l.Since(tt.id, tt.limit)
		if len(got) != tt.n || tt.n > 0 && (got[0].ID != tt.first || got[tt.n-1].ID != tt.final) {
			t.Errorf("Since(%d, %d): got %v", tt.id, tt.limit, got)
		}
	}
}

func TestEventsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, db := openEvents(t, filepath.Join(t.TempDir(), "db"))
		defer db.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.Wait(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait without an event: got %v", err)
		}
		go func() { time.Sleep(time.Second); l.Add(Event{Kind: "test"}) }()
		if err := l.Wait(t.Context(), 0); err != nil || l.Last() != 1 {
			t.Errorf("Wait: got %v with last event %d", err, l.Last())
		}
	})
}

func TestEventsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	l, db := openEvents(t, path)
	l.Add(Event{Kind: "good"})
	if err := l.flush(false); err != nil {
		t.Fatal(err)
	}
	err := db.Update(func(tx store.Tx) error {
		if err := tx.Put(eventBucket, []byte{0, 0, 0, 0, 0, 0, 0, 2}, []byte("{")); err != nil {
			return err
		}
		return tx.Put(eventBucket, []byte("odd"), []byte("{}"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	l, db = openEvents(t, path)
	defer db.Close()
	got := l.Since(0, 0)
	if len(got) != 2 || got[0].Kind != "good" || got[1].Kind != "events.damaged" || got[1].ID <= 2 {
		t.Errorf("got %+v, want the good one and events.damaged with a new ID", got)
	}
}

func TestOriginString(t *testing.T) {
	for _, tt := range []struct {
		o    Origin
		want string
	}{
		{Origin{}, "the board"},
		{Origin{Via: "panel"}, "by panel"},
		{Origin{Via: "ipmi", User: "admin", Source: "10.0.0.1"}, "admin from 10.0.0.1 by ipmi"},
	} {
		if got := tt.o.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// A crash loses what was not written; its IDs are not given again, and what
// was written before stays.
func TestEventsCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		l, db := openEvents(t, path)
		for range 100 {
			l.Add(Event{Kind: "kept"})
		}
		if err := l.flush(false); err != nil {
			t.Fatal(err)
		}
		shown := l.Add(Event{Kind: "lost"}).ID // a client may have seen it
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			l, db = openEvents(t, path)
			if e := l.Add(Event{Kind: "new"}); e.ID <= shown {
				t.Errorf("after a crash: got ID %d again, %d was shown", e.ID, shown)
			} else {
				shown = e.ID
			}
			if err := l.flush(false); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		l, db = openEvents(t, path)
		defer db.Close()
		if got := l.Since(0, 0); len(got) != 102 || got[0].ID != 1 {
			t.Errorf("kept: got %d events, want the 100 and the 2 after the crashes", len(got))
		}
	})
}

// While the log is written the IDs stay ahead of a crash.
func TestEventsReserve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	l, db := openEvents(t, path)
	for range 10 * reserveAhead {
		l.Add(Event{Kind: "test"})
		if l.last%200 == 0 {
			if err := l.flush(false); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := l.Last()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	l, db = openEvents(t, path)
	defer db.Close()
	if got := l.Last(); got < last {
		t.Errorf("after a crash the last ID is %d, want at least %d", got, last)
	}
}

// A store that fails loses nothing that it may take later.
func TestEventsStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		l, db := openEvents(t, path)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		l.Add(Event{Kind: "test"})
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || err.Error() == context.Canceled.Error() {
			t.Errorf("Run: got %v, want the store's error too", err)
		}
		if l.written != 0 {
			t.Errorf("written: got %d, want 0", l.written)
		}
	})
}

// TestEventsFlush: it waits until the event is in the store, and no longer than
// that can be hoped for.
func TestEventsFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		l, db := openEvents(t, path)
		if err := l.Flush(t.Context()); err != nil {
			t.Errorf("nothing to write: got %v", err)
		}
		l.Add(Event{Kind: "test"})
		limited, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := l.Flush(limited); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a writer: got %v, want %v", err, context.DeadlineExceeded)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { time.Sleep(time.Second); done <- l.Run(ctx) }()
		for id := uint64(1); id <= 3; id++ {
			if err := l.Flush(t.Context()); err != nil || l.written != id {
				t.Errorf("got %v and %d events written, want %d", err, l.written, id)
			}
			l.Add(Event{Kind: "test"})
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Errorf("got %v", err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		l.Add(Event{Kind: "test"})
		for range 2 { // while it is tried, and between two tries
			began := time.Now()
			if err := l.Flush(t.Context()); err == nil || time.Since(began) > 0 {
				t.Errorf("the store is gone: got %v after %s, want its error at once", err, time.Since(began))
			}
		}
		cancel()
		<-done // with the store's error too, as in TestEventsStoreFails
	})
}

// Adding to a full log costs little more than to an empty one.
func BenchmarkEventsAddFull(b *testing.B) {
	l := &Events{log: slog.New(slog.DiscardHandler), grew: make(chan struct{})}
	for range MaxEvents {
		l.Add(Event{Kind: "test"})
	}
	for b.Loop() {
		l.Add(Event{Kind: "test"})
	}
	if len(l.list) != MaxEvents || l.list[0].ID != l.last-MaxEvents+1 {
		b.Errorf("got %d events from %d", len(l.list), l.list[0].ID)
	}
}
