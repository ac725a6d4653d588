// Package registry is Redfish's Registries and JsonSchemas: which registries of
// messages and privileges and which schemas the service goes by, and where to
// get them.
package registry

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/resource"
)

// files are DMTF's registries. The service sends messages of Base, events of
// ResourceEvent, TaskEvent and Update, and goes by the privileges.
//
//go:embed files/*.json.gz
var files embed.FS

// published is where DMTF has its registries and schemas.
const published = "http://redfish.dmtf.org/"

const (
	registriesType = "MessageRegistryFileCollection.MessageRegistryFileCollection"
	fileType       = "MessageRegistryFile.v1_1_5.MessageRegistryFile"
	schemasType    = "JsonSchemaFileCollection.JsonSchemaFileCollection"
	schemaType     = "JsonSchemaFile.v1_1_5.JsonSchemaFile"
)

// Registry is the chapter.
type Registry struct {
	registries []document
	types      []string // those served, sorted
}

// A document is one registry. DMTF's stay compressed, for few clients ever ask.
type document struct {
	id         string // with its version, as "Base.1.22.1"
	etag       string
	body       []byte
	compressed bool
}

// New makes it. types are all that is served, as resource.Route.Type has them.
func New(types []string) (*Registry, error) {
	r := &Registry{types: slices.Concat(types, []string{registriesType, fileType, schemasType, schemaType})}
	slices.Sort(r.types)
	r.types = slices.Compact(r.types)
	names, err := fs.Glob(files, "files/*.json.gz")
	if err != nil {
		return nil, fmt.Errorf("registries: %w", err)
	}
	for _, name := range names {
		body, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("registries: %w", err)
		}
		d := document{id: strings.TrimSuffix(strings.TrimPrefix(name, "files/"), ".json.gz"), body: body, compressed: true}
		if err := r.add(d); err != nil {
			return nil, err
		}
	}
	own, err := message.OwnRegistryDocument()
	if err != nil {
		return nil, fmt.Errorf("registries: %w", err)
	}
	return r, r.add(document{id: "Nitrino." + message.OwnRegistryVersion, body: own})
}

func (r *Registry) add(d document) error {
	text, err := d.text()
	if err != nil {
		return err
	}
	d.etag = protocol.Tag(text)
	r.registries = append(r.registries, d)
	return nil
}

// text is the document as it is served. Of DMTF's it leaves out the annotation
// @Redfish.Copyright, which payloads are not to have (RedfishExtensions_v1).
func (d document) text() ([]byte, error) {
	if !d.compressed {
		return d.body, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(d.body))
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", d.id, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", d.id, err)
	}
	begin := bytes.Index(text, []byte(`    "@Redfish.Copyright"`))
	if begin < 0 {
		return text, nil
	}
	end := begin + bytes.IndexByte(text[begin:], '\n') + 1
	return slices.Delete(text, begin, end), nil
}

// Routes are the chapter's.
func (r *Registry) Routes() []resource.Route {
	return []resource.Route{
		{Pattern: resource.RegistriesURI, Type: registriesType, Get: r.getRegistries},
		{Pattern: resource.RegistriesURI + "/{id}", Type: fileType, Get: r.getRegistry},
		// Who may see the file's resource may see the file.
		{Pattern: resource.RegistriesURI + "/{id}/{file}", Type: fileType, Get: r.getDocument},
		{Pattern: resource.JSONSchemasURI, Type: schemasType, Get: r.getSchemas},
		{Pattern: resource.JSONSchemasURI + "/{id}", Type: schemaType, Get: r.getSchema},
	}
}

// Types are those of the registries themselves, which no route tells.
func Types() []string {
	return []string{"MessageRegistry.v1_6_3.MessageRegistry", "MessageRegistry.v1_7_0.MessageRegistry", "PrivilegeRegistry.v1_1_4.PrivilegeRegistry"}
}

type location struct {
	Language       string `json:"Language"`
	URI            string `json:"Uri,omitempty"`
	PublicationURI string `json:"PublicationUri,omitempty"`
}

type registryFile struct {
	resource.OData
	Languages []string   `json:"Languages"`
	Registry  string     `json:"Registry"`
	Location  []location `json:"Location"`
}

type schemaFile struct {
	resource.OData
	Languages []string   `json:"Languages"`
	Schema    string     `json:"Schema"`
	Location  []location `json:"Location"`
}

func (r *Registry) getRegistries(*resource.Request) *resource.Reply {
	var uris []string
	for _, d := range r.registries {
		uris = append(uris, resource.RegistriesURI+"/"+d.id)
	}
	return resource.OK(resource.NewCollection(resource.RegistriesURI, "MessageRegistryFileCollection", "Registries", uris...))
}

// registry finds one by the request's id.
func (r *Registry) registry(q *resource.Request) (document, *resource.Reply) {
	id := q.PathValue("id")
	i := slices.IndexFunc(r.registries, func(d document) bool { return d.id == id })
	if i < 0 {
		return document{}, resource.Fail(message.ResourceNotFound("MessageRegistryFile", id))
	}
	return r.registries[i], nil
}

func (r *Registry) getRegistry(q *resource.Request) *resource.Reply {
	d, problem := r.registry(q)
	if problem != nil {
		return problem
	}
	uri := resource.RegistriesURI + "/" + d.id
	f := registryFile{
		OData:     resource.NewOData(uri, fileType, d.id+" Registry File"),
		Languages: []string{"en"},
		Registry:  registryName(d.id),
		Location:  []location{{Language: "en", URI: uri + "/" + d.id + ".json"}},
	}
	if d.compressed {
		f.Location[0].PublicationURI = published + "registries/" + d.id + ".json"
	}
	return resource.OK(f)
}

// registryName is what a MessageId begins with: "Base.1.22" of "Base.1.22.1".
// The privileges, whose version does not stand at the end, are named whole.
func registryName(id string) string {
	if strings.Count(id, ".") != 3 {
		return id
	}
	return id[:strings.LastIndexByte(id, '.')]
}

func (r *Registry) getDocument(q *resource.Request) *resource.Reply {
	d, problem := r.registry(q)
	if problem != nil {
		return problem
	}
	if q.PathValue("file") != d.id+".json" {
		return resource.Fail(message.InvalidURI(q.URL.Path))
	}
	text, err := d.text()
	if err != nil {
		return resource.Fail(message.InternalError())
	}
	return &resource.Reply{Status: http.StatusOK, Document: &resource.Document{ContentType: protocol.JSONType, ETag: d.etag, Body: text}}
}

// namespace is a type's schema: "Chassis.v1_25_0" of "Chassis.v1_25_0.Chassis".
func namespace(odataType string) string { return odataType[:strings.LastIndexByte(odataType, '.')] }

func (r *Registry) getSchemas(*resource.Request) *resource.Reply {
	var uris []string
	for _, t := range r.types {
		uris = append(uris, resource.JSONSchemasURI+"/"+namespace(t))
	}
	return resource.OK(resource.NewCollection(resource.JSONSchemasURI, "JsonSchemaFileCollection", "JSON Schemas", uris...))
}

func (r *Registry) getSchema(q *resource.Request) *resource.Reply {
	id := q.PathValue("id")
	i := slices.IndexFunc(r.types, func(t string) bool { return namespace(t) == id })
	if i < 0 {
		return resource.Fail(message.ResourceNotFound("JsonSchemaFile", id))
	}
	return resource.OK(schemaFile{
		OData:     resource.NewOData(resource.JSONSchemasURI+"/"+id, schemaType, id+" Schema File"),
		Languages: []string{"en"},
		Schema:    "#" + r.types[i],
		Location:  []location{{Language: "en", PublicationURI: resource.SchemaFolder(id) + id + ".json"}},
	})
}
