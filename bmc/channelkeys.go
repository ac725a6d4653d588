package bmc

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"sync"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
)

// channelKeys keep K_G, the key of the LAN channel (IPMI 2.0 section 13.31), as a
// user.Keys. It is a secret like a user's, so it is kept as those are: sealed to
// the board, in the state and not in the settings, which people can read.
type channelKeys struct {
	db     *store.Store
	seal   [32]byte
	events *host.Events

	changing sync.Mutex // held over each change, disk included

	mu  sync.Mutex // guards now
	now channelKey
}

// A channelKey is K_G, all zero bytes where there is none, and how it is kept.
type channelKey struct {
	key  [20]byte
	kept keptKey
}

// keptKey is how K_G is kept.
type keptKey struct {
	Sealed []byte `json:"sealed,omitempty"` // none: no key
	Locked bool   `json:"locked,omitempty"` // it may not be read or changed any more
}

const (
	keyBucket = "ipmi-keys"
	keyName   = "K_G" // bound into the seal
)

// openKeys reads K_G. One that does not open is no key: then the users' secrets,
// which are sealed by the same key, do not open either.
func openKeys(db *store.Store, seal [32]byte, events *host.Events) (*channelKeys, error) {
	k := &channelKeys{db: db, seal: seal, events: events}
	if _, err := db.GetJSON(keyBucket, keyName, &k.now.kept); err != nil {
		return nil, err
	}
	if k.now.kept.Sealed == nil {
		return k, nil
	}
	aead, err := newAEAD(seal)
	if err != nil {
		return nil, err
	}
	key, err := aead.Open(nil, nil, k.now.kept.Sealed, []byte(keyName))
	if err == nil && len(key) != len(k.now.key) {
		err = errors.New("it has the wrong length")
	}
	if err != nil {
		k.now = channelKey{}
		events.Add(host.Event{Severity: host.Warning, Kind: "key.damaged",
			Message: fmt.Sprintf("The channel key of IPMI (K_G) cannot be opened (%v); there is none until it is set again.", err)})
		return k, nil
	}
	copy(k.now.key[:], key)
	return k, nil
}

func newAEAD(key [32]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// KG answers the key, all zero bytes where there is none, and whether it is
// locked. It does not wait.
func (k *channelKeys) KG() (key [20]byte, locked bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now.key, k.now.kept.Locked
}

// SetKG changes the key; all zero bytes: there is none.
func (k *channelKeys) SetKG(key [20]byte, from host.Origin) error {
	var sealed []byte
	if key != [20]byte{} {
		aead, err := newAEAD(k.seal)
		if err != nil {
			return err
		}
		sealed = aead.Seal(nil, nil, key[:], []byte(keyName))
	}
	return k.change(from, "The channel key of IPMI (K_G) was changed.", func(to *channelKey) { to.key, to.kept.Sealed = key, sealed })
}

// LockKG has IPMI neither read nor change the key any more.
func (k *channelKeys) LockKG(from host.Origin) error {
	return k.change(from, "The channel key of IPMI (K_G) was locked.", func(to *channelKey) { to.kept.Locked = true })
}

// change changes what there is, the disk first.
func (k *channelKeys) change(from host.Origin, message string, edit func(*channelKey)) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	k.mu.Lock()
	next := k.now
	k.mu.Unlock()
	edit(&next)
	if err := k.db.PutJSON(keyBucket, keyName, next.kept); err != nil {
		return err
	}
	k.mu.Lock()
	k.now = next
	k.mu.Unlock()
	k.events.Add(host.Event{Kind: "settings.changed", Origin: from, Message: message})
	return nil
}
