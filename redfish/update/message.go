package update

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/update"
)

// This file has the messages of DMTF's registry Update.1.3.0 that are sent.

// device is what they call the board.
const device = "bmc"

func updateMessage(key, severity, text, resolution string, args ...string) message.Message {
	m := message.New("Update.1.3."+key, severity, text, resolution, args...)
	m.Status = http.StatusBadRequest
	return m
}

func targetDetermined(image string) message.Message {
	return updateMessage("TargetDetermined", message.OK, "The target device '%1' will be updated with image '%2'.", "None.", device, image)
}

func transferring(image string) message.Message {
	return updateMessage("TransferringToComponent", message.OK, "Image '%1' is being transferred to '%2'.", "None.", image, device)
}

func awaitToUpdate(image string) message.Message {
	return updateMessage("AwaitToUpdate", message.OK, "Awaiting for an action to proceed with installing image '%1' on '%2'.",
		"Perform the requested action to advance the update operation.", image, device)
}

func transferFailed(image, why string) message.Message {
	return updateMessage("TransferFailed", message.Critical, "Transfer of image '%1' to '%2' failed.", why+". Check the address of the image, and that its server answers.", image, device)
}

func verificationFailed(image, why string) message.Message {
	return updateMessage("VerificationFailed", message.Critical, "Verification of image '%1' at '%2' failed.", why+". Send an image that is whole, and signed for this board.", image, device)
}

func notApplicable(image, why string) message.Message {
	return updateMessage("UpdateNotApplicable", message.Warning, "Image '%1' was not applicable to device '%2'.", why+". Send an image for this board.", image, device)
}

// problem is the message for an error of Bundles. The registry's messages have
// no place for the cause, so it stands in what is to be done about it.
func (s *Service) problem(err error, image string) message.Message {
	why := cause(err)
	switch {
	case errors.Is(err, context.Canceled): // whatever else it was then
		return message.OperationFailed()
	case errors.Is(err, update.ErrBusy):
		return message.ResourceInUse()
	case errors.Is(err, update.ErrFull):
		return message.InsufficientStorage()
	case errors.Is(err, update.ErrTooLarge):
		return message.PayloadTooLarge()
	case errors.Is(err, update.ErrMachine):
		return notApplicable(image, why)
	case errors.Is(err, update.ErrUnreachable), errors.Is(err, update.ErrScheme):
		return transferFailed(image, why)
	case errors.Is(err, update.ErrNoKey), errors.Is(err, update.ErrSignature), errors.Is(err, update.ErrFormat), errors.Is(err, update.ErrDamaged):
		return verificationFailed(image, why)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return message.MissingOrMalformedPart()
	}
	s.opt.Log.Error("an update failed", "error", err)
	return message.InternalError()
}

// cause is an error's text, as the beginning of a sentence, without the URL that
// package net/http puts into it, whose query may be a secret.
func cause(err error) string {
	text := strings.TrimPrefix(err.Error(), "update: ")
	if e, is := errors.AsType[*url.Error](err); is {
		text = update.ErrUnreachable.Error() + ": " + e.Err.Error()
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
