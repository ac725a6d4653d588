package storage

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
)

// problem is the message for an error of the disks; name is that of the volume that
// the request is about.
func (s *Service) problem(err error, name string) message.Message {
	later := slices.ContainsFunc(s.Later, func(kind error) bool { return errors.Is(err, kind) })
	switch {
	case later, errors.Is(err, volume.ErrClosed), errors.Is(err, block.ErrClosed):
		return message.TemporarilyUnavailable()
	case errors.Is(err, os.ErrDeadlineExceeded): // the client's, of an upload
		return message.GeneralError(http.StatusRequestTimeout, "Nothing came for a while. Send all of it again.")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return message.GeneralError(http.StatusBadRequest, "The upload ended early. Send all of it again.")
	case errors.Is(err, context.Canceled):
		return message.OperationFailed()
	case errors.Is(err, context.DeadlineExceeded):
		return message.OperationTimeout()
	case errors.Is(err, volume.ErrNotFound):
		return message.ResourceNotFound("Volume", name)
	case errors.Is(err, volume.ErrExists):
		return message.ResourceAlreadyExists("Volume", "Name", name)
	case errors.Is(err, volume.ErrInUse):
		return advise(message.ResourceInUse(), sentence(err)+" Take it out of all connections, let hosts log out, and resubmit the request.")
	case errors.Is(err, volume.ErrStandsOn):
		return advise(message.ResourceInUse(), sentence(err)+" Delete those first, and resubmit the request.")
	case errors.Is(err, block.ErrNoSpace):
		return advise(message.InsufficientStorage(), sentence(err)+" Delete volumes or images that are not needed, and resubmit the request.")
	case errors.Is(err, volume.ErrFailed), errors.Is(err, block.ErrMedium):
		return message.GeneralError(http.StatusConflict, sentence(err))
	case errors.Is(err, volume.ErrName), errors.Is(err, volume.ErrRequest), errors.Is(err, volume.ErrShrink), errors.Is(err, volume.ErrContent),
		errors.Is(err, block.ErrReadOnly), errors.Is(err, block.ErrRange), errors.Is(err, block.ErrGone), errors.Is(err, host.ErrInvalid),
		errors.Is(err, errors.ErrUnsupported):
		return message.GeneralError(http.StatusBadRequest, sentence(err))
	}
	s.Log.Error("volumes", "volume", name, "error", err)
	return message.InternalError()
}

// advise says what helps.
func advise(m message.Message, resolution string) message.Message {
	m.Resolution = resolution
	return m
}

// sentence makes one of an error.
func sentence(err error) string {
	text := strings.TrimSuffix(err.Error(), ".")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
