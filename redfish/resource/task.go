package resource

import (
	"context"
	"time"

	"github.com/nitrino/nitrino/redfish/message"
)

// Tasks runs operations that may take longer than a client waits (DSP0266,
// Asynchronous operations).
type Tasks interface {
	// Start runs work, and answers what it does if it ends within patience. Else
	// the answer is 202: the work goes on as a task of that name, which the answer
	// shows. Until then it ends when the client goes away.
	//
	// With no patience it is a task from its beginning, and an error means that the
	// work was not begun.
	Start(q *Request, name string, patience time.Duration, work Work) *Reply
}

// A Work does what a request asked for. Its reply is the answer to the request,
// also where the client gets it later. The request itself must not be used in
// it: it may be over.
type Work func(context.Context, Progress) *Reply

// Progress is told how a Work gets on.
type Progress interface {
	// Percent says how much is done: 0 to 100.
	Percent(int)
	// Say adds to what the task has to say.
	Say(message.Message)
}

// Failed reports whether the reply is an error.
func (r *Reply) Failed() bool { return r.Problems != nil && r.Resource == nil && r.Status == 0 }
