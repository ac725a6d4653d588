package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/internal/ipc"
)

// The times of the supervision.
const (
	// beatEvery is how often a child says that its loop runs, beatLimit how
	// long it may be silent before it is killed.
	beatEvery = time.Second
	beatLimit = 10 * time.Second
	// firstPause and maxPause bound the wait before a child is started again;
	// it doubles with each failure. A child that ran for wellAfter is well.
	firstPause = 100 * time.Millisecond
	maxPause   = 30 * time.Second
	wellAfter  = time.Minute
	// stopLimit is how long a child may take to end in order.
	stopLimit = 20 * time.Second
	// goneLimit is how long a killed child may take to be gone. One that the
	// kernel does not let go cannot be replaced: then only a reset helps.
	goneLimit = time.Minute
	// A system on trial whose core failed trialFailures times in trialTime
	// without ever being ready is left.
	trialFailures = 5
	trialTime     = time.Minute
)

// limits are the times that a child may take.
type limits struct {
	silent time.Duration // between two beats
	stop   time.Duration // to end in order
	gone   time.Duration // to be gone when killed
}

// A watchdog resets the board unless it is fed.
type watchdog interface {
	Feed() error
}

// A parent keeps core and disk running.
type parent struct {
	log      *slog.Logger
	limits   limits
	watchdog watchdog // nil: there is none
	// onTrial: the system is not kept unless it works.
	onTrial func() bool

	events  *ipc.Outbox[bmc.Event]
	reports chan report
	again   chan *child   // whose pause is over
	done    chan struct{} // closed when run returns
	tasks   sync.WaitGroup

	core, disk *child
	start      *start // nil: not known yet
	stopping   time.Time
	arg        string // of the reboot
	starved    bool   // the watchdog is not fed
}

// A child is a role and how it has fared.
type child struct {
	role      role
	process   *process // nil: it does not run
	instances int      // how many were started
	pause     time.Duration
	timer     *time.Timer // until it is started again; nil: none
	failures  []time.Time // of starts that never got ready, since one did
	// last is why the latest instance ended.
	last string
	// wantsPeer: core asks for a connection to disk.
	wantsPeer bool
}

func newParent(core, disk role, log *slog.Logger) *parent {
	return &parent{
		log: log, limits: limits{beatLimit, stopLimit, goneLimit}, onTrial: func() bool { return false },
		events: ipc.NewOutbox(msgEvent, func(n int) bmc.Event {
			return newEvent(bmc.Event{Severity: bmc.Warning, Kind: "events.lost", Message: fmt.Sprintf("%d events found no place while core was down.", n)})
		}),
		reports: make(chan report), again: make(chan *child), done: make(chan struct{}),
		core: &child{role: core}, disk: &child{role: disk},
	}
}

// note logs an event and keeps it until core has it.
func (p *parent) note(e bmc.Event) {
	level := slog.LevelInfo
	if e.Severity != bmc.OK && e.Severity != "" {
		level = slog.LevelWarn
	}
	p.log.Log(context.Background(), level, e.Message, "kind", e.Kind)
	p.events.Put(newEvent(e))
}

func (p *parent) children() []*child { return []*child{p.core, p.disk} }

// run starts the children at once, tells them what comes from begin, and keeps
// them running until ctx ends or core asks for a reboot; then it stops them. It
// answers reboot(2)'s argument.
func (p *parent) run(ctx context.Context, begin <-chan start) string {
	for _, c := range p.children() {
		p.launch(c)
	}
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	stop := ctx.Done()
	for p.stopping.IsZero() || p.core.process != nil || p.disk.process != nil {
		select {
		case <-stop:
			stop = nil
			p.stop("")
		case s := <-begin:
			begin = nil
			p.start = &s
			for _, c := range p.children() {
				p.tellStart(c)
			}
		case r := <-p.reports:
			p.hear(r)
		case c := <-p.again:
			c.timer = nil
			p.launch(c)
		case <-tick.C:
			p.check()
		}
	}
	close(p.done)
	p.tasks.Wait()
	return p.arg
}

// stop ends the children; run returns when they are gone.
func (p *parent) stop(arg string) {
	if !p.stopping.IsZero() {
		return
	}
	p.arg = arg
	p.log.Info("stopping", "argument", arg)
	for _, c := range p.children() {
		if c.timer != nil {
			c.timer.Stop()
		}
	}
	p.stopNext()
}

// stopNext ends core, or when that is gone disk, which serves to the last.
func (p *parent) stopNext() {
	p.stopping = time.Now()
	for _, c := range p.children() {
		if c.process != nil {
			c.process.signal(syscall.SIGTERM, p.log)
			return
		}
	}
}

// launch starts a child, or tries again later.
func (p *parent) launch(c *child) {
	if !p.stopping.IsZero() {
		return
	}
	c.instances++
	run, err := startProcess(&c.role, c.instances, p.log, p.reports, p.done, &p.tasks)
	if err != nil {
		c.last = err.Error()
		p.note(bmc.Event{Severity: bmc.Critical, Kind: "process.failed", Message: fmt.Sprintf("The process %s cannot be started: %v.", c.role.name, err)})
		p.later(c)
		return
	}
	c.process = run
	p.tellStart(c)
}

// tellStart tells a child what it waits for, once that is known.
func (p *parent) tellStart(c *child) {
	if p.start != nil && c.process != nil {
		p.tell(c, msgStart, *p.start, nil)
	}
}

// tell sends a message; file may be nil. A child that does not take it gets no
// second one: it is replaced. One that is about to be gone is left to that.
func (p *parent) tell(c *child, kind string, body any, file *os.File) {
	if err := c.process.conn.Tell(kind, body, file); err != nil && !errors.Is(err, ipc.ErrClosed) {
		p.kill(c, err.Error())
	}
}

// later starts a child again after a pause.
func (p *parent) later(c *child) {
	if !p.stopping.IsZero() {
		return
	}
	c.pause = min(max(2*c.pause, firstPause), maxPause)
	c.timer = time.AfterFunc(c.pause, func() {
		select {
		case p.again <- c:
		case <-p.done:
		}
	})
}

// kill ends a child at once.
func (p *parent) kill(c *child, why string) {
	if !c.process.killed.IsZero() {
		return
	}
	c.process.killed, c.process.why = time.Now(), why
	c.process.signal(syscall.SIGKILL, p.log)
}

// hear handles what a process reported.
func (p *parent) hear(r report) {
	i := slices.IndexFunc(p.children(), func(c *child) bool { return c.process == r.from })
	if i < 0 {
		answer(r, errors.New("the process was replaced"))
		return
	}
	c := p.children()[i]
	if r.ended {
		p.ended(c, r.err)
		return
	}
	answer(r, p.message(c, r.message))
}

// answer answers a message that wants it.
func answer(r report, err error) {
	if r.answer != nil {
		r.answer <- err // has room
	}
}

// message handles a child's message.
func (p *parent) message(c *child, m ipc.Message) error {
	run := c.process
	switch {
	case m.Type == msgBeat:
		run.beat = time.Now()
		return nil
	case m.Type == msgReady:
		p.ready(c)
		return nil
	case m.Type == msgPeer && c == p.core:
		c.wantsPeer = true
		p.join()
		return nil
	case m.Type == msgReboot && c == p.core:
		var r reboot
		if err := m.Into(&r); err != nil {
			return err
		}
		p.note(bmc.Event{Kind: "board.restart", Message: "The board restarts."})
		p.stop(r.Arg)
		return nil
	}
	err := fmt.Errorf("%s: %w", m.Type, errors.ErrUnsupported)
	p.kill(c, err.Error())
	return err
}

// ready notes that a child works.
func (p *parent) ready(c *child) {
	run := c.process
	if run.ready {
		return
	}
	run.ready, c.failures = true, nil
	p.log.Info(c.role.name+" is ready", "instance", run.instance, "after", time.Since(run.began).Round(time.Millisecond))
	if run.instance > 1 {
		p.note(bmc.Event{Kind: "process.restarted", Message: fmt.Sprintf("The process %s runs again, instance %d. The last one: %s.", c.role.name, run.instance, c.last)})
	}
	switch c {
	case p.disk:
		p.join()
	case p.core:
		p.tasks.Go(func() {
			// It ends with the connection; what was not taken is kept.
			p.events.Deliver(context.Background(), run.conn, func(e bmc.Event, err error) {
				p.log.Error("core refused an event", "kind", e.Kind, "error", err)
			})
		})
	}
}

// join makes a connection between core and disk, if core wants one and disk is
// there to serve it.
func (p *parent) join() {
	if !p.stopping.IsZero() || !p.core.wantsPeer || p.core.process == nil || p.disk.process == nil || !p.disk.process.ready {
		return
	}
	p.core.wantsPeer = false
	one, other, err := ipc.Pair()
	if err != nil {
		p.note(bmc.Event{Severity: bmc.Critical, Kind: "process.failed", Message: fmt.Sprintf("Core and disk cannot be joined: %v.", err)})
		return
	}
	p.tell(p.disk, msgPeer, nil, other)
	p.tell(p.core, msgPeer, nil, one)
	if err := errors.Join(one.Close(), other.Close()); err != nil {
		p.log.Error("peer", "error", err)
	}
}

// ended notes a process's end and sees to the next.
func (p *parent) ended(c *child, err error) {
	run := c.process
	c.process, c.wantsPeer = nil, false
	if err := run.conn.Close(); err != nil {
		p.log.Debug("control connection", "error", err)
	}
	lasted := time.Since(run.began)
	c.last = endText(run, err)
	if !p.stopping.IsZero() {
		p.log.Info(c.role.name+" has ended", "how", c.last)
		p.stopNext()
		return
	}
	p.note(bmc.Event{Severity: bmc.Warning, Kind: "process.exited",
		Message: fmt.Sprintf("The process %s, instance %d, ended after %s: %s.", c.role.name, run.instance, lasted.Round(time.Millisecond), c.last)})
	if lasted >= wellAfter {
		c.pause = 0
	}
	if !run.ready {
		c.failures = append(c.failures, time.Now())
	}
	if n := len(c.failures); c == p.core && n >= trialFailures && time.Since(c.failures[n-trialFailures]) < trialTime && p.onTrial() {
		p.note(bmc.Event{Severity: bmc.Critical, Kind: "slot.refused",
			Message: fmt.Sprintf("Core failed %d times on a system on trial; the board restarts with the other one.", trialFailures)})
		p.stop("")
		return
	}
	p.later(c)
}

// endText says how a process ended.
func endText(run *process, err error) string {
	text := "exit status 0"
	if err != nil {
		text = err.Error()
	}
	for _, more := range []string{run.why, run.said.why()} {
		if more != "" {
			text += " (" + more + ")"
		}
	}
	return text
}

// check kills whom nobody hears, and feeds the watchdog while that helps.
func (p *parent) check() {
	helps := true
	for _, c := range p.children() {
		run := c.process
		if run == nil {
			continue
		}
		switch {
		case !run.killed.IsZero():
			helps = helps && time.Since(run.killed) < p.limits.gone
		case !p.stopping.IsZero():
			if time.Since(p.stopping) > p.limits.stop && (c == p.core || p.core.process == nil) {
				p.kill(c, fmt.Sprintf("it did not end within %s", p.limits.stop))
			}
		case time.Since(run.beat) > p.limits.silent:
			p.kill(c, fmt.Sprintf("it was silent for %s", p.limits.silent))
		}
	}
	if p.watchdog == nil {
		return
	}
	if !helps {
		if !p.starved {
			p.starved = true
			p.log.Error("a killed process does not go; the watchdog is to reset the board")
		}
		return
	}
	if err := p.watchdog.Feed(); err != nil {
		p.log.Error("watchdog", "error", err)
	}
}
