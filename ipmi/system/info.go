package system

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Parameters of the system information (table 22-16c). Number 0 is the
// transaction's, those up to lastText are texts.
const (
	infoInProgress = 0
	infoOSName     = 4 // of the system that runs now: not kept over a restart
	lastText       = 7

	infoRevision = 0x11
)

// A text comes in blocks of 16 bytes; the first begins with its encoding and
// its length, which counts the text alone.
const (
	block  = 16
	blocks = 17
)

// Completion codes of Set System Info Parameters (section 22.14a).
const (
	codeParamUnsupported command.Code = 0x80
	codeInProgress       command.Code = 0x81
)

// inProgressLife ends a transaction that its console never completed, so that
// one that died locks nobody out.
const inProgressLife = 60 * time.Second

const infoBucket = "ipmi-system-info"

// text is one parameter's blocks, as they were set.
type text [blocks * block]byte

type info struct {
	setting sync.Mutex // one change at a time, the disk's part included; guards the next two
	told    time.Time  // the last change, and who made it
	by      host.Origin

	mu         sync.Mutex // never held over the disk: who reads must not wait
	inProgress time.Time
	texts      [lastText + 1]*text // nil: never set
}

func (i *info) load(db *store.Store, log *slog.Logger) {
	err := db.View(func(t store.Tx) error {
		for p := range i.texts {
			if kept := t.Get(infoBucket, []byte{byte(p)}); len(kept) == len(text{}) {
				i.texts[p] = (*text)(kept)
			} else if kept != nil {
				log.Warn("kept system information is damaged", "parameter", p)
			}
		}
		return nil
	})
	if err != nil {
		log.Error("kept system information cannot be read", "error", err)
	}
}

// setInfo: section 22.14a.
func (x *System) setInfo(c *command.Call) command.Code {
	param, data := c.Data[0], c.Data[1:]
	i := &x.info
	i.setting.Lock()
	defer i.setting.Unlock()
	switch {
	case param == infoInProgress && len(data) == 1:
		return i.setInProgress(data[0]&3, c.Now)
	case param > lastText:
		return codeParamUnsupported
	case param == infoInProgress || len(data) < 2 || len(data) > 1+block:
		return command.BadLength
	case int(data[0]) >= blocks:
		return command.OutOfRange
	}
	var was text
	i.mu.Lock()
	if i.texts[param] != nil {
		was = *i.texts[param]
	}
	i.mu.Unlock()
	next := new(was)
	at := next[int(data[0])*block:][:block]
	clear(at)
	copy(at, data[1:])
	if *next == was {
		return command.OK // an agent may say the same at each start of the host
	}
	if param != infoOSName {
		err := x.Store.Update(func(t store.Tx) error { return t.Put(infoBucket, []byte{param}, next[:]) })
		if err != nil {
			return command.Result(x.Log, "Set System Info Parameters", fmt.Errorf("parameter %d: %w", param, err))
		}
	}
	i.mu.Lock()
	i.texts[param] = next
	i.mu.Unlock()
	x.tellInfo(c)
	return command.OK
}

// infoBurst is the longest pause between two changes of one burst.
const infoBurst = 10 * time.Second

// tellInfo tells of a change, once for a burst of one party's: a text comes in
// blocks, and an agent sets several. i.setting is held.
func (x *System) tellInfo(c *command.Call) {
	i := &x.info
	if c.Origin != i.by || c.Now.Sub(i.told) > infoBurst {
		x.Event(host.Event{Kind: "ipmi.system-info", Origin: c.Origin, Message: "The information about the system was changed."})
	}
	i.told, i.by = c.Now, c.Origin
}

func (i *info) setInProgress(v byte, now time.Time) command.Code {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch v {
	case 0:
		i.inProgress = time.Time{}
	case 1:
		if i.busy(now) {
			return codeInProgress
		}
		i.inProgress = now
	default: // commit write: nothing is held back that could be committed
		return command.InvalidField
	}
	return command.OK
}

func (i *info) busy(now time.Time) bool {
	return !i.inProgress.IsZero() && now.Sub(i.inProgress) < inProgressLife
}

// getInfo: section 22.14b. A text that was never set is one of no length.
func (x *System) getInfo(c *command.Call) command.Code {
	const revisionOnly = 0x80
	param, set := c.Data[1], c.Data[2]
	i := &x.info
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case param > lastText:
		return codeParamUnsupported
	case c.Data[0]&revisionOnly != 0:
		c.Put(infoRevision)
		return command.OK
	case param == infoInProgress:
		var now byte
		if i.busy(c.Now) {
			now = 1
		}
		c.Put(infoRevision, now)
		return command.OK
	case int(set) >= blocks:
		return command.OutOfRange
	}
	var none [block]byte
	at := none[:]
	if t := i.texts[param]; t != nil {
		at = t[int(set)*block:][:block]
	}
	c.Put(infoRevision, set)
	c.Put(at...)
	return command.OK
}
