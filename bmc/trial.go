package bmc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/network"
)

// A SettingsStore is the settings, in which every change of the section
// "network" is on trial, whoever makes it.
type SettingsStore struct {
	*settings.Store[Settings]
	trial *trial
}

// Set is settings.Store's; a secret that is hidden as Show hides it stays as it is.
func (s *SettingsStore) Set(path, value string) error {
	value = unhide(path, value, s.Get().ISCSI)
	return s.trial.change(path, func() error { return s.Store.Set(path, value) })
}

// Unset is settings.Store's.
func (s *SettingsStore) Unset(path string) error {
	return s.trial.change(path, func() error { return s.Store.Unset(path) })
}

// A trial undoes a change of the board's network after which nobody comes in any
// more. What was before is on the disk before the change is. Who logs in over
// the changed network keeps it; if nobody does in time, what was before the
// first change of the trial is set again. A restart begins the time anew: it may
// have been the power that kept people away.
type trial struct {
	db       *store.Store
	settings *settings.Store[Settings]
	changed  string // the file of the settings' changed layer
	events   *host.Events
	log      *slog.Logger
	// loopback: logins from the board itself count, which is for tests.
	loopback bool
	wake     chan struct{} // there is something to look at

	changing sync.Mutex // guards the following, over each change and its disk
	before   *beforeTrial
	end      time.Time

	mu      sync.Mutex // guards the following; nothing waits while holding it
	net     applier
	watched *network.Config // what has to be logged in over; nil: nothing
	login   *auth.Attempt   // who did
}

// An applier is a *network.Manager.
type applier interface {
	// Applied answers since when the network has been what c asks for.
	Applied(c network.Config) (since time.Time, ok bool)
}

// beforeTrial is what a trial may have to go back to.
type beforeTrial struct {
	// Network is the section as it was, files and defaults included, in the
	// settings' JSON.
	Network json.RawMessage `json:"network"`
	// Changed are the paths in it that were not the files' but changed before.
	Changed []string `json:"changed"`
}

// config decodes the section, all but its trial.
func (b *beforeTrial) config() (network.Config, error) {
	var section struct {
		network.Config
		Trial string `json:"trial"` // in the place of Config's, whose form is the settings' own
	}
	if err := json.Unmarshal(b.Network, &section); err != nil {
		return network.Config{}, fmt.Errorf("the network before the trial: %w", err)
	}
	return section.Config, nil
}

// Where beforeTrial is kept, and how soon a failed return is tried again.
const (
	trialBucket  = "network-trial"
	trialKey     = "before"
	trialSection = "network"
	trialRetry   = 10 * time.Second
)

// Kinds of the trial's events.
const (
	kindTrial      = "network.trial"
	kindKept       = "network.kept"
	kindRolledBack = "network.rolled-back"
)

// begin has net's configuration tried from now on; without it changes are for
// good. It goes on with a trial that the end of the software interrupted.
func (t *trial) begin(net applier) error {
	t.changing.Lock()
	defer t.changing.Unlock()
	t.mu.Lock()
	t.net = net
	t.mu.Unlock()
	var before beforeTrial
	if found, err := t.db.GetJSON(trialBucket, trialKey, &before); err != nil || !found {
		return err
	}
	old, err := before.config()
	if err != nil {
		return errors.Join(err, t.forget())
	}
	now := t.settings.Get().Network
	if now.Equal(old) || now.Trial == 0 {
		return t.forget() // the change never came about, or was kept
	}
	t.before = &before
	t.start(now)
	return nil
}

// change makes a change of the settings, on trial if it changes the network.
func (t *trial) change(path string, change func() error) error {
	if first, _, _ := strings.Cut(strings.TrimPrefix(strings.ReplaceAll(path, "/", "."), "."), "."); first != "" && first != trialSection {
		return change()
	}
	t.changing.Lock()
	defer t.changing.Unlock()
	if !t.tries() {
		return change()
	}
	t.settle() // who came in over what is about to go
	was := t.settings.Get().Network
	before := t.before
	if before == nil {
		var err error
		if before, err = t.keepBefore(); err != nil {
			return err
		}
	}
	old, err := before.config()
	if err != nil {
		return err
	}
	err = change()
	switch now := t.settings.Get().Network; {
	case !now.Equal(was) && !now.Equal(old) && now.Trial != 0:
		t.before = before
		t.start(now)
	case t.before != nil && now.Equal(was) && now.Trial != 0: // the trial goes on
	case t.before != nil && now.Equal(old):
		t.keep("The network is again what it was before the trial.", host.Origin{})
	case t.before != nil: // now.Trial is 0
		t.keep("Trials of the network were switched off: the changed network is kept.", host.Origin{})
	default:
		if err := t.forget(); err != nil {
			t.log.Warn("what the network was is kept for nothing", "error", err) // the next start looks again
		}
	}
	return err
}

// tries says whether there is a network to try.
func (t *trial) tries() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.net != nil
}

// keepBefore writes down what the network is.
func (t *trial) keepBefore() (*beforeTrial, error) {
	text, err := t.settings.Show(trialSection)
	if err != nil {
		return nil, err
	}
	before := &beforeTrial{Network: text, Changed: t.changedPaths()}
	return before, t.db.PutJSON(trialBucket, trialKey, before)
}

func (t *trial) forget() error {
	t.before = nil
	t.watch(nil)
	return t.db.Update(func(tx store.Tx) error { return tx.Delete(trialBucket, []byte(trialKey)) })
}

// watch waits for a login over c.
func (t *trial) watch(c *network.Config) {
	t.mu.Lock()
	t.watched, t.login = c, nil
	t.mu.Unlock()
	t.look()
}

// look has run look.
func (t *trial) look() {
	select {
	case t.wake <- struct{}{}:
	default: // it is to look already
	}
}

// start begins the time of the network now.
func (t *trial) start(now network.Config) {
	t.end = time.Now().Add(now.Trial)
	t.watch(&now)
	t.events.Add(host.Event{Kind: kindTrial,
		Message: fmt.Sprintf("The changed network is on trial: unless somebody logs in over it within %v, it is changed back.", now.Trial)})
}

// keep ends the trial for good. If the disk fails, the trial is one again after
// the next start.
func (t *trial) keep(message string, from host.Origin) {
	if err := t.forget(); err != nil {
		t.log.Warn("the network's trial is not ended on the disk", "error", err)
	}
	t.events.Add(host.Event{Kind: kindKept, Message: message, Origin: from})
}

// KeepNetwork says that the network on trial is right: a person's word, whatever
// way it came. It answers host.ErrInvalid where nothing is on trial.
func (c changer) KeepNetwork(from host.Origin) error { return c.b.trial.confirm(from) }

func (t *trial) confirm(from host.Origin) error {
	t.changing.Lock()
	defer t.changing.Unlock()
	if t.before == nil {
		return fmt.Errorf("no change of the network is on trial: %w", host.ErrInvalid)
	}
	t.keep("The changed network is kept, as asked.", from)
	return nil
}

// loggedIn hears of each login, and never waits. One whose connection began
// before the network had become what it is now shows nothing, nor does one that
// came over no network.
func (t *trial) loggedIn(a auth.Attempt) {
	if !a.Source.IsValid() || a.Source.Unmap().IsLoopback() && !t.loopback {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watched == nil || t.login != nil {
		return
	}
	if since, ok := t.net.Applied(*t.watched); ok && a.Begun.After(since) {
		t.login = &a
		t.look()
	}
}

// settle ends the trial if somebody logged in.
func (t *trial) settle() {
	t.mu.Lock()
	a := t.login
	t.mu.Unlock()
	if a == nil || t.before == nil {
		return
	}
	t.keep("Somebody logged in over the changed network, which is kept.",
		host.Origin{Via: a.Via, User: a.Name, Source: a.Source.Unmap().String()})
}

// run ends trials until ctx ends.
func (t *trial) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil // at the next start the trial goes on
		case <-t.wake:
		case <-timer.C:
		}
		if wait, on := t.check(); on {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// check ends the trial if it is time to, and says for how long it goes on.
func (t *trial) check() (left time.Duration, on bool) {
	t.changing.Lock()
	defer t.changing.Unlock()
	t.settle()
	if t.before != nil && !time.Now().Before(t.end) {
		t.rollBack()
	}
	return time.Until(t.end), t.before != nil
}

// rollBack sets the network that was before the trial.
func (t *trial) rollBack() {
	trying := t.values()
	limit := t.settings.Get().Network.Trial
	err := t.undo()
	if _, wrong := errors.AsType[*settings.Error](err); err != nil && !wrong {
		// The disk's fault, which may pass.
		t.log.Error("the network cannot be changed back", "error", err)
		t.end = time.Now().Add(trialRetry)
		return
	}
	if ferr := t.forget(); ferr != nil {
		t.log.Warn("the network's trial is not ended on the disk", "error", ferr)
	}
	if err != nil {
		// Another version of the software wrote it.
		t.events.Add(host.Event{Severity: host.Warning, Kind: kindKept, Message: fmt.Sprintf("Nobody logged in over the changed network, but it cannot be changed back: %v.", err)})
		return
	}
	var undone []string
	for path, value := range t.values() {
		if value != trying[path] {
			undone = append(undone, fmt.Sprintf("%s is %s again, not %s", path, value, trying[path]))
		}
	}
	slices.Sort(undone)
	t.events.Add(host.Event{Severity: host.Warning, Kind: kindRolledBack,
		Message: fmt.Sprintf("Nobody logged in within %v after the network was changed, so it is changed back: %s.", limit, strings.Join(undone, ", "))})
}

// undo makes the section what it was: as a whole, by one write of the disk.
// Where not all of it had been changed before, the rest then goes back to the
// files, setting by setting, which changes no value any more.
func (t *trial) undo() error {
	if len(t.before.Changed) == 0 {
		return t.settings.Unset(trialSection)
	}
	if err := t.settings.Set(trialSection, string(t.before.Network)); err != nil {
		return err
	}
	for _, path := range t.paths() {
		if slices.Contains(t.before.Changed, path) {
			continue
		}
		if err := t.settings.Unset(path); err != nil {
			t.log.Warn("a setting of the network hides the files'", "setting", path, "error", err)
		}
	}
	return nil
}

// paths lists the settings of the network.
func (t *trial) paths() []string {
	return slices.DeleteFunc(t.settings.Paths(), func(path string) bool { return !strings.HasPrefix(path, trialSection+".") })
}

// values are the settings of the network by their paths.
func (t *trial) values() map[string]string {
	values := map[string]string{}
	for _, path := range t.paths() {
		text, err := t.settings.Show(path)
		var line bytes.Buffer
		if errors.Join(err, json.Compact(&line, text)) != nil {
			continue // it is in the list that the store just gave
		}
		values[path] = line.String()
	}
	return values
}

// changedPaths lists the settings of the network that the changed layer has.
func (t *trial) changedPaths() []string {
	text, err := os.ReadFile(t.changed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var layer map[string]any
	if err == nil {
		err = json.Unmarshal(text, &layer)
	}
	if err != nil {
		// Its last good copy is in force. What hides a file's value does no
		// harm, what shows another than before would.
		t.log.Warn("the changed settings cannot be told from the files'", "error", err)
		return t.paths()
	}
	return slices.DeleteFunc(t.paths(), func(path string) bool { return !has(layer, path) })
}

// has says whether a layer says something of a path, or of all that it is in.
func has(layer map[string]any, path string) bool {
	for name := range strings.SplitSeq(path, ".") {
		value, ok := layer[name]
		if !ok {
			return false
		}
		if layer, ok = value.(map[string]any); !ok {
			return true
		}
	}
	return true
}
