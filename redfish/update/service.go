// Package update is Redfish's UpdateService: it takes new software in by an
// upload or from a server, and shows what runs and what is ready.
package update

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	serviceType    = "UpdateService.v1_17_0.UpdateService"
	collectionType = "SoftwareInventoryCollection.SoftwareInventoryCollection"
	softwareType   = "SoftwareInventory.v1_13_0.SoftwareInventory"

	simpleName = "UpdateService.SimpleUpdate"
	simpleURI  = resource.UpdateServiceURI + "/Actions/" + simpleName
	pushURI    = resource.UpdateServiceURI + "/update-multipart"
	stagedURI  = resource.FirmwareInventoryURI + "/bmc-staged"
)

// Where the store has VerifyRemoteServerCertificate.
const (
	bucket    = "update"
	verifyKey = "verify-certificate"
)

// Options are what New needs. All but Manager, Installer and Released are
// required.
type Options struct {
	Bundles Bundles
	Tasks   resource.Tasks
	Store   *store.Store
	Log     *slog.Logger
	// Version of the software that runs, and when it was made; the zero Time is not
	// known.
	Version  string
	Released time.Time
	// MaxSize is how many bytes a bundle may have.
	MaxSize int64
	// Manager: that resource is there, with the URI that package resource has.
	Manager bool
	// Installer: a bundle that is kept can be installed on this board.
	Installer bool
}

// Service is the chapter.
type Service struct {
	opt Options
	// taking is held while a bundle is taken in.
	taking sync.Mutex

	mu     sync.Mutex
	verify bool
}

// New makes the service.
func New(o Options) (*Service, error) {
	s := &Service{opt: o}
	// The schema's default, for compatibility: false. What comes from any server
	// has to be signed.
	if _, err := o.Store.GetJSON(bucket, verifyKey, &s.verify); err != nil {
		return nil, fmt.Errorf("update service: %w", err)
	}
	return s, nil
}

// Routes are the chapter's.
func (s *Service) Routes() []resource.Route {
	return []resource.Route{
		{Pattern: resource.UpdateServiceURI, Type: serviceType, Get: s.getService, Patch: s.patchService},
		{Pattern: simpleURI, Type: serviceType, Action: simpleName, Post: s.postSimpleUpdate},
		{Pattern: pushURI, Type: serviceType, Raw: true, Post: s.postPush},
		{Pattern: resource.FirmwareInventoryURI, Type: collectionType, Get: s.getInventory},
		{Pattern: resource.FirmwareURI, Type: softwareType, Get: s.getRunning},
		{Pattern: stagedURI, Type: softwareType, Get: s.getStaged, Delete: s.deleteStaged},
	}
}

type updateService struct {
	resource.OData
	ServiceEnabled                bool            `json:"ServiceEnabled"`
	Status                        resource.Status `json:"Status"`
	MultipartHTTPPushURI          string          `json:"MultipartHttpPushUri"`
	MaxImageSizeBytes             int64           `json:"MaxImageSizeBytes"`
	SupportedUpdateImageFormats   []string        `json:"SupportedUpdateImageFormats"`
	VerifyRemoteServerCertificate bool            `json:"VerifyRemoteServerCertificate"`
	FirmwareInventory             resource.Link   `json:"FirmwareInventory"`
	Actions                       updateActions   `json:"Actions"`
}

type updateActions struct {
	SimpleUpdate simpleUpdateAction `json:"#UpdateService.SimpleUpdate"`
}

type simpleUpdateAction struct {
	Target            string   `json:"target"`
	TransferProtocols []string `json:"TransferProtocol@Redfish.AllowableValues"`
	Targets           []string `json:"Targets@Redfish.AllowableValues"`
}

func (s *Service) getService(*resource.Request) *resource.Reply {
	return resource.OK(updateService{
		OData:                         resource.NewOData(resource.UpdateServiceURI, serviceType, "Update Service"),
		ServiceEnabled:                true,
		Status:                        resource.Enabled(),
		MultipartHTTPPushURI:          pushURI,
		MaxImageSizeBytes:             s.opt.MaxSize,
		SupportedUpdateImageFormats:   []string{"VendorDefined"},
		VerifyRemoteServerCertificate: s.verifies(),
		FirmwareInventory:             resource.Link{ODataID: resource.FirmwareInventoryURI},
		Actions:                       updateActions{simpleUpdateAction{simpleURI, protocols(), s.targets()}},
	})
}

func (s *Service) verifies() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verify
}

func (s *Service) patchService(q *resource.Request) *resource.Reply {
	const name = "VerifyRemoteServerCertificate"
	return resource.Patch(q, s.getService, resource.Bool(name, func(verify bool) []message.Message {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.opt.Store.PutJSON(bucket, verifyKey, verify); err != nil {
			s.opt.Log.Error("property not updated", "property", name, "error", err)
			return []message.Message{message.PropertyNotUpdated(name)}
		}
		s.verify = verify
		return nil
	}))
}

// targets are what an update may be asked to be for. All of them are the same:
// there is one software, which has all there is in it.
func (s *Service) targets() []string {
	if !s.opt.Manager {
		return []string{resource.FirmwareURI}
	}
	return []string{resource.FirmwareURI, resource.ManagerURI}
}
