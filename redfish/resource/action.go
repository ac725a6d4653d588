package resource

import (
	"slices"

	"github.com/nitrino/nitrino/redfish/message"
)

// A Parameter is one that an action takes. Set keeps it, or says what is wrong
// with it.
type Parameter struct {
	Name     string
	Required bool
	Set      func(value any, action string) *message.Message
}

// Parameters reads the body of an action's request, or the properties that a
// POST to a collection has: then action is empty. Where it answers problems,
// nothing is to be done.
func (q *Request) Parameters(action string, all ...Parameter) (problems []message.Message) {
	sent := map[string]bool{}
	for _, m := range q.Body {
		if Ignored(m.Name) {
			continue
		}
		sent[m.Name] = true
		i := slices.IndexFunc(all, func(p Parameter) bool { return p.Name == m.Name })
		var problem *message.Message
		switch {
		case i >= 0:
			problem = all[i].Set(m.Value, action)
		case action == "":
			problem = new(message.PropertyUnknown(m.Name))
		default:
			problem = new(message.ActionParameterUnknown(action, m.Name))
		}
		if problem == nil {
			continue
		}
		if problem.RelatedProperties == nil {
			problem = new(problem.About(message.Pointer(m.Name)))
		}
		problems = append(problems, *problem)
	}
	for _, p := range all {
		switch {
		case !p.Required || sent[p.Name]:
		case action == "":
			problems = append(problems, message.PropertyMissing(p.Name).About(message.Pointer(p.Name)))
		default:
			problems = append(problems, message.ActionParameterMissing(action, p.Name).About(message.Pointer(p.Name)))
		}
	}
	return problems
}

// WrongType, NotInList and OutOfRange are the messages for a parameter of an
// action, or for a property where action is empty.
func WrongType(value any, name, action string) *message.Message {
	if action == "" {
		return new(message.PropertyValueTypeError(value, name))
	}
	return new(message.ActionParameterValueTypeError(value, name, action))
}

// NotInList: see WrongType.
func NotInList(value any, name, action string) *message.Message {
	if action == "" {
		return new(message.PropertyValueNotInList(value, name))
	}
	return new(message.ActionParameterValueNotInList(value, name, action))
}

// OutOfRange: see WrongType.
func OutOfRange(value any, name, action string) *message.Message {
	if action == "" {
		return new(message.PropertyValueOutOfRange(value, name))
	}
	return new(message.ActionParameterValueOutOfRange(value, name, action))
}

// BadFormat is like WrongType for text that is not in the right form.
func BadFormat(value any, name, action string) *message.Message {
	if action == "" {
		return new(message.PropertyValueFormatError(value, name))
	}
	return new(message.ActionParameterValueFormatError(value, name, action))
}

// Required makes a parameter one that must be there.
func Required(p Parameter) Parameter {
	p.Required = true
	return p
}

// Text is a parameter that is any text.
func Text(name string, to *string) Parameter {
	return Parameter{Name: name, Set: func(value any, action string) *message.Message {
		text, isString := value.(string)
		if !isString {
			return WrongType(value, name, action)
		}
		*to = text
		return nil
	}}
}

// Password is a Text that is never shown, not even in errors.
func Password(name string, to *string) Parameter {
	return Parameter{Name: name, Set: func(value any, action string) *message.Message {
		text, isString := value.(string)
		if !isString {
			return WrongType("", name, action)
		}
		*to = text
		return nil
	}}
}

// Flag is a parameter that is true or false.
func Flag(name string, to *bool) Parameter {
	return Parameter{Name: name, Set: func(value any, action string) *message.Message {
		b, isBool := value.(bool)
		if !isBool {
			return WrongType(value, name, action)
		}
		*to = b
		return nil
	}}
}

// Word is a parameter that is one of some words.
func Word(name string, words []string, to *string) Parameter {
	return Parameter{Name: name, Set: func(value any, action string) *message.Message {
		text, isString := value.(string)
		if !isString {
			return WrongType(value, name, action)
		}
		if !slices.Contains(words, text) {
			return NotInList(text, name, action)
		}
		*to = text
		return nil
	}}
}

// Count is a parameter that is a whole number from low to high.
func Count(name string, low, high int64, to *int64) Parameter {
	return Parameter{Name: name, Set: func(value any, action string) *message.Message {
		n, fits, isNumber := integer(value)
		if !isNumber {
			return WrongType(value, name, action)
		}
		if !fits || n < low || n > high {
			return OutOfRange(value, name, action)
		}
		*to = n
		return nil
	}}
}

// Texts is a parameter that is a list of texts.
func Texts(name string, to *[]string) Parameter {
	return Parameter{Name: name, Set: func(value any, action string) *message.Message {
		list, isList := value.([]any)
		if !isList {
			return WrongType(value, name, action)
		}
		all := []string{}
		for _, each := range list {
			text, isString := each.(string)
			if !isString {
				return WrongType(each, name, action)
			}
			all = append(all, text)
		}
		*to = all
		return nil
	}}
}
