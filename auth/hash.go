package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
)

// cost is what one argon2id hash costs (RFC 9106 section 3.1).
type cost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// standardCost is OWASP's first choice where memory is scarce: 19 MiB, t=2, p=1
// (Password Storage Cheat Sheet).
var standardCost = cost{memory: 19 * 1024, passes: 2, threads: 1}

const (
	saltBytes = 16
	hashBytes = 32
	// quiet is how long the hasher rests before its memory is given back.
	quiet = time.Second
)

// A phc is a password hash in the PHC string format:
// $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
type phc struct {
	cost
	salt, hash []byte
}

var errPHC = errors.New("not an argon2id hash in PHC format")

// The bounds that parsePHC allows: a damaged record must not make the board
// take all its memory.
const (
	maxMemory  = 64 * 1024
	maxPasses  = 16
	maxThreads = 4
)

// phcBase64 is base64 without padding, and without stray bits at the end, so
// that a hash has one spelling only.
var phcBase64 = base64.RawStdEncoding.Strict()

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		p.memory, p.passes, p.threads, phcBase64.EncodeToString(p.salt), phcBase64.EncodeToString(p.hash))
}

// parsePHC takes exactly what String writes.
func parsePHC(s string) (phc, error) {
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != "v="+strconv.Itoa(argon2.Version) {
		return phc{}, errPHC
	}
	params := strings.Split(part[3], ",")
	if len(params) != 3 {
		return phc{}, errPHC
	}
	var n [3]uint32
	for i, bound := range []struct {
		prefix string
		max    uint32
	}{{"m=", maxMemory}, {"t=", maxPasses}, {"p=", maxThreads}} {
		digits, ok := strings.CutPrefix(params[i], bound.prefix)
		v, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || strconv.FormatUint(v, 10) != digits || v < 1 || v > uint64(bound.max) {
			return phc{}, fmt.Errorf("%w: %s", errPHC, bound.prefix)
		}
		n[i] = uint32(v)
	}
	p := phc{cost: cost{memory: n[0], passes: n[1], threads: uint8(n[2])}}
	if p.memory < 8*uint32(p.threads) { // RFC 9106 section 3.1
		return phc{}, fmt.Errorf("%w: m= is less than 8 for each thread", errPHC)
	}
	var err error
	if p.salt, err = decodePHC(part[4], 8, 48); err != nil {
		return phc{}, fmt.Errorf("%w: salt: %w", errPHC, err)
	}
	if p.hash, err = decodePHC(part[5], 16, 64); err != nil {
		return phc{}, fmt.Errorf("%w: hash: %w", errPHC, err)
	}
	return p, nil
}

func decodePHC(s string, least, most int) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") { // which encoding/base64 skips
		return nil, errors.New("line break")
	}
	b, err := phcBase64.DecodeString(s)
	if err != nil {
		return nil, err
	}
	if len(b) < least || len(b) > most {
		return nil, fmt.Errorf("%d bytes", len(b))
	}
	return b, nil
}

// hasher computes hashes. Its caller holds the gate, so it runs once at a time.
// The functions are fields for the tests.
type hasher struct {
	cost    cost
	compute func(c cost, password, salt []byte, n int) []byte
	collect func() // frees the memory of the hash before
	release func() // gives free memory back to the kernel
	later   func(time.Duration, func()) *time.Timer

	dummy phc // what nobody's password matches, at the usual cost

	mu    sync.Mutex
	dirty bool // a hash was computed and its memory not collected since
	rest  *time.Timer
}

func standardHasher() *hasher {
	return newHasher(standardCost, func(c cost, password, salt []byte, n int) []byte {
		return argon2.IDKey(password, salt, c.passes, c.memory, c.threads, uint32(n))
	})
}

func newHasher(c cost, compute func(cost, []byte, []byte, int) []byte) *hasher {
	return &hasher{
		cost: c, compute: compute, collect: runtime.GC, release: debug.FreeOSMemory,
		dummy: phc{cost: c, salt: randomBytes(saltBytes), hash: randomBytes(hashBytes)},
	}
}

// make hashes a new password.
func (h *hasher) make(password string) phc {
	p := phc{cost: h.cost, salt: randomBytes(saltBytes)}
	p.hash = h.run(p.cost, password, p.salt, hashBytes)
	return p
}

// verify says whether the password is the one of the hash.
func (h *hasher) verify(p phc, password string) bool {
	got := h.run(p.cost, password, p.salt, len(p.hash))
	return subtle.ConstantTimeCompare(got, p.hash) == 1
}

// run computes one hash. The library takes fresh memory for each, and the
// garbage collector would let two or three of these blocks pile up before it
// runs by itself. So a hash that follows another closely collects first (a few
// milliseconds beside its own tenth of a second), and after a quiet second the
// last block goes back to the kernel, which is too slow to do for each.
func (h *hasher) run(c cost, password string, salt []byte, n int) []byte {
	h.mu.Lock()
	if h.rest != nil {
		h.rest.Stop()
	}
	dirty := h.dirty
	h.dirty = true
	h.mu.Unlock()
	if dirty {
		h.collect()
	}
	out := h.compute(c, []byte(password), salt, n)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rest == nil {
		h.rest = h.later(quiet, h.tidy)
	} else {
		h.rest.Reset(quiet)
	}
	return out
}

func (h *hasher) tidy() {
	h.mu.Lock()
	h.dirty = false
	h.mu.Unlock()
	h.release() // collects, too
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		panic(fmt.Sprintf("crypto/rand: %v", err)) // it never fails, says its documentation
	}
	return b
}
