package sel

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"sort"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/sdr"
)

// Events is the one event log: *host.Events.
type Events interface {
	Add(host.Event) host.Event
	Since(id uint64, limit int) []host.Event
	Last() uint64
	Wait(ctx context.Context, id uint64) error
}

// Sensors know the sensors that records name: *sdr.Repository.
type Sensors interface {
	Gauge(name string) (sdr.Gauge, bool)
	Enabled(number, offset uint8, deassert bool) bool
}

// Options are what the log is made of.
type Options struct {
	Events  Events
	Sensors Sensors
	Clock   *Clock
	// UserID is the IPMI user ID of a user's name, 0 for none; nil: there are
	// no IDs.
	UserID func(name string) uint8
	Store  *store.Store
	Log    *slog.Logger
}

// A Log is the SEL.
type Log struct {
	events  Events
	sensors Sensors
	clock   *Clock
	userID  func(string) uint8
	db      *store.Store
	log     *slog.Logger
	kinds   map[string]Kind

	// turn is for one who changes the log at a time, and is held over the
	// writing to the disk. Who only looks takes mu.
	turn    sync.Mutex
	saved   uint64      // records up to this Seq are in the store; guarded by turn
	deleted time.Time   // when a record was last deleted; guarded by turn
	deleter host.Origin // and by whom

	mu       sync.Mutex // guards the following; writing takes turn, too
	list     []entry    // oldest first
	state    state
	grew     chan struct{}
	reserved uint16 // the last reservation
	valid    bool   // it holds
}

// An entry is a record in memory. What else an Entry has is the event's.
type entry struct {
	seq    uint64
	record [RecordLen]byte
}

func (e *entry) id() uint16 { return binary.LittleEndian.Uint16(e.record[:]) }

// A state is what is kept beside the records.
type state struct {
	// Cursor is the newest event that was looked at, and Last the newest Seq
	// ever.
	Cursor uint64 `json:"cursor"`
	Last   uint64 `json:"last"`
	// NextID is what the next record gets.
	NextID uint16 `json:"next_id"`
	// Added and Erased are when it last happened, by the log's clock.
	Added  uint32 `json:"added"`
	Erased uint32 `json:"erased"`
	// Overflow: records went because the event log is full, since it was last
	// cleared.
	Overflow bool `json:"overflow,omitempty"`
	// Off: events become no records.
	Off bool `json:"off,omitempty"`
}

const (
	recordBucket = "sel" // Seq → record
	stateBucket  = "sel-state"
	stateKey     = "state"
)

const never = math.MaxUint32 // a time (section 31.2)

// maxBatch bounds what one transaction takes up.
const maxBatch = 512

// New takes up the log that is kept, and the events since.
func New(o Options) (*Log, error) {
	l := &Log{events: o.Events, sensors: o.Sensors, clock: o.Clock, userID: o.UserID, db: o.Store, log: o.Log,
		kinds: map[string]Kind{}, grew: make(chan struct{})}
	if l.userID == nil {
		l.userID = func(string) uint8 { return 0 }
	}
	for _, k := range Kinds() {
		l.kinds[k.Kind] = k
	}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("reading the SEL: %w", err)
	}
	l.turn.Lock()
	defer l.turn.Unlock()
	l.take()
	return l, nil
}

func (l *Log) load() error {
	fresh := state{NextID: 1, Added: never, Erased: never}
	l.state = fresh
	return l.db.View(func(t store.Tx) error {
		if raw := t.Get(stateBucket, []byte(stateKey)); raw != nil {
			if err := json.Unmarshal(raw, &l.state); err != nil || l.state.NextID == 0 {
				l.log.Error("the state of the SEL cannot be read", "error", err)
				l.state = fresh
			}
		}
		err := t.Each(recordBucket, func(k, v []byte) error {
			if len(k) == 8 && len(v) == RecordLen {
				l.list = append(l.list, entry{seq: binary.BigEndian.Uint64(k), record: [RecordLen]byte(v)})
			}
			return nil
		})
		if n := len(l.list); n > 0 {
			newest := &l.list[n-1]
			if l.state.Last < newest.seq { // the state was lost
				l.state.Cursor, l.state.Last, l.state.NextID = newest.seq, newest.seq, following(newest.id())
			}
		}
		// A crash may lose more events than IDs were reserved for; it is from
		// there that the event log goes on.
		l.state.Cursor = min(l.state.Cursor, l.events.Last())
		l.saved = l.state.Last
		return err
	})
}

// following is the record ID after id: 0000h and FFFFh are none (section 31.5).
func following(id uint16) uint16 {
	if id++; id == 0 || id == math.MaxUint16 {
		return 1
	}
	return id
}

// Run makes records of the events until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	for {
		if err := cmp.Or(l.events.Wait(ctx, l.cursor()), ctx.Err()); err != nil {
			return err
		}
		for !l.follow() {
			// The log stays in memory; the store may work again later.
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func (l *Log) cursor() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Cursor
}

// follow takes up the events that came meanwhile. It answers whether all
// records are on the disk; it has logged why not.
func (l *Log) follow() (kept bool) {
	l.turn.Lock()
	defer l.turn.Unlock()
	return l.take()
}

// take makes records of all events since the cursor, many in a transaction, and
// then shows them. Where the store fails they are shown all the same, and
// written with the next ones. l.turn is held.
func (l *Log) take() (kept bool) {
	kept = true
	for {
		now := l.state // nobody else writes it
		events := l.events.Since(now.Cursor, maxBatch)
		var added []entry
		write := false
		for i := range events {
			e := &events[i]
			now.Cursor = e.ID
			r, verdict := l.record(e)
			write = write || verdict != unmapped // else it may as well be looked at again
			if verdict != recorded {
				continue
			}
			binary.LittleEndian.PutUint16(r[:], now.NextID)
			now.NextID = following(now.NextID)
			now.Last = max(e.ID, now.Last+1) // the latter only after such a crash
			now.Added = l.clock.Time(e.Time)
			added = append(added, entry{seq: now.Last, record: r})
		}
		gone := len(l.list) - len(l.after(l.horizon(now.Cursor)))
		if gone > 0 {
			now.Overflow = true
		}
		if write || l.saved < l.state.Last {
			if err := l.save(now, added, nil); err != nil {
				l.log.Error("SEL records could not be written", "error", err)
				kept = false
			} else {
				kept = true
			}
		}
		l.show(now, added, gone)
		if len(events) < maxBatch {
			return kept
		}
	}
}

// horizon is the newest Seq whose event went because the event log is full, 0
// where it is not: an event that a crash lost leaves its record.
func (l *Log) horizon(cursor uint64) uint64 {
	oldest := l.events.Since(0, 1)
	if len(oldest) == 0 || cursor < oldest[0].ID+host.MaxEvents-1 {
		return 0
	}
	return oldest[0].ID - 1
}

// after are the records whose Seq is greater.
func (l *Log) after(seq uint64) []entry {
	return l.list[sort.Search(len(l.list), func(i int) bool { return l.list[i].seq > seq }):]
}

// save writes the state, the records that are not written yet and those added,
// in one transaction, in which f, where it is not nil, does the rest. It deletes
// the records whose events are gone. l.turn is held.
func (l *Log) save(now state, added []entry, f func(store.Tx) error) error {
	raw, err := json.Marshal(now)
	if err != nil {
		return err
	}
	horizon := l.horizon(now.Cursor)
	err = l.db.Update(func(t store.Tx) error {
		for _, list := range [...][]entry{l.after(l.saved), added} {
			for i := range list {
				if err := t.Put(recordBucket, key(list[i].seq), list[i].record[:]); err != nil {
					return err
				}
			}
		}
		if err := t.DeleteBelow(recordBucket, key(horizon+1)); err != nil {
			return err
		}
		if f != nil {
			if err := f(t); err != nil {
				return err
			}
		}
		return t.Put(stateBucket, []byte(stateKey), raw)
	})
	if err == nil {
		l.saved = now.Last
	}
	return err
}

func key(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// show makes it the log: the first gone records are away, and added came.
func (l *Log) show(now state, added []entry, gone int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list[gone:], added...)
	l.state = now
	if len(added)+gone > 0 {
		l.valid = false // section 31.4
	}
	if len(added) > 0 {
		close(l.grew)
		l.grew = make(chan struct{})
	}
}

// Since returns the records whose Seq is greater than seq, oldest first, at
// most limit (0: all).
func (l *Log) Since(seq uint64, limit int) []Entry {
	l.mu.Lock()
	found := l.after(seq)
	if limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	entries := make([]Entry, len(found))
	for i := range found {
		entries[i] = Entry{Seq: found[i].seq, Record: found[i].record, Severity: host.OK}
	}
	l.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		// A crash may have lost the event, and not its record.
		if of := l.events.Since(e.Seq-1, 1); len(of) > 0 && of[0].ID == e.Seq {
			e.Severity, e.Origin = of[0].Severity, of[0].Origin
		}
	}
	return entries
}

// Last returns the Seq of the newest record ever, 0 where there was none.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Last
}

// Wait blocks until there is a record whose Seq is greater than seq, or ctx
// ends.
func (l *Log) Wait(ctx context.Context, seq uint64) error {
	for {
		l.mu.Lock()
		last, grew := l.state.Last, l.grew
		l.mu.Unlock()
		if last > seq {
			return nil
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Logging says whether events become records (BMC Global Enables, bit 3).
func (l *Log) Logging() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.state.Off
}

// SetLogging switches that; it is on the disk when it returns nil. Records that
// a console adds itself are taken all the same (section 22.1).
func (l *Log) SetLogging(on bool, from host.Origin) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	if on != l.state.Off {
		return nil
	}
	said := host.Event{Kind: kindLoggingOff, Severity: host.Warning, Origin: from, Message: "The IPMI event log takes no more events."}
	if on {
		said = host.Event{Kind: kindLoggingOn, Origin: from, Message: "The IPMI event log takes events again."}
	}
	l.take() // what happened before is judged by what was set then
	now := l.state
	now.Off = !on
	if err := l.save(now, nil, nil); err != nil {
		return fmt.Errorf("event logging: %w", err)
	}
	l.show(now, nil, 0)
	l.events.Add(said)
	l.take()
	return nil
}
