package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// withDisks gives a vendor volumes and targets of nitrino's form, elsewhere.
func (v *vendor) withDisks() {
	const s, f = "/redfish/v1/S/Blade.1/St", "/redfish/v1/F/7"
	root := vendorDocs()["/redfish/v1/"]
	v.set("/redfish/v1/", root[:len(root)-1]+`,"Fabrics":{"@odata.id":"/redfish/v1/F"}}`)
	system := vendorDocs()["/redfish/v1/S/Blade.1"]
	v.set("/redfish/v1/S/Blade.1", system[:len(system)-1]+`,"Storage":{"@odata.id":"`+s+`"}}`)
	v.set(s, list(s+"/Raid", s+"/Board"))
	v.set(s+"/Raid", `{"Id":"Raid"}`) // without volumes
	v.set(s+"/Board", `{"Id":"Board","Volumes":{"@odata.id":"`+s+`/Board/V"},"Actions":{"Oem":{"#NitrinoStorage.Import":{"target":"`+s+`/Board/Import"}}}}`)
	v.set(s+"/Board/V", list(s+"/Board/V/1", s+"/Board/V/2", s+"/Board/V/3"))
	v.set(s+"/Board/V/1", `{"@odata.id":"`+s+`/Board/V/1","Id":"1","Name":"disk0","CapacityBytes":67108864,"BlockSizeBytes":512,"OptimumIOSizeBytes":4096,"Capacity":{"Data":{"AllocatedBytes":1536}},
		"Identifiers":[{"DurableName":"8-4-4-4-12","DurableNameFormat":"UUID"}],"Status":{"Health":"OK","State":"Enabled"},"Connections":[{"@odata.id":"`+f+`/C/iqn.2026-01.com.example:disk0"}],
		"Oem":{"Nitrino":{"Kind":"disk","Format":"cow","CloneOf":"golden","Created":"2026-01-02T03:04:05Z"}},
		"Actions":{"#Volume.CreateReplicaTarget":{"target":"`+s+`/Board/V/1/Replica"},"Oem":{"#NitrinoVolume.Revert":{"target":"`+s+`/Board/V/1/Revert"}}}}`)
	v.set(s+"/Board/V/2", `{"@odata.id":"`+s+`/Board/V/2","Id":"2","Name":"golden","CapacityBytes":1000,"Capacity":null,"Status":{"Health":"OK"},"Oem":{"Nitrino":{"Kind":"image","Source":null}},
		"Actions":{"#Volume.CheckConsistency":{"target":"`+s+`/Board/V/2/Check"},"#Volume.CreateReplicaTarget":{"target":"`+s+`/Board/V/2/Replica"}}}`)
	v.set(s+"/Board/V/3", `{"@odata.id":"`+s+`/Board/V/3","Id":"3","Name":"before","CapacityBytes":null,"Status":{"Health":"Critical"},"Oem":{"Nitrino":{"Kind":"snapshot","SnapshotOf":"disk0","Failed":"gone"}}}`)
	v.set("/redfish/v1/F", list("/redfish/v1/F/1", f))
	v.set("/redfish/v1/F/1", `{"FabricType":"PCIe"}`)
	v.set(f, `{"FabricType":"iSCSI","Connections":{"@odata.id":"`+f+`/C"},"Endpoints":{"@odata.id":"`+f+`/E"}}`)
	v.set(f+"/C", list(f+"/C/iqn.2026-01.com.example:disk0"))
	v.set(f+"/C/iqn.2026-01.com.example:disk0", `{"@odata.id":"`+f+`/C/iqn.2026-01.com.example:disk0","Id":"iqn.2026-01.com.example:disk0","Name":"iqn.2026-01.com.example:disk0",
		"VolumeInfo":[{"Volume":{"@odata.id":"`+s+`/Board/V/1"},"LUN":0},{"LUN":3}],"ConnectionKeys":{"CHAP":{"CHAPUsername":"me","CHAPPassword":null}},
		"Links":{"InitiatorEndpoints":[{"@odata.id":"`+f+`/E/iqn.x%2Fy"}]},
		"Oem":{"Nitrino":{"Alias":"first","CDLUNs":[3],"Volumes":["disk0","lost"],"TargetCHAPUsername":null,
			"Sessions":[{"Initiator":"iqn.x/y","ISID":"1","Address":"192.0.2.7:3","CHAPUsername":"me","Since":"2026-01-02T03:04:05Z"}]}}}`)
}

func TestVolumes(t *testing.T) {
	const s = "/redfish/v1/S/Blade.1/St/Board"
	v := newVendor(t)
	d := newDesk(t, v)
	d.do(v, step{line: "volume list", code: exitUnsupported, err: "volumes: "}, step{line: "target list", code: exitUnsupported, err: "targets: "},
		step{line: "volume import x -", code: exitUnsupported, err: "cannot take volumes"})
	v.withDisks()
	d.do(v,
		step{line: "volume list", out: "NAME    KIND      SIZE   USED    MADE OF  HEALTH\ndisk0   disk      64MiB  1.5KiB  golden   OK\ngolden  image     1000B  -       -        OK\nbefore  snapshot  -      -       disk0    Critical\n"},
		step{line: "volume list -o json", out: `"size": null`},
		step{line: "volume show disk0", out: "iqn.2026-01.com.example:disk0"},
		step{line: "volume show before", out: "Failed"},
		step{line: "volume show disk0 -o json", out: `"uuid": "8-4-4-4-12"`},
		step{line: "volume show none", code: exitFailed, err: `there is no volume "none"`},
		step{line: "volume create new 1GiB -block 4096", out: "new is made", calls: []string{"POST " + s + `/V {"Name":"new","CapacityBytes":1073741824,"BlockSizeBytes":4096}`}},
		step{line: "volume create new -from golden", calls: []string{"POST " + s + `/V {"Name":"new","ReplicaInfo":{"ReplicaType":"Clone","Replica":{"@odata.id":"` + s + `/V/2"}}}`}},
		step{line: "volume create far -upstream nbd://x/y -read-only", calls: []string{"POST " + s + `/V {"Name":"far","AccessCapabilities":["Read"],"Oem":{"Nitrino":{"Upstream":"nbd://x/y"}}}`}},
		step{line: "volume create new", code: exitUsage, err: "needs a SIZE"},
		step{line: "volume create new 1GB", code: exitUsage},
		step{line: "volume create new 0", code: exitUsage},
		step{line: "volume create new 1G -read-only", code: exitUsage},
		step{line: "volume create new -from golden -upstream nbd://x/y", code: exitUsage},
		step{line: "volume clone golden new", out: "new is a clone of golden", calls: []string{"POST " + s + `/V/2/Replica {"VolumeName":"new","ReplicaType":"Clone","ReplicaUpdateMode":"Synchronous"}`}},
		step{line: "volume snapshot disk0 now", out: "now is a snapshot of disk0", calls: []string{"POST " + s + `/V/1/Replica {"VolumeName":"now","ReplicaType":"Snapshot","ReplicaUpdateMode":"Synchronous"}`}},
		step{line: "volume snapshot before now", code: exitUnsupported},
		step{line: "volume resize disk0 2G", out: "disk0 has 2GiB", calls: []string{"PATCH " + s + `/V/1 {"CapacityBytes":2147483648}`}},
		step{line: "volume rename disk0 other", calls: []string{"PATCH " + s + `/V/1 {"DisplayName":"other"}`}},
		step{line: "volume revert disk0 before", calls: []string{"POST " + s + `/V/1/Revert {"Snapshot":{"@odata.id":"` + s + `/V/3"}}`}},
		step{line: "volume revert golden before", code: exitUnsupported},
		step{line: "volume delete disk0", out: "disk0 is deleted", calls: []string{"DELETE " + s + "/V/1"}},
		step{line: "volume verify golden", calls: []string{"POST " + s + "/V/2/Check {}"}},
		step{line: "volume verify disk0", code: exitUnsupported},
		step{line: "volume import new https://x/y.img -disk -sha256 ABC -size 1K -n", out: "has begun", calls: []string{
			"POST " + s + `/Import {"Name":"new","ImageURI":"https://x/y.img","Kind":"disk","SHA256":"abc","CapacityBytes":1024}`}},
		step{line: "volume import new /nowhere/x.img", code: exitFailed},
		step{line: "volume import new .", code: exitUsage, err: "no plain file"},
	)
}

func TestTargets(t *testing.T) {
	const f, s = "/redfish/v1/F/7", "/redfish/v1/S/Blade.1/St/Board"
	v := newVendor(t)
	v.withDisks()
	d := newDesk(t, v)
	d.env["BMCCTL_CHAP_SECRET"] = "a secret of mine"
	other := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(other, []byte("another of yours\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const one = f + "/C/iqn.2026-01.com.example:disk0"
	d.do(v,
		step{line: "target list", out: "NAME                           LUNS                  INITIATORS  CHAP     SESSIONS\niqn.2026-01.com.example:disk0  0=disk0, 3=lost (cd)  iqn.x/y     one-way  1\n"},
		step{line: "target show disk0", out: "iqn.x/y from 192.0.2.7:3"},
		step{line: "target show disk0 -o json", out: `"volume": "lost",
      "cd": true`},
		step{line: "target show disk1", code: exitFailed, err: `there is no target "disk1"`},
		step{line: "target sessions", out: "iqn.x/y    192.0.2.7:3  me"},
		step{line: "target add golden -cd", calls: []string{"POST " + f + `/C {"ConnectionType":"Storage","VolumeInfo":[{"Volume":{"@odata.id":"` + s + `/V/2"},"LUN":0}],"Oem":{"Nitrino":{"CDLUNs":[0]}}}`}},
		step{line: "target add golden -name iqn.a:b -initiators iqn.c:d,iqn.e/f -chap me", out: "Target iqn.a:b shows golden", calls: []string{
			"POST " + f + `/C {"Name":"iqn.a:b","ConnectionType":"Storage","VolumeInfo":[{"Volume":{"@odata.id":"` + s + `/V/2"},"LUN":0}],` +
				`"ConnectionKeys":{"CHAP":{"CHAPPassword":"a secret of mine","CHAPUsername":"me"}},"Links":{"InitiatorEndpoints":[{"@odata.id":"` + f + `/E/iqn.c:d"},{"@odata.id":"` + f + `/E/iqn.e%2Ff"}]}}`}},
		step{line: "target add none", code: exitFailed},
		step{line: "target set disk0 -mutual you -mutual-secret-file " + other, calls: []string{
			"PATCH " + one + ` {"ConnectionKeys":{"CHAP":{"TargetCHAPPassword":"another of yours"}},"Oem":{"Nitrino":{"TargetCHAPUsername":"you"}}}`}},
		step{line: "target set disk0 -mutual you", code: exitUsage, err: "no target's CHAP secret of you: want -mutual-secret-file FILE, the variable BMCCTL_MUTUAL_CHAP_SECRET"},
		step{line: "target set disk0 -mutual none", calls: []string{"PATCH " + one + ` {"Oem":{"Nitrino":{"TargetCHAPUsername":null}}}`}},
		step{line: "target set disk0 -chap none -initiators any -alias=", calls: []string{
			"PATCH " + one + ` {"ConnectionKeys":{"CHAP":{"CHAPUsername":null}},"Links":{"InitiatorEndpoints":[]},"Oem":{"Nitrino":{"Alias":""}}}`}},
		step{line: "target set disk0", code: exitUsage, err: "say what to change"},
		step{line: "target lun disk0 7 golden", out: "LUN 7 of iqn.2026-01.com.example:disk0 is golden", calls: []string{
			"PATCH " + one + ` {"VolumeInfo":[{},{},{"Volume":{"@odata.id":"` + s + `/V/2"},"LUN":7}]}`}},
		step{line: "target lun disk0 3 golden", calls: []string{"PATCH " + one + ` {"VolumeInfo":[{},{"Volume":{"@odata.id":"` + s + `/V/2"},"LUN":3}],"Oem":{"Nitrino":{"CDLUNs":[]}}}`}},
		step{line: "target lun disk0 0 golden -cd", calls: []string{"PATCH " + one + ` {"VolumeInfo":[{"Volume":{"@odata.id":"` + s + `/V/2"},"LUN":0},{}],"Oem":{"Nitrino":{"CDLUNs":[3,0]}}}`}},
		step{line: "target lun disk0 3 none", out: "has no LUN 3", calls: []string{"PATCH " + one + ` {"VolumeInfo":[{},null],"Oem":{"Nitrino":{"CDLUNs":[]}}}`}},
		step{line: "target lun disk0 5 none", code: exitFailed},
		step{line: "target lun disk0 256 golden", code: exitUsage},
		step{line: "target remove iqn.2026-01.com.example:disk0", calls: []string{"DELETE " + one}},
	)
}

// Files and pipes are streamed, and a refusal comes before the bytes.
func TestVolumeImport(t *testing.T) {
	v := newVendor(t)
	v.withDisks()
	d := newDesk(t, v)
	file := filepath.Join(t.TempDir(), "golden.qcow2")
	text := strings.Repeat("0123456789abcdef", 100_000)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var query string
	var length int64
	v.handle("PUT", "/volumes/new", func(w http.ResponseWriter, r *http.Request) {
		query, length = r.URL.RawQuery, r.ContentLength
		if r.Header.Get("Expect") != "100-continue" || readAll(t, r.Body) != text {
			t.Errorf("what came is not the file: %v", r.Header)
		}
		w.WriteHeader(http.StatusCreated)
	})
	v.handle("PUT", "/volumes/old", func(w http.ResponseWriter, _ *http.Request) { // reads nothing
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, errorBody, "ResourceAlreadyExists", "It is there.", "Take another name.")
	})
	if r := d.run("volume", "import", "new", file, "-disk", "-sha256", "ABC", "-size", "2M"); r.code != 0 || r.stdout != "Volume new is made\n" {
		t.Errorf("a file: %+v", r)
	}
	if want := "kind=disk&sha256=abc&size=2097152"; query != want || length != int64(len(text)) {
		t.Errorf("got %q, %d bytes, want %q, %d", query, length, want, len(text))
	}
	d.answers = text // on the standard input
	if r := d.run("volume", "import", "new", "-"); r.code != 0 || query != "" || length != -1 {
		t.Errorf("the standard input: %+v, %q, %d", r, query, length)
	}
	d.answers = ""
	if r := d.run("volume", "import", "old", file); r.code != exitFailed || !strings.Contains(r.stderr, "It is there.\n  Take another name.") {
		t.Errorf("a name that is taken: %+v", r)
	}
	if n := v.open(); n != 0 {
		t.Errorf("%d sessions were left open", n)
	}
}

// Who interrupts an upload ends it; who interrupts the import of a URL is asked.
func TestImportInterrupted(t *testing.T) {
	const s = "/redfish/v1/S/Blade.1/St/Board"
	v := newVendor(t)
	v.withDisks()
	d := newDesk(t, v)
	run := func(d *desk, stdin io.Reader, stop <-chan struct{}, args ...string) result {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wait sync.WaitGroup
		defer wait.Wait()
		wait.Go(func() { <-stop; cancel() })
		p, stdout, stderr := d.program()
		if stdin != nil {
			p.stdin = stdin
		}
		return result{p.main(ctx, args), stdout.String(), stderr.String()}
	}
	came, left := make(chan struct{}), make(chan error, 1)
	v.handle("PUT", "/volumes/new", func(_ http.ResponseWriter, r *http.Request) {
		var b [4]byte
		_, err := io.ReadFull(r.Body, b[:])
		close(came)
		if err == nil {
			_, err = io.ReadAll(r.Body)
		}
		left <- err
	})
	endless, feed := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = feed.Write([]byte("data")) }) // what becomes of it is seen at the other end
	if r := run(d, endless, came, "volume", "import", "new", "-"); r.code != exitInterrupted {
		t.Errorf("an upload: %+v", r)
	}
	if err := <-left; err == nil {
		t.Error("the upload that was interrupted looks whole")
	}
	if err := feed.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()

	v.handle("POST", s+"/Import", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"@odata.id":"/redfish/v1/T/1","@odata.type":"#Task.v1_7_0.Task","Id":"1","TaskState":"New"}`)
	})
	for _, tt := range []struct {
		answer string
		calls  string
		said   string
	}{
		{"yes\n", "[DELETE /redfish/v1/T/1]", "the import is ended"},
		{"no\n", "[]", "task 1 goes on"},
		{"", "[]", "task 1 goes on"}, // no terminal
	} {
		asked := make(chan struct{})
		var once sync.Once
		v.handle("GET", "/redfish/v1/T/1", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"@odata.id":"/redfish/v1/T/1","Id":"1","TaskState":"Running","PercentComplete":50}`)
			once.Do(func() { close(asked) })
		})
		d.answers = tt.answer
		if r := run(d, nil, asked, "volume", "import", "new", "http://x/y"); r.code != exitInterrupted || !strings.Contains(r.stderr, tt.said) {
			t.Errorf("%q: %+v", tt.answer, r)
		}
		if got := fmt.Sprint(v.took()); got != tt.calls {
			t.Errorf("%q: got %s, want %s", tt.answer, got, tt.calls)
		}
	}
	if n := v.open(); n != 0 {
		t.Errorf("%d sessions were left open", n)
	}
}

// A file of the name is there when it is whole, and not before.
func TestVolumeExport(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	dir := t.TempDir()
	raw, packed := filepath.Join(dir, "a.img"), filepath.Join(dir, "b.QCOW2")
	v.handle("GET", "/volumes/disk0", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "disk0 "+r.URL.RawQuery) })
	v.handle("GET", "/volumes/torn", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "half")
	})
	for _, tt := range []struct {
		args []string
		code int
		file string
		want string
	}{
		{[]string{"disk0", raw}, 0, raw, "disk0 "},
		{[]string{"disk0", raw, "-format", "qcow2"}, exitFailed, raw, "disk0 "},
		{[]string{"disk0", raw, "-format", "qcow2", "-f"}, 0, raw, "disk0 format=qcow2"},
		{[]string{"disk0", packed}, 0, packed, "disk0 format=qcow2"},
		{[]string{"disk0", filepath.Join(dir, "c"), "-format", "vmdk"}, exitUsage, "", ""},
		{[]string{"torn", raw, "-f"}, exitFailed, raw, "disk0 format=qcow2"},
		{[]string{"torn", filepath.Join(dir, "d")}, exitFailed, "", ""},
		{[]string{"none", filepath.Join(dir, "e")}, exitFailed, "", ""},
	} {
		if r := d.run(append([]string{"volume", "export"}, tt.args...)...); r.code != tt.code {
			t.Errorf("%v: %+v, want %d", tt.args, r, tt.code)
		}
		if tt.file == "" {
			continue
		}
		if got, err := os.ReadFile(tt.file); err != nil || !bytes.Equal(got, []byte(tt.want)) {
			t.Errorf("%v: got %q, %v, want %q", tt.args, got, err, tt.want)
		}
	}
	if r := d.run("volume", "export", "disk0", "-"); r.code != 0 || r.stdout != "disk0 " {
		t.Errorf("to the standard output: %+v", r)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("what is left: %v, %v", names, err)
	}
}
