// Package login is the login phase of an iSCSI target (RFC 7143 sections 6, 12 and
// 13) as a state machine, without sockets, clocks or goroutines: its Login takes
// each Login Request and says what the Login Response is. It also answers the Text
// Requests of the full feature phase, which have the same keys.
package login

import (
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/iscsi/pdu"
)

// MaxData is the data segment of a Login Request at most, bytes: no other length
// is agreed on yet (section 13.12).
const MaxData = 8192

// maxSteps is how many requests a login has at most: far more than any needs.
const maxSteps = 64

// A Policy is who may log in to what. It can be shared by connections.
type Policy struct {
	// Lookup says how initiator logs in to target; "" is a discovery session. Any
	// status but Success refuses. Both names are in lower case. It is called once a
	// login, before the initiator has proved who it is.
	Lookup func(initiator, target string) (Target, Status)
	// Ours is what this target offers; see Tuned.
	Ours Parameters
	// Window is how many commands are taken at once, at least 1: it makes MaxCmdSN.
	Window uint32
	// Rand makes challenges.
	Rand io.Reader
}

// A Target is what a login to it needs.
type Target struct {
	Alias string // "" for none
	// CHAP is what the initiator has to know; without a User nothing. Mutual is
	// what the target proves to initiators that ask.
	CHAP, Mutual block.Credentials
}

// A Result is a login that has come to its end: the connection is in the full
// feature phase once its last response is sent.
type Result struct {
	Initiator, InitiatorAlias string // the name in lower case
	ISID                      [6]byte
	// TSIH is the session that the connection is for; 0: a new one, or one instead
	// of an old one with the same initiator, ISID and target (section 6.3.5).
	TSIH      uint16
	CID       uint16
	Discovery bool
	Target    string // in lower case; "" with Discovery
	User      string // by CHAP
	// CHAP and Mutual are what the login was checked against, which may be other ones
	// by now.
	CHAP, Mutual block.Credentials
	Parameters
	// StatSN is that of the next response, ExpCmdSN that of the next command.
	StatSN, ExpCmdSN uint32
}

// A Login is the login phase of one connection.
type Login struct {
	policy *Policy
	group  uint16
	steps  int
	ended  bool
	stage  pdu.Stage
	// text is what came with the C bit so far, got how long all text was, out what
	// of an answer has not been sent.
	text, out []byte
	got       int
	seen      map[string]string // keys that came, with values where isIdentity
	known     bool              // whose login it is
	declared  bool              // our MaxRecvDataSegmentLength
	target    Target
	chap      chap
	result    Result
}

// New begins the login of a connection to a portal of the group.
func New(p *Policy, portalGroup uint16) *Login {
	return &Login{policy: p, group: portalGroup, seen: map[string]string{}, result: Result{Parameters: Defaults()}}
}

// Step answers one Login Request: it fills response, whole but for digests, which
// do not exist yet, and returns its data segment without padding, which stays
// valid until the next Step.
//
// With a result the login is complete once that response is sent; its TSIH is the
// caller's to set (Header.SetTSIH), or to turn it into a refusal (Refuse).
//
// With an error the response is a refusal that is to be sent before the
// connection is closed; the error is an *Error.
func (l *Login) Step(request *pdu.Header, data []byte, response *pdu.Header) (text []byte, done *Result, err error) {
	var r pdu.Login
	invalid := r.Decode(request)
	if l.steps == 0 {
		// The first response begins the numbers of the connection (section 11.13.4):
		// what the initiator says that it expects is as good as any.
		l.result.StatSN, l.result.ExpCmdSN = r.ExpStatSN, r.CmdSN
		l.result.ISID, l.result.TSIH, l.result.CID = r.ISID, r.TSIH, r.CID
		l.stage = r.Current
	}
	l.steps++
	a := pdu.LoginResponse{Current: r.Current, ISID: r.ISID, TSIH: r.TSIH, ITT: r.ITT}
	switch {
	case l.ended:
		err = refusal(InvalidDuringLogin, "the login has ended")
	case request.Opcode() != pdu.OpLogin:
		err = refusal(InvalidDuringLogin, "opcode %#02x in a login", byte(request.Opcode()))
	case r.VersionMin > 0: // section 11.12.5: there is only 0
		err = refusal(UnsupportedVersion, "version %d at least", r.VersionMin)
	case invalid != nil:
		err = refusal(InitiatorError, "%v", invalid)
	default:
		text, err = l.step(&r, data, &a)
	}
	a.DataLength = len(text)
	a.Encode(response)
	response.SetStatSN(l.result.StatSN)
	response.SetWindow(l.result.ExpCmdSN, l.result.ExpCmdSN+l.policy.Window-1)
	l.result.StatSN++
	if err != nil {
		l.ended = true
		status := TargetError
		if e, ok := errors.AsType[*Error](err); ok {
			status = e.Status
		}
		Refuse(response, status)
		return nil, nil, err
	}
	if a.Transit && a.Next == pdu.FullFeature {
		l.ended = true
		return text, &l.result, nil
	}
	return text, nil, nil
}

// step is Step for a request that is right in itself.
func (l *Login) step(r *pdu.Login, data []byte, a *pdu.LoginResponse) (text []byte, err error) {
	l.got += len(data)
	switch {
	case l.steps > maxSteps:
		return nil, refusal(InitiatorError, "a login of more than %d requests", maxSteps)
	case r.ISID != l.result.ISID || r.TSIH != l.result.TSIH || r.CID != l.result.CID:
		return nil, refusal(InitiatorError, "another ISID, TSIH or CID in the middle of a login")
	case r.Current != l.stage:
		return nil, refusal(InitiatorError, "stage %d, not %d", r.Current, l.stage)
	case len(data) > MaxData || l.got > maxText:
		return nil, refusal(InitiatorError, "too much text")
	case len(l.out) > 0 && (len(data) > 0 || r.Continue): // section 6.2
		return nil, refusal(InitiatorError, "text before the target's has ended")
	}
	if len(l.out) == 0 {
		l.text = append(l.text, data...)
		if r.Continue {
			return nil, nil
		}
		if err := l.whole(); err != nil {
			return nil, err
		}
	}
	// The initiator's own limit holds from where it is declared; ours of an answer
	// is that of all logins.
	n := min(len(l.out), MaxData, l.result.MaxSendDataSegmentLength)
	text, l.out = l.out[:n], l.out[n:]
	switch {
	case len(l.out) > 0:
		a.Continue = true
	case r.Transit && l.stage == pdu.Security && l.chap.step == unasked && l.target.CHAP.User != "":
		return nil, refusal(AuthenticationFailure, "the initiator does not prove who it is")
	case r.Transit && (l.stage != pdu.Security || l.chap.step == unasked || l.chap.step == proved):
		a.Transit, a.Next = true, r.Next
		l.stage = r.Next
		// What was agreed on in two texts may need this (section 13.14).
		l.result.FirstBurstLength = min(l.result.FirstBurstLength, l.result.MaxBurstLength)
	}
	return text, nil
}

// whole answers a text that is complete.
func (l *Login) whole() error {
	offers, err := parse(l.text)
	if err != nil {
		return err
	}
	l.text = nil
	fresh := offers[:0]
	for _, o := range offers {
		before, again := l.seen[o.key]
		switch {
		case again && before == o.value && isIdentity(o.key):
			continue // libiscsi says who it is in each stage
		case again: // section 6.3: a renegotiation
			return refusal(InitiatorError, "%s twice", o.key)
		case len(l.seen) == maxKeys:
			return refusal(InitiatorError, "more than %d keys", maxKeys)
		}
		if l.seen[o.key] = ""; isIdentity(o.key) {
			l.seen[o.key] = o.value
		}
		fresh = append(fresh, o)
	}
	offers = fresh
	var answers pairs
	if !l.known {
		if err := l.identify(&offers); err != nil {
			return err
		}
		l.known = true
		if !l.result.Discovery { // section 13.9
			answers.add("TargetPortalGroupTag", strconv.Itoa(int(l.group)))
		}
		if l.target.Alias != "" {
			answers.add("TargetAlias", l.target.Alias)
		}
	}
	if alias, ok := offers.take("InitiatorAlias"); ok {
		l.result.InitiatorAlias = alias
	}
	more, err := l.answer(offers)
	if err != nil {
		return err
	}
	l.out = append(answers, more...).appendTo(l.out[:0])
	return nil
}

// answer is for the keys of the stage.
func (l *Login) answer(offers pairs) (answers pairs, err error) {
	if l.stage == pdu.Security {
		if answers, err = l.security(&offers); err != nil {
			return nil, err
		}
		for _, o := range offers {
			switch {
			case isAnswer(o.value):
			case isKnown(o.key): // section 6.3.2 has the keys of the stage
				return nil, refusal(InitiatorError, "%s out of place in the security stage", o.key)
			default:
				answers.add(o.key, notUnderstood)
			}
		}
		return answers, nil
	}
	if answers, err = negotiate(offers, &l.policy.Ours, &l.result.Parameters, l.result.Discovery); err != nil {
		return nil, err
	}
	if !l.declared {
		l.declared = true
		l.result.MaxRecvDataSegmentLength = l.policy.Ours.MaxRecvDataSegmentLength
		answers.add("MaxRecvDataSegmentLength", strconv.Itoa(l.result.MaxRecvDataSegmentLength))
	}
	return answers, nil
}

// isIdentity reports whether a key is one of those that say which login it is.
func isIdentity(key string) bool {
	return key == "InitiatorName" || key == "TargetName" || key == "SessionType"
}

// identify takes the keys that the first text has to have (sections 6.3 and
// 11.12.10).
func (l *Login) identify(offers *pairs) error {
	initiator, ok := offers.take("InitiatorName")
	if !ok {
		return refusal(MissingParameter, "no InitiatorName")
	}
	// Names are compared without case (section 4.2.7.2).
	l.result.Initiator = strings.ToLower(initiator)
	if !isName(l.result.Initiator) {
		return refusal(InitiatorError, "InitiatorName=%.40q", initiator)
	}
	target, named := offers.take("TargetName")
	switch kind, _ := offers.take("SessionType"); kind {
	case "", "Normal": // section 13.21: the default
		if !named {
			return refusal(MissingParameter, "no TargetName")
		}
		l.result.Target = strings.ToLower(target)
		if !isName(l.result.Target) {
			return refusal(NotFound, "TargetName=%.40q", target)
		}
	case "Discovery":
		l.result.Discovery = true
	default:
		return refusal(SessionTypeNotSupported, "SessionType=%.40q", kind)
	}
	var status Status
	if l.target, status = l.policy.Lookup(l.result.Initiator, l.result.Target); status != Success {
		return refusal(status, "%s may not log in to %q", l.result.Initiator, l.result.Target)
	}
	l.result.CHAP, l.result.Mutual = l.target.CHAP, l.target.Mutual
	if l.target.CHAP.User != "" && l.stage != pdu.Security {
		return refusal(AuthenticationFailure, "the initiator does not prove who it is")
	}
	return nil
}
