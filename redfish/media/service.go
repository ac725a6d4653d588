// Package media is Redfish's virtual media: the host's drives that take images
// from servers and of the library. They are shown below the system and below
// the manager, where different clients look for them; both show the same.
//
// The library itself is beside Redfish: see Files.
package media

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	collectionType = "VirtualMediaCollection.VirtualMediaCollection"
	mediaType      = "VirtualMedia.v1_6_5.VirtualMedia"

	insertName = "VirtualMedia.InsertMedia"
	ejectName  = "VirtualMedia.EjectMedia"
)

// patience is how long an insertion is waited for. What takes longer, as a server
// that has to be read to the end first, goes on as a task.
const patience = 25 * time.Second

// verifyBucket is where the store has each drive's VerifyCertificate.
const verifyBucket = "media-verify"

// Options are what New needs; all but System and Manager are required.
type Options struct {
	Drives  []Drive
	Library Library
	Tasks   resource.Tasks
	Store   *store.Store
	Log     *slog.Logger
	// System and Manager: these resources are there, and show the drives.
	System, Manager bool
}

// Service is the chapter.
type Service struct {
	opt Options

	mu     sync.Mutex
	verify map[string]bool // by the drive's name: whether the next insertion checks the server's certificate
}

// New makes the service.
func New(o Options) (*Service, error) {
	s := &Service{opt: o, verify: map[string]bool{}}
	for _, d := range o.Drives {
		var verify bool // the schema's default, for compatibility
		if _, err := o.Store.GetJSON(verifyBucket, d.Name(), &verify); err != nil {
			return nil, fmt.Errorf("virtual media: %w", err)
		}
		s.verify[d.Name()] = verify
	}
	return s, nil
}

// A view is a drive as it is shown in one place.
type view struct {
	s     *Service
	drive Drive
	uri   string
}

// Routes are the chapter's.
func (s *Service) Routes() []resource.Route {
	var all []resource.Route
	show := func(collection string) {
		var uris []string
		for _, d := range s.opt.Drives {
			v := view{s, d, collection + "/" + d.Name()}
			uris = append(uris, v.uri)
			all = append(all,
				resource.Route{Pattern: v.uri, Type: mediaType, Get: v.get, Patch: v.patch},
				resource.Route{Pattern: v.action(insertName), Type: mediaType, Action: insertName, Post: v.postInsert},
				resource.Route{Pattern: v.action(ejectName), Type: mediaType, Action: ejectName, Post: v.postEject})
		}
		members := resource.NewCollection(collection, "VirtualMediaCollection", "Virtual Media Collection", uris...)
		all = append(all, resource.Route{Pattern: collection, Type: collectionType, Get: func(*resource.Request) *resource.Reply { return resource.OK(members) }})
	}
	if s.opt.System {
		show(resource.SystemVirtualMediaURI)
	}
	if s.opt.Manager {
		show(resource.ManagerVirtualMediaURI)
	}
	return all
}

func (v view) action(name string) string { return v.uri + "/Actions/" + name }

// virtualMedia has null for what only a medium has. Password is always null: it
// is never told.
type virtualMedia struct {
	resource.OData
	MediaTypes           []string        `json:"MediaTypes"`
	Inserted             bool            `json:"Inserted"`
	Image                *string         `json:"Image"`
	ImageName            *string         `json:"ImageName"`
	WriteProtected       *bool           `json:"WriteProtected"`
	ConnectedVia         string          `json:"ConnectedVia"`
	TransferMethod       *string         `json:"TransferMethod"`
	TransferProtocolType *string         `json:"TransferProtocolType"`
	UserName             *string         `json:"UserName"`
	Password             *string         `json:"Password"`
	VerifyCertificate    bool            `json:"VerifyCertificate"`
	EjectPolicy          string          `json:"EjectPolicy"`
	Status               resource.Status `json:"Status"`
	Writeable            []string        `json:"@Redfish.WriteableProperties"`
	Actions              actions         `json:"Actions"`
}

type actions struct {
	Insert insertAction    `json:"#VirtualMedia.InsertMedia"`
	Eject  resource.Action `json:"#VirtualMedia.EjectMedia"`
}

type insertAction struct {
	Target            string   `json:"target"`
	TransferMethods   []string `json:"TransferMethod@Redfish.AllowableValues"`
	TransferProtocols []string `json:"TransferProtocolType@Redfish.AllowableValues"`
}

// methods are VirtualMedia.TransferMethod, and protocols are
// VirtualMedia.TransferProtocolType, as far as they can be used.
func methods() []string   { return []string{"Stream"} }
func protocols() []string { return []string{"HTTP", "HTTPS"} }

func (v view) get(q *resource.Request) *resource.Reply {
	now := v.drive.Status()
	if !q.May(resource.ConfigureManager) {
		now.Image = shown(now.Image) // a query may be a secret
	}
	r := virtualMedia{
		OData:             resource.NewOData(v.uri, mediaType, "Virtual Drive "+v.drive.Name()),
		MediaTypes:        []string{},
		ConnectedVia:      "NotConnected",
		VerifyCertificate: v.s.verifies(v.drive.Name()),
		EjectPolicy:       "Persistent",
		Status:            resource.Enabled(),
		Writeable:         []string{"Image", "Inserted", "Password", "TransferMethod", "TransferProtocolType", "UserName", "VerifyCertificate", "WriteProtected"},
		Actions:           actions{insertAction{v.action(insertName), methods(), protocols()}, resource.Action{Target: v.action(ejectName)}},
	}
	for _, k := range v.drive.Kinds() {
		switch k {
		case host.MediumCD:
			r.MediaTypes = append(r.MediaTypes, "CD", "DVD")
		case host.MediumDisk:
			r.MediaTypes = append(r.MediaTypes, "USBStick")
		}
	}
	if now.Inserted {
		r.Inserted, r.Image, r.ImageName, r.WriteProtected = true, &now.Image, &now.Name, &now.WriteProtected
		r.ConnectedVia, r.TransferMethod = "URI", new("Stream")
		if scheme := schemeOf(now.Image); scheme != "" {
			r.TransferProtocolType = new(strings.ToUpper(scheme))
		}
		if now.UserName != "" {
			r.UserName = &now.UserName
		}
	}
	if now.Err != nil {
		r.Status.Health = message.Warning
	}
	return resource.OK(r)
}

// schemeOf is an image's, in lower case; "" for one without.
func schemeOf(image string) string {
	u, err := url.Parse(image)
	if err != nil {
		return ""
	}
	return u.Scheme
}

func (s *Service) verifies(drive string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verify[drive]
}

func (s *Service) setVerify(drive string, verify bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.opt.Store.PutJSON(verifyBucket, drive, verify); err != nil {
		return err
	}
	s.verify[drive] = verify
	return nil
}
