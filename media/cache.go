package media

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// blockSize is what is fetched and kept at least, in bytes.
	blockSize = 64 << 10
	// stateOffset is where the states begin in their file, after the identity.
	stateOffset = 4096
	// maxSize is how large an image can be, in bytes. A server can say anything,
	// and there is a byte of memory for each block.
	maxSize = 1 << 40
)

// What is known of a block.
const (
	absent = iota
	clean  // as on the server, which can give it again
	kept   // written by the host, or from a server that gives no ranges
)

// An identity says which content a cache holds parts of.
type identity struct {
	URL       string    `json:"url"`
	Size      int64     `json:"size"`
	Validator validator `json:"validator"`
	// Boot is this boot of the kernel. After a power cut nobody knows which of
	// the file's pages had reached the disk.
	Boot string `json:"boot"`
}

func thisBoot() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// A cache is a sparse file with the blocks of an image that were fetched or
// written, and beside it a file with a state for each block. A state is written
// when its block is, so that a process that is killed loses nothing.
type cache struct {
	path         string
	room         *room
	data, states *os.File

	mu    sync.RWMutex // held to read while blocks are used
	size  int64
	state []byte  // of each block
	order []int64 // clean blocks as they came, and some that are no longer clean
	used  int64   // bytes of room
}

// newCache makes an empty cache at path, in place of what is there.
func newCache(path string, id identity, r *room) (*cache, error) {
	if id.Size > maxSize {
		return nil, fmt.Errorf("%w: %d bytes, and it can be %d at most", ErrContent, id.Size, int64(maxSize))
	}
	if err := dropCache(path); err != nil {
		return nil, err
	}
	c, err := openFiles(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	c.room, c.size = r, id.Size
	c.state = make([]byte, (id.Size+blockSize-1)/blockSize)
	if err = c.setIdentity(id); err == nil {
		err = errors.Join(c.data.Truncate(id.Size), c.states.Truncate(stateOffset+int64(len(c.state))))
	}
	if err != nil {
		return nil, errors.Join(err, c.drop())
	}
	return c, nil
}

// oldCache opens the cache that an earlier run left at path; nil where there is
// none of this content.
func oldCache(path string, id identity, r *room) (*cache, error) {
	want, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	c, err := openFiles(path, os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c.room, c.size = r, id.Size
	text, err := os.ReadFile(path + stateSuffix)
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	blocks := (id.Size + blockSize - 1) / blockSize
	info, err := c.data.Stat()
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	if int64(len(text)) != stateOffset+blocks || info.Size() != id.Size || !bytes.Equal(bytes.TrimRight(text[:stateOffset], "\x00"), want) {
		return nil, c.close()
	}
	c.state = text[stateOffset:]
	used := int64(0)
	for b, s := range c.state {
		switch s {
		case absent:
		case clean:
			c.order = append(c.order, int64(b))
			fallthrough
		case kept:
			used += blockSize
		default:
			return nil, c.close() // nobody wrote that
		}
	}
	c.used = used
	r.force(used)
	return c, nil
}

const stateSuffix = ".blocks"

func openFiles(path string, flags int) (*cache, error) {
	data, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	states, err := os.OpenFile(path+stateSuffix, flags, 0o600)
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	return &cache{path: path, data: data, states: states}, nil
}

func dropCache(path string) error {
	var errs []error
	for _, name := range []string{path, path + stateSuffix} {
		if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// close ends the use of the cache and leaves it on the disk.
func (c *cache) close() error {
	c.room.give(c.used)
	return errors.Join(c.data.Close(), c.states.Close())
}

// drop ends the cache.
func (c *cache) drop() error { return errors.Join(c.close(), dropCache(c.path)) }

// has says whether block b is there.
func (c *cache) has(b int64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state[b] != absent
}

// length is how many bytes block b has: the last one may have less.
func (c *cache) length(b int64) int { return int(min(blockSize, c.size-b*blockSize)) }

// read reads from block b, and reports whether it is there.
func (c *cache) read(p []byte, b int64, at int) (bool, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.state[b] == absent {
		return false, nil
	}
	if _, err := c.data.ReadAt(p, b*blockSize+int64(at)); err != nil {
		return false, fmt.Errorf("cache of an image: %w", err)
	}
	return true, nil
}

// put fills block b, unless it is there.
func (c *cache) put(b int64, p []byte, as byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state[b] != absent {
		return nil
	}
	if err := c.space(); err != nil {
		return err
	}
	if err := c.fill(p, b, 0, as); err != nil {
		c.used -= blockSize
		c.room.give(blockSize)
		return err
	}
	if as == clean {
		c.order = append(c.order, b)
	}
	return nil
}

// write writes into block b, and reports whether it was there or p is all of it.
func (c *cache) write(p []byte, b int64, at int) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state[b] == absent {
		if len(p) != c.length(b) {
			return false, nil
		}
		if err := c.space(); err != nil {
			return false, err
		}
		if err := c.fill(p, b, 0, kept); err != nil {
			c.used -= blockSize
			c.room.give(blockSize)
			return false, err
		}
		return true, nil
	}
	return true, c.fill(p, b, at, kept)
}

// fill writes data, then the state. c.mu is held.
func (c *cache) fill(p []byte, b int64, at int, as byte) error {
	if _, err := c.data.WriteAt(p, b*blockSize+int64(at)); err != nil {
		return fmt.Errorf("cache of an image: %w", err)
	}
	if c.state[b] == as {
		return nil
	}
	if err := c.mark(b, as); err != nil {
		return err
	}
	return nil
}

func (c *cache) mark(b int64, as byte) error {
	if _, err := c.states.WriteAt([]byte{as}, stateOffset+b); err != nil {
		return fmt.Errorf("cache of an image: %w", err)
	}
	c.state[b] = as
	return nil
}

// space makes room for one block, if need be by forgetting the one that came
// first of those that the server can give again. c.mu is held.
func (c *cache) space() error {
	full := c.room.take(blockSize)
	if full == nil {
		c.used += blockSize
		return nil
	}
	for len(c.order) > 0 {
		b := c.order[0]
		c.order = c.order[1:]
		if c.state[b] != clean {
			continue
		}
		if err := c.mark(b, absent); err != nil {
			return err
		}
		if err := unix.Fallocate(int(c.data.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, b*blockSize, blockSize); err != nil {
			return fmt.Errorf("%w: %w", full, err)
		}
		return nil // what it took is the new block's
	}
	return full
}

// grow appends a block to an image whose size is not known yet; setSize ends it.
func (c *cache) grow(p []byte) error {
	c.mu.Lock()
	c.state = append(c.state, absent)
	b := int64(len(c.state) - 1)
	c.size = b*blockSize + int64(len(p))
	c.mu.Unlock()
	return c.put(b, p, kept)
}

// sync returns when all that was written is on the disk.
func (c *cache) sync() error {
	if err := c.data.Sync(); err != nil {
		return err
	}
	return c.states.Sync()
}

// setIdentity writes the identity again, with the size that is known now.
func (c *cache) setIdentity(id identity) error {
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if len(text) > stateOffset {
		return fmt.Errorf("%w: the URL is too long", ErrScheme)
	}
	_, err = c.states.WriteAt(append(text, make([]byte, stateOffset-len(text))...), 0)
	return err
}
