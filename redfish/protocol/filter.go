package protocol

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
)

// What can be wrong with a $filter.
var (
	errFilter       = errors.New("not an expression of $filter")
	errFilterWord   = errors.New("an operation of $filter that is not served")
	errFilterType   = errors.New("a literal of $filter that is of another type than the property")
	errFilterTooBig = errors.New("a $filter that says too much")
)

// maxFilterDepth is how deep the parentheses and nots of a $filter may nest,
// and maxFilterTerms how many comparisons it may have: each is made for each
// member of a collection, and a log has thousands.
const (
	maxFilterDepth = 32
	maxFilterTerms = 64
)

// A condition is what $filter says of a member, which is decoded once for all
// of its comparisons.
type condition interface {
	holds(member map[string]any) (bool, error)
}

type (
	either struct{ a, b condition }
	both   struct{ a, b condition }
	negate struct{ a condition }
	// A comparison is of two operands; op is eq, ne, gt, ge, lt or le.
	comparison struct {
		op   string
		a, b operand
	}
)

// An operand is a literal, or the property at path where that is not nil.
type operand struct {
	path    []string
	literal any // nil, bool, float64, string or time.Time
}

func (e either) holds(m map[string]any) (bool, error) {
	if a, err := e.a.holds(m); a || err != nil {
		return a, err
	}
	return e.b.holds(m)
}

func (e both) holds(m map[string]any) (bool, error) {
	if a, err := e.a.holds(m); !a || err != nil {
		return false, err
	}
	return e.b.holds(m)
}

func (e negate) holds(m map[string]any) (bool, error) {
	a, err := e.a.holds(m)
	return !a, err
}

// holds compares as OData's protocol part 2 section 5.1.1.1 says: what is not
// there is null, null equals only null, and is neither above nor below.
// DSP0266 (Use of the $filter query parameter) wants an error for a literal of
// another type than the property's.
func (c comparison) holds(m map[string]any) (bool, error) {
	a, b := c.a.value(m), c.b.value(m)
	if a == nil || b == nil {
		equal := a == nil && b == nil
		return c.op == "eq" && equal || c.op == "ne" && !equal, nil
	}
	order, sorted, err := compare(a, b)
	if err != nil {
		return false, err
	}
	switch c.op {
	case "eq":
		return order == 0, nil
	case "ne":
		return order != 0, nil
	}
	if !sorted {
		return false, errFilterType
	}
	switch c.op {
	case "gt":
		return order > 0, nil
	case "ge":
		return order >= 0, nil
	case "lt":
		return order < 0, nil
	}
	return order <= 0, nil
}

// compare orders two values of the same type; sorted: one can be above the
// other. Texts that are both times are ordered as times, whatever their zones.
func compare(a, b any) (order int, sorted bool, err error) {
	switch x := a.(type) {
	case bool:
		if y, is := b.(bool); is {
			if x != y {
				order = 1
			}
			return order, false, nil
		}
	case float64:
		if y, is := b.(float64); is {
			switch {
			case x < y:
				return -1, true, nil
			case x > y:
				return 1, true, nil
			}
			return 0, true, nil
		}
	}
	s, aText := a.(string)
	t, bText := b.(string)
	x, aTime := asTime(a)
	y, bTime := asTime(b)
	switch {
	case aTime && bTime:
		return x.Compare(y), true, nil
	case aText && bText:
		return strings.Compare(s, t), true, nil
	}
	return 0, false, errFilterType
}

func asTime(v any) (time.Time, bool) {
	switch v := v.(type) {
	case time.Time:
		return v, true
	case string:
		if len(v) < len("2006-01-02T15:04:05Z") {
			return time.Time{}, false
		}
		t, err := time.Parse(time.RFC3339, v)
		return t, err == nil
	}
	return time.Time{}, false
}

// value finds the operand's value in a member. An object or array is like a
// value of another type than any literal's.
func (o operand) value(m map[string]any) any {
	if o.path == nil {
		return o.literal
	}
	var v any = m
	for _, name := range o.path {
		object, _ := v.(map[string]any)
		v = object[name] // nil where that is none
	}
	return v
}

// parseFilter reads a $filter (DSP0266, Use of the $filter query parameter).
// It fails with one of the errors above.
func parseFilter(text string) (condition, error) {
	p := filterParser{rest: text}
	p.next()
	c, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.token != "" {
		return nil, p.unexpected()
	}
	return c, nil
}

// filterParser is a recursive descent over the tokens: parentheses, quoted
// texts with their quotes, and words. An empty token is the end.
type filterParser struct {
	rest, token string
	terms       int
}

func (p *filterParser) next() {
	p.rest = strings.TrimLeft(p.rest, " \t")
	end := 0
	switch {
	case p.rest == "":
	case p.rest[0] == '(' || p.rest[0] == ')':
		end = 1
	case p.rest[0] == '\'':
		if end = quoted(p.rest); end == 0 {
			p.rest, end = "'", 1 // has no end, and is no operand
		}
	default:
		if end = strings.IndexAny(p.rest, " \t()'"); end < 0 {
			end = len(p.rest)
		}
	}
	p.token, p.rest = p.rest[:end], p.rest[end:]
}

// quoted is the length of the quoted text that s begins with, in which two
// quotes are one; 0: it does not end.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			i++
			continue
		}
		return i + 1
	}
	return 0
}

// unexpected is the error of a token where none like it may stand: what OData
// has there is known but not served.
func (p *filterParser) unexpected() error {
	switch p.token {
	case "add", "sub", "mul", "div", "divby", "mod", "has", "in":
		return errFilterWord
	}
	return errFilter
}

func (p *filterParser) or(depth int) (condition, error) {
	a, err := p.and(depth)
	for err == nil && p.token == "or" {
		p.next()
		var b condition
		b, err = p.and(depth)
		a = either{a, b}
	}
	return a, err
}

func (p *filterParser) and(depth int) (condition, error) {
	a, err := p.factor(depth)
	for err == nil && p.token == "and" {
		p.next()
		var b condition
		b, err = p.factor(depth)
		a = both{a, b}
	}
	return a, err
}

func (p *filterParser) factor(depth int) (condition, error) {
	if depth >= maxFilterDepth {
		return nil, errFilterTooBig
	}
	switch p.token {
	case "not":
		p.next()
		a, err := p.factor(depth + 1)
		return negate{a}, err
	case "(":
		p.next()
		a, err := p.or(depth + 1)
		if err == nil && p.token != ")" {
			err = p.unexpected()
		}
		p.next()
		return a, err
	}
	return p.comparison()
}

func (p *filterParser) comparison() (condition, error) {
	if p.terms++; p.terms > maxFilterTerms {
		return nil, errFilterTooBig
	}
	a, err := p.operand()
	if err != nil {
		return nil, err
	}
	switch p.token {
	case "eq", "ne", "gt", "ge", "lt", "le":
	case "", ")", "and", "or":
		// A property alone is one that is to be true.
		if a.path == nil {
			return nil, errFilter
		}
		return comparison{"eq", a, operand{literal: true}}, nil
	default:
		return nil, p.unexpected()
	}
	op := p.token
	p.next()
	b, err := p.operand()
	if err == nil && a.path == nil && b.path == nil {
		err = errFilter // says nothing of the member
	}
	return comparison{op, a, b}, err
}

func (p *filterParser) operand() (operand, error) {
	t := p.token
	p.next()
	switch {
	case t == "" || t == "(" || t == ")":
		return operand{}, errFilter
	case t[0] == '\'':
		if len(t) < 2 {
			return operand{}, errFilter
		}
		return operand{literal: strings.ReplaceAll(t[1:len(t)-1], "''", "'")}, nil
	case t == "null":
		return operand{}, nil
	case t == "true" || t == "false":
		return operand{literal: t == "true"}, nil
	case t[0] >= '0' && t[0] <= '9' || t[0] == '-':
		if n, err := strconv.ParseFloat(t, 64); err == nil && json.Valid([]byte(t)) {
			return operand{literal: n}, nil
		}
		when, err := time.Parse(time.RFC3339, t)
		if err != nil {
			return operand{}, errFilter
		}
		return operand{literal: when}, nil
	}
	path := strings.Split(t, "/")
	for _, name := range path {
		if !isName(name) {
			return operand{}, errFilter
		}
	}
	if p.token == "(" {
		return operand{}, errFilterWord // a function, such as contains
	}
	return operand{path: path}, nil
}

// isName reports whether a text can be a property's name, annotations
// included.
func isName(s string) bool {
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '@', c == '#', c == '-':
		default:
			return false
		}
	}
	return s != ""
}
