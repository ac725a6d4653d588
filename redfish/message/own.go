package message

import (
	"strings"

	"github.com/nitrino/nitrino/host"
)

// OwnRegistry begins the MessageId of each message of the event log: this
// service's own registry, whose keys are the kinds of events.
const OwnRegistry = "Nitrino.1.0."

// Of is an event of the log as a message of this service's own registry.
func Of(e host.Event) Message {
	return New(OwnRegistry+Key(e.Kind), string(e.Severity), "%1", "None.", e.Message)
}

// Key is the registry's key of a kind: "power.on" is "PowerOn".
func Key(kind string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(kind, func(r rune) bool { return r == '.' || r == '-' || r == '_' }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
