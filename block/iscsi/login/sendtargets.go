package login

import (
	"fmt"
	"strings"
)

// A Portal is where a target can be reached, as SendTargets tells it.
type Portal struct {
	Address string // "192.0.2.1:3260", "[2001:db8::1]:3260"
	Group   uint16 // portal group tag
}

// A Listed is a target as SendTargets tells it (appendix C).
type Listed struct {
	Name    string
	Portals []Portal
}

// TextResponse answers the text of a Text Request in the full feature phase, whole
// where it came in several PDUs. It changes session where the initiator declares
// something anew. targets returns the target of that name (in lower case) if the
// session's initiator may see it, with "" all those.
//
// An error, an *Error, is a text to reject as a protocol error.
func TextResponse(text []byte, session *Result, targets func(name string) []Listed) ([]byte, error) {
	asked, err := parse(text)
	if err != nil {
		return nil, err
	}
	var answers pairs
	seen := map[string]bool{}
	for _, a := range asked {
		if seen[a.key] {
			return nil, refusal(InitiatorError, "%s twice", a.key)
		}
		seen[a.key] = true
		switch now, known := session.value(a.key); {
		case a.key == "SendTargets":
			sendTargets(&answers, a.value, session, targets)
		case isAnswer(a.value):
		case known && a.value == "?": // an inquiry, in the full feature phase alone (RFC 3720 section 5.2)
			answers.add(a.key, now)
		case a.key == "MaxRecvDataSegmentLength": // can be declared anew at any time (section 13.12)
			n, ok := number(a.value, minLength, maxLength)
			if !ok {
				return nil, refusal(InitiatorError, "MaxRecvDataSegmentLength=%.20s", a.value)
			}
			session.MaxSendDataSegmentLength = n
		case a.key == "InitiatorAlias": // so can this (section 13.7)
			session.InitiatorAlias = a.value
		case isKnown(a.key):
			answers.add(a.key, reject)
		default:
			answers.add(a.key, notUnderstood)
		}
	}
	return answers.appendTo(nil), nil
}

// sendTargets is appendix C: a discovery session asks for all targets or one, any
// other only for its own.
func sendTargets(answers *pairs, which string, session *Result, targets func(name string) []Listed) {
	name := strings.ToLower(which)
	switch {
	case session.Discovery && which == "All":
		name = ""
	case session.Discovery && isName(name):
	case !session.Discovery && (which == "" || name == session.Target):
		name = session.Target
	default:
		answers.add("SendTargets", reject)
		return
	}
	for _, t := range targets(name) {
		answers.add("TargetName", t.Name)
		for _, p := range t.Portals {
			answers.add("TargetAddress", fmt.Sprintf("%s,%d", p.Address, p.Group))
		}
	}
}
