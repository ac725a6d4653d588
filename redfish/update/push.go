package update

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	// maxParameters is the longest part UpdateParameters, in bytes.
	maxParameters = 64 << 10
	// maxAround is how much a form may have besides the image, in bytes.
	maxAround = 1 << 20
)

// postPush takes an upload (DSP0266, Multipart HTTP push updates). The image is
// checked as it comes, so what is wrong with it is told at once; the task has
// nothing left to do.
func (s *Service) postPush(q *resource.Request) *resource.Reply {
	mediaType, params, err := mime.ParseMediaType(q.Header.Get("Content-Type"))
	switch {
	case err != nil || mediaType != "multipart/form-data" || params["boundary"] == "":
		return resource.Fail(message.HeaderInvalid("Content-Type", http.StatusUnsupportedMediaType))
	case q.ContentLength > s.opt.MaxSize+maxAround:
		return resource.Fail(message.PayloadTooLarge())
	case !s.taking.TryLock():
		return resource.Fail(message.ResourceInUse())
	}
	defer s.taking.Unlock()
	form := multipart.NewReader(io.LimitReader(q.Request.Body, s.opt.MaxSize+maxAround), params["boundary"])
	if problems := s.parameters(q, form); problems != nil {
		return resource.Fail(problems...)
	}
	file, err := form.NextPart()
	if err != nil || file.FormName() != "UpdateFile" {
		return resource.Fail(message.MissingOrMalformedPart())
	}
	image := file.FileName()
	if image == "" {
		image = "UpdateFile"
	}
	b, err := s.opt.Bundles.Put(q.Context(), file, -1, q.Origin())
	if err != nil {
		return resource.Fail(s.problem(err, image))
	}
	return s.opt.Tasks.Start(q, "Update by upload", 0, func(_ context.Context, p resource.Progress) *resource.Reply {
		p.Say(targetDetermined(image))
		return s.taken(b, image)
	})
}

// parameters reads the part UpdateParameters, which has to be first: what is
// wrong in it is to be known before the image comes.
func (s *Service) parameters(q *resource.Request, form *multipart.Reader) []message.Message {
	part, err := form.NextPart()
	if err != nil || part.FormName() != "UpdateParameters" {
		return []message.Message{message.MissingOrMalformedPart()}
	}
	if mediaType, _, err := mime.ParseMediaType(part.Header.Get("Content-Type")); part.Header.Get("Content-Type") != "" && (err != nil || mediaType != "application/json") {
		return []message.Message{message.MissingOrMalformedPart()}
	}
	text, err := io.ReadAll(io.LimitReader(part, maxParameters+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), err == nil && len(text) > maxParameters:
		return []message.Message{message.MissingOrMalformedPart()}
	case err != nil:
		return []message.Message{s.problem(err, "")}
	}
	body, problem := resource.Decode(text, "")
	if problem != nil {
		return []message.Message{*problem}
	}
	q.Body = body
	return q.Parameters("", append(s.common(), resource.Parameter{Name: "Oem", Set: func(value any, _ string) *message.Message {
		// Some clients always send an empty one.
		if oem, isObject := value.(resource.Object); value != nil && (!isObject || len(oem) > 0) {
			return new(message.PropertyUnknown("Oem"))
		}
		return nil
	}})...)
}
