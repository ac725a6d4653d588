package pef

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/sel"
)

// state is the place in the log, and the alerts that are still to be sent. It
// outlives a restart, so that none is lost and no action is done twice.
type state struct {
	// Processed and Software are the numbers of the entries that the board and
	// that software last worked on; the IDs are those of their records.
	Processed   uint64 `json:"processed"`
	ProcessedID uint16 `json:"processed_id"`
	Software    uint64 `json:"software"`
	SoftwareID  uint16 `json:"software_id"`
	// Sequence is the number of the newest alert.
	Sequence uint16 `json:"sequence"`
	Alerts   []job  `json:"alerts,omitempty"`
}

// save keeps the state as it is now. Those who come while another one's state
// is written share the next writing.
func (p *PEF) save() error {
	p.mu.Lock()
	p.version++
	mine := p.version
	p.mu.Unlock()

	p.saving.Lock()
	defer p.saving.Unlock()
	p.mu.Lock()
	s, version, saved := p.state, p.version, p.saved
	s.Alerts = slices.Clone(s.Alerts)
	p.mu.Unlock()
	if saved >= mine {
		return nil
	}
	if err := p.opt.Store.PutJSON(bucket, stateKey, &s); err != nil {
		return fmt.Errorf("keeping the place in the log: %w", err)
	}
	p.mu.Lock()
	p.saved = version
	p.mu.Unlock()
	return nil
}

// keep is save where nobody can be told of an error: the board goes on without
// its card, and may do after a restart what it did already.
func (p *PEF) keep() {
	if err := p.save(); err != nil {
		p.opt.Log.Error("platform event filtering", "error", err)
	}
}

const (
	batch = 32
	// actionWait is how long an alert waits for the end of the power action
	// that comes with it (chapter 17).
	actionWait = 15 * time.Second
)

// Run filters the events and sends the alerts until ctx ends.
func (p *PEF) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	last := p.opt.SEL.Last()
	p.mu.Lock()
	p.jobs.start = func(j job) { tasks.Go(func() { p.deliver(ctx, j) }) }
	p.jobs.immediate = func(send func(context.Context)) { tasks.Go(func() { send(ctx) }) }
	// Where nobody knows what was worked on, nothing old is.
	if !p.kept || p.config.Load().Control&controlPEF == 0 || p.state.Processed > last {
		p.state.Processed = last
	}
	p.kept = true
	seen := p.state.Processed
	for _, j := range p.state.Alerts {
		p.jobs.start(j)
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.jobs.start, p.jobs.immediate = nil, nil
		p.mu.Unlock()
		p.keep()
	}()
	for ctx.Err() == nil {
		seen = p.look(seen)
		p.step(ctx)
	}
	return ctx.Err()
}

// look finds entries that say that the host was started, reset or switched off:
// that begins the startup delays, and ends what software of the host asked for.
func (p *PEF) look(seen uint64) uint64 {
	for {
		list := p.opt.SEL.Since(seen, batch)
		for _, e := range list {
			seen = e.Seq
			if e.Record[2] != recordEvent || e.Record[10] != sensorACPI && e.Record[10] != sensorBoot {
				continue
			}
			conf, now := p.config.Load(), time.Now()
			p.mu.Lock()
			p.postpone = postpone{}
			if conf.Control&controlStartupDelay != 0 {
				p.quietUntil = now.Add(time.Duration(conf.Startup) * time.Second)
			}
			if conf.Control&controlAlertDelay != 0 {
				p.alertsFrom = now.Add(time.Duration(conf.AlertDelay) * time.Second)
			}
			p.mu.Unlock()
		}
		if len(list) < batch {
			return seen
		}
	}
}

// step works on what there is, or waits for something.
func (p *PEF) step(ctx context.Context) {
	now := time.Now()
	newest := p.opt.SEL.Last()
	p.mu.Lock()
	if p.config.Load().Control&controlPEF == 0 {
		p.state.Processed = max(p.state.Processed, newest)
	}
	processed := p.state.Processed
	p.mu.Unlock()
	if newest <= processed {
		p.wait(ctx, processed, math.MaxInt64)
		return
	}
	if hold := p.held(now); hold > 0 {
		p.wait(ctx, newest, hold)
		return
	}
	for processed < newest {
		list := p.opt.SEL.Since(processed, batch)
		if p.process(ctx, list); ctx.Err() != nil {
			return
		}
		if len(list) == 0 { // the rest was deleted again
			p.mu.Lock()
			p.state.Processed = max(p.state.Processed, newest)
			p.mu.Unlock()
			return
		}
		processed = list[len(list)-1].Seq
	}
}

// wait blocks until there is an entry after seq, d is over, or something was
// changed.
func (p *PEF) wait(ctx context.Context, seq uint64, d time.Duration) {
	w, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	p.mu.Lock()
	woken := p.woken
	p.woken = false
	p.wake = cancel
	p.mu.Unlock()
	if !woken {
		// Its error is only that w has ended, of which there is nothing to say.
		_ = p.opt.SEL.Wait(w, seq)
	}
	p.mu.Lock()
	p.wake = nil
	p.mu.Unlock()
}

// kick ends the engine's wait, with p.mu held.
func (p *PEF) kick() {
	p.woken = true
	if p.wake != nil {
		p.wake()
	}
}

// process works on entries: what is to be done for them is kept first, so that a
// restart in between does no action twice.
func (p *PEF) process(ctx context.Context, list []sel.Entry) {
	conf := p.config.Load()
	var plans []plan
	p.mu.Lock()
	for i := range list {
		e := &list[i]
		p.state.Processed, p.state.ProcessedID = max(p.state.Processed, e.Seq), e.ID()
		if e.Seq <= p.state.Software {
			continue
		}
		if w := conf.plan(e, p.can); w.do != "" || len(w.alerts) > 0 {
			w.alerts = p.enqueue(w.alerts)
			plans = append(plans, w)
		}
	}
	overflow := p.jobs.overflow
	tell := overflow && !p.jobs.overflowTold
	p.jobs.overflow, p.jobs.overflowTold = false, overflow
	p.mu.Unlock()
	if len(plans) == 0 {
		return
	}
	p.keep()
	if tell {
		p.opt.Events.Add(host.Event{Severity: host.Warning, Kind: "pef.alert", Origin: host.Origin{Via: via},
			Message: fmt.Sprintf("Alerts are lost: %d are waiting to be sent already.", maxAlerts)})
	}
	for _, w := range plans {
		if w.do != "" {
			p.act(ctx, w)
		}
		p.mu.Lock()
		for _, j := range w.alerts {
			p.jobs.start(j)
		}
		p.mu.Unlock()
	}
}

// A plan is what is to be done for an entry.
type plan struct {
	record uint16      // its ID
	do     host.Action // "": none
	filter byte        // whose action that is
	alerts []job
}

// plan is what the filters want for an entry: the power action of the highest
// priority with the number of its filter, and for each alert
// policy that is named an alert, of the worst severity of its filters. The
// policies go by their number.
func (c *config) plan(e *sel.Entry, can action) plan {
	w := plan{record: e.ID()}
	allowed := c.Actions & can
	if e.Origin.Via == via {
		allowed &= actionAlert // what a power action did must not lead to the next, for ever
	}
	priority := len(powerActions)
	for i := range c.Filters {
		f := &c.Filters[i]
		if !f.enabled() || !f.matches(&e.Record) {
			continue
		}
		for rank, a := range powerActions {
			if f.actions()&allowed&a.bit != 0 && rank < priority {
				priority, w.do, w.filter = rank, a.do, byte(i+1)
			}
		}
		if f.actions()&allowed&actionAlert == 0 {
			continue
		}
		at := slices.IndexFunc(w.alerts, func(j job) bool { return j.Policy == f.policy() })
		if at < 0 {
			w.alerts = append(w.alerts, job{Record: e.Record, Policy: f.policy(), Filter: byte(i + 1), Severity: f.severity()})
			continue
		}
		w.alerts[at].Severity = max(w.alerts[at].Severity, f.severity())
	}
	slices.SortStableFunc(w.alerts, func(a, b job) int { return int(a.Policy) - int(b.Policy) })
	return w
}

// act does a power action. Its cause is a command's, since the host was not
// switched by a policy about AC power that may try again; who asks for the cause
// of the restart sees by Via that it was PEF.
func (p *PEF) act(ctx context.Context, w plan) {
	from := host.Origin{Via: via}
	op, err := p.opt.Power.Request(w.do, host.CauseCommand, from)
	if err != nil {
		p.opt.Events.Add(host.Event{Severity: host.Warning, Kind: "pef.action", Origin: from,
			Message: fmt.Sprintf("Event filter %d matched SEL record %d, but its action %q failed: %v.", w.filter, w.record, w.do, err)})
		return
	}
	p.opt.Events.Add(host.Event{Severity: host.Warning, Kind: "pef.action", Origin: from,
		Message: fmt.Sprintf("Event filter %d matched SEL record %d: power action %q.", w.filter, w.record, w.do)})
	if op == nil {
		return
	}
	limit := time.NewTimer(actionWait)
	defer limit.Stop()
	select {
	case <-op.Done():
	case <-limit.C:
	case <-ctx.Done():
	}
}

// postpone is the PEF postpone timer (chapter 17): software on the host asks
// for time to work on events itself.
type postpone struct {
	after byte      // s; 0: not armed; postponeOff: for as long as it says so
	until time.Time // zero: no event has started it yet
}

const (
	postponeOff  = 0xFE
	postponeRead = 0xFF
)

// held is how long events are not to be worked on yet; there are some.
func (p *PEF) held(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	hold := p.quietUntil.Sub(now)
	switch t := &p.postpone; {
	case t.after == 0:
	case t.after == postponeOff:
		return math.MaxInt64
	case t.until.IsZero():
		t.until = now.Add(time.Duration(t.after) * time.Second)
		hold = max(hold, t.until.Sub(now))
	case t.until.After(now):
		hold = max(hold, t.until.Sub(now))
	default:
		t.until = time.Time{} // the next event starts it anew
	}
	return max(hold, 0)
}

// armPostpone: section 30.2.
func (p *PEF) armPostpone(c *command.Call) command.Code {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Data[0] != postponeRead {
		p.postpone = postpone{after: c.Data[0]}
		p.kick()
	}
	left := p.postpone.after
	if t := p.postpone.until; !t.IsZero() {
		left = byte(max(0, (t.Sub(c.Now)+time.Second-1)/time.Second))
	}
	c.Put(left)
	return command.OK
}

// enqueue gives alerts their numbers and puts them among those to be kept, with
// p.mu held.
func (p *PEF) enqueue(alerts []job) []job {
	if room := maxAlerts - len(p.state.Alerts); len(alerts) > room {
		alerts, p.jobs.overflow = alerts[:room], true
	}
	for i := range alerts {
		alerts[i].Sequence = p.nextSequence()
	}
	p.state.Alerts = append(p.state.Alerts, alerts...)
	return alerts
}

// nextSequence is a new alert's number, with p.mu held; 0 would mean that there
// is none.
func (p *PEF) nextSequence() uint16 {
	p.state.Sequence++
	if p.state.Sequence == 0 {
		p.state.Sequence = 1
	}
	return p.state.Sequence
}

// done forgets an alert that was delivered or given up.
func (p *PEF) done(j job) {
	p.mu.Lock()
	p.state.Alerts = slices.DeleteFunc(p.state.Alerts, func(k job) bool { return k.Sequence == j.Sequence })
	p.mu.Unlock()
	p.keep()
}
