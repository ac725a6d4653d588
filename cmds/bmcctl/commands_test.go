package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// Every path is found by links, so that it works with services of others.
func TestOtherVendor(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	d.env["BMCCTL_NEW_PASSWORD"] = "fresh-one"
	d.do(v,
		step{line: "info", out: "Other BMC"},
		step{line: "info", out: "2 Z80"},
		step{line: "info -o json", out: `"memory_gib": 1.5`},
		step{line: "power status", out: "Power               Off"},
		step{line: "power status -q", code: 1},
		step{line: "power policy", out: "AlwaysOn"},
		step{line: "power policy last-state", out: "LastState", calls: []string{`PATCH /redfish/v1/S/Blade.1 {"PowerRestorePolicy":"LastState"}`}},
		step{line: "power on", out: "On was requested", calls: []string{`POST /redfish/v1/S/Blade.1/Act/Reset {"ResetType":"On"}`}},
		step{line: "power off -w", out: "Blade.1: Off", calls: []string{`POST /redfish/v1/S/Blade.1/Act/Reset {"ResetType":"ForceOff"}`}},
		step{line: "power on -w -timeout 20ms", code: exitNoOutcome, err: "no outcome in time", calls: []string{`POST /redfish/v1/S/Blade.1/Act/Reset {"ResetType":"On"}`}},
		step{line: "power nmi", code: exitUnsupported, err: "it offers On, ForceOff"},
		step{line: "boot show", out: "UEFI"},
		step{line: "boot set disk -persistent -uefi", out: "continuous", calls: []string{`PATCH /redfish/v1/S/Blade.1 {"Boot":{"BootSourceOverrideEnabled":"Continuous","BootSourceOverrideTarget":"Hdd","BootSourceOverrideMode":"UEFI"}}`}},
		step{line: "boot set CD", calls: []string{`PATCH /redfish/v1/S/Blade.1 {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Cd"}}`}},
		step{line: "boot set usb", code: exitUnsupported, err: "it offers None, Pxe"},
		step{line: "boot set pxe -uefi -legacy", code: exitUsage},
		step{line: "boot clear", calls: []string{`PATCH /redfish/v1/S/Blade.1 {"Boot":{"BootSourceOverrideEnabled":"Disabled"}}`}},
		step{line: "sensors", out: "Inlet   21.5     °C     OK      -         -         40         -"},
		step{line: "sensors", out: "Fan 1   -        RPM    Absent"},
		step{line: "sensors", out: "CPU     50       °C     OK      -         -         -          90"},
		step{line: "sensors -o json", out: `"reading": null`},
		step{line: "log services", out: "system/Sel"},
		step{line: "log list -n 2", out: "Fan  [31mfailed"}, // its escape is taken out
		step{line: "log list Sel -o json -n 1", out: `"message_id": "V.1.0.Fan"`},
		step{line: "events list", out: "Began"},
		step{line: "log list nothing", code: exitUsage, err: "want one of system/Sel"},
		step{line: "log clear system/Sel", calls: []string{"POST /redfish/v1/S/Blade.1/L/Sel/Clear {}"}},
		step{line: "media list", out: "Stick  USBStick  yes       yes        http://x/a.img"},
		step{line: "media insert http://y/b.iso?v=1 -w", out: "in drive CD1", calls: []string{`POST /redfish/v1/M/bmc9/VM/CD1/In {"Image":"http://y/b.iso?v=1","Inserted":true,"WriteProtected":false}`}},
		step{line: "media insert http://y/b.img", code: exitFailed, err: "eject first"},
		step{line: "media insert http://y/b.img -drive Stick -f", out: "in drive Stick", calls: []string{
			"POST /redfish/v1/M/bmc9/VM/Stick/Out {}", `POST /redfish/v1/M/bmc9/VM/Stick/In {"Image":"http://y/b.img","Inserted":true,"WriteProtected":true}`}},
		step{line: "media insert http://y/b.img -f", out: "in drive Stick", calls: []string{
			"POST /redfish/v1/M/bmc9/VM/Stick/Out {}", `POST /redfish/v1/M/bmc9/VM/Stick/In {"Image":"http://y/b.img","Inserted":true,"WriteProtected":true}`}},
		step{line: "media insert /nowhere/b.iso", code: exitUnsupported, err: "keeps no images"},
		step{line: "media eject", out: "Stick is empty", calls: []string{"POST /redfish/v1/M/bmc9/VM/Stick/Out {}"}},
		step{line: "media eject none", code: exitUsage},
		step{line: "media images", code: exitUnsupported},
		step{line: "users list", out: "eve   ReadOnly       yes      yes"},
		step{line: "users add bob Operator", out: "bob was made", calls: []string{`POST /redfish/v1/A/s {"UserName":"bob","Password":"fresh-one","RoleId":"Operator","Enabled":true}`}},
		step{line: "users rm eve", calls: []string{"DELETE /redfish/v1/A/s/3"}},
		step{line: "users rm nobody", code: exitFailed, err: `there is no user "nobody"`},
		step{line: "users role eve Operator", out: "eve has the role Operator", calls: []string{`PATCH /redfish/v1/A/s/3 {"RoleId":"Operator"}`}},
		step{line: "users disable eve", calls: []string{`PATCH /redfish/v1/A/s/3 {"Enabled":false}`}},
		step{line: "users enable eve", calls: []string{`PATCH /redfish/v1/A/s/3 {"Enabled":true}`}},
		step{line: "users unlock eve", calls: []string{`PATCH /redfish/v1/A/s/3 {"Locked":false}`}},
		step{line: "users passwd eve", calls: []string{`PATCH /redfish/v1/A/s/3 {"Password":"fresh-one"}`}},
		step{line: "users passwd", out: "password of root", calls: []string{`PATCH /redfish/v1/A/s/2 {"Password":"fresh-one"}`}},
		step{line: "users role eve operator", out: "eve has the role Operator", calls: []string{`PATCH /redfish/v1/A/s/3 {"RoleId":"Operator"}`}},
		step{line: "users keys list eve", out: "a   ssh-ed25519  SHA256:x     eve@desk\n"},
		step{line: "users keys list eve -o json", out: `"comment": "eve@desk"`},
		step{line: "users keys list root", code: exitUnsupported},
		step{line: "users keys rm eve SHA256:x", out: "no more", calls: []string{"DELETE /redfish/v1/A/s/3/K/a"}},
		step{line: "users keys rm eve b", code: exitFailed, err: `eve has no key "b"`},
		step{line: "settings network show", out: "192.0.2.9/24 2001:db8::9/64"},
		step{line: "settings network show -o json", out: `"name_servers": [
      "192.0.2.53"
    ]`},
		step{line: "settings network set -address 192.0.2.10/25 -gateway 192.0.2.1 -dns 192.0.2.53,2001:db8::53", calls: []string{
			`PATCH /redfish/v1/M/bmc9/N/NIC.1 {"DHCPv4":{"DHCPEnabled":false},"IPv4StaticAddresses":[{"Address":"192.0.2.10","SubnetMask":"255.255.255.128","Gateway":"192.0.2.1"}],"StaticNameServers":["192.0.2.53","2001:db8::53"]}`}},
		step{line: "settings network set -dhcp -ipv6 off", calls: []string{`PATCH /redfish/v1/M/bmc9/N/NIC.1 {"DHCPv4":{"DHCPEnabled":true},"IPv6Enabled":false}`}},
		step{line: "settings network set -dhcp -if eth7", code: exitUsage, err: "NIC.1"},
		step{line: "settings network set", code: exitUsage},
		step{line: "settings services", out: "IPMI     off    623"},
		step{line: "settings enable ipmi", calls: []string{`PATCH /redfish/v1/M/bmc9/P {"IPMI":{"ProtocolEnabled":true}}`}},
		step{line: "settings disable https", code: exitUsage, err: "-yes says so"},
		step{line: "settings disable https -yes", calls: []string{`PATCH /redfish/v1/M/bmc9/P {"HTTPS":{"ProtocolEnabled":false}}`}},
		step{line: "settings disable telnet", code: exitUsage, err: "only HTTPS, IPMI, SSH"},
		step{line: "settings hostname", out: "bmc9"},
		step{line: "settings hostname new", calls: []string{`PATCH /redfish/v1/M/bmc9/N/NIC.1 {"HostName":"new"}`}},
		step{line: "settings time", out: "2026-01-01T00:00:00Z"},
		step{line: "settings time 2027-02-03T04:05:06+01:00", calls: []string{`PATCH /redfish/v1/M/bmc9 {"DateTime":"2027-02-03T03:05:06+00:00"}`}},
		step{line: "settings time later", code: exitUsage},
		step{line: "settings ntp", out: "a.example"},
		step{line: "settings ntp b c", calls: []string{`PATCH /redfish/v1/M/bmc9/P {"NTP":{"ProtocolEnabled":true,"NTPServers":["b","c"]}}`}},
		step{line: "settings ntp -off", calls: []string{`PATCH /redfish/v1/M/bmc9/P {"NTP":{"ProtocolEnabled":false}}`}},
		step{line: "settings ntp -off b", code: exitUsage},
		step{line: "cert show", out: "bmc9"},
		step{line: "cert csr", code: exitUsage},
		step{line: "firmware", out: "BMC   9.9"},
		step{line: "sessions list", out: "7 *  root  Redfish  192.0.2.77"},
		step{line: "sessions rm 8", calls: []string{"DELETE /redfish/v1/Login/8"}},
		step{line: "sessions rm 9", code: exitFailed},
		step{line: "console", code: exitUnsupported},
		step{line: "update ftp://x/y", code: exitUnsupported, err: "it offers HTTPS"},
		step{line: "update https://x/y", calls: []string{`POST /redfish/v1/U/Simple {"ImageURI":"https://x/y","TransferProtocol":"HTTPS"}`}},
		step{line: "get /redfish/v1/M", out: `"@odata.id": "/redfish/v1/M/bmc9"`},
		step{line: "get /redfish/v1/none", code: exitFailed, err: "There is no /redfish/v1/none.\n  Look elsewhere.\n"},
		step{line: "get https://elsewhere.example/", code: exitFailed, err: "which is not asked"},
		step{line: `patch /redfish/v1/M/bmc9 {"x":1} -if-match "e"`, calls: []string{`PATCH /redfish/v1/M/bmc9 {"x":1}`}},
		step{line: "patch /redfish/v1/M/bmc9 {x}", code: exitUsage},
		step{line: "post /redfish/v1/M/bmc9/Reset", calls: []string{"POST /redfish/v1/M/bmc9/Reset {}"}},
		step{line: "delete /redfish/v1/Login/8", calls: []string{"DELETE /redfish/v1/Login/8"}},
		step{line: "-system Blade.1 info", out: "bmc9"},
		step{line: "-system none power on", code: exitUsage, err: "only Blade.1"},
		step{line: "power", code: exitUsage, err: "power cycle"},
		step{line: "power on now", code: exitUsage, err: "usage: bmcctl power on"},
		step{line: "fly", code: exitUsage, err: `no command "fly"`},
		step{line: "power on -x", code: exitUsage, err: "-x"},
		step{line: "-o yaml info", code: exitUsage},
		step{line: "help boot", out: "boot set TARGET"},
		step{line: "boot set -h", code: exitUsage, err: "-persistent"},
	)
}

// A service that knows several systems has to be told which.
func TestSeveralSystems(t *testing.T) {
	v := newVendor(t)
	v.set("/redfish/v1/S", list("/redfish/v1/S/Blade.1", "/redfish/v1/S/Blade.2"))
	v.set("/redfish/v1/S/Blade.2", strings.ReplaceAll(vendorDocs()["/redfish/v1/S/Blade.1"], "Blade.1", "Blade.2"))
	v.set("/redfish/v1/S/Blade.2/Info", `{}`) // which does not tell the kinds of reset
	newDesk(t, v).do(v,
		step{line: "power on", code: exitUsage, err: "Blade.1, Blade.2"},
		step{line: "-system Blade.2 power cycle", calls: []string{`POST /redfish/v1/S/Blade.2/Act/Reset {"ResetType":"PowerCycle"}`}})
}

// A restart is seen by the host's being off in between, or by its time.
func TestWaitForRestart(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	doc := strings.Replace(vendorDocs()["/redfish/v1/S/Blade.1"], `"PowerState":"Off"`, `"PowerState":"%s","LastResetTime":"%s"`, 1)
	state := func(power, at string) string { return fmt.Sprintf(doc, power, at) }
	for _, states := range [][]string{
		{state("On", ""), state("On", ""), state("Off", ""), state("On", "")},
		{state("On", "1"), state("On", "1"), state("On", "2")},
	} {
		var n atomic.Int64
		v.handle("GET", "/redfish/v1/S/Blade.1", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, states[min(int(n.Add(1)), len(states))-1])
		})
		d.do(v, step{line: "power cycle -w", out: "Blade.1: On", calls: []string{`POST /redfish/v1/S/Blade.1/Act/Reset {"ResetType":"PowerCycle"}`}})
		if got := int(n.Load()); got != len(states) {
			t.Errorf("it looked %d times, want %d", got, len(states))
		}
	}
}

// Some services change nothing without If-Match.
func TestEntityTag(t *testing.T) {
	v := newVendor(t)
	uri := "/redfish/v1/S/Blade.1"
	v.handle("GET", uri, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"7"`)
		fmt.Fprint(w, vendorDocs()[uri])
	})
	v.handle("PATCH", uri, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-Match") != `"7"` {
			w.WriteHeader(http.StatusPreconditionRequired)
			return
		}
		fmt.Fprint(w, `{"@Message.ExtendedInfo":[{"MessageId":"Base.1.19.PropertyNotWritable","Message":"Mode stays."},{"MessageId":"Base.1.19.Success","Message":"Done."}]}`)
	})
	newDesk(t, v).do(v, step{line: "boot clear", out: "settings say", err: "note: Mode stays.\n"})
}

func TestErrors(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	answer := func(code int, body string) {
		v.handle("POST", "/redfish/v1/S/Blade.1/Act/Reset", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		})
	}
	for _, c := range []struct {
		status int
		body   string
		code   int
		err    string
	}{
		{409, fmt.Sprintf(errorBody, "ResourceInUse", "Busy.", "Wait."), exitBusy, "bmcctl: Busy.\n  Wait.\n(HTTP status 409 Conflict)\n"},
		{409, fmt.Sprintf(errorBody, "ResourceAlreadyExists", "It is there.", "None."), exitFailed, "bmcctl: It is there.\n(HTTP status 409 Conflict)\n"},
		{403, fmt.Sprintf(errorBody, "InsufficientPrivilege", "Not you.", "None."), exitDenied, "bmcctl: Not you.\n(HTTP status 403 Forbidden)\n"},
		{501, "", exitUnsupported, "bmcctl: HTTP status 501 Not Implemented\n"},
		{500, "<html>oops</html>", exitFailed, "bmcctl: HTTP status 500 Internal Server Error\n"},
		{400, fmt.Sprintf(errorBody, "GeneralError", "See Resolution.", "Call it x."), exitFailed, "bmcctl: Call it x.\n(HTTP status 400 Bad Request)\n"},
		{400, `{"error":{"code":"X.1.0.Y","message":"Only this."}}`, exitFailed, "bmcctl: Only this.\n"},
	} {
		answer(c.status, c.body)
		d.do(v, step{line: "power on", code: c.code, err: c.err})
	}
	answer(409, fmt.Sprintf(errorBody, "ResourceInUse", "Busy.", "Wait."))
	r := d.run("power", "on", "-o", "json")
	var f failure
	if err := json.Unmarshal([]byte(r.stderr), &f); err != nil || f.Status != 409 || len(f.Messages) != 1 || f.Messages[0].ID != "Base.1.19.ResourceInUse" {
		t.Errorf("JSON error: %q, %v", r.stderr, err)
	}
}

// The image is streamed, and a service without the library is named.
func TestUpload(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	file := filepath.Join(t.TempDir(), "my disk.iso")
	text := strings.Repeat("0123456789abcdef", 100_000)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := d.run("media", "insert", file)
	if r.code != exitUnsupported || !strings.Contains(r.stderr, "cannot take uploads; give a URL") {
		t.Errorf("without a library: %+v", r)
	}
	v.took()
	there := false
	v.handle("PUT", "/media/other.iso", func(w http.ResponseWriter, r *http.Request) {
		if readAll(t, r.Body) != text {
			t.Error("what came under another name is not the file")
		}
		w.WriteHeader(http.StatusCreated)
	})
	v.handle("PUT", "/media/my disk.iso", func(w http.ResponseWriter, r *http.Request) {
		if there && r.Header.Get("If-None-Match") == "*" {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		if r.ContentLength != int64(len(text)) || readAll(t, r.Body) != text {
			t.Error("what came is not the file")
		}
		there = true
		w.WriteHeader(http.StatusCreated)
	})
	insert := []string{`POST /redfish/v1/M/bmc9/VM/CD1/In {"Image":"/media/my%20disk.iso","Inserted":true,"WriteProtected":true}`}
	for _, c := range []struct {
		args  []string
		code  int
		calls []string
	}{
		{[]string{"media", "insert", file}, 0, insert},
		{[]string{"media", "insert", file}, exitFailed, nil},
		{[]string{"media", "insert", file, "-f"}, 0, insert},
		{[]string{"media", "upload", file, "-f"}, 0, nil},
		{[]string{"media", "upload", file, "-as", "other.iso"}, 0, nil},
	} {
		if r := d.run(c.args...); r.code != c.code || fmt.Sprint(v.took()) != fmt.Sprint(c.calls) {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
	v.set("/media/", `{"images":[{"name":"old.iso","path":"/media/old.iso","size":5,"modified":"2026-01-01T00:00:00Z","in_use":true}]}`)
	d.do(v,
		step{line: "media images", out: "old.iso  5"},
		step{line: "media insert old.iso", calls: []string{`POST /redfish/v1/M/bmc9/VM/CD1/In {"Image":"/media/old.iso","Inserted":true,"WriteProtected":true}`}},
		step{line: "media insert /media/old.iso", calls: []string{`POST /redfish/v1/M/bmc9/VM/CD1/In {"Image":"/media/old.iso","Inserted":true,"WriteProtected":true}`}},
		step{line: "media insert none.iso", code: exitFailed, err: "neither a file here nor an uploaded image"},
		step{line: "media rm old.iso", calls: []string{"DELETE /media/old.iso"}})
}

func TestUpdate(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	file := filepath.Join(t.TempDir(), "bmc.bundle")
	if err := os.WriteFile(file, []byte("software"), 0o600); err != nil {
		t.Fatal(err)
	}
	v.handle("POST", "/redfish/v1/U/push", func(w http.ResponseWriter, r *http.Request) {
		_, p, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || r.ContentLength <= 0 {
			t.Errorf("type %v, length %d", err, r.ContentLength)
		}
		parts := multipart.NewReader(r.Body, p["boundary"])
		for _, want := range [][3]string{{"UpdateParameters", "", `{"@Redfish.OperationApplyTime":"OnReset"}`}, {"UpdateFile", "bmc.bundle", "software"}} {
			part, err := parts.NextPart()
			if err != nil {
				t.Error(err)
				return
			}
			if got := [3]string{part.FormName(), part.FileName(), readAll(t, part)}; got != want {
				t.Errorf("part %q, want %q", got, want)
			}
		}
		w.Header().Set("Location", "/redfish/v1/T/mon/1")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"@odata.id":"/redfish/v1/T/1","@odata.type":"#Task.v1_7_0.Task","Id":"1","TaskState":"New"}`)
	})
	var n atomic.Int64
	task := func(state, health string) {
		n.Store(0)
		v.handle("GET", "/redfish/v1/T/1", func(w http.ResponseWriter, _ *http.Request) {
			now := state
			if n.Add(1) == 1 {
				now = "Running"
			}
			fmt.Fprintf(w, `{"@odata.id":"/redfish/v1/T/1","Id":"1","TaskState":%q,"TaskStatus":%q,"PercentComplete":50,
				"Messages":[{"MessageId":"Update.1.0.X","Message":"Signature looked at.","MessageSeverity":%q,"Resolution":"Get another."}]}`, now, health, health)
		})
	}
	task("Completed", "OK")
	if r := d.run("update", file, "-apply", "OnReset"); r.code != 0 || r.stdout != "Update: completed\n" || strings.Count(r.stderr, "Signature looked at.") != 1 {
		t.Errorf("update: %+v", r)
	}
	task("Exception", "Critical")
	if r := d.run("update", file, "-apply", "OnReset"); r.code != exitFailed || !strings.Contains(r.stderr, "ended as exception\nSignature looked at.\n  Get another.") {
		t.Errorf("a failed update: %+v", r)
	}
	task("Completed", "OK")
	r := d.run("update", file, "-apply", "OnReset", "-o", "json")
	var report taskReport
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || report.State != "Completed" || report.Task != "/redfish/v1/T/1" || len(report.Messages) != 1 {
		t.Errorf("JSON: %+v, %v", r, err)
	}
}

func TestCertificate(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	v.handle("POST", "/redfish/v1/CS/CSR", func(w http.ResponseWriter, r *http.Request) {
		if got, want := readAll(t, r.Body), `{"CommonName":"b.example","AlternativeNames":["b","192.0.2.9"],"CertificateCollection":{"@odata.id":"/redfish/v1/M/bmc9/P/Certs"}}`; got != want {
			t.Errorf("GenerateCSR got %s", got)
		}
		fmt.Fprint(w, `{"CSRString":"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n"}`)
	})
	d.do(v, step{line: "cert csr -cn b.example -san b,192.0.2.9", out: "-----BEGIN CERTIFICATE REQUEST-----\nAA=="})
	// The certificate that is brought is pinned from then on; until the service
	// shows it, the one before will do.
	file := filepath.Join(t.TempDir(), "new.pem")
	if err := os.WriteFile(file, certificatePEM([]byte("another")), 0o600); err != nil {
		t.Fatal(err)
	}
	r := d.run("cert", "replace", file)
	if got := v.took(); r.code != 0 || len(got) != 1 || !strings.HasSuffix(got[0], `"CertificateType":"PEM","CertificateUri":{"@odata.id":"/redfish/v1/M/bmc9/P/Certs/1"}}`) {
		t.Errorf("cert replace: %+v, %q", r, got)
	}
	d.do(v, step{line: "profile list -o json", out: fingerprint([]byte("another"))},
		step{line: "info", code: exitNoService, err: "not the one that was pinned"})
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// A reset is over when the session of before is not known any more, or when the
// service was away.
func TestReset(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	var n atomic.Int64
	v.handle("GET", "/redfish/v1/Login/7", func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) {
		case 1:
			fmt.Fprint(w, `{}`)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	r := d.run("reset", "-w")
	if r.code != 0 || !strings.Contains(r.stdout, "bmc9 answers again") || n.Load() != 3 {
		t.Errorf("reset -w: %+v, looked %d times", r, n.Load())
	}
	if got, want := fmt.Sprint(v.took()), `[POST /redfish/v1/M/bmc9/Reset {"ResetType":"ForceRestart"}]`; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	n.Store(0)
	v.handle("GET", "/redfish/v1/Login/7", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if r := d.run("reset", "-w", "-timeout", "30ms"); r.code != exitNoOutcome {
		t.Errorf("a service that stays away: %+v", r)
	}
}

// A public key is sent as it stands in the file, a private one never.
func TestAddKeys(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"one.pub": "ssh-ed25519 AAAA eve@desk\n",
		"many":    "# hers\n\nssh-ed25519 AAAA x\r\nssh-rsa BBBB\n",
		"none":    "# nothing\n",
		"id_rsa":  "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	post := func(key string) string {
		return fmt.Sprintf(`POST /redfish/v1/A/s/3/K {"KeyString":%q,"KeyType":"SSH"}`, key)
	}
	d.do(v,
		step{line: "users keys add eve " + dir + "/one.pub", out: "eve has the key\n", calls: []string{post("ssh-ed25519 AAAA eve@desk")}},
		step{line: "users keys add eve " + dir + "/many", out: "eve has the 2 keys\n", calls: []string{post("ssh-ed25519 AAAA x"), post("ssh-rsa BBBB")}},
		step{line: "users keys add eve " + dir + "/none", code: exitUsage, err: "no public key"},
		step{line: "users keys add eve " + dir + "/id_rsa", code: exitUsage, err: "want the public one"},
		step{line: "users keys add eve " + dir + "/nothing", code: exitFailed},
		step{line: "users keys add root " + dir + "/one.pub", code: exitUnsupported})
	d.answers = "ssh-rsa CCCC\n"
	d.do(v, step{line: "users keys add eve -", calls: []string{post("ssh-rsa CCCC")}})
}

// A reset to defaults is asked about at a terminal, and has to be meant without.
func TestResetDefaults(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	run := func(code int, text string, calls ...string) {
		t.Helper()
		r := d.run(strings.Fields("reset defaults " + text)...)
		if got := v.took(); r.code != code || fmt.Sprint(got) != fmt.Sprint(calls) {
			t.Errorf("%s, answered %q: %+v, asked for %q; want %d, %q", text, d.answers, r, got, code, calls)
		}
	}
	all, network := `POST /redfish/v1/M/bmc9/Defaults {"ResetType":"ResetAll"}`, `POST /redfish/v1/M/bmc9/Defaults {"ResetType":"PreserveNetwork"}`
	run(exitUsage, "all")
	run(exitDone, "all -yes", all)
	run(exitUnsupported, "keep-network-and-users -yes")
	run(exitUsage, "everything -yes")
	run(exitUsage, "")
	d.answers = "n\n"
	run(exitFailed, "all")
	d.answers = "y\n"
	run(exitDone, "keep-network", network)
}

// Who has to change the password first is shown nothing but where to do it.
func TestPasswordChange(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	d.env["BMCCTL_NEW_PASSWORD"] = "fresh-one"
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"error":{"code":"Base.1.19.PasswordChangeRequired","message":"Change it.","@Message.ExtendedInfo":[{"MessageId":"Base.1.19.PasswordChangeRequired","Message":"Change it.","MessageArgs":["/redfish/v1/A/s/2"]}]}}`)
	}
	for _, uri := range []string{"/redfish/v1/A", "/redfish/v1/A/s", "/redfish/v1/S", "/redfish/v1/Login/7"} {
		v.handle("GET", uri, refuse)
	}
	for _, line := range []string{"users passwd", "users passwd root"} {
		d.do(v, step{line: line, out: "password of root is changed", calls: []string{`PATCH /redfish/v1/A/s/2 {"Password":"fresh-one"}`}})
	}
	d.do(v, step{line: "power on", code: exitDenied, err: "Change it.\nbmcctl users passwd does it.\n"})
}
