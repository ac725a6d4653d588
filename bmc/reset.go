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
	"path/filepath"
	"slices"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/atomicfile"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/internal/store"
)

// A DefaultsScope says what a reset to defaults takes, in the words of Redfish
// (DSP0268, Manager.ResetToDefaults). What is never taken: the files on the card's
// boot partition, the volumes, and what is no setting but a fact (the host's power
// state, its UUID, the hours that it ran, the numbers of events).
type DefaultsScope string

// The scopes.
const (
	// ResetAll takes all settings but the card's, users, events, the board's keys
	// and certificate, and images.
	ResetAll DefaultsScope = "ResetAll"
	// PreserveNetwork leaves the section "network", "hostname" and the DHCP lease.
	PreserveNetwork DefaultsScope = "PreserveNetwork"
	// PreserveNetworkAndUsers leaves the users with their secrets and SSH keys too.
	PreserveNetworkAndUsers DefaultsScope = "PreserveNetworkAndUsers"
)

// ErrScope says that there is no such DefaultsScope.
var ErrScope = errors.New("unknown scope of a reset to defaults")

// Where the request for a reset to defaults, and the state that is to come, are
// kept, and the folders below Options.Dir that the reset empties: images and
// caches of virtual media, and an update that waits.
const (
	stateFile    = "state.db"
	nextState    = "state.db.new"
	defaultsFile = "defaults.json"
	mediaDir     = "media"
	updateDir    = "update"
)

// A defaultsRequest is a reset to defaults that has been asked for.
type defaultsRequest struct {
	Scope DefaultsScope `json:"scope"`
	From  host.Origin   `json:"from,omitzero"`
}

// ResetDefaults resets the board to its defaults: Run returns ErrReset, and the
// next Open does it, or does it again where the power fails meanwhile. When
// ResetDefaults returns nil it will happen. An event bmc.defaults then says who
// asked for it, and where the users are gone the first login is made anew. The
// host is not touched.
func (b *BMC) ResetDefaults(scope DefaultsScope, from host.Origin) error {
	if err := b.keepDefaults(scope, from); err != nil {
		return err
	}
	b.Reset()
	return nil
}

// keepDefaults has the next Open reset what scope says.
func (b *BMC) keepDefaults(scope DefaultsScope, from host.Origin) error {
	if !scope.known() {
		return fmt.Errorf("%w: %.40q", ErrScope, string(scope))
	}
	text, err := json.Marshal(defaultsRequest{scope, from})
	if err != nil {
		return fmt.Errorf("reset to defaults: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(b.opt.Dir, defaultsFile), text, 0o600); err != nil {
		return fmt.Errorf("reset to defaults: %w", err)
	}
	return nil
}

func (s DefaultsScope) known() bool {
	return s == ResetAll || s == PreserveNetwork || s == PreserveNetworkAndUsers
}

func (s DefaultsScope) network() bool { return s != ResetAll }
func (s DefaultsScope) users() bool   { return s == PreserveNetworkAndUsers }

// Reset has Run return ErrReset, or where it does not run its next call.
func (b *BMC) Reset() {
	select {
	case b.reset <- struct{}{}:
	default: // it is about to
	}
}

// takeDefaults does the reset to defaults that was asked for, if one was. The
// state, b.db, is open, and is another one then.
func (b *BMC) takeDefaults() error {
	d := defaults{dir: b.opt.Dir, log: b.log}
	text, err := os.ReadFile(d.file(defaultsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reset to defaults: %w", err)
	}
	if err := json.Unmarshal(text, &d.request); err != nil || !d.request.Scope.known() {
		// Another version of the software wrote it.
		b.log.Error("a reset to defaults that is not understood is left out", "request", string(text), "error", err)
		return d.done(b.db)
	}
	for _, step := range d.steps() {
		if err := step(b.db); err != nil {
			return fmt.Errorf("reset to defaults: %w", err)
		}
	}
	err = b.db.Close()
	if err == nil {
		b.db, _, err = openStore(d.file(stateFile), b.opt.Pin)
	}
	return err
}

// A defaults resets a folder to its defaults.
type defaults struct {
	dir     string
	request defaultsRequest
	log     *slog.Logger
}

func (d defaults) file(name string) string { return filepath.Join(d.dir, name) }

// steps are to be taken one after the other, with the state that is open. Power
// may fail at any point: then all are taken again. The last ends the request.
func (d defaults) steps() []func(*store.Store) error {
	return []func(*store.Store) error{d.settings, d.keys, d.folders, d.state, d.done}
}

// settings drops what is not to stay of the layers that are not on the card.
func (d defaults) settings(*store.Store) error {
	var keep []string
	if d.request.Scope.network() {
		keep = append(keep, "network", "hostname")
	}
	if d.request.Scope.users() {
		keep = append(keep, "ssh_keys")
	}
	for layer, file := range map[string]string{settings.ChangedLayer: changedName, permLayer: permName} {
		if err := d.reduce(layer, d.file(file), keep); err != nil {
			return err
		}
	}
	if d.request.Scope.network() {
		return nil // the copy of the card's may be where the network is told
	}
	return removeAll(d.good(cardLayer))
}

// good is where the settings keep the last good copy of a layer, bad where the
// last bad one.
func (d defaults) good(layer string) string { return filepath.Join(d.dir, LastGoodDir, layer+".json") }
func (d defaults) bad(layer string) string  { return filepath.Join(d.dir, LastGoodDir, layer+".bad") }

// reduce leaves in a layer's file only the members keep, and no file where there
// are none of them. The last good copy is what is in force.
func (d defaults) reduce(layer, path string, keep []string) error {
	text, err := os.ReadFile(d.good(layer))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = os.ReadFile(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var all map[string]json.RawMessage
	kept := map[string]json.RawMessage{}
	// What is no document, or has no version, is not in force either.
	if json.Unmarshal(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &all) == nil && all["version"] != nil {
		for name, value := range all {
			if slices.Contains(keep, name) {
				kept[name] = value
			}
		}
	}
	if len(kept) == 0 {
		return removeAll(d.good(layer), d.bad(layer), path)
	}
	kept["version"] = all["version"]
	if text, err = json.MarshalIndent(kept, "", "  "); err != nil {
		return err
	}
	if err := atomicfile.Write(path, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return removeAll(d.good(layer), d.bad(layer))
}

// keys drops the board's keys and certificate.
func (d defaults) keys(*store.Store) error { return auth.RemoveKeys(d.dir, !d.request.Scope.users()) }

// folders drops what was put on the board in files.
func (d defaults) folders(*store.Store) error {
	return removeAll(d.file(mediaDir), d.file(updateDir), d.file(stateFile+".bad"))
}

// state makes a new state with what is to stay of the old one, which is open, and
// the event that tells of it. All of it comes in force by one renaming.
func (d defaults) state(old *store.Store) (err error) {
	if err := removeAll(d.file(nextState)); err != nil { // of an earlier try
		return err
	}
	next, err := store.Open(d.file(nextState))
	if err != nil {
		return err
	}
	err = next.Update(func(to store.Tx) error {
		return old.View(func(from store.Tx) error { return d.copy(to, from) })
	})
	if err == nil {
		err = d.tell(next)
	}
	if err = errors.Join(err, next.Close()); err != nil {
		return err
	}
	if err := os.Rename(d.file(nextState), d.file(stateFile)); err != nil {
		return err
	}
	return syncDir(d.dir)
}

// The buckets of package host with facts.
const (
	identityBucket = "host"
	powerBucket    = "power"
	eventIDBucket  = "event-ids"
)

// copy copies what is to stay of the state.
func (d defaults) copy(to, from store.Tx) error {
	buckets := []string{identityBucket, powerBucket, eventIDBucket}
	if d.request.Scope.network() {
		buckets = append(buckets, networkBucket, trialBucket)
	}
	if d.request.Scope.users() {
		buckets = append(buckets, bmcBucket)
		if err := auth.CopyUsers(to, from); err != nil {
			return err
		}
	}
	for _, bucket := range buckets {
		err := from.Each(bucket, func(key, value []byte) error { return to.Put(bucket, key, value) })
		if err != nil {
			return err
		}
	}
	return nil
}

// tell puts the event of the reset into the log of a state.
func (d defaults) tell(db *store.Store) error {
	events, err := host.OpenEvents(db, d.log)
	if err != nil {
		return err
	}
	message := "The BMC was reset to its defaults"
	switch d.request.Scope {
	case PreserveNetwork:
		message += "; its network stayed"
	case PreserveNetworkAndUsers:
		message += "; its network and users stayed"
	}
	events.Add(host.Event{Severity: host.Warning, Kind: "bmc.defaults", Origin: d.request.From, Message: message + "."})
	ended, cancel := context.WithCancel(context.Background())
	cancel() // the log's writer then writes what there is, and ends
	if err := events.Run(ended); !errors.Is(err, context.Canceled) {
		return err
	}
	return events.Flush(ended) // tells whether it did
}

// done ends the request, for good.
func (d defaults) done(*store.Store) error {
	return errors.Join(removeAll(d.file(defaultsFile)), syncDir(d.dir))
}

// removeAll removes files and folders, those that are not there too.
func removeAll(paths ...string) error {
	var errs []error
	for _, path := range paths {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// syncDir has the names in a folder on the disk.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
