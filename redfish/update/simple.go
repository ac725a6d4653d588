package update

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
	"github.com/nitrino/nitrino/update"
)

// protocols are UpdateService.TransferProtocolType, as far as they can be used.
func protocols() []string { return []string{"HTTP", "HTTPS"} }

// postSimpleUpdate fetches a bundle from a server.
func (s *Service) postSimpleUpdate(q *resource.Request) *resource.Reply {
	src := update.Source{AnyServer: !s.verifies()}
	protocol := "HTTP" // the schema's default
	problems := q.Parameters(simpleName, append(s.common(),
		resource.Required(resource.Parameter{Name: "ImageURI", Set: func(value any, action string) *message.Message {
			text, isString := value.(string)
			if !isString {
				return resource.WrongType(value, "ImageURI", action)
			}
			src.URL = text
			return nil
		}}),
		resource.Word("TransferProtocol", protocols(), &protocol),
		resource.Text("Username", &src.User),
		resource.Password("Password", &src.Password))...)
	if problems != nil {
		return resource.Fail(problems...)
	}
	u, problem := imageURL(src.URL, protocol)
	if problem != nil {
		return resource.Fail(*problem)
	}
	src.URL = u.String()
	image := imageName(u)
	if !s.taking.TryLock() {
		return resource.Fail(message.ResourceInUse())
	}
	from := q.Origin()
	reply := s.opt.Tasks.Start(q, "Update from "+u.Host, 0, func(ctx context.Context, p resource.Progress) *resource.Reply {
		defer s.taking.Unlock()
		p.Say(targetDetermined(image))
		p.Say(transferring(image))
		b, err := s.opt.Bundles.Fetch(ctx, src, func(done, total int64) {
			if total > 0 {
				p.Percent(int(min(done*99/total, 99))) // the rest is to put it in its place
			}
		}, from)
		if err != nil {
			return resource.Fail(s.problem(err, image))
		}
		return s.taken(b, image)
	})
	if reply.Failed() {
		s.taking.Unlock() // the work was not begun
	}
	return reply
}

// imageName is the image's file name, for people.
func imageName(u *url.URL) string {
	if name := path.Base(u.Path); name != "." && name != "/" {
		return name
	}
	return u.Hostname()
}

// imageURL reads ImageURI. TransferProtocol counts where that has no scheme.
func imageURL(text, protocol string) (*url.URL, *message.Message) {
	full := text
	if !strings.Contains(text, "://") {
		full = strings.ToLower(protocol) + "://" + strings.TrimPrefix(text, "//")
	}
	u, err := url.Parse(full)
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" {
		return u, nil
	}
	m := message.ActionParameterValueFormatError(text, "ImageURI", simpleName).About(message.Pointer("ImageURI"))
	m.Resolution = "Give the address of an image on a server for HTTP or HTTPS, and resubmit the request."
	return nil, &m
}

// common are the parameters that an upload has, too. There is only one software
// to be updated, and nothing that ForceUpdate would have to overcome.
//
// All times of application mean the same: the image is kept until it is told to
// be installed.
func (s *Service) common() []resource.Parameter {
	const targets = "Targets"
	var force bool
	var apply string
	return []resource.Parameter{
		{Name: targets, Set: func(value any, action string) *message.Message {
			var uris []string
			if problem := resource.Texts(targets, &uris).Set(value, action); problem != nil {
				return problem
			}
			for i, uri := range uris {
				if !slices.Contains(s.targets(), strings.TrimSuffix(uri, "/")) {
					return new(resource.NotInList(uri, targets, action).About(message.Pointer(targets, strconv.Itoa(i))))
				}
			}
			return nil
		}},
		resource.Flag("ForceUpdate", &force),
		resource.Word("@Redfish.OperationApplyTime", []string{"Immediate", "OnReset", "OnStartUpdateRequest"}, &apply),
	}
}

// taken is the answer for a bundle that was taken in.
func (s *Service) taken(b update.Bundle, image string) *resource.Reply {
	return &resource.Reply{Status: http.StatusOK, Resource: s.newStaged(b), Problems: []message.Message{awaitToUpdate(image)}}
}
