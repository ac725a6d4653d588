package protocol

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// The media types of bodies.
const (
	JSONType = "application/json;charset=utf-8"
	XMLType  = "application/xml;charset=utf-8"

	streamType = "text/event-stream"
)

// encode makes a resource's body and its strong entity tag: a hash of all that
// it says, but for what changes by itself all the time. What a PATCH could not
// do is said in the body, and no part of the tag.
func encode(r resource.Typed, problems []message.Message) (body []byte, etag string, err error) {
	if body, err = json.Marshal(r); err != nil {
		return nil, "", fmt.Errorf("encoding %s: %w", resource.TypeOf(r), err)
	}
	tagged := body
	if moving, is := r.(resource.Settled); is {
		if tagged, err = json.Marshal(moving.Settled()); err != nil {
			return nil, "", fmt.Errorf("encoding %s: %w", resource.TypeOf(r), err)
		}
	}
	etag = Tag(tagged)
	// The body is an object with at least one member.
	head := fmt.Appendf(nil, `{"@odata.etag":%q,`, etag)
	if problems != nil {
		notes, err := json.Marshal(problems)
		if err != nil {
			return nil, "", fmt.Errorf("encoding messages: %w", err)
		}
		head = append(append(append(head, `"@Message.ExtendedInfo":`...), notes...), ',')
	}
	return append(head, body[1:]...), etag, nil
}

// Tag is the strong entity tag of a body.
func Tag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// ResourceDocument is a resource that never changes, encoded once.
func ResourceDocument(r resource.Typed) (*resource.Document, error) {
	body, etag, err := encode(r, nil)
	if err != nil {
		return nil, err
	}
	return &resource.Document{ContentType: JSONType, Link: DescribedBy(resource.TypeOf(r)), ETag: etag, Body: body}, nil
}

// JSONDocument is a document that never changes.
func JSONDocument(v any) (*resource.Document, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", v, err)
	}
	return &resource.Document{ContentType: JSONType, ETag: Tag(body), Body: body}, nil
}

// XMLDocument is a document that never changes.
func XMLDocument(body []byte) *resource.Document {
	return &resource.Document{ContentType: XMLType, ETag: Tag(body), Body: body}
}

// DescribedBy is the header Link of a resource: the schema of its type.
func DescribedBy(odataType string) string {
	name := strings.TrimPrefix(odataType, "#")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[:i]
	}
	return "<" + resource.SchemaFolder(name) + name + ".json>; rel=describedby"
}
