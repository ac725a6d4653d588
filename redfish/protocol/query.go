package protocol

import (
	"errors"
	"maps"
	"net/url"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/redfish/message"
)

// MaxLevels is how many levels $expand goes down at most.
const MaxLevels = 6

// A query is what the query parameters of a GET ask for (DSP0266, Query
// parameters). A name means what it does only in the case in which the
// specification writes it.
type query struct {
	only, excerpt bool
	filter        condition
	skip          int
	top           int // -1: all
	expand        *expansion
	selected      *selection
	// values are those sent, by name.
	values map[string]string
}

// An expansion says which links $expand follows: those in Links, those
// elsewhere, and how many levels down.
type expansion struct {
	links, others bool
	levels        int
}

// A selection is a set of paths of properties. One without children selects
// all that is below.
type selection struct {
	children map[string]*selection
}

func (s *selection) add(path []string) {
	if s.children == nil {
		s.children = map[string]*selection{}
	}
	child := s.children[path[0]]
	if child == nil {
		child = &selection{}
		s.children[path[0]] = child
		if len(path) > 1 {
			child.add(path[1:])
		}
		return
	}
	switch {
	case len(path) == 1:
		child.children = nil // all of it
	case child.children != nil:
		child.add(path[1:])
	}
}

// of is what is selected of a property; nil: nothing.
func (s *selection) of(name string) *selection {
	if s == nil {
		return nil
	}
	return s.children[name]
}

// merge selects what either does; each may be nil.
func merge(a, b *selection) *selection {
	switch {
	case a == nil || a == b:
		return b
	case b == nil:
		return a
	case a.children == nil || b.children == nil:
		return &selection{}
	}
	both := &selection{children: maps.Clone(a.children)}
	for name, s := range b.children {
		both.children[name] = merge(a.children[name], s)
	}
	return both
}

// parseQuery reads the query parameters, and says what is wrong with them.
// unsupported are those that begin with "$" and are not known.
func parseQuery(raw string) (q query, unsupported, problems []message.Message) {
	q = query{top: -1, values: map[string]string{}}
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, given := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			continue // no parameter that anybody knows
		}
		value, err = url.QueryUnescape(value)
		bad := func(m message.Message) { problems = append(problems, m) }
		switch name {
		case "only", "excerpt", "$filter", "$skip", "$top", "$expand", "$select":
		default:
			if strings.HasPrefix(name, "$") {
				unsupported = append(unsupported, message.QueryParameterUnsupported(name))
			}
			continue
		}
		if _, twice := q.values[name]; twice {
			bad(message.QueryParameterValueError(name))
			continue
		}
		q.values[name] = value
		if err != nil {
			bad(message.QueryParameterValueFormatError(pair, name))
			continue
		}
		switch name {
		case "only", "excerpt":
			// They have no values.
			if given {
				bad(message.QueryParameterValueFormatError(value, name))
			}
			q.only, q.excerpt = q.only || name == "only", q.excerpt || name == "excerpt"
		case "$filter":
			if q.filter, err = parseFilter(value); errors.Is(err, errFilterWord) {
				// DSP0266: an unsupported $filter is 501.
				unsupported = append(unsupported, message.QueryParameterUnsupported(name))
			} else if err != nil {
				bad(message.QueryParameterValueFormatError(value, name))
			}
		case "$skip", "$top":
			n, problem := count(name, value)
			if problem != nil {
				bad(*problem)
			} else if name == "$skip" {
				q.skip = n
			} else {
				q.top = n
			}
		case "$expand":
			var problem *message.Message
			if q.expand, problem = parseExpand(value); problem != nil {
				bad(*problem)
			}
		case "$select":
			if q.selected = parseSelect(value); q.selected == nil {
				bad(message.QueryParameterValueFormatError(value, name))
			}
		}
	}
	if q.only && len(q.values) > 1 {
		problems = append(problems, message.QueryCombinationInvalid())
	}
	return q, unsupported, problems
}

// any reports whether anything is asked for, collection whether it is
// something that only collections have.
func (q query) any() bool { return len(q.values) > 0 }

func (q query) collection() bool { return q.only || q.paged() }

// paged: not all of the members are to be shown.
func (q query) paged() bool { return q.filter != nil || q.skip > 0 || q.top >= 0 }

// count reads $skip and $top. A $top of 0 shows no member, but their count.
func count(name, value string) (int, *message.Message) {
	n, err := strconv.ParseInt(value, 10, 32)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && n < 0:
		return 0, new(message.QueryParameterOutOfRange(value, name, "0-2147483647"))
	case err != nil || value[0] == '+':
		return 0, new(message.QueryParameterValueTypeError(value, name))
	}
	return int(n), nil
}

// parseExpand reads what is "*", "." or "~", and may have "($levels=N)".
func parseExpand(value string) (*expansion, *message.Message) {
	malformed := new(message.QueryParameterValueFormatError(value, "$expand"))
	if value == "" {
		return nil, malformed
	}
	e := &expansion{levels: 1}
	switch value[0] {
	case '*':
		e.links, e.others = true, true
	case '.':
		e.others = true
	case '~':
		e.links = true
	default:
		return nil, malformed
	}
	rest := value[1:]
	if rest == "" {
		return e, nil
	}
	rest, begins := strings.CutPrefix(rest, "($levels=")
	rest, ends := strings.CutSuffix(rest, ")")
	if !begins || !ends {
		return nil, malformed
	}
	n, err := strconv.ParseInt(rest, 10, 32)
	if errors.Is(err, strconv.ErrRange) || err == nil && (n < 1 || n > MaxLevels) {
		return nil, new(message.QueryParameterOutOfRange(rest, "$levels", "1-"+strconv.Itoa(MaxLevels)))
	}
	if err != nil || rest[0] == '+' {
		return nil, malformed
	}
	e.levels = int(n)
	return e, nil
}

// maxSelected is how many paths $select may have. No resource here has so many
// properties.
const maxSelected = 256

// parseSelect reads a list of paths; nil: it is none.
func parseSelect(value string) *selection {
	if strings.Count(value, ",") >= maxSelected {
		return nil
	}
	s := &selection{}
	for path := range strings.SplitSeq(value, ",") {
		names := strings.Split(strings.TrimSpace(path), "/")
		if len(names) > maxFilterDepth {
			return nil
		}
		for _, name := range names {
			if !isName(name) {
				return nil
			}
		}
		s.add(names)
	}
	return s
}
