package update

import (
	"errors"
	"time"

	"golang.org/x/mod/semver"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
	"github.com/nitrino/nitrino/update"
)

type software struct {
	resource.OData
	Manufacturer string `json:"Manufacturer"`
	SoftwareID   string `json:"SoftwareId"`
	Version      string `json:"Version"`
	// VersionScheme is left out for a version of another form.
	VersionScheme string          `json:"VersionScheme,omitempty"`
	ReleaseDate   string          `json:"ReleaseDate,omitempty"`
	SizeBytes     int64           `json:"SizeBytes,omitempty"`
	Updateable    bool            `json:"Updateable"`
	Active        bool            `json:"Active"`
	Staged        bool            `json:"Staged"`
	Status        resource.Status `json:"Status"`
	RelatedCount  int             `json:"RelatedItem@odata.count"`
	Related       []resource.Link `json:"RelatedItem"`
}

func (s *Service) newSoftware(uri, name, version string) software {
	r := software{
		OData:        resource.NewOData(uri, softwareType, name),
		Manufacturer: "nitrino",
		SoftwareID:   "nitrino",
		Version:      version,
		Related:      resource.Links(),
	}
	if semver.IsValid("v" + version) {
		r.VersionScheme = "SemVer"
	}
	if s.opt.Manager {
		r.Related = resource.Links(resource.ManagerURI)
	}
	r.RelatedCount = len(r.Related)
	return r
}

func (s *Service) getInventory(*resource.Request) *resource.Reply {
	uris := []string{resource.FirmwareURI}
	if _, staged := s.opt.Bundles.Staged(); staged {
		uris = append(uris, stagedURI)
	}
	return resource.OK(resource.NewCollection(resource.FirmwareInventoryURI, "SoftwareInventoryCollection", "Firmware Inventory", uris...))
}

func (s *Service) getRunning(*resource.Request) *resource.Reply {
	r := s.newSoftware(resource.FirmwareURI, "Management Software", s.opt.Version)
	r.Active, r.Updateable, r.Status = true, s.opt.Installer, resource.Enabled()
	if !s.opt.Released.IsZero() {
		r.ReleaseDate = s.opt.Released.UTC().Format(time.RFC3339)
	}
	return resource.OK(r)
}

func (s *Service) getStaged(*resource.Request) *resource.Reply {
	b, staged := s.opt.Bundles.Staged()
	if !staged {
		return resource.Fail(message.ResourceNotFound("SoftwareInventory", "bmc-staged"))
	}
	return resource.OK(s.newStaged(b))
}

// newStaged shows a bundle. Its state is of what awaits an action from outside
// to be activated.
func (s *Service) newStaged(b update.Bundle) software {
	r := s.newSoftware(stagedURI, "Management Software to be Installed", b.Manifest.Version)
	r.Staged, r.SizeBytes, r.Status = true, b.Size, resource.Status{State: new("StandbyOffline"), Health: "OK"}
	return r
}

// deleteStaged discards the bundle.
func (s *Service) deleteStaged(q *resource.Request) *resource.Reply {
	err := s.opt.Bundles.Discard(q.Origin())
	switch {
	case err == nil:
		return resource.NoContent()
	case errors.Is(err, update.ErrNone):
		return resource.Fail(message.ResourceNotFound("SoftwareInventory", "bmc-staged"))
	}
	s.opt.Log.Error("a bundle is not discarded", "error", err)
	return resource.Fail(message.InternalError())
}
