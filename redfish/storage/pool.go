package storage

import (
	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A capacity is Capacity.Capacity: Provisioned is what a host sees, or could be
// there, Allocated what is taken for that.
type capacity struct {
	Data              capacityData `json:"Data"`
	IsThinProvisioned bool         `json:"IsThinProvisioned"`
}

type capacityData struct {
	AllocatedBytes   int64  `json:"AllocatedBytes"`
	ConsumedBytes    int64  `json:"ConsumedBytes"`
	ProvisionedBytes *int64 `json:"ProvisionedBytes,omitempty"`
}

type pool struct {
	resource.OData
	Status                        resource.Status `json:"Status"`
	SupportedPoolTypes            []string        `json:"SupportedPoolTypes"`
	SupportedProvisioningPolicies []string        `json:"SupportedProvisioningPolicies"`
	Capacity                      capacity        `json:"Capacity"`
	RemainingCapacityPercent      int64           `json:"RemainingCapacityPercent"`
	AllocatedVolumes              resource.Link   `json:"AllocatedVolumes"`
	Links                         poolLinks       `json:"Links"`
}

type poolLinks struct {
	OwningStorageResource resource.Link `json:"OwningStorageResource"`
}

// Settled leaves out how full it is.
func (p pool) Settled() resource.Typed {
	p.Capacity.Data.ConsumedBytes, p.RemainingCapacityPercent = 0, 0
	return p
}

func (s *Service) getPools(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(poolsURI, "StoragePoolCollection", "Storage Pool Collection", poolURI))
}

// getPool shows the card: all of it is allocated to the pool, and volumes take room
// there as they are written.
func (s *Service) getPool(*resource.Request) *resource.Reply {
	size, free := s.Disks.Space()
	r := pool{
		OData:                         resource.NewOData(poolURI, poolType, "Card"),
		Status:                        s.status(),
		SupportedPoolTypes:            []string{"Block"},
		SupportedProvisioningPolicies: []string{thin},
		Capacity:                      capacity{Data: capacityData{AllocatedBytes: size, ConsumedBytes: size - free}, IsThinProvisioned: true},
		AllocatedVolumes:              resource.Link{ODataID: pooledVolumesURI},
		Links:                         poolLinks{resource.Link{ODataID: storageURI}},
	}
	if size > 0 {
		r.RemainingCapacityPercent = int64(float64(free) / float64(size) * 100)
	}
	return resource.OK(r)
}

func (s *Service) getPooledVolumes(*resource.Request) *resource.Reply {
	var uris []string
	for _, i := range s.Disks.List() {
		if i.Format != block.FormatNBD {
			uris = append(uris, volumeURI(i.Name))
		}
	}
	return resource.OK(volumeCollection(pooledVolumesURI, "Volumes on the Card", uris))
}
