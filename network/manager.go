package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// The times of the manager.
const (
	// linkPatience is how long a link may take to come up, and lostPatience
	// to come back, before people are told.
	linkPatience = 10 * time.Second
	lostPatience = 2 * time.Second
	// retryAfter follows a request that the kernel refused.
	retryAfter = 10 * time.Second
	// conflictQuiet is how long after a conflict the next one is old news.
	conflictQuiet = 10 * time.Minute
	// maxDeclines is after how many declined addresses the next are asked for
	// slowly (MAX_CONFLICTS of RFC 5227 section 2.1.1).
	maxDeclines = 10
)

// Options are what New takes.
type Options struct {
	Config   Config
	HostName string // told to the DHCP server
	// Interface answers the board's choice where Config names none, and an
	// error as long as there is none: it is asked again when interfaces
	// change. It must not be nil.
	Interface func() (string, error)
	// Leases keeps the DHCP lease over restarts; nil: it is not kept.
	Leases Leases
	// ResolvConf is the file that tells the name servers; empty: none.
	ResolvConf string
	// Report tells people; it must return soon. It is called from one
	// goroutine at a time.
	Report func(Event)
	Log    *slog.Logger
}

// Leases keeps the DHCP lease.
type Leases interface {
	// Load answers what Store stored; fs.ErrNotExist where there is nothing.
	Load() ([]byte, error)
	Store(data []byte) error
}

// An Event is what people should hear of.
type Event struct {
	Level   slog.Level
	Kind    string // one of the Kinds
	Message string
}

// Kinds of events.
const (
	KindUp        = "network.up"         // an address came
	KindDown      = "network.down"       // the link or an address went
	KindNoAddress = "network.no-address" // no DHCP server answers
	KindConflict  = "network.conflict"   // another machine has the address
	KindFailed    = "network.failed"     // the kernel refuses something
)

// A State is how the board's network is now.
type State struct {
	Interface string // empty: there is none yet; with a VLAN, the VLAN's
	VLAN      int    // 0: none
	MAC       net.HardwareAddr
	MTU       int
	// Carrier: a cable is plugged and the other end answers.
	Carrier   bool
	Addresses []Address
	Gateways  []netip.Addr
	DNS       []netip.Addr
	// NTP are the time servers that DHCP tells.
	NTP []netip.Addr
	// Server granted the DHCP lease; zero without one.
	Server netip.Addr
}

// An Address is one that the interface has; link-local ones are left out.
type Address struct {
	Prefix netip.Prefix
	Method string // MethodDHCP, MethodStatic or MethodSLAAC
	// Expires is zero for an address that stays.
	Expires time.Time
}

// A Manager keeps the board on its network.
type Manager struct {
	opt    Options
	kernel kernel
	wire   wire
	wake   chan struct{} // something changed

	mu       sync.Mutex // guards the following
	config   Config
	plan     plan
	hostName string
	changes  int // counts config
	state    State
	applied  time.Time // when the kernel had become what config wants; zero: not yet
}

// New makes a manager; Run does the work. It fails for a Config that Validate
// refuses.
func New(opt Options) (*Manager, error) {
	p, err := opt.Config.plan()
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return &Manager{opt: opt, kernel: linux{}, wire: sockets{}, wake: make(chan struct{}, 1), config: opt.Config, plan: p, hostName: opt.HostName}, nil
}

// Configure changes the settings at run time. What they have in common with
// those before stays as it is. It fails for a Config that Validate refuses.
func (m *Manager) Configure(c Config, hostName string) error {
	p, err := c.plan()
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	m.mu.Lock()
	if !c.Equal(m.config) {
		m.applied = time.Time{}
		m.changes++
	}
	m.config, m.plan, m.hostName = c, p, hostName
	m.mu.Unlock()
	m.changed()
	return nil
}

// Applied answers since when the board's network has been what c asks for, as
// far as that is the board's to do; false as long as it is not. While a DHCP
// server is looked for the interface may still have the address that it had
// before, so that time does not count.
func (m *Manager) Applied(c Config) (since time.Time, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied, c.Equal(m.config) && !m.applied.IsZero()
}

// State answers how the network is now.
func (m *Manager) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state
	s.MAC = slices.Clone(s.MAC)
	s.Addresses, s.Gateways, s.DNS, s.NTP = slices.Clone(s.Addresses), slices.Clone(s.Gateways), slices.Clone(s.DNS), slices.Clone(s.NTP)
	return s
}

// Neighbor answers the MAC address of a machine on the board's link, nil where
// it is not known. It asks nobody but the kernel.
func (m *Manager) Neighbor(a netip.Addr) (net.HardwareAddr, error) { return m.kernel.Neighbor(a) }

func (m *Manager) changed() {
	select {
	case m.wake <- struct{}{}:
	default: // it is to look already
	}
}

// Run keeps the network until ctx ends, and then returns nil; the addresses
// stay, so that a restart of the board's software breaks no connection. Another
// error than ctx's is a failure that a new Run may mend.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	watch := make(chan error, 1)
	wg.Go(func() { watch <- m.kernel.Watch(ctx, m.changed) })

	r := &runner{m: m, log: m.opt.Log, news: make(chan news), conflicts: make(chan conflictNews), shown: map[netip.Prefix]string{}}
	defer r.leave()
	timer := time.NewTimer(0) // the first look is now
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watch:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case <-m.wake:
		case <-timer.C:
		case n := <-r.news:
			r.heard(n)
		case c := <-r.conflicts:
			r.conflict(c)
		}
		r.look(ctx)
		// After the address is in use: a card takes its time.
		r.store()
		if wait, ok := r.next(); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// A runner is what one Run knows. All of it belongs to Run's goroutine.
type runner struct {
	m         *Manager
	log       *slog.Logger
	news      chan news
	conflicts chan conflictNews

	plan     plan
	hostName string
	changes  int // the Manager's when plan was taken

	below   link // the interface of the settings: link itself, or what the VLAN is on
	link    link // index 0: none
	since   time.Time
	told    bool   // that the link is down
	lo      bool   // the loopback interface is up
	chosen  string // the last reason why there is no interface
	failure string // the last thing that the kernel refused
	retry   time.Time

	client     *task // nil: none runs
	clientName string
	lease      *lease
	declined   *lease // to be declined by the next client
	why        string // why the last lease went
	stored     lease  // what Leases has
	mtuSet     bool   // the interface has another MTU than Ethernet's because of us
	mtuTried   int
	loaded     bool // Leases was asked

	guard      *task
	guarded    netip.Prefix
	complained time.Time // the last conflict
	declines   int       // since it was quiet for a while

	shown map[netip.Prefix]string // addresses that people heard of, and by which method
}

// A task is a goroutine that belongs to the runner.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func start(ctx context.Context, f func(context.Context)) *task {
	ctx, cancel := context.WithCancel(ctx)
	t := &task{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		f(ctx)
	}()
	return t
}

// end stops a task, if there is one, and waits for it.
func (t *task) end() {
	if t != nil {
		t.cancel()
		<-t.done
	}
}

// leave ends what belongs to the interface.
func (r *runner) leave() {
	r.client.end()
	r.guard.end()
	r.client, r.guard, r.guarded = nil, nil, netip.Prefix{}
}

func (r *runner) report(level slog.Level, kind, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	r.log.Log(context.Background(), level, message, "event", kind)
	r.m.opt.Report(Event{level, kind, message})
}

// failed notes what the kernel refused, tells of it once, and tries again later.
func (r *runner) failed(err error) {
	r.retry = time.Now().Add(retryAfter)
	if r.failure != err.Error() {
		r.failure = err.Error()
		r.report(slog.LevelWarn, KindFailed, "%v", err)
	}
}

// next is when to look again although nothing changed.
func (r *runner) next() (time.Duration, bool) {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	sooner(r.retry)
	if r.link.index != 0 && !r.link.carrier && !r.told {
		sooner(r.since)
	}
	if r.lease != nil {
		if end, ends := r.lease.ends(); ends {
			sooner(end)
		}
	}
	return time.Until(at), !at.IsZero()
}

// look compares what is with what is to be and mends the difference.
func (r *runner) look(ctx context.Context) {
	m := r.m
	m.mu.Lock()
	r.plan, r.hostName, r.changes = m.plan, m.hostName, m.changes
	m.mu.Unlock()
	r.retry = time.Time{}
	if !r.lo {
		if err := m.kernel.SetUp(link{name: "lo", index: 1}); err != nil {
			r.failed(err)
		} else {
			r.lo = true
		}
	}
	if !r.find() {
		r.show(nil, nil)
		return
	}
	pending, err := r.mend(ctx)
	if err != nil {
		r.failed(err)
	} else {
		r.failure = ""
	}
	if err == nil && !pending {
		r.applied()
	}
	addresses, err := m.kernel.Addresses(r.link)
	if err != nil {
		r.failed(err)
		return
	}
	routes, err := m.kernel.Routes(r.link)
	if err != nil {
		r.failed(err)
		return
	}
	r.show(addresses, routes)
}

// applied notes that the kernel has become what the plan wants.
func (r *runner) applied() {
	m := r.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changes == r.changes && m.applied.IsZero() {
		m.applied = time.Now()
	}
}

// find looks for the interface and says whether there is one.
func (r *runner) find() bool {
	below, err := r.chosenLink()
	if err != nil {
		r.gone()
		if r.chosen != err.Error() {
			r.chosen = err.Error()
			r.log.Info("there is no network interface yet", "reason", err)
		}
		return false
	}
	r.chosen = ""
	l := below
	if r.plan.vlan != 0 {
		if l, err = r.vlan(below); err != nil {
			r.gone()
			r.failed(err)
			return false
		}
	}
	now := time.Now()
	old, oldBelow := r.link, r.below
	r.link, r.below = l, below
	switch {
	case old.index != l.index || old.mac.String() != l.mac.String():
		if old.index != 0 {
			r.leave()
			r.clear(old, oldBelow)
		}
		r.lease, r.loaded, r.why = nil, false, ""
		r.mtuSet, r.mtuTried = false, 0
		r.told, r.since = false, now.Add(linkPatience)
	case old.carrier && !l.carrier:
		r.told, r.since = false, now.Add(lostPatience)
	case !old.carrier && l.carrier && r.told:
		r.report(slog.LevelInfo, KindUp, "%s is connected", l.name)
	}
	if !l.carrier && !r.told && !now.Before(r.since) {
		r.told = true
		r.report(slog.LevelWarn, KindDown, "%s is not connected: is the cable plugged?", l.name)
	}
	return true
}

// chosenLink is the interface that the settings or the board name.
func (r *runner) chosenLink() (l link, err error) {
	name := r.plan.iface
	if name == "" {
		if name, err = r.m.opt.Interface(); err != nil {
			return link{}, err
		}
	}
	if l, err = r.m.kernel.Link(name); err != nil {
		return link{}, err
	}
	if len(l.mac) != 6 {
		return link{}, fmt.Errorf("interface %s is no Ethernet", name)
	}
	return l, nil
}

// gone ends what belonged to an interface that is no longer there.
func (r *runner) gone() {
	if r.link.index == 0 {
		return
	}
	r.report(slog.LevelWarn, KindDown, "%s is gone", r.link.name)
	r.leave()
	r.link, r.below, r.lease = link{}, link{}, nil
}

// clear takes the board's addresses from an interface that is no longer chosen,
// and removes a VLAN on one.
func (r *runner) clear(old, oldBelow link) {
	l, err := r.m.kernel.Link(old.name)
	if err != nil || l.index != old.index {
		return // gone
	}
	if l.vlan.id != 0 && l.vlan.parent == oldBelow.index {
		err = r.m.kernel.DeleteVLAN(l)
	} else {
		err = errors.Join(r.addresses(l, nil, true), r.routes(l, nil, true))
	}
	if err != nil {
		r.failed(err)
	}
}

// mend makes the interface what the settings and the lease want. pending says
// that DHCP may yet confirm what the interface has of IPv4.
func (r *runner) mend(ctx context.Context) (pending bool, err error) {
	belowErr := r.parent(r.below)
	// IPv6 before the interface starts: then it begins as it is to be.
	v6Err := r.sysctls()
	if !r.link.up {
		if err := r.m.kernel.SetUp(r.link); err != nil {
			return false, errors.Join(belowErr, v6Err, err)
		}
		// The kernel tells of the new state, which is then looked at.
	}
	if r.lease != nil && r.lease.over(time.Now()) {
		r.lease, r.why = nil, "the lease is over"
	}
	r.dhcp(ctx)

	var want []address
	var routes []kernelRoute
	v4, v6 := r.plan.v4, r.plan.v6
	switch {
	case v4.method == MethodStatic:
		want = append(want, address{prefix: v4.address})
		routes = append(routes, defaultRoute(v4.gateway, v4.address, protocolStatic)...)
	case v4.method == MethodDHCP && r.lease != nil:
		a := address{prefix: r.lease.address}
		if end, ends := r.lease.ends(); ends {
			a.valid = time.Until(end)
		}
		want = append(want, a)
		routes = append(routes, leaseRoutes(r.lease)...)
	case v4.method == MethodDHCP:
		pending = r.client != nil && r.why == ""
	}
	if v6.method == MethodStatic {
		want = append(want, address{prefix: v6.address})
		routes = append(routes, defaultRoute(v6.gateway, netip.Prefix{}, protocolStatic)...)
	}
	// One that fails does not keep the others from being tried.
	err = errors.Join(
		belowErr,
		v6Err,
		r.mtu(),
		r.addresses(r.link, want, !pending),
		r.routes(r.link, routes, !pending),
		r.resolvConf(),
	)
	r.watch(ctx, want)
	return pending, err
}

// dhcp starts and ends the client as the link and the settings want it.
func (r *runner) dhcp(ctx context.Context) {
	want := ""
	if r.plan.v4.method == MethodDHCP && r.link.carrier {
		want = fmt.Sprintf("%d %s %s", r.link.index, r.link.mac, r.hostName)
	}
	if want != r.clientName || r.declined != nil {
		r.client.end()
		r.client, r.clientName = nil, want
	}
	if r.plan.v4.method != MethodDHCP {
		r.lease, r.why, r.loaded = nil, "", false
		return
	}
	if want == "" || r.client != nil {
		return
	}
	if r.lease == nil && !r.loaded && r.declined == nil {
		r.lease = r.load()
	}
	r.loaded = true
	c := &client{log: r.log, mac: r.link.mac, hostName: r.hostName, pause: declineWait}
	if r.declines >= maxDeclines {
		c.pause = maxWait
	}
	l := r.link
	c.dial = func(from netip.Addr) (dhcpConn, error) { return r.m.wire.DHCP(l, from) }
	c.resolve = func(ctx context.Context, from, to netip.Addr, mac net.HardwareAddr) (net.HardwareAddr, error) {
		return resolve(ctx, r.m.wire, l, from, to, mac)
	}
	c.found = func(ctx context.Context, n news) {
		select {
		case r.news <- n:
		case <-ctx.Done():
		}
	}
	kept, declined := r.lease, r.declined
	r.declined = nil
	if kept != nil && !kept.confirmed && !r.has(kept.address) {
		// Not used before a server or the link says so (client.acquire).
		r.lease = nil
	}
	r.client = start(ctx, func(ctx context.Context) { c.run(ctx, kept, declined) })
}

// has says whether the interface has the address: that of the software's run
// before this one stays in use while it is confirmed.
func (r *runner) has(p netip.Prefix) bool {
	list, err := r.m.kernel.Addresses(r.link)
	return err == nil && slices.ContainsFunc(list, func(a address) bool { return a.prefix == p })
}

// heard takes in what the client found.
func (r *runner) heard(n news) {
	switch {
	case n.silent && n.lease == nil:
		n.why = "no DHCP server confirmed it"
		r.report(slog.LevelWarn, KindNoAddress, "%s has no address: no DHCP server answers", r.link.name)
	case n.silent:
		r.log.Warn("no DHCP server answers; the address of the last lease is used", "address", n.lease.address)
	}
	r.lease, r.why = n.lease, n.why
}

// load reads the kept lease.
func (r *runner) load() *lease {
	if r.m.opt.Leases == nil {
		return nil
	}
	b, err := r.m.opt.Leases.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var l *lease
	if err == nil {
		var c clock
		if c, err = r.m.kernel.Clock(); err == nil {
			l, err = decodeLease(b, r.link.mac, r.link.vlan.id, c)
		}
	}
	if err != nil {
		r.log.Info("there is no kept lease to begin with", "reason", err)
		return nil
	}
	return l
}

// storeEvery spares the card: a lease that only grew younger is written this
// often. One that is kept too old costs a new question, never a wrong address.
const storeEvery = 10 * time.Minute

// store keeps the lease, if a server confirmed it and it is another.
func (r *runner) store() {
	l := r.lease
	if r.m.opt.Leases == nil || l == nil || !l.confirmed {
		return
	}
	if sameLease(&r.stored, l) && l.granted.Sub(r.stored.granted) < storeEvery {
		return
	}
	// Even if it fails: the next try is the next change's.
	r.stored = *l
	c, err := r.m.kernel.Clock()
	var b []byte
	if err == nil {
		b, err = encodeLease(l, r.link.mac, r.link.vlan.id, c)
	}
	if err == nil {
		err = r.m.opt.Leases.Store(b)
	}
	if err != nil {
		r.log.Warn("the lease is not kept", "error", err)
	}
}

func sameLease(a, b *lease) bool {
	return a.address == b.address && a.server == b.server && a.gateway == b.gateway && a.mtu == b.mtu && a.duration == b.duration &&
		a.t1 == b.t1 && a.t2 == b.t2 && slices.Equal(a.routes, b.routes) && slices.Equal(a.dns, b.dns) && slices.Equal(a.ntp, b.ntp) && a.gatewayMAC.String() == b.gatewayMAC.String()
}

// A conflictNews says that another machine claims an address.
type conflictNews struct {
	address netip.Addr
	other   net.HardwareAddr
	settled bool
}

// watch guards the IPv4 address against other machines that claim it.
func (r *runner) watch(ctx context.Context, want []address) {
	var own netip.Prefix
	for _, a := range want {
		if a.prefix.Addr().Is4() && r.link.carrier {
			own = a.prefix
		}
	}
	if own == r.guarded {
		return
	}
	r.guard.end()
	r.guard, r.guarded = nil, own
	if !own.IsValid() {
		return
	}
	l := r.link
	r.guard = start(ctx, func(ctx context.Context) {
		guard(ctx, r.log, r.m.wire, l, own.Addr(), func(other net.HardwareAddr, settled bool) {
			select {
			case r.conflicts <- conflictNews{own.Addr(), other, settled}:
			case <-ctx.Done():
			}
		})
	})
}

// conflict decides who gives way: a fixed address never does, since who set it
// counts on it; a granted one does when it is new or the claim is repeated.
func (r *runner) conflict(c conflictNews) {
	if r.guarded.Addr() != c.address {
		return // given up meanwhile
	}
	now := time.Now()
	again := now.Sub(r.complained) < 3*defendInterval
	quiet := now.Sub(r.complained) > conflictQuiet
	if quiet {
		r.declines = 0
	}
	// A machine that claims whatever is granted fills no log.
	if quiet || !c.settled && r.declines < maxDeclines {
		r.report(slog.LevelError, KindConflict, "%s is also used by the machine %s", c.address, c.other)
	}
	r.complained = now
	if r.lease != nil && r.lease.address.Addr() == c.address && (!c.settled || again) {
		r.declined, r.lease, r.why = r.lease, nil, "another machine uses it"
		r.declines++
	}
}
