package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/stmcginnis/gofish/common"
)

// The exit codes, those of the board's own command line as far as that has them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnsupported = 3 // the service does not have it
	exitBusy        = 4 // the service asks to try later
	exitDenied      = 5 // the login was refused, or the role does not suffice
	exitNoOutcome   = 6 // what was waited for did not happen in time
	exitNoService   = 7 // no connection, or a certificate that is not trusted
	exitInterrupted = 130
)

var (
	errNoTerminal  = errors.New("there is no terminal to ask at")
	errUnsupported = errors.New("not supported by this service")
	errNoOutcome   = errors.New("no outcome in time")
	errDenied      = errors.New("the login was refused")
	// errNo is an answer that the exit code alone tells.
	errNo = errors.New("no")
)

// A usageError is a mistake of who typed the command.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// A certificateError: the service has another certificate than it should.
type certificateError struct{ text string }

func (e *certificateError) Error() string { return e.text }

// exitCode is the program's for an error; nil is 0.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if _, is := errors.AsType[*usageError](err); is {
		return exitUsage
	}
	if _, is := errors.AsType[*certificateError](err); is {
		return exitNoService
	}
	if e, is := errors.AsType[*common.Error](err); is {
		switch e.HTTPReturnedStatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return exitDenied
		case http.StatusMethodNotAllowed, http.StatusNotImplemented:
			return exitUnsupported
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			return exitBusy
		case http.StatusConflict:
			// Other conflicts are not over later.
			if slices.ContainsFunc(e.ExtendedInfos, func(m common.ErrExtendedInfo) bool { return strings.HasSuffix(m.MessageID, ".ResourceInUse") }) {
				return exitBusy
			}
		}
		return exitFailed
	}
	switch {
	case errors.Is(err, errUnsupported):
		return exitUnsupported
	case errors.Is(err, errDenied):
		return exitDenied
	case errors.Is(err, errNoOutcome), errors.Is(err, context.DeadlineExceeded):
		return exitNoOutcome
	}
	if _, is := errors.AsType[*url.Error](err); is {
		return exitNoService
	}
	return exitFailed
}

// A message is one of a registry, as answers and tasks have it.
type message struct {
	ID         string `json:"id"`
	Message    string `json:"message"`
	Severity   string `json:"severity,omitempty"`
	Resolution string `json:"resolution,omitempty"`
}

// wireMessage is how DSP0268 writes it (Message schema).
type wireMessage struct {
	MessageID       string `json:"MessageId"`
	Message         string
	MessageSeverity string
	Severity        string
	Resolution      string
}

func (m wireMessage) short() message {
	if m.MessageSeverity == "" {
		m.MessageSeverity = m.Severity
	}
	return message{m.MessageID, m.Message, m.MessageSeverity, m.Resolution}
}

// lines says what happened and what to do about it.
func (m message) lines() string {
	text := cmp.Or(m.Message, m.ID)
	if strings.HasSuffix(m.ID, ".GeneralError") && m.Resolution != "" {
		return m.Resolution // the message says no more than to read it
	}
	if m.Resolution != "" && !strings.EqualFold(m.Resolution, "none") && !strings.EqualFold(m.Resolution, "none.") {
		text += "\n  " + m.Resolution
	}
	return text
}

// A failure is what -o json writes to the standard error output.
type failure struct {
	Error    string    `json:"error"`
	Status   int       `json:"status,omitempty"`
	Messages []message `json:"messages,omitempty"`
}

// describe finds what the service itself said about an error.
func describe(err error) failure {
	e, is := errors.AsType[*common.Error](err)
	if !is {
		return failure{Error: err.Error()}
	}
	f := failure{Status: e.HTTPReturnedStatusCode, Error: strings.TrimSpace(fmt.Sprintf("HTTP status %d %s", e.HTTPReturnedStatusCode, http.StatusText(e.HTTPReturnedStatusCode)))}
	for _, m := range e.ExtendedInfos {
		f.Messages = append(f.Messages, wireMessage{MessageID: m.MessageID, Message: m.Message, Severity: m.Severity, Resolution: m.Resolution}.short())
	}
	// Without a list there is at least the error's own text (DSP0266, Error
	// responses), unless the answer is a page for a browser.
	if text := strings.TrimSpace(e.Message); f.Messages == nil && text != "" && len(text) < 500 && !strings.HasPrefix(text, "<") {
		f.Messages = []message{{ID: e.Code, Message: text}}
	}
	// What was being done stands before the answer.
	if before, after, found := strings.Cut(err.Error(), e.Error()); found {
		f.Error = before + f.Error + after
	}
	return f
}

// complain tells an error to the person, or to the program that reads JSON.
func (p *program) complain(err error) {
	if errors.Is(err, errNo) || errors.Is(err, syscall.EPIPE) {
		return // who read the output has seen enough
	}
	f := describe(err)
	if p.global.output == "json" {
		if data, bad := json.Marshal(f); bad == nil {
			fmt.Fprintf(p.stderr, "%s\n", data)
			return
		}
	}
	// What a service says of a login that it refuses is less than what is known.
	if f.Messages == nil || errors.Is(err, errDenied) {
		fmt.Fprintf(p.stderr, "bmcctl: %s\n", f.Error)
		return
	}
	for _, m := range f.Messages {
		fmt.Fprintf(p.stderr, "bmcctl: %s\n", m.lines())
	}
	if passwordChange(err) != "" {
		fmt.Fprintln(p.stderr, "bmcctl users passwd does it.")
	}
	fmt.Fprintf(p.stderr, "(%s)\n", f.Error)
}
