package console

import (
	"context"
	"errors"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
)

// The exit codes of commands. The help text tells them to users.
const (
	done        = 0
	failed      = 1
	badUsage    = 2
	unsupported = 3
	busy        = 4
	denied      = 5
	noAnswer    = 6
)

var (
	errUsage  = errors.New("usage")
	errDenied = errors.New("your role does not permit this")
	// errChangeFirst is told to who has to change the password before all else.
	errChangeFirst = errors.New("you have to change your password first: passwd")
	// errNotOn is the answer of "power status -q"; it has no words.
	errNotOn = errors.New("the host is not on")
	// errExit leaves the shell.
	errExit = errors.New("exit")
)

// exitCode is the one place where errors become exit codes.
func exitCode(err error) int {
	for _, m := range []struct {
		err  error
		code int
	}{
		{errUsage, badUsage},
		{errDenied, denied},
		{errChangeFirst, denied},
		{auth.ErrDenied, denied},
		{errors.ErrUnsupported, unsupported},
		{host.ErrBusy, busy},
		{auth.ErrBusy, busy},
		{host.ErrNoResponse, noAnswer},
		{context.DeadlineExceeded, noAnswer},
		{host.ErrInvalid, badUsage},
		{auth.ErrInvalid, badUsage},
		{settings.ErrUnknownPath, badUsage},
		{volume.ErrInUse, busy},
		{volume.ErrStandsOn, busy},
		{volume.ErrName, badUsage},
		{volume.ErrRequest, badUsage},
		{volume.ErrShrink, badUsage},
		{block.ErrGone, noAnswer},
	} {
		if errors.Is(err, m.err) {
			return m.code
		}
	}
	if err == nil {
		return done
	}
	if _, isValue := errors.AsType[*settings.Error](err); isValue {
		return badUsage // what the value is, not what became of it
	}
	return failed
}
