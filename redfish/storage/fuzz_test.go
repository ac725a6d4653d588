package storage

import (
	"net/http/httptest"
	"testing"

	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/redfish/resource"
)

// FuzzBody: whatever is sent to what makes and changes volumes and targets is done or
// refused, and what was done can be seen.
func FuzzBody(f *testing.F) {
	link := func(uri string) string { return `{"@odata.id":"` + uri + `"}` }
	for i, s := range []string{
		`{"Name":"a","CapacityBytes":1048576,"BlockSizeBytes":4096,"AccessCapabilities":["Read","Write"],"@Redfish.OperationApplyTime":"Immediate"}`,
		`{"DisplayName":"a","ReplicaInfo":{"ReplicaType":"Snapshot","SourceReplica":` + link(volumeURI("disk0")) + `},"Links":{"ProvidingStoragePool":` + link(poolURI) + `}}`,
		`{"CapacityBytes":4194304,"DisplayName":"root"}`,
		`{"VolumeName":"snap","ReplicaType":"Snapshot","ReplicaUpdateMode":"Active","TargetStoragePool":"` + poolURI + `"}`,
		`{"Snapshot":` + link(volumeURI("before")) + `}`,
		`{"Name":"iqn.2026-01.test:x","VolumeInfo":[{"Volume":` + link(volumeURI("disk0")) + `,"LUN":1},{"Volume":` + link(volumeURI("golden")) + `}]}`,
		`{"VolumeInfo":[{},null,{"LUN":3}],"ConnectionKeys":{"CHAP":{"CHAPUsername":null,"TargetCHAPPassword":"x"}},"Oem":{"Nitrino":{"CDLUNs":[3],"Alias":"x"}}}`,
		`{"Volume":` + link(volumeURI("golden")) + `,"AccessCapabilities":["Read"]}`,
		`{"Volume":` + link(volumeURI("disk0")) + `,"LUN":0}`,
		`{"Links":{"InitiatorEndpoints":[` + link(endpointURI(initiator)) + `,{}]}}`,
	} {
		f.Add(byte(i), []byte(s))
	}
	r := newRig(f)
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		body, problem := resource.Decode(data, "")
		if problem != nil {
			return
		}
		r.t = t
		r.disks = newFakeDisks()
		r.s.Disks = r.disks
		r.fill()
		all := []struct {
			do resource.Handler
			id string
		}{
			{r.s.postVolume, ""}, {r.s.postPooledVolume, ""}, {r.s.patchVolume, "disk0"}, {r.s.postReplica, "disk0"}, {r.s.postRevert, "disk0"},
			{r.s.postConnection, ""}, {r.s.patchConnection, target}, {r.s.postAddVolume, target}, {r.s.postRemoveVolume, target}, {r.s.patchVolume, "golden"},
		}
		one := all[int(which)%len(all)]
		request := &resource.Request{Request: httptest.NewRequest("POST", volumesURI, nil), Body: body}
		request.SetPathValue("id", one.id)
		reply := one.do(request)
		if reply.Resource == nil && reply.Problems == nil && reply.Status != 204 {
			t.Errorf("neither done nor refused: %+v", reply)
		}
		for _, i := range r.disks.List() {
			if err := volume.CheckName(i.Name); err != nil {
				t.Error(err)
			}
		}
		for _, c := range r.disks.Targets() {
			for _, l := range c.LUNs {
				if l.Number > maxLUN {
					t.Errorf("LUN %d", l.Number)
				}
			}
		}
	})
}
