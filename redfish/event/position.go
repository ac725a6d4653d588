package event

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
)

// A Position is a place in the row of all events. Log is the number of an event
// of the log, which is never used again; Extra counts what came after it and is
// in no log. Each start of the software logs an event, so that no position
// means two things.
type Position struct{ Log, Extra uint64 }

var errPosition = errors.New("no position")

// String is "12", or "12.3" for the third thing after event 12.
func (p Position) String() string {
	s := strconv.FormatUint(p.Log, 10)
	if p.Extra > 0 {
		s += "." + strconv.FormatUint(p.Extra, 10)
	}
	return s
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Log, q.Log), cmp.Compare(p.Extra, q.Extra))
}

// parsePosition reads what String wrote.
func parsePosition(s string) (Position, error) {
	log, extra, has := strings.Cut(s, ".")
	var p Position
	var err error
	if p.Log, err = strconv.ParseUint(log, 10, 64); err == nil && has {
		p.Extra, err = strconv.ParseUint(extra, 10, 64)
	}
	if err != nil || p.String() != s {
		return Position{}, errPosition
	}
	return p, nil
}
