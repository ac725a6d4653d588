package media

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/nitrino/nitrino/media"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A request is what a client wants to have in a drive.
type request struct {
	source   media.Source
	protocol string // "": it is not said
}

// usual is write-protected, as the schema's default is.
func (v view) usual() request {
	return request{source: media.Source{WriteProtected: true, VerifyCertificate: v.s.verifies(v.drive.Name())}}
}

func (v view) postInsert(q *resource.Request) *resource.Reply {
	r := v.usual()
	inserted, method := true, ""
	problems := q.Parameters(insertName,
		resource.Required(resource.Text("Image", &r.source.Image)),
		resource.Flag("WriteProtected", &r.source.WriteProtected),
		resource.Flag("Inserted", &inserted),
		orNull(resource.Word("TransferMethod", methods(), &method)),
		orNull(resource.Word("TransferProtocolType", protocols(), &r.protocol)),
		orNull(resource.Text("UserName", &r.source.UserName)),
		orNull(resource.Password("Password", &r.source.Password)))
	if !inserted {
		// There is no image in a drive that the host would not see.
		problems = append(problems, resource.NotInList(false, "Inserted", insertName).About(message.Pointer("Inserted")))
	}
	if problems != nil {
		return resource.Fail(problems...)
	}
	if problem := r.settle(insertName); problem != nil {
		return resource.Fail(*problem)
	}
	from := q.Origin()
	return v.s.opt.Tasks.Start(q, "Insertion into "+v.drive.Name(), patience, func(ctx context.Context, _ resource.Progress) *resource.Reply {
		if err := v.drive.Insert(ctx, r.source, from); err != nil {
			return resource.Fail(v.s.problem(err, r.source.Image, insertName))
		}
		return resource.NoContent()
	})
}

// orNull takes null for what may be left out: some clients send all they know.
func orNull(p resource.Parameter) resource.Parameter {
	return resource.Parameter{Name: p.Name, Set: func(value any, action string) *message.Message {
		if value == nil {
			return nil
		}
		return p.Set(value, action)
	}}
}

// settle makes an image's address whole by TransferProtocolType, which has to
// fit what the address says. action is "" for a PATCH.
func (r *request) settle(action string) *message.Message {
	const name = "TransferProtocolType"
	image := r.source.Image
	switch scheme := schemeOf(image); {
	case strings.HasPrefix(image, media.LibraryPath):
	case !strings.Contains(image, "://") && r.protocol != "":
		r.source.Image = strings.ToLower(r.protocol) + "://" + strings.TrimPrefix(image, "//")
	case scheme != "http" && scheme != "https":
		return badImage(image, action)
	case r.protocol != "" && !strings.EqualFold(r.protocol, scheme) && action == "":
		return new(message.PropertyValueConflict(name, "Image").About(message.Pointer(name)))
	case r.protocol != "" && !strings.EqualFold(r.protocol, scheme):
		return new(message.ActionParameterValueConflict(name, r.protocol).About(message.Pointer(name)))
	}
	return nil
}

// badImage says what an image can be: the registry's messages do not.
func badImage(image, action string) *message.Message {
	m := resource.BadFormat(image, "Image", action).About(message.Pointer("Image"))
	m.Resolution = "Give the address of an image on a server for HTTP or HTTPS, or the path of an uploaded one, as " + media.LibraryPath + "NAME, and resubmit the request."
	return &m
}

// postEject succeeds on an empty drive: that is what is asked for.
func (v view) postEject(q *resource.Request) *resource.Reply {
	if problems := q.Parameters(ejectName); problems != nil {
		return resource.Fail(problems...)
	}
	if problem := v.eject(q); problem != nil {
		return resource.Fail(*problem)
	}
	return resource.NoContent()
}

func (v view) eject(q *resource.Request) *message.Message {
	if err := v.drive.Eject(q.Context(), q.Origin()); err != nil && !errors.Is(err, media.ErrEmpty) {
		return new(v.s.problem(err, "", ejectName))
	}
	return nil
}

// shown is an image's address as others than who gave it may see it: a task's
// messages are for all.
func shown(image string) string {
	u, err := url.Parse(image)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// problem is the message for an error of a drive.
func (s *Service) problem(err error, image, action string) message.Message {
	image = shown(image)
	at := func(m message.Message) message.Message {
		m.Resolution = sentence(err) + " " + m.Resolution
		return m.About(message.Pointer("Image"))
	}
	switch {
	case errors.Is(err, context.Canceled): // whatever else it was then
		return message.OperationFailed()
	case errors.Is(err, media.ErrScheme), errors.Is(err, media.ErrName):
		return *badImage(image, action)
	case errors.Is(err, media.ErrOccupied), errors.Is(err, media.ErrBusy), errors.Is(err, media.ErrInUse):
		m := message.ResourceInUse()
		m.Resolution = sentence(err) + " Eject the medium first, and resubmit the request."
		return m
	case errors.Is(err, media.ErrNotFound):
		return at(message.ResourceMissingAtURI(image))
	case errors.Is(err, media.ErrUnreachable):
		return at(message.CouldNotEstablishConnection(image))
	case errors.Is(err, media.ErrContent), errors.Is(err, media.ErrChanged):
		return at(message.ResourceAtUriInUnknownFormat(image))
	case errors.Is(err, media.ErrFull):
		return message.InsufficientStorage()
	case errors.Is(err, media.ErrStopped):
		return message.TemporarilyUnavailable()
	case errors.Is(err, context.DeadlineExceeded):
		return message.OperationTimeout()
	}
	s.opt.Log.Error("virtual media", "error", err)
	return message.InternalError()
}

// sentence makes one of an error.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
