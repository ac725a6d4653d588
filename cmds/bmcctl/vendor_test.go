package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A vendor is a Redfish service of somebody else: none of its URIs but the root is
// where nitrino's are. What it is asked to do it writes down.
type vendor struct {
	server *httptest.Server

	mu       sync.Mutex
	docs     map[string]string // by URI
	handlers map[string]http.HandlerFunc
	calls    []string // "METHOD URI BODY"
	sessions int      // open
	logins   int
}

const (
	vendorUser, vendorPassword, vendorToken = "root", "calvin-2026", "0badcafe"
	errorBody                               = `{"error":{"code":"Base.1.0.GeneralError","message":"See ExtendedInfo.","@Message.ExtendedInfo":[{"MessageId":"Base.1.19.%s","Message":"%s","Severity":"Critical","Resolution":"%s"}]}}`
)

func newVendor(t testing.TB) *vendor {
	t.Helper()
	v := &vendor{docs: map[string]string{}, handlers: map[string]http.HandlerFunc{}}
	for uri, doc := range vendorDocs() {
		v.docs[uri] = doc
	}
	v.server = httptest.NewUnstartedServer(v)
	v.server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it
	v.server.StartTLS()
	t.Cleanup(v.server.Close)
	return v
}

func (v *vendor) host() string { return strings.TrimPrefix(v.server.URL, "https://") }

func (v *vendor) fingerprint() string { return fingerprint(v.server.Certificate().Raw) }

// set changes a document, or one request's answer.
func (v *vendor) set(uri, doc string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.docs[uri] = doc
}

func (v *vendor) handle(method, uri string, h http.HandlerFunc) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.handlers[method+" "+uri] = h
}

// took lists what was asked of it, without logins, and forgets that.
func (v *vendor) took() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := v.calls
	v.calls = nil
	return all
}

func (v *vendor) open() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sessions
}

func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	uri := r.URL.Path
	if uri != "/redfish/v1/" && uri != "/redfish/v1/Login" && r.Header.Get("X-Auth-Token") != vendorToken {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, errorBody, "AccessUnauthorized", "Who are you?", "Log in.")
		return
	}
	v.mu.Lock()
	handler, doc := v.handlers[r.Method+" "+uri], v.docs[uri]
	v.mu.Unlock()
	switch {
	case handler != nil:
		handler(w, r)
	case uri == "/redfish/v1/Login" && r.Method == "POST":
		v.login(w, r)
	case uri == "/redfish/v1/Login/7" && r.Method == "DELETE":
		v.mu.Lock()
		v.sessions--
		v.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case r.Method == "GET" && doc == "" || r.Method == "PUT":
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, errorBody, "ResourceMissingAtURI", "There is no "+uri+".", "Look elsewhere.")
	case r.Method == "GET":
		fmt.Fprint(w, doc)
	default:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		v.mu.Lock()
		v.calls = append(v.calls, strings.TrimSpace(r.Method+" "+uri+" "+string(body)))
		v.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (v *vendor) login(w http.ResponseWriter, r *http.Request) {
	var who struct{ UserName, Password string }
	if err := json.NewDecoder(r.Body).Decode(&who); err != nil || who.UserName != vendorUser || who.Password != vendorPassword {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, errorBody, "AccessUnauthorized", "Who are you?", "Log in.")
		return
	}
	v.mu.Lock()
	v.sessions++
	v.logins++
	v.mu.Unlock()
	w.Header().Set("X-Auth-Token", vendorToken)
	w.Header().Set("Location", "/redfish/v1/Login/7")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprint(w, `{"@odata.id":"/redfish/v1/Login/7","Id":"7"}`)
}

// list is a collection.
func list(members ...string) string {
	var links []string
	for _, m := range members {
		if !strings.HasPrefix(m, "{") {
			m = fmt.Sprintf(`{"@odata.id":%q}`, m)
		}
		links = append(links, m)
	}
	return `{"Members":[` + strings.Join(links, ",") + `]}`
}

func vendorDocs() map[string]string {
	return map[string]string{
		"/redfish/v1/": `{"@odata.id":"/redfish/v1/","Product":"Other BMC","Vendor":"Contoso","RedfishVersion":"1.8.0",
			"Systems":{"@odata.id":"/redfish/v1/S"},"Chassis":{"@odata.id":"/redfish/v1/C"},"Managers":{"@odata.id":"/redfish/v1/M"},
			"AccountService":{"@odata.id":"/redfish/v1/A"},"SessionService":{"@odata.id":"/redfish/v1/SS"},"EventService":{"@odata.id":"/redfish/v1/E"},
			"UpdateService":{"@odata.id":"/redfish/v1/U"},"CertificateService":{"@odata.id":"/redfish/v1/CS"},"Links":{"Sessions":{"@odata.id":"/redfish/v1/Login"}}}`,
		"/redfish/v1/S": list("/redfish/v1/S/Blade.1"),
		"/redfish/v1/S/Blade.1": `{"@odata.id":"/redfish/v1/S/Blade.1","Id":"Blade.1","PowerState":"Off","PowerRestorePolicy":"AlwaysOn","Model":"X1","Status":{"Health":"OK","State":"Enabled"},
			"ProcessorSummary":{"Count":2,"Model":"Z80"},"MemorySummary":{"TotalSystemMemoryGiB":1.5},
			"Redundancy@odata.count":1,
			"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Pxe","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget@Redfish.AllowableValues":["None","Pxe","Hdd","Cd"]},
			"LogServices":{"@odata.id":"/redfish/v1/S/Blade.1/L"},"Links":{"ManagedBy":[{"@odata.id":"/redfish/v1/M/bmc9"}]},
			"Actions":{"#ComputerSystem.Reset":{"target":"/redfish/v1/S/Blade.1/Act/Reset","@Redfish.ActionInfo":"/redfish/v1/S/Blade.1/Info"}}}`,
		"/redfish/v1/S/Blade.1/Info": `{"Parameters":[{"Name":"ResetType","AllowableValues":["On","ForceOff","GracefulShutdown","ForceRestart","PowerCycle"]}]}`,
		"/redfish/v1/S/Blade.1/L":    list("/redfish/v1/S/Blade.1/L/Sel"),
		"/redfish/v1/S/Blade.1/L/Sel": `{"Id":"Sel","Name":"System log","LogEntryType":"SEL","Entries":{"@odata.id":"/redfish/v1/S/Blade.1/L/Sel/E"},
			"Actions":{"#LogService.ClearLog":{"target":"/redfish/v1/S/Blade.1/L/Sel/Clear"}}}`,
		"/redfish/v1/S/Blade.1/L/Sel/E": `{"Members":[{"@odata.id":"/x/3","Id":"3","Created":"2026-01-03T00:00:00Z","Severity":"Critical","Message":"Fan \u001b[31mfailed","MessageId":"V.1.0.Fan"},
			{"@odata.id":"/x/2","Id":"2","Created":"2026-01-02T00:00:00Z","Severity":"OK","Message":"Fan fine"}],"Members@odata.nextLink":"/redfish/v1/S/Blade.1/L/Sel/E2"}`,
		"/redfish/v1/S/Blade.1/L/Sel/E2": list(`{"@odata.id":"/x/1","Id":"1","Created":"2026-01-01T00:00:00Z","Severity":"OK","Message":"Began"}`),
		"/redfish/v1/C":                  list("/redfish/v1/C/1", "/redfish/v1/C/2"),
		"/redfish/v1/C/1":                `{"Id":"1","Sensors":{"@odata.id":"/redfish/v1/C/1/Sensors"}}`,
		"/redfish/v1/C/1/Sensors":        list("/redfish/v1/C/1/Sensors/a", "/redfish/v1/C/1/Sensors/b"),
		"/redfish/v1/C/1/Sensors/a":      `{"Name":"Inlet","Reading":21.5,"ReadingUnits":"Cel","Status":{"Health":"OK","State":"Enabled"},"Thresholds":{"UpperCaution":{"Reading":40}}}`,
		"/redfish/v1/C/1/Sensors/b":      `{"Name":"Fan 1","Reading":null,"ReadingUnits":"RPM","Status":{"State":"Absent"}}`,
		"/redfish/v1/C/2":                `{"Id":"2","Thermal":{"@odata.id":"/redfish/v1/C/2/T"},"Power":{"@odata.id":"/redfish/v1/C/2/P"}}`,
		"/redfish/v1/C/2/T":              `{"Temperatures":[{"Name":"CPU","ReadingCelsius":50,"UpperThresholdCritical":90,"Status":{"Health":"OK"}}],"Fans":[{"FanName":"F2","Reading":4000,"ReadingUnits":"RPM"}]}`,
		"/redfish/v1/C/2/P":              `{"Voltages":[{"Name":"12V","ReadingVolts":12.1}],"PowerControl":[{"Name":"All","PowerConsumedWatts":55}]}`,
		"/redfish/v1/M":                  list("/redfish/v1/M/bmc9"),
		"/redfish/v1/M/bmc9": `{"@odata.id":"/redfish/v1/M/bmc9","Id":"bmc9","Model":"B","FirmwareVersion":"9.9","DateTime":"2026-01-01T00:00:00Z",
			"EthernetInterfaces":{"@odata.id":"/redfish/v1/M/bmc9/N"},"NetworkProtocol":{"@odata.id":"/redfish/v1/M/bmc9/P"},"VirtualMedia":{"@odata.id":"/redfish/v1/M/bmc9/VM"},
			"Actions":{"#Manager.Reset":{"target":"/redfish/v1/M/bmc9/Reset","ResetType@Redfish.AllowableValues":["ForceRestart"]},
				"#Manager.ResetToDefaults":{"target":"/redfish/v1/M/bmc9/Defaults","ResetType@Redfish.AllowableValues":["ResetAll","PreserveNetwork"]}}}`,
		"/redfish/v1/M/bmc9/N": list("/redfish/v1/M/bmc9/N/NIC.1"),
		"/redfish/v1/M/bmc9/N/NIC.1": `{"@odata.id":"/redfish/v1/M/bmc9/N/NIC.1","Id":"NIC.1","MACAddress":"00:11:22:33:44:55","LinkStatus":"LinkUp","HostName":"bmc9","DHCPv4":{"DHCPEnabled":true},
			"IPv4Addresses":[{"Address":"192.0.2.9","SubnetMask":"255.255.255.0","Gateway":"192.0.2.1"}],"IPv6Addresses":[{"Address":"2001:db8::9","PrefixLength":64}],"NameServers":["192.0.2.53","0.0.0.0"]}`,
		"/redfish/v1/M/bmc9/P": `{"HostName":"bmc9","SSH":{"ProtocolEnabled":true,"Port":22},"IPMI":{"ProtocolEnabled":false,"Port":623},"Status":{"Health":"OK"},
			"HTTPS":{"ProtocolEnabled":true,"Port":443,"Certificates":{"@odata.id":"/redfish/v1/M/bmc9/P/Certs"}},"NTP":{"ProtocolEnabled":true,"NTPServers":["a.example",""],"NetworkSuppliedServers":[]}}`,
		"/redfish/v1/M/bmc9/VM": list("/redfish/v1/M/bmc9/VM/CD1", "/redfish/v1/M/bmc9/VM/Stick"),
		"/redfish/v1/M/bmc9/VM/CD1": `{"@odata.id":"/redfish/v1/M/bmc9/VM/CD1","Id":"CD1","MediaTypes":["CD","DVD"],"Inserted":false,"Image":null,
			"Actions":{"#VirtualMedia.InsertMedia":{"target":"/redfish/v1/M/bmc9/VM/CD1/In"},"#VirtualMedia.EjectMedia":{"target":"/redfish/v1/M/bmc9/VM/CD1/Out"}}}`,
		"/redfish/v1/M/bmc9/VM/Stick": `{"@odata.id":"/redfish/v1/M/bmc9/VM/Stick","Id":"Stick","MediaTypes":["USBStick"],"Inserted":true,"Image":"http://x/a.img","WriteProtected":true,
			"Actions":{"#VirtualMedia.InsertMedia":{"target":"/redfish/v1/M/bmc9/VM/Stick/In"},"#VirtualMedia.EjectMedia":{"target":"/redfish/v1/M/bmc9/VM/Stick/Out"}}}`,
		"/redfish/v1/A":   `{"Accounts":{"@odata.id":"/redfish/v1/A/s"}}`,
		"/redfish/v1/A/s": list("/redfish/v1/A/s/1", "/redfish/v1/A/s/2", "/redfish/v1/A/s/3"),
		// The first is an empty place.
		"/redfish/v1/A/s/1":     `{"@odata.id":"/redfish/v1/A/s/1","UserName":"","RoleId":"None","Enabled":false}`,
		"/redfish/v1/A/s/2":     `{"@odata.id":"/redfish/v1/A/s/2","UserName":"root","RoleId":"Administrator","Enabled":true,"AccountTypes":["Redfish"]}`,
		"/redfish/v1/A/s/3":     `{"@odata.id":"/redfish/v1/A/s/3","UserName":"eve","RoleId":"ReadOnly","Enabled":true,"Locked":true,"Keys":{"@odata.id":"/redfish/v1/A/s/3/K"}}`,
		"/redfish/v1/A/s/3/K":   list("/redfish/v1/A/s/3/K/a", "/redfish/v1/A/s/3/K/b"),
		"/redfish/v1/A/s/3/K/a": `{"@odata.id":"/redfish/v1/A/s/3/K/a","Id":"a","KeyType":"SSH","KeyString":"ssh-ed25519 AAAA eve@desk","SSH":{"Fingerprint":"SHA256:x","Comment":"eve@desk"}}`,
		"/redfish/v1/A/s/3/K/b": `{"@odata.id":"/redfish/v1/A/s/3/K/b","Id":"b","KeyType":"NVMeoF"}`,
		"/redfish/v1/Login":     list("/redfish/v1/Login/7", "/redfish/v1/Login/8"),
		"/redfish/v1/Login/7":   `{"@odata.id":"/redfish/v1/Login/7","Id":"7","UserName":"root","SessionType":"Redfish","ClientOriginIPAddress":"192.0.2.77"}`,
		"/redfish/v1/Login/8":   `{"@odata.id":"/redfish/v1/Login/8","Id":"8","UserName":"eve"}`,
		"/redfish/v1/E":         `{"ServerSentEventUri":"/redfish/v1/E/stream"}`,
		"/redfish/v1/U": `{"MultipartHttpPushUri":"/redfish/v1/U/push","FirmwareInventory":{"@odata.id":"/redfish/v1/U/F"},
			"Actions":{"#UpdateService.SimpleUpdate":{"target":"/redfish/v1/U/Simple","TransferProtocol@Redfish.AllowableValues":["HTTPS"]}}}`,
		"/redfish/v1/U/F":              list("/redfish/v1/U/F/1"),
		"/redfish/v1/U/F/1":            `{"@odata.id":"/redfish/v1/U/F/1","Id":"1","Name":"BMC","Version":"9.9","Updateable":true}`,
		"/redfish/v1/CS":               `{"Actions":{"#CertificateService.GenerateCSR":{"target":"/redfish/v1/CS/CSR"},"#CertificateService.ReplaceCertificate":{"target":"/redfish/v1/CS/Replace"}}}`,
		"/redfish/v1/M/bmc9/P/Certs":   list("/redfish/v1/M/bmc9/P/Certs/1"),
		"/redfish/v1/M/bmc9/P/Certs/1": `{"@odata.id":"/redfish/v1/M/bmc9/P/Certs/1","Subject":{"CommonName":"bmc9"},"Issuer":{"CommonName":"ca"},"ValidNotAfter":"2030-01-01T00:00:00Z"}`,
	}
}

// A run is what came of a command line.
type result struct {
	code           int
	stdout, stderr string
}

// A desk is somebody with bmcctl, a home and an environment.
type desk struct {
	t       testing.TB
	home    string
	env     map[string]string
	answers string // typed at the terminal; "": there is none
}

// newDesk has a profile of the vendor and the password in the environment.
func newDesk(t testing.TB, v *vendor) *desk {
	t.Helper()
	d := &desk{t: t, home: t.TempDir(), env: map[string]string{"BMCCTL_PASSWORD": vendorPassword}}
	if r := d.run("-u", vendorUser, "-fingerprint", v.fingerprint(), "profile", "add", "lab", v.host()); r.code != 0 {
		t.Fatalf("profile add: %+v", r)
	}
	return d
}

func (d *desk) program() (*program, *bytes.Buffer, *bytes.Buffer) {
	var stdout, stderr bytes.Buffer
	return &program{
		stdin: strings.NewReader(d.answers), stdout: &stdout, stderr: &stderr, home: d.home, poll: 5 * time.Millisecond, terminal: d.answers != "",
		getenv: func(name string) string { return d.env[name] },
		secret: func(string) (string, error) { return "", errNoTerminal },
	}, &stdout, &stderr
}

func (d *desk) run(args ...string) result {
	d.t.Helper()
	p, stdout, stderr := d.program()
	code := p.main(d.t.Context(), args)
	return result{code, stdout.String(), stderr.String()}
}

// A step is a command line and what has to come of it.
type step struct {
	line  string
	code  int
	out   string   // in the standard output
	err   string   // in the standard error output
	calls []string // of the service
}

func (d *desk) do(v *vendor, steps ...step) {
	d.t.Helper()
	for _, s := range steps {
		r := d.run(strings.Fields(s.line)...)
		if r.code != s.code || !strings.Contains(r.stdout, s.out) || !strings.Contains(r.stderr, s.err) {
			d.t.Errorf("%s:\ngot code %d\nout %q\nerr %q\nwant code %d, out %q, err %q", s.line, r.code, r.stdout, r.stderr, s.code, s.out, s.err)
		}
		if got := v.took(); !slices.Equal(got, s.calls) {
			d.t.Errorf("%s: asked the service %q, want %q", s.line, got, s.calls)
		}
	}
	if got := v.open(); got != 0 {
		d.t.Errorf("%d sessions were left open", got)
	}
}

// readAll is for handlers: it fails the test where a body breaks off.
func readAll(t testing.TB, r io.Reader) string {
	data, err := io.ReadAll(r)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("reading a body: %v", err)
	}
	return string(data)
}
