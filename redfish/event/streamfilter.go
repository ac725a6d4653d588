package event

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errFilter: a $filter cannot be understood.
var errFilter = errors.New("no filter")

// maxFilterDepth is how deep parentheses may nest.
const maxFilterDepth = 16

// A matcher is a filter that was understood.
type matcher func(*item) bool

// everyEvent is the filter of who asks for none: the default of EventFormatType
// is Event.
func everyEvent(i *item) bool { return i.report == "" }

// parseFilter reads the $filter of a stream (DSP0266, Event message SSE stream):
//
//	or    = and *("or" and)
//	and   = term *("and" term)
//	term  = "(" or ")" / name "eq" value
//	value = "'" text "'" / word
//
// A quote in a text is written twice. A filter that names neither
// EventFormatType nor MetricReportDefinition is for events.
func parseFilter(text string) (matcher, error) {
	words, err := filterWords(text)
	if err != nil {
		return nil, err
	}
	p := &filterParser{words: words}
	// SubordinateResources is no condition but says how OriginResource is meant,
	// wherever it stands: it is looked for first.
	for i, w := range words {
		if w == "SubordinateResources" && i+2 < len(words) && words[i+1] == "eq" {
			p.below = strings.Trim(words[i+2], "'") == "true"
		}
	}
	m, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if len(p.words) > 0 {
		return nil, fmt.Errorf("%w: %q is left over", errFilter, p.words[0])
	}
	if p.formatted {
		return m, nil
	}
	return func(i *item) bool { return everyEvent(i) && m(i) }, nil
}

// filterWords takes a filter apart. A text keeps the quote before it, so that it
// is no word.
func filterWords(text string) (words []string, err error) {
	for {
		text = strings.TrimLeft(text, " ")
		switch {
		case text == "":
			return words, nil
		case text[0] == '(' || text[0] == ')':
			words, text = append(words, text[:1]), text[1:]
		case text[0] == '\'':
			word, rest := "'", text[1:]
			for {
				part, after, closed := strings.Cut(rest, "'")
				if !closed {
					return nil, fmt.Errorf("%w: a quote is open", errFilter)
				}
				word, rest = word+part, after
				if !strings.HasPrefix(rest, "'") {
					break
				}
				word, rest = word+"'", rest[1:]
			}
			words, text = append(words, word), rest
		default:
			end := strings.IndexAny(text, " ()'")
			if end < 0 {
				end = len(text)
			}
			words, text = append(words, text[:end]), text[end:]
		}
	}
}

type filterParser struct {
	words     []string
	below     bool // SubordinateResources
	formatted bool // which format is wanted is said
}

// next takes a word; "" at the end.
func (p *filterParser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

func (p *filterParser) at(word string) bool { return len(p.words) > 0 && p.words[0] == word }

func (p *filterParser) or(depth int) (matcher, error) {
	left, err := p.and(depth)
	for err == nil && p.at("or") {
		p.next()
		a := left
		var b matcher
		b, err = p.and(depth)
		left = func(i *item) bool { return a(i) || b(i) }
	}
	return left, err
}

func (p *filterParser) and(depth int) (matcher, error) {
	left, err := p.term(depth)
	for err == nil && p.at("and") {
		p.next()
		a := left
		var b matcher
		b, err = p.term(depth)
		left = func(i *item) bool { return a(i) && b(i) }
	}
	return left, err
}

func (p *filterParser) term(depth int) (matcher, error) {
	name := p.next()
	if name == "(" {
		if depth == maxFilterDepth {
			return nil, fmt.Errorf("%w: nested too deep", errFilter)
		}
		m, err := p.or(depth + 1)
		if err == nil && p.next() != ")" {
			err = fmt.Errorf("%w: a parenthesis is open", errFilter)
		}
		return m, err
	}
	if operator := p.next(); operator != "eq" {
		return nil, fmt.Errorf("%w: operator %q", errFilter, operator)
	}
	value := p.next()
	if value == "" || slices.Contains([]string{"(", ")"}, value) {
		return nil, fmt.Errorf("%w: %s has no value", errFilter, name)
	}
	return p.condition(name, strings.TrimPrefix(value, "'"))
}

func (p *filterParser) condition(name, value string) (matcher, error) {
	switch name {
	case "EventFormatType":
		p.formatted = true
		switch value {
		case formatEvent:
			return everyEvent, nil
		case formatReport:
			return func(i *item) bool { return i.report != "" }, nil
		}
	case "MetricReportDefinition":
		p.formatted = true
		return func(i *item) bool { return i.report == strings.TrimSuffix(value, "/") && i.report != "" }, nil
	case "EventType":
		p.formatted = p.formatted || value == typeReport
		return func(i *item) bool { return i.eventType == value }, nil
	case "MessageId":
		return func(i *item) bool { return i.report == "" && isID(i, value) }, nil
	case "RegistryPrefix":
		return func(i *item) bool { return i.report == "" && i.registry == value }, nil
	case "ResourceType":
		return func(i *item) bool { return i.report == "" && i.resourceType == value }, nil
	case "Severity", "MessageSeverity":
		return func(i *item) bool { return i.report == "" && i.severity == value }, nil
	case "OriginResource":
		below := p.below
		return func(i *item) bool { return i.report == "" && isOrigin(i, value, below) }, nil
	case "SubordinateResources":
		if value == "true" || value == "false" {
			return func(*item) bool { return true }, nil
		}
	}
	return nil, fmt.Errorf("%w: %s eq %q", errFilter, name, value)
}
