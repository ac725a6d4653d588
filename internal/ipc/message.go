// Package ipc is how the processes of one board speak to each other: JSON
// messages, each one packet of a local socket, with requests, answers and an
// open file beside a message where one is handed over.
package ipc

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Version is the protocol's. All processes of a board are one binary, so that
// two versions meet only by mistake; both ends then say so and part.
const Version = 1

// MaxMessage is the longest message in bytes.
const MaxMessage = 64 << 10

// typeAnswer is the type of answers; all other types are up to who uses this.
const typeAnswer = "answer"

// ErrMessage says that what came is no message.
var ErrMessage = errors.New("not a message of this protocol")

// A VersionError says that the other end speaks another version.
type VersionError struct{ Got int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the other end speaks version %d of the protocol, this one %d: they are of different builds", e.Got, Version)
}

// A Message is one packet.
type Message struct {
	V    int    `json:"v"`
	Type string `json:"type"`
	// ID is not 0 where an answer is wanted; an answer has its request's.
	ID uint64 `json:"id,omitzero"`
	// Error is why a request failed; only answers have one.
	Error string `json:"error,omitzero"`
	// Code is the kind of error, where it has one.
	Code string `json:"code,omitzero"`
	// Body is the content, whose form depends on Type; it may be absent.
	Body jsontext.Value `json:"body,omitzero"`
}

// Decode reads a message. It is strict: fields that are unknown or stand twice
// are errors. It answers a *VersionError for a message of another version,
// whatever else that has, and else an error that wraps ErrMessage.
func Decode(data []byte) (Message, error) {
	var m Message
	if len(data) > MaxMessage {
		return m, fmt.Errorf("%w: it has more than %d bytes", ErrMessage, MaxMessage)
	}
	var version struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return m, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if version.V != Version {
		return m, &VersionError{version.V}
	}
	if err := json.Unmarshal(data, &m, json.RejectUnknownMembers(true)); err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	switch {
	case m.Type == "":
		return Message{}, fmt.Errorf("%w: it has no type", ErrMessage)
	case m.Type == typeAnswer && m.ID == 0:
		return Message{}, fmt.Errorf("%w: an answer to nothing", ErrMessage)
	case m.Type != typeAnswer && m.Error != "" || m.Error == "" && m.Code != "":
		return Message{}, fmt.Errorf("%w: an error that is no answer", ErrMessage)
	}
	return m, nil
}

// Into reads the body into *v, as strictly as Decode; a message without one is
// an error.
func (m Message) Into(v any) error {
	if len(m.Body) == 0 {
		return fmt.Errorf("%w: %s has no body", ErrMessage, m.Type)
	}
	if err := json.Unmarshal(m.Body, v, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMessage, m.Type, err)
	}
	return nil
}

// encode makes a packet; body may be nil.
func encode(m Message, body any) ([]byte, error) {
	m.V = Version
	var err error
	if body != nil {
		if m.Body, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMessage, err)
		}
	}
	data, err := json.Marshal(m)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrMessage, err)
	} else if len(data) > MaxMessage {
		err = fmt.Errorf("%w: %d bytes are more than %d", ErrMessage, len(data), MaxMessage)
	}
	return data, err
}
