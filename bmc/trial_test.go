package bmc

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/network"
)

// fakeNetwork is an applier that applies when it is told to.
type fakeNetwork struct {
	mu     sync.Mutex
	config network.Config
	since  time.Time
}

func (n *fakeNetwork) Applied(c network.Config) (time.Time, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.since, c.Equal(n.config)
}

// A trialBench is a BMC whose trial runs, for a synctest bubble.
type trialBench struct {
	*testing.T
	*BMC
	dir  string
	net  fakeNetwork
	seen uint64 // the last event
	end  func()
}

// trialCard fixes the address on the card.
const trialCard = `{"version":1,"network":{"ipv4":{"method":"static","address":"192.0.2.5/24"}}}`

func inTrial(t *testing.T, f func(b *trialBench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &trialBench{T: t, dir: t.TempDir()}
		b.write("card.json", trialCard)
		b.open()
		f(b)
		b.close()
	})
}

func (b *trialBench) write(name, text string) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

// changed is the file of the settings that an API changed.
func (b *trialBench) changed() string {
	text, err := os.ReadFile(filepath.Join(b.dir, "changed.json"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.Fatal(err)
	}
	return string(text)
}

func (b *trialBench) open() {
	b.Helper()
	bmc, err := Open(Options{Dir: b.dir, Card: filepath.Join(b.dir, "card.json"), Version: "1.2.3", Log: slog.New(slog.NewTextHandler(b.Output(), nil))})
	if err != nil {
		b.Fatal(err)
	}
	b.BMC, b.seen = bmc, bmc.Events.Last()
	if err := bmc.trial.begin(&b.net); err != nil {
		b.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- bmc.trial.run(ctx) }()
	b.end = func() {
		cancel()
		if err := <-done; err != nil {
			b.Errorf("run: %v", err)
		}
	}
	b.apply()
}

func (b *trialBench) close() {
	b.Helper()
	b.end()
	if err := b.BMC.Close(); err != nil {
		b.Error(err)
	}
}

// restart is a power cut and a new start.
func (b *trialBench) restart() {
	b.Helper()
	b.close()
	b.open()
}

// apply is what the manager does a moment after a change.
func (b *trialBench) apply() {
	time.Sleep(time.Millisecond)
	b.net.mu.Lock()
	b.net.config, b.net.since = b.Settings.Get().Network, time.Now()
	b.net.mu.Unlock()
	time.Sleep(time.Millisecond)
}

func (b *trialBench) set(path, value string) {
	b.Helper()
	if err := b.Settings.Set(path, value); err != nil {
		b.Fatal(err)
	}
	b.apply()
}

// login is one over a connection that begins now.
func (b *trialBench) login(source string) { b.loginSince(source, time.Now()) }

func (b *trialBench) loginSince(source string, begun time.Time) {
	a := auth.Attempt{Via: "ssh", Name: "admin", Begun: begun}
	if source != "" {
		a.Source = netip.MustParseAddr(source)
	}
	b.trial.loggedIn(a)
	synctest.Wait()
}

// wants checks the address in force and the events since it was last called,
// of which want are the kinds.
func (b *trialBench) wants(address string, want ...string) []host.Event {
	b.Helper()
	synctest.Wait()
	if got := b.Settings.Get().Network.IPv4.Address; got != address {
		b.Errorf("got the address %s, want %s", got, address)
	}
	events := b.Events.Since(b.seen, 0)
	b.seen = b.Events.Last()
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	if !slices.Equal(kinds, want) {
		b.Errorf("got the events %q, want %q", kinds, want)
	}
	return events
}

func TestTrialRollsBack(t *testing.T) {
	inTrial(t, func(b *trialBench) {
		// Of the network one setting was changed before, for good.
		b.set("network.dns", `["192.0.2.1"]`)
		b.login("192.0.2.9")
		b.wants("192.0.2.5/24", kindTrial, kindKept)
		before := b.changed()

		b.set("network", `{"ipv4":{"address":"198.51.100.5/24","gateway":"198.51.100.1"},"dns":[],"ipv6":{"method":"off"}}`)
		b.wants("198.51.100.5/24", kindTrial)
		time.Sleep(2*time.Minute - 3*time.Millisecond)
		b.wants("198.51.100.5/24")
		time.Sleep(2 * time.Millisecond)
		events := b.wants("192.0.2.5/24", kindRolledBack)
		const message = `Nobody logged in within 2m0s after the network was changed, so it is changed back: ` +
			`network.dns is ["192.0.2.1"] again, not [], network.ipv4.address is "192.0.2.5/24" again, not "198.51.100.5/24", ` +
			`network.ipv4.gateway is "" again, not "198.51.100.1", network.ipv6.method is "slaac" again, not "off".`
		if len(events) == 1 && (events[0].Message != message || events[0].Severity != host.Warning) {
			b.Errorf("got the event %+v, want the message %s", events[0], message)
		}
		if got := b.changed(); got != before {
			b.Errorf("got changed settings\n%swant as before\n%s", got, before)
		}
		// And that is all: no second trial, none after a restart.
		b.apply()
		time.Sleep(time.Hour)
		b.restart()
		time.Sleep(time.Hour)
		b.wants("192.0.2.5/24")
	})
}

func TestTrialIsKept(t *testing.T) {
	inTrial(t, func(b *trialBench) {
		old := time.Now()
		if err := b.Settings.Set("network.ipv4.address", "192.0.2.6/24"); err != nil {
			b.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		between := time.Now()
		b.login("192.0.2.9") // not applied yet
		b.apply()
		b.loginSince("192.0.2.9", old)
		b.loginSince("192.0.2.9", between)
		b.loginSince("192.0.2.9", time.Time{})
		b.login("127.0.0.1")
		b.login("::1")
		b.login("::ffff:127.0.0.1")
		b.login("") // over no network
		b.wants("192.0.2.6/24", kindTrial)
		b.login("::ffff:192.0.2.9")
		events := b.wants("192.0.2.6/24", kindKept)
		if len(events) == 1 && events[0].Origin != (host.Origin{Via: "ssh", User: "admin", Source: "192.0.2.9"}) {
			b.Errorf("got the origin %+v, want who logged in", events[0].Origin)
		}
		b.login("192.0.2.9")
		time.Sleep(time.Hour)
		b.restart()
		time.Sleep(time.Hour)
		b.wants("192.0.2.6/24")
	})
}

// Several changes are one trial, which goes back to before the first, and whose
// time is the last one's.
func TestTrialOfSeveralChanges(t *testing.T) {
	inTrial(t, func(b *trialBench) {
		b.set("network.ipv4.address", "192.0.2.6/24")
		time.Sleep(119 * time.Second)
		b.set("network.ipv4.gateway", "192.0.2.1")
		time.Sleep(119 * time.Second)
		b.set("network.vlan", "7")
		b.wants("192.0.2.6/24", kindTrial, kindTrial, kindTrial)
		time.Sleep(2 * time.Minute)
		b.wants("192.0.2.5/24", kindRolledBack)
		if n := b.Settings.Get().Network; n.VLAN != 0 || n.IPv4.Gateway != "" {
			b.Errorf("got %+v, want all as before the first change", n)
		}
		if strings.Contains(b.changed(), "network") {
			b.Errorf("got changed settings\n%swant none of the network", b.changed())
		}
	})
}

func TestTrialOverRestarts(t *testing.T) {
	inTrial(t, func(b *trialBench) {
		b.set("network.ipv4.address", "192.0.2.6/24")
		b.wants("192.0.2.6/24", kindTrial)
		for range 3 {
			time.Sleep(119 * time.Second)
			b.restart()
			b.wants("192.0.2.6/24", kindTrial)
		}
		time.Sleep(2 * time.Minute)
		b.wants("192.0.2.5/24", kindRolledBack)

		// A login after a restart counts, and a further change goes on with it.
		b.set("network.ipv4.address", "192.0.2.6/24")
		b.restart()
		b.set("network.ipv4.address", "192.0.2.7/24")
		b.wants("192.0.2.7/24", kindTrial, kindTrial)
		time.Sleep(2 * time.Minute)
		b.wants("192.0.2.5/24", kindRolledBack)
		b.set("network.ipv4.address", "192.0.2.6/24")
		b.restart()
		b.login("192.0.2.9")
		time.Sleep(time.Hour)
		b.wants("192.0.2.6/24", kindTrial, kindKept)
	})
}

// The power goes between what was before and the change itself.
func TestTrialCutBeforeTheChange(t *testing.T) {
	inTrial(t, func(b *trialBench) {
		if _, err := b.trial.keepBefore(); err != nil {
			b.Fatal(err)
		}
		b.restart()
		time.Sleep(time.Hour)
		b.wants("192.0.2.5/24")
		var before beforeTrial
		if found, err := b.db.GetJSON(trialBucket, trialKey, &before); err != nil || found {
			b.Errorf("got %v, %v of what was before, want nothing", found, err)
		}
	})
}

// What the files say is no trial, not even where it begins in one.
func TestTrialAndFiles(t *testing.T) {
	inTrial(t, func(b *trialBench) {
		b.write("card.json", strings.ReplaceAll(trialCard, "192.0.2.5", "192.0.2.55"))
		b.restart()
		time.Sleep(time.Hour)
		b.wants("192.0.2.55/24")
		// After going back the card is seen again.
		b.set("network.ipv4.address", "192.0.2.6/24")
		b.wants("192.0.2.6/24", kindTrial)
		time.Sleep(2 * time.Minute)
		b.wants("192.0.2.55/24", kindRolledBack)
		b.write("card.json", trialCard)
		b.restart()
		b.wants("192.0.2.5/24")
	})
}

func TestTrialEndsOtherwise(t *testing.T) {
	for _, tt := range []struct {
		name    string
		do      func(b *trialBench)
		address string
		events  []string
	}{
		{"no trial wanted", func(b *trialBench) {
			b.set("network.trial", "0s")
			b.set("network.ipv4.address", "192.0.2.6/24")
		}, "192.0.2.6/24", nil},
		{"no trial wanted in the change", func(b *trialBench) {
			b.set("network", `{"trial":"0s","ipv4":{"address":"192.0.2.6/24"}}`)
		}, "192.0.2.6/24", nil},
		{"switched off in between", func(b *trialBench) {
			b.set("network.ipv4.address", "192.0.2.6/24")
			b.set("network.trial", "0s")
		}, "192.0.2.6/24", []string{kindTrial, kindKept}},
		{"changed back by hand", func(b *trialBench) {
			b.set("network.ipv4.address", "192.0.2.6/24")
			if err := b.Settings.Unset("network.ipv4.address"); err != nil {
				b.Error(err)
			}
		}, "192.0.2.5/24", []string{kindTrial, kindKept}},
		{"confirmed in words", func(b *trialBench) {
			b.set("network.ipv4.address", "192.0.2.6/24")
			if err := b.changer().KeepNetwork(host.Origin{Via: "ssh"}); err != nil {
				b.Error(err)
			}
			if err := b.changer().KeepNetwork(host.Origin{Via: "ssh"}); !errors.Is(err, host.ErrInvalid) {
				b.Errorf("a second time: got %v, want %v", err, host.ErrInvalid)
			}
		}, "192.0.2.6/24", []string{kindTrial, kindKept}},
		{"nothing of the network", func(b *trialBench) {
			b.set("hostname", "other")
			b.set("", `{"power":{"off_time":"6s"}}`)
			b.set("network.trial", "5m")
			b.set("network.ipv4.address", "192.0.2.5/24")
		}, "192.0.2.5/24", nil},
		{"the whole document", func(b *trialBench) {
			b.set("", `{"hostname":"other","network":{"ipv4":{"address":"192.0.2.6/24"}}}`)
			time.Sleep(time.Hour)
			if name := b.Settings.Get().HostName; name != "other" {
				b.Errorf("got the host name %s, want what else was changed to stay", name)
			}
		}, "192.0.2.5/24", []string{kindTrial, kindRolledBack}},
		{"by a pointer", func(b *trialBench) {
			b.set("/network/ipv4/address", "192.0.2.6/24")
			time.Sleep(time.Hour)
		}, "192.0.2.5/24", []string{kindTrial, kindRolledBack}},
		{"unset", func(b *trialBench) {
			b.set("network.ipv4.address", "192.0.2.6/24")
			b.login("192.0.2.9")
			if err := b.Settings.Unset("network.ipv4"); err != nil {
				b.Error(err)
			}
			time.Sleep(time.Hour)
		}, "192.0.2.6/24", []string{kindTrial, kindKept, kindTrial, kindRolledBack}},
		{"a longer time with the change", func(b *trialBench) {
			b.set("network", `{"trial":"10m","ipv4":{"address":"192.0.2.6/24"}}`)
			time.Sleep(9 * time.Minute)
			b.wants("192.0.2.6/24", kindTrial)
			time.Sleep(time.Minute)
			if d := b.Settings.Get().Network.Trial; d != 2*time.Minute {
				b.Errorf("got a trial of %v, want the one before", d)
			}
		}, "192.0.2.5/24", []string{kindRolledBack}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inTrial(t, func(b *trialBench) {
				tt.do(b)
				b.wants(tt.address, tt.events...)
				time.Sleep(time.Hour)
				b.restart()
				time.Sleep(time.Hour)
				b.wants(tt.address)
			})
		})
	}
}

// A refused change leaves nothing, and does not disturb a trial.
func TestTrialOfRefusedChange(t *testing.T) {
	inTrial(t, func(b *trialBench) {
		refused := func() {
			b.Helper()
			if err := b.Settings.Set("network.ipv4.address", "nowhere"); err == nil {
				b.Error("got no error")
			}
		}
		refused()
		var before beforeTrial
		if found, err := b.db.GetJSON(trialBucket, trialKey, &before); err != nil || found {
			b.Errorf("got %v, %v of what was before, want nothing", found, err)
		}
		b.set("network.ipv4.address", "192.0.2.6/24")
		refused()
		b.wants("192.0.2.6/24", kindTrial)
		time.Sleep(2 * time.Minute)
		b.wants("192.0.2.5/24", kindRolledBack)
	})
}

// A login that came just before the next change counts for what it came over.
func TestTrialLoginBeforeTheNextChange(t *testing.T) {
	inTrial(t, func(b *trialBench) {
		b.end() // nobody looks
		b.end = func() {}
		b.set("network.ipv4.address", "192.0.2.6/24")
		b.login("192.0.2.9")
		b.set("network.ipv4.address", "192.0.2.7/24")
		b.wants("192.0.2.7/24", kindTrial, kindKept, kindTrial)
		time.Sleep(2 * time.Minute)
		b.trial.check()
		b.wants("192.0.2.6/24", kindRolledBack)
	})
}

// What cannot be written down is not changed, and what cannot be changed back is
// tried again.
func TestTrialWithoutADisk(t *testing.T) {
	inTrial(t, func(b *trialBench) {
		b.set("network.ipv4.address", "192.0.2.6/24")
		changed := filepath.Join(b.dir, "changed.json")
		if err := errors.Join(os.Remove(changed), os.MkdirAll(filepath.Join(changed, "in the way"), 0o700)); err != nil {
			b.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		b.wants("192.0.2.6/24", kindTrial)
		if err := os.RemoveAll(changed); err != nil {
			b.Fatal(err)
		}
		time.Sleep(trialRetry)
		b.wants("192.0.2.5/24", kindRolledBack)

		if err := b.db.Close(); err != nil {
			b.Fatal(err)
		}
		if err := b.Settings.Set("network.ipv4.address", "192.0.2.6/24"); err == nil {
			b.Error("got no error of a change whose way back cannot be kept")
		}
		b.wants("192.0.2.5/24")
	})
}

// A board without a network of its own tries nothing.
func TestTrialWithoutANetwork(t *testing.T) {
	b, err := Open(options(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Settings.Set("network.vlan", "7"); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(b.Events.Since(0, 0), func(e host.Event) bool { return e.Kind == kindTrial }) {
		t.Error("got a trial, want none")
	}
}
