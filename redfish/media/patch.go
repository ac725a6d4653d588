package media

import (
	"context"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A wish is what a PATCH sends; what is nil was not sent.
type wish struct {
	image                            *string // "" also for null
	inserted, writeProtected, verify *bool
	request
	first string // the first property that means something only with an image
}

// patch is how older clients insert and eject, and where VerifyCertificate is
// set for insertions to come.
func (v view) patch(q *resource.Request) *resource.Reply {
	w := wish{request: v.usual()}
	flag := func(name string, to **bool) resource.Property {
		return resource.Bool(name, func(b bool) []message.Message { *to = &b; return nil })
	}
	setImage := func(text string) []message.Message { w.image = &text; return nil }
	// with notes a text that goes with an image.
	with := func(name string, to *string) func(string) []message.Message {
		return func(text string) []message.Message {
			*to = text
			if w.first == "" {
				w.first = name
			}
			return nil
		}
	}
	nullable := func(p resource.Property, set func(string) []message.Message) resource.Property {
		return resource.Nullable(p, func() []message.Message { return set("") })
	}
	var method string
	setMethod, setProtocol := with("TransferMethod", &method), with("TransferProtocolType", &w.protocol)
	setUser, setPassword := with("UserName", &w.source.UserName), with("Password", &w.source.Password)
	return resource.PatchWhole(q, v.get, func() []message.Message { return v.fulfil(q, w) },
		nullable(resource.String("Image", setImage), setImage),
		flag("Inserted", &w.inserted),
		flag("WriteProtected", &w.writeProtected),
		flag("VerifyCertificate", &w.verify),
		nullable(resource.Enum("TransferMethod", methods(), setMethod), setMethod),
		nullable(resource.Enum("TransferProtocolType", protocols(), setProtocol), setProtocol),
		nullable(resource.String("UserName", setUser), setUser),
		nullable(resource.Secret("Password", setPassword), setPassword))
}

// fulfil does what a PATCH asks for.
func (v view) fulfil(q *resource.Request, w wish) []message.Message {
	if w.verify != nil {
		w.source.VerifyCertificate = *w.verify
	}
	if problem := v.change(q, w); problem != nil {
		return []message.Message{*problem}
	}
	if w.verify != nil {
		if err := v.s.setVerify(v.drive.Name(), *w.verify); err != nil {
			v.s.opt.Log.Error("property not updated", "property", "VerifyCertificate", "error", err)
			return []message.Message{message.PropertyNotUpdated("VerifyCertificate").About(message.Pointer("VerifyCertificate"))}
		}
	}
	return nil
}

// change inserts or ejects, if that is asked for.
func (v view) change(q *resource.Request, w wish) *message.Message {
	was := v.drive.Status()
	conflict := func(name, other string) *message.Message {
		return new(message.PropertyValueConflict(name, other).About(message.Pointer(name)))
	}
	in := w.inserted != nil && *w.inserted
	out := w.inserted != nil && !*w.inserted
	switch {
	case w.image != nil && *w.image == "" && in:
		return conflict("Inserted", "Image")
	case w.image != nil && *w.image != "" && out:
		return conflict("Image", "Inserted")
	case out, w.image != nil && *w.image == "":
		return v.eject(q)
	case w.image != nil && !(was.Inserted && was.Image == *w.image):
		w.source.Image = *w.image
		if w.writeProtected != nil {
			w.source.WriteProtected = *w.writeProtected
		}
		return v.insert(q, w.request)
	case in && !was.Inserted:
		return conflict("Inserted", "Image")
	case w.writeProtected != nil && (!was.Inserted || was.WriteProtected != *w.writeProtected):
		// That is decided when the medium is put in.
		return new(message.PropertyValueExternalConflict("WriteProtected", *w.writeProtected).About(message.Pointer("WriteProtected")))
	case w.first != "" && w.image == nil:
		return conflict(w.first, "Image")
	}
	return nil
}

// insert is a PATCH's, whose client waits for the end.
func (v view) insert(q *resource.Request, r request) *message.Message {
	if problem := r.settle(""); problem != nil {
		return problem
	}
	ctx, cancel := context.WithTimeout(q.Context(), 2*patience)
	defer cancel()
	if err := v.drive.Insert(ctx, r.source, q.Origin()); err != nil {
		return new(v.s.problem(err, r.source.Image, ""))
	}
	return nil
}
