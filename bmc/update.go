package bmc

import (
	"crypto/ed25519"
	"fmt"
	"path/filepath"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/update"
)

// UpdateSettings are those of new software.
type UpdateSettings struct {
	// Keys are the public keys whose bundles are taken, as update.ParseKey takes
	// them; none: no bundle is.
	Keys []string `json:"keys"`
}

// validate answers what is wrong, and where in the section.
func (s UpdateSettings) validate() (pointer string, err error) {
	if len(s.Keys) > update.MaxKeys {
		return "/keys", fmt.Errorf("%d keys are more than %d", len(s.Keys), update.MaxKeys)
	}
	for i, k := range s.Keys {
		if _, err := update.ParseKey(k); err != nil {
			return fmt.Sprintf("/keys/%d", i), err
		}
	}
	return "", nil
}

// updateArch is what bundles have to be for: the image's architecture, also where
// a simulator runs on another.
const updateArch = "arm64"

// openUpdates opens what takes bundles in. It answers nil, and an event says why,
// where the disk does not let it: the board serves without.
func (b *BMC) openUpdates() *update.Staging {
	s, err := update.OpenStaging(update.StagingOptions{
		Dir: filepath.Join(b.opt.Dir, updateDir), Arch: updateArch, Running: b.opt.Version, Events: b.Events,
		Keys: func() []ed25519.PublicKey { return update.ParseKeys(b.Settings.Get().Update.Keys) },
	})
	if err != nil {
		b.Events.Add(host.Event{Severity: host.Warning, Kind: "update.failed", Message: fmt.Sprintf("No update can be taken in: %v.", err)})
		return nil
	}
	return s
}
