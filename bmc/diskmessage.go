package bmc

import (
	"encoding/json"
	"errors"
	"hash/maphash"
	"strings"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/ipc"
)

// The messages between core and disk. Core sends hello and subscribe, which are
// answered; then disk tells its state, at once and what changes of it, and sends
// events, which core answers when it has them. The other requests of core are
// answered when what they ask for is done and has been told.
const (
	diskHello     = "hello"
	diskSubscribe = "subscribe"
	diskEvent     = "event"

	// The state.
	diskHealth   = "health"
	diskVolumes  = "volumes"
	diskSessions = "sessions"
	diskJobs     = "jobs"
	diskServed   = "served"

	// The requests.
	diskCreate   = "create"
	diskSnapshot = "snapshot"
	diskRevert   = "revert"
	diskResize   = "resize"
	diskRename   = "rename"
	diskDelete   = "delete"
	diskVerify   = "verify"
	diskTargets  = "targets"
	// import comes with the end of a pipe to read, export with one to write.
	diskImport = "import"
	diskExport = "export"

	// Told by core, of an import or export: all has been written into the pipe;
	// it shall end.
	diskComplete = "complete"
	diskCancel   = "cancel"
)

// A DiskHello says who the disk process is.
type DiskHello struct {
	Software string `json:"software"` // its version
	// Instance differs at each start of the process; Since is when that was.
	Instance string    `json:"instance"`
	Since    time.Time `json:"since"`
}

// A DiskHealth is how the place for volumes is, in bytes.
type DiskHealth struct {
	Size int64 `json:"size"`
	Free int64 `json:"free"`
	// Full: so little is free that an event has said so.
	Full bool `json:"full"`
	// ISCSI is where the iSCSI target listens, host:port; empty: it does not.
	ISCSI string `json:"iscsi"`
}

// A ServedTarget is how an iSCSI target fares.
type ServedTarget struct {
	Name string `json:"name"`
	// Failed says which of its logical units are not there, and why.
	Failed string `json:"failed,omitempty"`
}

// What core asks for, and who asked core.
type (
	createMessage struct {
		Request block.CreateRequest `json:"request"`
		From    host.Origin         `json:"from"`
	}
	importMessage struct {
		Job     string              `json:"job"` // named by core
		Request block.ImportRequest `json:"request"`
		From    host.Origin         `json:"from"`
	}
	exportMessage struct {
		Job    string `json:"job"`
		Volume string `json:"volume"`
		Format string `json:"format"`
	}
	// A volumeMessage is for all else: a snapshot's or a new name, or a size.
	volumeMessage struct {
		Volume string      `json:"volume"`
		Name   string      `json:"name,omitempty"`
		Size   int64       `json:"size"`
		From   host.Origin `json:"from"`
	}
	// A targetsMessage has a part of all the targets, of which the last counts for
	// all.
	targetsMessage struct {
		First   bool           `json:"first"`
		More    bool           `json:"more"`
		Enabled bool           `json:"enabled"`
		List    []block.Target `json:"list"`
	}
	jobMessage struct {
		Job string `json:"job"`
	}
)

// pageSize is how much of a list goes into one message, in bytes; an element and the
// rest of the message have room beside it.
const pageSize = ipc.MaxMessage / 2

// A page is a part of what changed of a list. A list may be longer than a message.
type page[T any] struct {
	First bool     `json:"first"` // nothing that was told before counts
	Put   []T      `json:"put"`
	Gone  []string `json:"gone"`
	More  bool     `json:"more"` // what is told counts with the page that has no more
}

// maxText bounds a text of the state, in bytes: an element has to fit into a message,
// or core and disk could not speak to each other any more.
const maxText = 1 << 10

// told is a text of the state as it can be told: short, and UTF-8, as all JSON is.
func told(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}

// A teller tells a list to the other end: all of it, then what changed.
type teller[T any] struct {
	kind string
	key  func(T) string
	seed maphash.Seed
	// told has a hash of each element, nil before the first page.
	told map[string]uint64
}

func newTeller[T any](kind string, key func(T) string) *teller[T] {
	return &teller[T]{kind: kind, key: key, seed: maphash.MakeSeed()}
}

// tell sends what differs from what was told before.
func (t *teller[T]) tell(c *ipc.Conn, list []T) error {
	p := page[T]{First: t.told == nil, Put: []T{}, Gone: []string{}}
	now := make(map[string]uint64, len(list))
	size := 0
	// More is sent before each element for which there is no room.
	room := func(n int) error {
		if size += n; size <= pageSize {
			return nil
		}
		p.More = true
		if err := c.Tell(t.kind, p, nil); err != nil {
			return err
		}
		p = page[T]{Put: []T{}, Gone: []string{}}
		size = n
		return nil
	}
	for _, v := range list {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		key, sum := t.key(v), maphash.Bytes(t.seed, text)
		now[key] = sum
		if was, ok := t.told[key]; ok && was == sum {
			continue
		}
		if err := room(len(text)); err != nil {
			return err
		}
		p.Put = append(p.Put, v)
	}
	for key := range t.told {
		if _, ok := now[key]; ok {
			continue
		}
		if err := room(len(key)); err != nil {
			return err
		}
		p.Gone = append(p.Gone, key)
	}
	t.told = now
	if !p.First && len(p.Put) == 0 && len(p.Gone) == 0 {
		return nil
	}
	return c.Tell(t.kind, p, nil)
}

// A mirror is a list that the other end tells.
type mirror[T any] struct {
	list map[string]T
	next map[string]T // while more is to come; else nil
}

// take takes a page in.
func (m *mirror[T]) take(p page[T], key func(T) string) {
	if m.next == nil || p.First {
		m.next = make(map[string]T, len(m.list)+len(p.Put))
		if !p.First {
			for k, v := range m.list {
				m.next[k] = v
			}
		}
	}
	for _, v := range p.Put {
		m.next[key(v)] = v
	}
	for _, k := range p.Gone {
		delete(m.next, k)
	}
	if !p.More {
		m.list, m.next = m.next, nil
	}
}

// What the elements of the lists are known by.
func volumeKey(i block.Info) string     { return i.Name }
func sessionKey(s block.Session) string { return s.Target + " " + s.Initiator + " " + s.ISID }
func jobKey(j block.Job) string         { return j.ID }
func servedKey(s ServedTarget) string   { return s.Name }

// errBusy says that too much is asked for at a time. It is also host.ErrBusy.
var errBusy error = &diskError{"the disk process has too much to do at once", []error{host.ErrBusy}}

// errCanceled says that an import or export was ended by whoever may.
var errCanceled = errors.New("it was cancelled")

// diskCodes are the errors that keep their kind on the way from disk to core, by a
// word for each.
func diskCodes() map[string]error {
	return map[string]error{
		"exists": volume.ErrExists, "not-found": volume.ErrNotFound, "in-use": volume.ErrInUse,
		"name": volume.ErrName, "stands-on": volume.ErrStandsOn,
		"request": volume.ErrRequest, "failed": volume.ErrFailed, "shrink": volume.ErrShrink, "content": volume.ErrContent,
		"no-space": block.ErrNoSpace, "read-only": block.ErrReadOnly, "medium": block.ErrMedium,
		"range": block.ErrRange, "gone": block.ErrGone, "closed": block.ErrClosed,
		"unsupported": errors.ErrUnsupported, "busy": errBusy, "canceled": errCanceled,
	}
}

// A codedError is an error with the words for its kinds.
type codedError struct {
	error
	code string
}

func (e codedError) Code() string  { return e.code }
func (e codedError) Unwrap() error { return e.error }

// withCode gives an error that core knows its codes.
func withCode(err error) error {
	if err == nil {
		return nil
	}
	var codes []string
	for code, kind := range diskCodes() {
		if errors.Is(err, kind) {
			codes = append(codes, code)
		}
	}
	return codedError{err, strings.Join(codes, " ")}
}

// A diskError is what the disk process answered.
type diskError struct {
	text  string
	kinds []error // none: one without a code
}

func (e *diskError) Error() string   { return e.text }
func (e *diskError) Unwrap() []error { return e.kinds }

// fromDisk makes what the disk process answered an error of its kinds.
func fromDisk(err error) error {
	no, ok := errors.AsType[*ipc.RemoteError](err)
	if !ok {
		return err
	}
	e := &diskError{text: no.Text}
	codes := diskCodes()
	for code := range strings.FieldsSeq(no.Code) {
		if kind, known := codes[code]; known {
			e.kinds = append(e.kinds, kind)
		}
	}
	return e
}
