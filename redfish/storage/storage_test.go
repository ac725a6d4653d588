package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stmcginnis/gofish"
	client "github.com/stmcginnis/gofish/redfish"
	"github.com/stmcginnis/gofish/swordfish"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/redfish"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
	"github.com/nitrino/nitrino/redfish/system"
)

// at walks into JSON along a path like "Links>Endpoints>0".
func at(v any, path string) any {
	for name := range strings.SplitSeq(path, ">") {
		switch now := v.(type) {
		case map[string]any:
			v = now[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(now) {
				return nil
			}
			v = now[i]
		default:
			return nil
		}
	}
	return v
}

const (
	target    = "iqn.2026-01.test:disk0"
	initiator = "iqn.1993-08.org.debian:01:abc"
)

// fill makes one volume of each kind, a target and a session.
func (r *rig) fill() {
	r.t.Helper()
	r.disks.set(func() {
		for _, i := range []block.Info{
			{Name: "golden", Kind: block.KindImage, Format: block.FormatRaw, Size: 1 << 20, Used: 1 << 19, Source: "http://a/golden.qcow2"},
			{Name: "disk0", Kind: block.KindDisk, Format: block.FormatCoW, Size: 1 << 21, Used: 4096, Base: "golden"},
			{Name: "before", Kind: block.KindSnapshot, Format: block.FormatCoW, Size: 1 << 21, Of: "disk0", Base: "golden"},
			{Name: "far", Kind: block.KindDisk, Format: block.FormatNBD, Size: 1 << 30, BlockSize: 4096, Upstream: "nbd://a/x", Failed: "gone"},
		} {
			if _, err := r.disks.add(i); err != nil {
				r.t.Error(err)
			}
		}
		r.disks.targets = []block.Target{{Name: target, Alias: "the first", Initiators: []string{initiator}, CHAP: block.Credentials{User: "host", Secret: "a secret of 16 b"},
			LUNs: []block.LUN{{Number: 0, Volume: "disk0"}, {Number: 3, Volume: "golden", CD: true}, {Number: 4, Volume: "missing"}}}}
		r.disks.sessions = []block.Session{{Target: target, Initiator: "iqn.2010-04.org.ipxe:x", ISID: "00023d000001", Address: "192.0.2.9:1", User: "host", Since: time.Unix(1_700_000_000, 0)}}
		r.disks.jobs = []block.Job{{ID: "x", Volume: "golden", Operation: "export", Done: 1, Total: 4}}
	})
}

func TestResources(t *testing.T) {
	r := newRig(t)
	r.fill()
	r.shows(r.get(resource.SystemStorageURI), map[string]string{"Members>0>@odata.id": storageURI})
	r.shows(r.get(resource.StoragesURI), map[string]string{"Members>0>@odata.id": storageURI})
	r.shows(r.get(storageURI), map[string]string{"Status>State": "Enabled", "Status>HealthRollup": "Critical", "StorageControllers>0>SupportedControllerProtocols": "[iSCSI]", "Links>HostingStorageSystems>0>@odata.id": resource.SystemURI,
		"Actions>Oem>#NitrinoStorage.Import>target": storageURI + "/Actions/Oem/NitrinoStorage.Import"})
	r.get(controllersURI)
	r.shows(r.get(controllerURI), map[string]string{"SupportedControllerProtocols": "[iSCSI]", "FirmwareVersion": "1.2.3", "Links>Endpoints>0>@odata.id": endpointURI(target)})
	r.get(poolsURI)
	r.shows(r.get(poolURI), map[string]string{"Capacity>Data>AllocatedBytes": "1.073741824e+09", "Capacity>Data>ConsumedBytes": "2.68435456e+08", "RemainingCapacityPercent": "75"})
	r.shows(r.get(pooledVolumesURI), map[string]string{"Members@odata.count": "3"})
	if a := r.get(volumesURI); a.Header.Get("Allow") != "GET, HEAD, POST" || a.At("Members@odata.count") != 4.0 {
		t.Errorf("%s %s", a.Header.Get("Allow"), a.Body)
	}
	r.shows(r.get(volumeURI("disk0")), map[string]string{
		"DisplayName": "disk0", "CapacityBytes": "2.097152e+06", "Capacity>Data>AllocatedBytes": "4096", "BlockSizeBytes": "512", "OptimumIOSizeBytes": "4096",
		"Identifiers>0>DurableNameFormat": "UUID", "AccessCapabilities": "[Read Write]", "WriteCacheState": "Unprotected",
		"ReplicaInfo>ReplicaType": "Clone", "ReplicaInfo>Replica>@odata.id": volumeURI("golden"), "ReplicaTargets>0>@odata.id": volumeURI("before"),
		"Connections>0>@odata.id": connectionURI(target), "Links>ServerEndpoints>0>@odata.id": endpointURI(target), "Links>ClientEndpoints": "[map[@odata.id:" + endpointURI(initiator) + "]]", "Links>ProvidingStoragePool>@odata.id": poolURI,
		"Oem>Nitrino>Kind": "disk", "Oem>Nitrino>CloneOf": "golden", "Oem>Nitrino>DataUri": "/volumes/disk0", "Actions>#Volume.CheckConsistency": "<nil>",
		"Actions>#Volume.CreateReplicaTarget>ReplicaType@Redfish.AllowableValues": "[Snapshot]", "Actions>Oem>#NitrinoVolume.Revert>target": oemAction(volumeURI("disk0"), revertName)})
	r.shows(r.get(volumeURI("golden")), map[string]string{"AccessCapabilities": "[Read]", "WriteCachePolicy": "<nil>", "ReplicaInfo": "<nil>", "ReplicaTargets": "[map[@odata.id:" + volumeURI("disk0") + "]]",
		"Operations>0>Operation": "Replicate", "Operations>0>PercentageComplete": "25", "Oem>Nitrino>Source": "http://a/golden.qcow2", "Actions>Oem>#NitrinoVolume.Revert": "<nil>",
		"Actions>#Volume.CheckConsistency>target": volumeURI("golden") + "/Actions/Volume.CheckConsistency"})
	r.shows(r.get(volumeURI("before")), map[string]string{"ReplicaInfo>ReplicaType": "Snapshot", "ReplicaInfo>Replica>@odata.id": volumeURI("disk0"), "Oem>Nitrino>SnapshotOf": "disk0",
		"@Redfish.WriteableProperties": "[DisplayName]"})
	r.shows(r.get(volumeURI("far")), map[string]string{"Status>State": "UnavailableOffline", "Oem>Nitrino>Failed": "gone", "Oem>Nitrino>Upstream": "nbd://a/x", "Links>ProvidingStoragePool": "<nil>"})
	r.do("GET", volumeURI("nothing"), "", 404, "ResourceNotFound")

	r.get(resource.FabricsURI)
	r.shows(r.get(fabricURI), map[string]string{"FabricType": "iSCSI", "Status>State": "Enabled"})
	r.shows(r.get(endpointsURI), map[string]string{"Members@odata.count": "3"})
	r.shows(r.get(endpointURI(target)), map[string]string{"Id": target, "ConnectedEntities>0>EntityRole": "Target", "IPTransportDetails>0>Port": "3260", "Links>Connections>0>@odata.id": connectionURI(target)})
	for _, name := range []string{initiator, "iqn.2010-04.org.ipxe:x"} {
		r.shows(r.get(endpointURI(name)), map[string]string{"ConnectedEntities>0>EntityRole": "Initiator", "Identifiers>0>DurableName": name, "IPTransportDetails": "<nil>",
			"Links>Connections>0>@odata.id": connectionURI(target)})
	}
	r.do("GET", endpointURI("iqn.2026-01.test:none"), "", 404, "ResourceNotFound")
	r.get(connectionsURI)
	r.shows(r.get(connectionURI(target)), map[string]string{"Id": target, "VolumeInfo>0>Volume>@odata.id": volumeURI("disk0"), "VolumeInfo>0>AccessCapabilities": "[Read Write]",
		"VolumeInfo>1>LUN": "3", "VolumeInfo>1>AccessCapabilities": "[Read]", "VolumeInfo>2>Volume": "<nil>", "Oem>Nitrino>CDLUNs": "[3]", "Oem>Nitrino>Volumes": "[disk0 golden missing]",
		"ConnectionKeys>CHAP>CHAPUsername": "host", "ConnectionKeys>CHAP>CHAPPassword": "<nil>", "Links>InitiatorEndpoints>0>@odata.id": endpointURI(initiator),
		"Oem>Nitrino>Sessions>0>Address": "192.0.2.9:1", "Oem>Nitrino>Alias": "the first"})
	r.do("GET", connectionURI("iqn.2026-01.test:none"), "", 404, "ResourceNotFound")
	if a := r.get(connectionURI(target)); strings.Contains(string(a.Body), "secret") {
		t.Errorf("a secret: %s", a.Body)
	}

	r.on = false
	r.shows(r.get(fabricURI), map[string]string{"Status>State": "Disabled"})
	r.disks.set(func() { r.disks.away = true })
	r.shows(r.get(storageURI), map[string]string{"Status>State": "UnavailableOffline", "Status>Health": "Critical"})
	r.shows(r.get(volumesURI), map[string]string{"Members@odata.count": "4"})
}

// What passes by itself changes no entity tag.
func TestSettled(t *testing.T) {
	r := newRig(t)
	r.fill()
	for _, c := range []struct {
		uri    string
		change func()
		same   bool
	}{
		{volumeURI("golden"), func() { r.disks.jobs = nil }, true},
		{volumeURI("disk0"), func() { i := r.disks.volumes["disk0"]; i.Used = 1 << 20; r.disks.volumes["disk0"] = i }, true},
		{volumeURI("disk0"), func() { i := r.disks.volumes["disk0"]; i.Size = 1 << 30; r.disks.volumes["disk0"] = i }, false},
	} {
		before := r.get(c.uri)
		r.disks.set(c.change)
		if after := r.get(c.uri); (after.Header.Get("ETag") == before.Header.Get("ETag")) != c.same {
			t.Errorf("%s: tags %s and %s, want the same: %v", c.uri, before.Header.Get("ETag"), after.Header.Get("ETag"), c.same)
		}
	}
}

func TestCreate(t *testing.T) {
	r := newRig(t)
	r.fill()
	for _, c := range []struct {
		body   string
		status int
		keys   []string
		want   map[string]string
	}{
		{`{"Name":"a","CapacityBytes":1048576}`, 201, nil, map[string]string{"CapacityBytes": "1.048576e+06", "Oem>Nitrino>Kind": "disk"}},
		{`{"Name":"b","CapacityBytes":1048576,"BlockSizeBytes":4096,"AccessCapabilities":["Write","Read"]}`, 201, nil, map[string]string{"BlockSizeBytes": "4096"}},
		{`{"Name":"c","ReplicaInfo":{"ReplicaType":"Clone","Replica":{"@odata.id":"` + volumeURI("golden") + `"}}}`, 201, nil, map[string]string{"CapacityBytes": "1.048576e+06", "ReplicaInfo>ReplicaType": "Clone"}},
		{`{"Name":"d","Oem":{"Nitrino":{"Upstream":"nbd://a/b"}},"AccessCapabilities":["Read"]}`, 201, nil, map[string]string{"Oem>Nitrino>Kind": "image", "Oem>Nitrino>Upstream": "nbd://a/b"}},
		{`{"DisplayName":"s","ReplicaInfo":{"ReplicaType":"Snapshot","SourceReplica":{"@odata.id":"` + volumeURI("disk0") + `"}}}`, 201, nil,
			map[string]string{"ReplicaInfo>ReplicaType": "Snapshot", "Oem>Nitrino>SnapshotOf": "disk0"}},
		{`{"Name":"t","DisplayName":"t","CapacityBytes":512,"ProvisioningPolicy":"Thin","VolumeUsage":"Data","Links":{"ProvidingStoragePool":{"@odata.id":"` + poolURI + `"}},"@Redfish.OperationApplyTime":"Immediate"}`,
			201, nil, map[string]string{"Links>ProvidingStoragePool>@odata.id": poolURI}},
		{`{"Name":"a","CapacityBytes":1048576}`, 409, []string{"ResourceAlreadyExists"}, nil},
		{`{"Name":"e","DisplayName":"f","CapacityBytes":512}`, 400, []string{"PropertyValueConflict"}, nil},
		{`{"Name":"e","CapacityBytes":512,"@Redfish.OperationApplyTime":"OnReset"}`, 400, []string{"PropertyValueNotInList"}, nil},
		{`{"Name":"e","CapacityBytes":512,"ProvisioningPolicy":"Fixed"}`, 400, []string{"PropertyValueNotInList"}, nil},
		{`{"Name":"e","CapacityBytes":512,"Links":{"ProvidingStoragePool":{"@odata.id":"` + poolsURI + `/x"}}}`, 400, []string{"ResourceMissingAtURI"}, nil},
		{`{"Name":"e","CapacityBytes":512,"Links":{"ProvidingStoragePool":"card"}}`, 400, []string{"PropertyValueFormatError"}, nil},
		{`{"Name":"e","Oem":{"Nitrino":{"Upstream":"nbd://a/b"}},"Links":{"ProvidingStoragePool":{"@odata.id":"` + poolURI + `"}}}`, 400, []string{"PropertyValueConflict"}, nil},
		{`{"Name":"e","CapacityBytes":512,"ReplicaInfo":{"ReplicaType":"Snapshot","Replica":{"@odata.id":"` + volumeURI("disk0") + `"}}}`, 400, []string{"PropertyValueConflict"}, nil},
		{`{"Name":"e","ReplicaInfo":{"ReplicaType":"Clone"}}`, 400, []string{"PropertyMissing"}, nil},
		{`{"Name":"e"}`, 400, []string{"PropertyMissing"}, nil},
		{`{"CapacityBytes":1048576}`, 400, []string{"PropertyMissing"}, nil},
		{`{"Name":"A","CapacityBytes":1048576}`, 400, []string{"PropertyValueFormatError"}, nil},
		{`{"Name":7,"CapacityBytes":1048576}`, 400, []string{"PropertyValueTypeError"}, nil},
		{`{"Name":"e","CapacityBytes":0}`, 400, []string{"PropertyValueOutOfRange"}, nil},
		{`{"Name":"e","CapacityBytes":512,"BlockSizeBytes":520}`, 400, []string{"PropertyValueNotInList"}, nil},
		{`{"Name":"e","CapacityBytes":512,"AccessCapabilities":["Write"]}`, 400, []string{"PropertyValueNotInList"}, nil},
		{`{"Name":"e","CapacityBytes":512,"RAIDType":"RAID1"}`, 400, []string{"PropertyUnknown"}, nil},
		{`{"Name":"e","ReplicaInfo":{"ReplicaType":"Mirror","Replica":{"@odata.id":"` + volumeURI("golden") + `"}}}`, 400, []string{"PropertyValueNotInList"}, nil},
		{`{"Name":"e","ReplicaInfo":{"ReplicaType":"Clone","Replica":{"@odata.id":"` + volumeURI("nothing") + `"}}}`, 400, []string{"ResourceMissingAtURI"}, nil},
		{`{"Name":"e","ReplicaInfo":{"ReplicaType":"Clone","Replica":{"@odata.id":"/redfish/v1/Chassis/x"}}}`, 400, []string{"PropertyValueFormatError"}, nil},
		{`{"Name":"e","Oem":{"Nitrino":{"Upstream":"http://a/b"}}}`, 400, []string{"PropertyValueFormatError"}, nil},
		{`{"Name":"e","ReplicaInfo":7}`, 400, []string{"PropertyValueTypeError"}, nil},
	} {
		a := r.do("POST", volumesURI, c.body, c.status, c.keys...)
		r.shows(a, c.want)
		if uri, _ := a.At("@odata.id").(string); c.status == 201 && a.Header.Get("Location") != uri {
			t.Errorf("%s: Location %q, want %q", c.body, a.Header.Get("Location"), uri)
		}
	}
	if got := r.disks.from; got.User != "oper" || got.Via != "redfish" {
		t.Errorf("origin %+v", got)
	}
	r.do("POST", volumesURI+"/Members", `{"Name":"m","CapacityBytes":512}`, 201)
	a := r.do("POST", pooledVolumesURI, `{"Name":"p","CapacityBytes":512}`, 201)
	if got := a.Header.Get("Location"); got != volumeURI("p") {
		t.Errorf("Location %q", got)
	}
	r.do("POST", pooledVolumesURI, `{"Name":"e","Oem":{"Nitrino":{"Upstream":"nbd://a/b"}}}`, 400, "PropertyValueConflict")
	a = r.do("POST", volumesURI, `{"Name":"e","ReplicaInfo":{"ReplicaType":"Clone","Replica":7}}`, 400, "PropertyValueFormatError")
	if got := a.Related(); !slices.Equal(got, []string{"#/ReplicaInfo/Replica"}) {
		t.Errorf("related %v", got)
	}
	for _, user := range []string{"reader"} {
		r.Want(redfishtest.Call{Method: "POST", URI: volumesURI, User: user, Body: `{"Name":"z","CapacityBytes":512}`}, 403, "InsufficientPrivilege")
		r.Want(redfishtest.Call{Method: "DELETE", URI: volumeURI("a"), User: user}, 403, "InsufficientPrivilege")
	}
}

// Who asks what a POST may have is told, and the properties that he is told of are taken.
func TestCapabilities(t *testing.T) {
	r := newRig(t)
	for _, uri := range []string{volumesURI, pooledVolumesURI} {
		r.shows(r.get(uri), map[string]string{"@Redfish.OperationApplyTimeSupport>SupportedValues": "[Immediate]",
			"@Redfish.CollectionCapabilities>Capabilities>0>CapabilitiesObject>@odata.id":     capabilitiesURI,
			"@Redfish.CollectionCapabilities>Capabilities>0>UseCase":                          "VolumeCreation",
			"@Redfish.CollectionCapabilities>Capabilities>0>Links>TargetCollection>@odata.id": uri})
	}
	a := r.get(capabilitiesURI)
	r.shows(a, map[string]string{"Id": "Capabilities", "Name@Redfish.RequiredOnCreate": "true", "BlockSizeBytes@Redfish.AllowableNumbers": "[512 4096]",
		"ReplicaInfo>ReplicaType@Redfish.AllowableValues": "[Clone Snapshot]", "CapacityBytes": "<nil>"})
	for name := range a.JSON {
		if property, of, _ := strings.Cut(name, "@"); property != "" && strings.HasSuffix(of, "OnCreate") {
			r.do("POST", volumesURI, `{"`+property+`":true}`, 400, "PropertyValueTypeError") // and not PropertyUnknown
		}
	}
	r.do("DELETE", capabilitiesURI, "", 405, "OperationNotAllowed")
	if err := volume.CheckName("Capabilities"); err == nil {
		t.Error("a volume could be called as the capabilities are")
	}
}

func TestChange(t *testing.T) {
	r := newRig(t)
	r.fill()
	disk, golden := volumeURI("disk0"), volumeURI("golden")
	r.shows(r.do("PATCH", disk, `{"CapacityBytes":4194304}`, 200), map[string]string{"CapacityBytes": "4.194304e+06"})
	r.do("PATCH", disk, `{"CapacityBytes":4194304}`, 200)
	r.do("PATCH", disk, `{"CapacityBytes":512}`, 400, "GeneralError")
	r.do("PATCH", disk, `{"BlockSizeBytes":4096}`, 400, "PropertyNotWritable")
	r.do("PATCH", golden, `{"CapacityBytes":4194304}`, 400, "PropertyNotWritable")
	r.do("PATCH", volumeURI("x"), `{"CapacityBytes":4194304}`, 404, "ResourceNotFound")
	r.do("PATCH", disk, `{"DisplayName":"golden"}`, 409, "ResourceAlreadyExists")
	r.do("PATCH", disk, `{"DisplayName":"My disk"}`, 400, "PropertyValueFormatError")
	r.do("PATCH", disk, `{"Name":"disk0"}`, 200)
	a := r.do("PATCH", disk, `{"DisplayName":"root","CapacityBytes":8388608}`, 200)
	r.shows(a, map[string]string{"@odata.id": volumeURI("root"), "CapacityBytes": "8.388608e+06"})
	if got := a.Header.Get("Location"); got != volumeURI("root") {
		t.Errorf("Location %q", got)
	}
	r.do("PATCH", volumeURI("root"), `{"Name":"disk0"}`, 200)

	replica := func(uri, body string, status int, keys ...string) redfishtest.Answer {
		t.Helper()
		return r.do("POST", uri+"/Actions/"+replicaName, body, status, keys...)
	}
	a = replica(disk, `{"VolumeName":"snap","ReplicaType":"Snapshot","ReplicaUpdateMode":"Adaptive","TargetStoragePool":"`+poolURI+`"}`, 201)
	r.shows(a, map[string]string{"ReplicaInfo>ReplicaType": "Snapshot", "Oem>Nitrino>SnapshotOf": "disk0"})
	a = replica(volumeURI("snap"), `{"VolumeName":"twin","ReplicaType":"Clone"}`, 201)
	r.shows(a, map[string]string{"ReplicaInfo>Replica>@odata.id": volumeURI("snap")})
	replica(disk, `{"VolumeName":"snap","ReplicaType":"Snapshot"}`, 409, "ResourceAlreadyExists")
	replica(disk, `{"VolumeName":"clone","ReplicaType":"Clone"}`, 400, "ActionParameterValueNotInList")
	replica(disk, `{"ReplicaType":"Snapshot"}`, 400, "ActionParameterMissing")
	replica(disk, `{"VolumeName":"s p","ReplicaType":"Snapshot"}`, 400, "ActionParameterValueFormatError")
	replica(volumeURI("x"), `{"VolumeName":"y","ReplicaType":"Snapshot"}`, 404, "ResourceNotFound")

	revert := oemAction(disk, revertName)
	r.do("POST", revert, `{"Snapshot":{"@odata.id":"`+volumeURI("snap")+`"}}`, 204)
	r.do("POST", revert, `{"Snapshot":{"@odata.id":"`+golden+`"}}`, 400, "GeneralError")
	r.do("POST", revert, `{"Snapshot":{"@odata.id":"`+volumeURI("none")+`"}}`, 400, "ResourceMissingAtURI")
	r.do("POST", revert, `{}`, 400, "ActionParameterMissing")
	r.do("POST", oemAction(golden, revertName), `{"Snapshot":{"@odata.id":"`+volumeURI("snap")+`"}}`, 400, "ActionNotSupported")
	r.do("POST", oemAction(volumeURI("none"), revertName), `{}`, 404, "ResourceNotFound")

	check := golden + "/Actions/" + checkName
	r.do("POST", check, `{}`, 204)
	r.do("POST", volumeURI("x")+"/Actions/"+checkName, `{}`, 404, "ResourceNotFound")
	r.do("POST", check, `{"a":1}`, 400, "ActionParameterUnknown")
	r.do("POST", disk+"/Actions/"+checkName, `{}`, 400, "ActionNotSupported")

	r.do("DELETE", volumeURI("far"), "", 204)
	r.do("DELETE", volumeURI("far"), "", 404, "ResourceNotFound")
}

func TestProblems(t *testing.T) {
	r := newRig(t)
	r.fill()
	for _, c := range []struct {
		err    error
		status int
		key    string
	}{
		{errAway, 503, "ServiceTemporarilyUnavailable"},
		{volume.ErrClosed, 503, "ServiceTemporarilyUnavailable"},
		{fmt.Errorf("deleting: %w", volume.ErrInUse), 409, "ResourceInUse"},
		{volume.ErrStandsOn, 409, "ResourceInUse"},
		{block.ErrNoSpace, 507, "InsufficientStorage"},
		{volume.ErrFailed, 409, "GeneralError"},
		{block.ErrReadOnly, 400, "GeneralError"},
		{block.ErrGone, 400, "GeneralError"},
		{host.ErrInvalid, 400, "GeneralError"},
		{errors.ErrUnsupported, 400, "GeneralError"},
		{errors.New("who knows"), 500, "InternalError"},
	} {
		r.disks.set(func() { r.disks.err = c.err })
		r.do("DELETE", volumeURI("disk0"), "", c.status, c.key)
		r.do("PATCH", volumeURI("disk0"), `{"CapacityBytes":16777216}`, c.status, c.key)
		r.do("POST", volumesURI, `{"Name":"n","CapacityBytes":512}`, c.status, c.key)
		r.do("DELETE", connectionURI(target), "", c.status, c.key)
	}
}

func TestImport(t *testing.T) {
	r := newRig(t)
	uri := oemAction(storageURI, importName)
	const whole = `{"Name":"deb","ImageURI":"http://a/deb.qcow2","Kind":"disk","Format":"qcow2","SHA256":"00","CapacityBytes":1048576,"BlockSizeBytes":4096}`
	r.do("POST", uri, whole, 202)
	if want := (block.ImportRequest{Name: "deb", Kind: block.KindDisk, Format: "qcow2", SHA256: "00", Size: 1 << 20, BlockSize: 4096}); r.disks.imported != want || r.disks.url != "http://a/deb.qcow2" {
		t.Errorf("got %+v of %s, want %+v", r.disks.imported, r.disks.url, want)
	}
	r.disks.progress(t, 50, 100, false, "")
	for range 1000 {
		r.tasks.mu.Lock()
		percent := r.tasks.percent
		r.tasks.mu.Unlock()
		if percent == 49 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if r.tasks.mu.Lock(); r.tasks.percent != 49 {
		t.Errorf("%d percent, want 49", r.tasks.percent)
	}
	r.tasks.mu.Unlock()
	r.disks.progress(t, 100, 100, true, "")
	if reply := <-r.tasks.done; reply.Status != 201 || reply.Location != volumeURI("deb") {
		t.Errorf("got %+v", reply)
	}
	r.do("POST", uri, whole, 409, "ResourceAlreadyExists")

	r.do("POST", uri, `{"Name":"x","ImageURI":"http://a/b"}`, 202)
	r.disks.progress(t, 1, 0, true, "the data is unusable")
	if reply := <-r.tasks.done; !reply.Failed() || reply.Problems[0].Resolution != "The data is unusable." {
		t.Errorf("got %+v", reply)
	}

	r.do("POST", uri, `{"Name":"y","ImageURI":"https://a/b"}`, 202)
	r.tasks.cancel()
	if reply := <-r.tasks.done; !reply.Failed() || !slices.Equal(r.disks.canceled, []string{"job2"}) {
		t.Errorf("got %+v, canceled %v", reply, r.disks.canceled)
	}

	r.tasks.refused = true
	r.do("POST", uri, `{"Name":"z","ImageURI":"https://a/b"}`, 503, "ServiceTemporarilyUnavailable")
	if !slices.Equal(r.disks.canceled, []string{"job2", "job3"}) {
		t.Errorf("canceled %v", r.disks.canceled)
	}

	for body, key := range map[string]string{
		`{"ImageURI":"http://a/b"}`:                           "ActionParameterMissing",
		`{"Name":"x"}`:                                        "ActionParameterMissing",
		`{"Name":"x","ImageURI":"ftp://a/b"}`:                 "ActionParameterValueFormatError",
		`{"Name":"x","ImageURI":"http://a/b","Kind":"cd"}`:    "ActionParameterValueNotInList",
		`{"Name":"x","ImageURI":"http://a/b","Format":"vhd"}`: "ActionParameterValueNotInList",
	} {
		r.do("POST", uri, body, 400, key)
	}
}

func TestConnection(t *testing.T) {
	r := newRig(t)
	r.fill()
	link := func(uri string) string { return `{"@odata.id":"` + uri + `"}` }
	const mine = "iqn.2026-01.test:mine"
	body := `{"Name":"` + mine + `","ConnectionType":"Storage","VolumeInfo":[{"Volume":` + link(volumeURI("disk0")) + `,"LUN":1,"AccessCapabilities":["Read","Write"]}],
		"Links":{"InitiatorEndpoints":[` + link(endpointURI(initiator)) + `]},"ConnectionKeys":{"CHAP":{"CHAPUsername":"me","CHAPPassword":"hush hush hush","TargetCHAPPassword":"other hush hush"}},
		"Oem":{"Nitrino":{"Alias":"mine","CDLUNs":[]}}}`
	a := r.do("POST", connectionsURI, body, 201)
	if a.Header.Get("Location") != connectionURI(mine) {
		t.Errorf("Location %q", a.Header.Get("Location"))
	}
	want := block.Target{Name: mine, Alias: "mine", LUNs: []block.LUN{{Number: 1, Volume: "disk0"}}, Initiators: []string{initiator},
		CHAP: block.Credentials{User: "me", Secret: "hush hush hush"}, Mutual: block.Credentials{User: mine, Secret: "other hush hush"}}
	same := func(want block.Target) {
		t.Helper()
		if got := r.disks.targets[len(r.disks.targets)-1]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	same(want)
	r.do("POST", connectionsURI, body, 409, "ResourceAlreadyExists")

	uri := connectionURI(mine)
	patch := func(body string) redfishtest.Answer {
		t.Helper()
		return r.do("PATCH", uri, body, 200)
	}
	patch(`{"VolumeInfo":[{},{"Volume":` + link(volumeURI("golden")) + `,"LUN":2,"AccessCapabilities":["Read"]}],"Oem":{"Nitrino":{"CDLUNs":[2]}}}`)
	want.CHAP.Secret, want.Mutual.Secret = "", "" // the fake keeps none
	want.LUNs = []block.LUN{{Number: 1, Volume: "disk0"}, {Number: 2, Volume: "golden", CD: true}}
	same(want)
	patch(`{"VolumeInfo":[{"LUN":7},{}],"Links":{"InitiatorEndpoints":[null]}}`)
	want.LUNs[0].Number, want.Initiators = 7, []string{}
	same(want)
	patch(`{"ConnectionKeys":{"CHAP":{"CHAPUsername":"me","CHAPPassword":"another hush hush"}}}`)
	want.CHAP.Secret = "another hush hush"
	same(want)
	patch(`{"ConnectionKeys":{"CHAP":{"CHAPUsername":"me","CHAPPassword":null,"TargetCHAPPassword":null}},"Oem":{"Nitrino":{"TargetCHAPUsername":null}}}`)
	want.CHAP.Secret, want.Mutual = "", block.Credentials{}
	same(want)
	patch(`{"ConnectionKeys":{"CHAP":{"CHAPUsername":null}}}`)
	want.CHAP = block.Credentials{}
	same(want)
	patch(`{"VolumeInfo":[null,null]}`)
	want.LUNs = []block.LUN{}
	same(want)

	a = r.do("POST", connectionsURI, `{"VolumeInfo":[{"Volume":`+link(volumeURI("far"))+`}]}`, 201)
	r.shows(a, map[string]string{"Id": "iqn.2026-01.test:far", "VolumeInfo>0>LUN": "0"})
	for body, key := range map[string]string{
		`{}`:                       "PropertyMissing",
		`{"Name":"disk"}`:          "GeneralError",
		`{"Name":7}`:               "PropertyValueTypeError",
		`{"VolumeInfo":7}`:         "PropertyValueTypeError",
		`{"VolumeInfo":[7]}`:       "PropertyValueTypeError",
		`{"VolumeInfo":[{"x":1}]}`: "PropertyUnknown",
		`{"VolumeInfo":[{"Volume":` + link(volumeURI("none")) + `}]}`:                                  "ResourceMissingAtURI",
		`{"VolumeInfo":[{"Volume":` + link(volumeURI("golden")) + `,"LUN":256}]}`:                      "PropertyValueOutOfRange",
		`{"VolumeInfo":[{"Volume":` + link(volumeURI("golden")) + `,"AccessCapabilities":["Write"]}]}`: "PropertyValueConflict",
		`{"Links":{"InitiatorEndpoints":["x"]}}`:                                                       "PropertyValueFormatError",
		`{"ConnectionKeys":{"CHAP":{"CHAPPassword":7}}}`:                                               "PropertyValueError",
		`{"ConnectionType":"Memory"}`:                                                                  "PropertyValueNotInList",
		`{"Oem":{"Nitrino":{"CDLUNs":["x"]}}}`:                                                         "PropertyValueOutOfRange",
	} {
		if a := r.do("POST", connectionsURI, body, 400, key); strings.Contains(string(a.Body), "hush") {
			t.Errorf("a secret: %s", a.Body)
		}
	}
	r.do("PATCH", uri, `{"Links":{"TargetEndpoints":[]}}`, 400, "PropertyNotWritable")

	// Volumes come and go one by one.
	act := func(name, body string, status int, keys ...string) {
		t.Helper()
		r.do("POST", uri+"/Actions/"+name, body, status, keys...)
	}
	patch(`{"VolumeInfo":[{"Volume":` + link(volumeURI("before")) + `},{"Volume":` + link(volumeURI("disk0")) + `,"LUN":0},{"Volume":` + link(volumeURI("far")) + `}]}`)
	want.LUNs = []block.LUN{{Number: 1, Volume: "before"}, {Number: 0, Volume: "disk0"}, {Number: 2, Volume: "far"}}
	at := func(want block.Target) {
		t.Helper()
		i := slices.IndexFunc(r.disks.targets, func(t block.Target) bool { return t.Name == want.Name })
		if got := r.disks.targets[i]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	at(want)
	act(addName, `{"Volume":`+link(volumeURI("golden"))+`,"LUN":9}`, 204)
	act(addName, `{"Volume":`+link(volumeURI("golden"))+`,"AccessCapabilities":["Read"]}`, 204)
	want.LUNs = append(want.LUNs, block.LUN{Number: 9, Volume: "golden"}, block.LUN{Number: 3, Volume: "golden"})
	at(want)
	act(removeName, `{"Volume":`+link(volumeURI("golden"))+`,"LUN":9}`, 204)
	want.LUNs = slices.Delete(want.LUNs, 3, 4)
	at(want)
	act(addName, `{"Volume":`+link(volumeURI("golden"))+`,"LUN":8}`, 204)
	act(removeName, `{"Volume":`+link(volumeURI("golden"))+`}`, 204)
	want.LUNs = want.LUNs[:3]
	at(want)
	act(addName, `{"Volume":`+link(volumeURI("golden"))+`}`, 400, "ActionParameterMissing")
	act(addName, `{"LUN":5}`, 400, "ActionParameterMissing")
	act(addName, `{"Volume":`+link(volumeURI("none"))+`,"LUN":5}`, 400, "ResourceMissingAtURI")
	act(addName, `{"Volume":`+link(volumeURI("golden"))+`,"AccessCapabilities":["Read","Write"]}`, 400, "ActionParameterValueConflict")
	act(addName, `{"Volume":`+link(volumeURI("golden"))+`,"LUN":256}`, 400, "ActionParameterValueOutOfRange")
	act(removeName, `{"Volume":`+link(volumeURI("none"))+`}`, 400, "ActionParameterValueError")
	act(removeName, `{"Volume":`+link(volumeURI("far"))+`,"LUN":0}`, 400, "ActionParameterValueError")
	act(removeName, `{"LUN":0}`, 400, "ActionParameterMissing")
	r.disks.set(func() { r.disks.err = errors.New("no") })
	act(addName, `{"Volume":`+link(volumeURI("golden"))+`,"LUN":9}`, 500, "InternalError")
	r.disks.set(func() { r.disks.err = nil })
	r.do("POST", connectionURI("iqn.2026-01.test:none")+"/Actions/"+addName, `{}`, 404, "ResourceNotFound")
	r.do("POST", connectionURI("iqn.2026-01.test:none")+"/Actions/"+removeName, `{}`, 404, "ResourceNotFound")
	r.Want(redfishtest.Call{Method: "POST", URI: uri + "/Actions/" + addName, User: "reader", Body: `{}`}, 403, "InsufficientPrivilege")

	r.do("DELETE", uri, "", 204)
	r.do("DELETE", uri, "", 404, "ResourceNotFound")
	r.disks.set(func() { r.disks.targets = append(r.disks.targets, block.Target{Name: "iqn.2026-01.test:bad"}) })
	r.shows(r.get(connectionURI("iqn.2026-01.test:bad")), map[string]string{"Status>Health": "Critical", "Oem>Nitrino>Failed": "no volume x"})
}

// What the settings say of a target is said of the property.
func TestWrongTarget(t *testing.T) {
	r := newRig(t)
	r.fill()
	uri := connectionURI(target)
	for _, c := range []struct{ pointer, name, related string }{
		{"/iscsi/targets/0/name", "Name", "#/Name"},
		{"/iscsi/targets/0/alias", "Alias", "#/Oem/Nitrino/Alias"},
		{"/iscsi/targets/0/initiators", "InitiatorEndpoints", "#/Links/InitiatorEndpoints"},
		{"/iscsi/targets/0/initiators/12", "InitiatorEndpoints", "#/Links/InitiatorEndpoints/12"},
		{"/iscsi/targets/0/luns", "VolumeInfo", "#/VolumeInfo"},
		{"/iscsi/targets/0/luns/1", "VolumeInfo", "#/VolumeInfo/1"},
		{"/iscsi/targets/0/luns/1/lun", "LUN", "#/VolumeInfo/1/LUN"},
		{"/iscsi/targets/0/luns/1/volume", "VolumeInfo", "#/VolumeInfo/1"},
		{"/iscsi/targets/0/chap/user", "CHAPUsername", "#/ConnectionKeys/CHAP/CHAPUsername"},
		{"/iscsi/targets/0/chap/secret", "CHAPPassword", "#/ConnectionKeys/CHAP/CHAPPassword"},
		{"/iscsi/targets/0/mutual_chap/user", "TargetCHAPUsername", "#/Oem/Nitrino/TargetCHAPUsername"},
		{"/iscsi/targets/0/mutual_chap/secret", "TargetCHAPPassword", "#/ConnectionKeys/CHAP/TargetCHAPPassword"},
		{"/iscsi/targets/0/other", "", ""},
		{"/iscsi/targets/0", "", ""},
		{"/iscsi/targets", "", ""},
		{"", "", ""},
	} {
		r.disks.set(func() {
			r.disks.err = fmt.Errorf("%w: %w", host.ErrInvalid, &settings.Error{Pointer: c.pointer, Problem: "it is wrong"})
		})
		key, want := "PropertyValueError", []string{c.related}
		if c.name == "" {
			key, want = "GeneralError", nil
		}
		a := r.do("PATCH", uri, `{"Oem":{"Nitrino":{"Alias":"x"}}}`, 400, key)
		if got := a.Related(); !slices.Equal(got, want) {
			t.Errorf("%s: about %v, want %v", c.pointer, got, want)
		}
		if text := string(a.Body); c.name != "" && (!strings.Contains(text, "'"+c.name+"'") && !strings.Contains(text, "property "+c.name+" ") || !strings.Contains(text, "It is wrong.")) {
			t.Errorf("%s: %s", c.pointer, text)
		}
	}
	r.disks.set(func() {
		r.disks.err = fmt.Errorf("%w: %w", host.ErrInvalid, &settings.Error{Pointer: "/iscsi/targets/0/luns/3/lun", Problem: "the number 0 stands twice"})
	})
	a := r.do("POST", uri+"/Actions/"+addName, `{"Volume":{"@odata.id":"`+volumeURI("golden")+`"},"LUN":0}`, 400, "ActionParameterValueError")
	if got := a.Related(); !slices.Equal(got, []string{"#/LUN"}) {
		t.Errorf("about %v", got)
	}
}

// All links lead somewhere, and a client that others wrote (gofish) walks along them.
func TestWalk(t *testing.T) {
	r := newRig(t)
	r.fill()
	h, log := redfishtest.NewHost(t, redfishtest.HostOptions{}), slog.New(slog.DiscardHandler)
	service, err := redfish.New(redfish.Options{Host: h.Host, Auth: redfishtest.NewAuth(), Log: log,
		System: system.New(system.Options{Host: h.Host, Log: log, Storage: true}), Chapters: []redfish.Chapter{r.s}})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	seen := r.Walk("reader")
	for _, uri := range []string{volumeURI("before"), poolURI, controllerURI, endpointURI(initiator), connectionURI(target)} {
		if seen[uri] == nil {
			t.Errorf("no link leads to %s", uri)
		}
	}
	c, err := gofish.Connect(gofish.ClientConfig{Endpoint: r.Server.URL, Username: "oper", Password: "oper-pw", BasicAuth: true, HTTPClient: r.Server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	all, err := client.ListReferencedStorages(c, resource.SystemStorageURI)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d storages, %v", len(all), err)
	}
	// Its package redfish takes Capacity for a text.
	volumes, err := swordfish.ListReferencedVolumes(c, volumesURI)
	if err != nil || len(volumes) != 4 {
		t.Fatalf("%d volumes, %v", len(volumes), err)
	}
	for _, v := range volumes { // in any order
		if v.Name == "disk0" && (v.CapacityBytes != 1<<21 || v.Capacity.Data.AllocatedBytes != 4096) {
			t.Errorf("%s of %d bytes", v.Name, v.CapacityBytes)
		}
	}
	controllers, err := all[0].Controllers()
	if err != nil || len(controllers) != 1 {
		t.Errorf("%d controllers, %v", len(controllers), err)
	}
	fabrics, err := client.ListReferencedFabrics(c, resource.FabricsURI)
	if err != nil || len(fabrics) != 1 {
		t.Fatalf("%d fabrics, %v", len(fabrics), err)
	}
	if endpoints, err := fabrics[0].Endpoints(); err != nil || len(endpoints) != 3 {
		t.Errorf("%d endpoints, %v", len(endpoints), err)
	}
}
