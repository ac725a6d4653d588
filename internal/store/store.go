// Package store keeps the state that outlives a restart (users, leases, the
// wanted power state, events) in one bbolt file. What Put or Update returned
// from is on the disk; a cut at any instruction leaves the old value or the
// new one.
package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrInUse says that another process has the file open.
	ErrInUse = errors.New("in use by another process")
	// ErrDamaged says that the file is no store or a broken one. Once it is
	// renamed, the same process can Open a new one in its place.
	ErrDamaged = errors.New("the file is damaged")
)

// A Store is one open file. It is safe for several goroutines.
type Store struct {
	db *bbolt.DB
}

// Open opens or makes the file, mode 0600, and reads all of it once. It answers
// ErrInUse at once where another process holds it, and ErrDamaged where it
// cannot be read.
func Open(path string) (*Store, error) { return openFile(path, false) }

// OpenPinned is Open for a file whose medium may go away: it is locked into
// memory (mlock(2)), so that reads go on then. Writes fail.
func OpenPinned(path string) (*Store, error) { return openFile(path, true) }

func openFile(path string, pin bool) (s *Store, err error) {
	// bbolt trusts its file: a damaged one makes it panic, and one that is
	// cut short makes its memory map fault.
	var db *bbolt.DB
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
		if err != nil && db != nil {
			err = errors.Join(err, db.Close())
		}
		if err != nil {
			s, err = nil, fmt.Errorf("store %s: %w", path, err)
		}
	}()
	// A timeout of nearly nothing: bbolt retries the lock until it is over.
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Millisecond, FreelistType: bbolt.FreelistMapType, Mlock: pin})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, ErrInUse
	}
	if _, isSystem := errors.AsType[syscall.Errno](err); err != nil && !isSystem {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	return &Store{db: db}, db.View(readAll)
}

// readAll touches every page that is in use.
func readAll(tx *bbolt.Tx) error {
	info, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrDamaged, info.Size(), tx.Size())
	}
	sum := crc32.NewIEEE() // its result is of no interest, only that it reads all
	return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			for _, part := range [][]byte{k, v} {
				if _, err := sum.Write(part); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// Close ends the store; calls after it fail.
func (s *Store) Close() error { return s.db.Close() }

// A Tx is a transaction: all of it happens or none.
type Tx struct {
	tx *bbolt.Tx
}

// Update runs f in a transaction that is on the disk when Update returns nil,
// and undone when f fails.
func (s *Store) Update(f func(Tx) error) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return f(Tx{tx}) })
}

// View runs f on one consistent state.
func (s *Store) View(f func(Tx) error) error {
	return s.db.View(func(tx *bbolt.Tx) error { return f(Tx{tx}) })
}

// Get returns a copy of a value, nil where there is none.
func (t Tx) Get(bucket string, key []byte) []byte {
	b := t.tx.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	v := b.Get(key)
	if v == nil {
		return nil
	}
	return append([]byte{}, v...)
}

// Put sets a value.
func (t Tx) Put(bucket string, key, value []byte) error {
	b, err := t.tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return fmt.Errorf("store bucket %s: %w", bucket, err)
	}
	return b.Put(key, value)
}

// Delete removes a value; one that is not there is no error.
func (t Tx) Delete(bucket string, key []byte) error {
	b := t.tx.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	return b.Delete(key)
}

// Each calls f for each pair of a bucket in the order of the keys. The slices
// are valid only during the call; the bucket must not be changed in it.
func (t Tx) Each(bucket string, f func(key, value []byte) error) error {
	b := t.tx.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	return b.ForEach(f)
}

// DeleteBelow removes every pair whose key is less than key.
func (t Tx) DeleteBelow(bucket string, key []byte) error {
	b := t.tx.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	c := b.Cursor()
	for k, _ := c.First(); k != nil && bytes.Compare(k, key) < 0; k, _ = c.First() {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// GetJSON reads a value into *v. It answers false where there is none.
func (s *Store) GetJSON(bucket, key string, v any) (bool, error) {
	var raw []byte
	if err := s.View(func(t Tx) error { raw = t.Get(bucket, []byte(key)); return nil }); err != nil {
		return false, fmt.Errorf("store %s/%s: %w", bucket, key, err)
	}
	if raw == nil {
		return false, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("store %s/%s: %w", bucket, key, err)
	}
	return true, nil
}

// PutJSON writes a value; it is on the disk when PutJSON returns nil.
func (s *Store) PutJSON(bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("store %s/%s: %w", bucket, key, err)
	}
	if err := s.Update(func(t Tx) error { return t.Put(bucket, []byte(key), raw) }); err != nil {
		return fmt.Errorf("store %s/%s: %w", bucket, key, err)
	}
	return nil
}
