// Package message makes the messages that Redfish's errors and events carry
// (DSP0266, Message object): those of DMTF's registry Base, and those that
// other packages make of registries of their own.
package message

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// BaseRegistry begins the MessageId of each message of base.go: name, major and
// minor version (DSP0266, MessageId format). Texts, severities and resolutions
// are those of DMTF's Base.1.22.1.
const BaseRegistry = "Base.1.22."

// The severities (Resource.Health).
const (
	OK       = "OK"
	Warning  = "Warning"
	Critical = "Critical"
)

// Type is the schema of a Message.
const Type = "#Message.v1_3_0.Message"

// A Message is one entry of @Message.ExtendedInfo.
type Message struct {
	Type              string   `json:"@odata.type"`
	ID                string   `json:"MessageId"`
	Text              string   `json:"Message"`
	Args              []string `json:"MessageArgs,omitempty"`
	RelatedProperties []string `json:"RelatedProperties,omitempty"`
	Severity          string   `json:"MessageSeverity"`
	Resolution        string   `json:"Resolution"`

	// Status is the HTTP status that goes with it.
	Status int `json:"-"`
	// RetryAfter is in seconds; 0: no header Retry-After.
	RetryAfter int `json:"-"`
}

// New fills args into a registry's text, for the message that id names there.
func New(id, severity, text, resolution string, args ...string) Message {
	for i, a := range args {
		args[i] = Clip(a)
	}
	pairs := make([]string, 0, 2*len(args))
	for i, a := range args {
		pairs = append(pairs, "%"+strconv.Itoa(i+1), a)
	}
	return Message{Type: Type, ID: id, Text: strings.NewReplacer(pairs...).Replace(text),
		Args: args, Severity: severity, Resolution: resolution}
}

func base(status int, severity, key, text, resolution string, args ...string) Message {
	m := New(BaseRegistry+key, severity, text, resolution, args...)
	m.Status = status
	return m
}

// Clip keeps what a client sent, and gets to see again, short.
func Clip(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// About names the properties that a message is about, as JSON pointers (RFC
// 6901) in URI fragment form.
func (m Message) About(pointers ...string) Message {
	m.RelatedProperties = pointers
	return m
}

// Pointer makes the JSON pointer of a property, whose name may be anything a
// client sent.
func Pointer(names ...string) string {
	p := "#"
	for _, n := range names {
		p += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(Clip(n))
	}
	return p
}

// Show writes a decoded JSON value as an argument: a string as it is, a number
// or word as in JSON, and of an object or array only that it is one.
func Show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return v
	case json.Number:
		return v.String()
	case bool, int, int64, float64:
		return fmt.Sprint(v)
	case []any:
		return "[array]"
	}
	return "{object}"
}

// ErrorBody is the body of an error response (schema redfish-error).
func ErrorBody(problems []Message) ([]byte, error) {
	code, text := problems[0].ID, problems[0].Text
	if len(problems) > 1 {
		m := GeneralError(0, "")
		code, text = m.ID, m.Text
	}
	type contents struct {
		Code         string    `json:"code"`
		Message      string    `json:"message"`
		ExtendedInfo []Message `json:"@Message.ExtendedInfo"`
	}
	body, err := json.Marshal(struct {
		Error contents `json:"error"`
	}{contents{code, text, problems}})
	if err != nil {
		return nil, fmt.Errorf("encoding an error: %w", err)
	}
	return body, nil
}
