//go:build e2e

package test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/common"
	"github.com/stmcginnis/gofish/redfish"
)

// gofish logs a client in that others wrote, for a session that ends with the
// test.
func (s *sim) gofish(t *testing.T, user, password string) *gofish.APIClient {
	t.Helper()
	c, err := s.gofishLogin(user, password)
	if err != nil {
		t.Fatalf("login as %s: %v", user, err)
	}
	t.Cleanup(c.Logout)
	return c
}

func (s *sim) gofishLogin(user, password string) (*gofish.APIClient, error) {
	return gofish.Connect(gofish.ClientConfig{Endpoint: s.Redfish, Username: user, Password: password, Insecure: true, ReuseConnections: true})
}

// system reads the host anew: gofish sends the entity tag of what it read, so
// that it can change only what it has seen last.
func system(t *testing.T, c *gofish.APIClient) *redfish.ComputerSystem {
	t.Helper()
	all, err := c.Service.Systems()
	if err != nil || len(all) != 1 {
		t.Fatalf("systems: %v, %v", all, err)
	}
	return all[0]
}

func manager(t *testing.T, c *gofish.APIClient) *redfish.Manager {
	t.Helper()
	all, err := c.Service.Managers()
	if err != nil || len(all) != 1 {
		t.Fatalf("managers: %v, %v", all, err)
	}
	return all[0]
}

func chassis(t *testing.T, c *gofish.APIClient) *redfish.Chassis {
	t.Helper()
	all, err := c.Service.Chassis()
	if err != nil || len(all) != 1 {
		t.Fatalf("chassis: %v, %v", all, err)
	}
	return all[0]
}

// status is the one that an error of gofish came with; 0: it is none.
func status(err error) int {
	if e, is := err.(*common.Error); is {
		return e.HTTPReturnedStatusCode
	}
	return 0
}

// TestGofishPower: a real host obeys each reset, and boots once from where it is
// told.
func TestGofishPower(t *testing.T) {
	s := start(t)
	if c, err := s.gofishLogin(s.User, "wrong"); err == nil {
		c.Logout()
		t.Fatal("a wrong password was taken")
	}
	c := s.gofish(t, s.User, s.Password)
	state := func(want redfish.PowerState) {
		t.Helper()
		eventually(t, "PowerState "+string(want), 30*time.Second, func() bool { return system(t, c).PowerState == want })
	}
	reset := func(kind redfish.ResetType) {
		t.Helper()
		var err error
		eventually(t, "the reset before to be over", 10*time.Second, func() bool {
			err = system(t, c).Reset(kind)
			return status(err) != http.StatusConflict
		})
		if err != nil {
			t.Fatalf("Reset %s: %v", kind, err)
		}
	}
	const network = "Booting from ROM"
	state(redfish.OffPowerState)
	reset(redfish.OnResetType)
	state(redfish.OnPowerState)
	s.shows(fromDisk, network)

	once := redfish.Boot{BootSourceOverrideEnabled: redfish.OnceBootSourceOverrideEnabled, BootSourceOverrideTarget: redfish.PxeBootSourceOverrideTarget}
	if err := system(t, c).SetBoot(once); err != nil {
		t.Fatal(err)
	}
	if got := system(t, c).Boot; got.BootSourceOverrideEnabled != once.BootSourceOverrideEnabled || got.BootSourceOverrideTarget != once.BootSourceOverrideTarget {
		t.Errorf("Boot: got %s from %s, want Once from Pxe", got.BootSourceOverrideEnabled, got.BootSourceOverrideTarget)
	}
	reset(redfish.PowerCycleResetType)
	s.shows(network, fromDisk)
	if got := system(t, c).Boot.BootSourceOverrideEnabled; got != redfish.DisabledBootSourceOverrideEnabled {
		t.Errorf("after the boot: got %s, want Disabled", got)
	}
	reset(redfish.ForceRestartResetType)
	s.shows(fromDisk, network)

	reset(redfish.NmiResetType)
	s.shows("NMI", network)
	reset(redfish.GracefulShutdownResetType)
	state(redfish.OffPowerState)
	reset(redfish.PushPowerButtonResetType)
	state(redfish.OnPowerState)
	reset(redfish.ForceOffResetType)
	state(redfish.OffPowerState)
	if err := system(t, c).Reset("Explode"); err == nil {
		t.Error("Reset Explode: no error")
	}
}

// TestGofishSensors: what a sensor tells is shown by its resource, the old ones,
// the log of the host, the metric report and /metrics.
func TestGofishSensors(t *testing.T) {
	s := start(t, "-host", "fake")
	c := s.gofish(t, s.User, s.Password)
	if err := system(t, c).Reset(redfish.OnResetType); err != nil {
		t.Fatal(err)
	}
	inlet := func() *redfish.Sensor {
		t.Helper()
		all, err := chassis(t, c).Sensors()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(x *redfish.Sensor) bool { return strings.Contains(x.Name, "Inlet") })
		if i < 0 {
			t.Fatalf("no inlet among %d sensors", len(all))
		}
		return all[i]
	}
	s.do("sensor inlet 60")
	eventually(t, "60 degrees, which are critical", 15*time.Second, func() bool {
		x := inlet()
		return x.Reading == 60 && x.ReadingType == redfish.TemperatureReadingType && x.ReadingUnits == "Cel" && x.Status.Health == common.CriticalHealth
	})
	if got := inlet().Thresholds.UpperCritical.Reading; got <= 0 || got >= 60 {
		t.Errorf("UpperCritical: got %v, want one below 60", got)
	}
	thermal, err := chassis(t, c).Thermal()
	if err != nil || !slices.ContainsFunc(thermal.Temperatures, func(x redfish.Temperature) bool {
		return x.ReadingCelsius == 60 && x.Status.Health == common.CriticalHealth
	}) {
		t.Errorf("Thermal has no 60 degrees: %v, %+v", err, thermal)
	}
	power, err := chassis(t, c).Power()
	if err != nil || len(power.PowerControl) != 1 || power.PowerControl[0].PowerConsumedWatts <= 0 {
		t.Errorf("Power: %v, %+v", err, power)
	}
	if subsystem, err := chassis(t, c).ThermalSubsystem(); err != nil || subsystem.Status.State != common.EnabledState {
		t.Errorf("ThermalSubsystem: %v, %+v", err, subsystem)
	}

	// The event is in the host's log, until that is cleared; the board's keeps it.
	systemLog := func() *redfish.LogService {
		t.Helper()
		logs, err := system(t, c).LogServices()
		if err != nil || len(logs) != 1 {
			t.Fatalf("logs of the system: %v, %v", logs, err)
		}
		return logs[0]
	}
	alarm := func(l *redfish.LogService) int {
		t.Helper()
		entries, err := l.Entries()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range entries {
			if e.Severity == redfish.CriticalEventSeverity && strings.Contains(e.Message, "upper critical limit") && e.EntryType == redfish.EventLogEntryType && e.Created != "" {
				n++
			}
		}
		return n
	}
	eventually(t, "the alarm in the log", 10*time.Second, func() bool { return alarm(systemLog()) == 1 })
	if err := systemLog().ClearLog(); err != nil {
		t.Fatal(err)
	}
	if got := alarm(systemLog()); got != 0 {
		t.Errorf("after ClearLog: %d alarms", got)
	}
	logs, err := manager(t, c).LogServices()
	if err != nil || len(logs) != 1 || alarm(logs[0]) != 1 {
		t.Errorf("the manager's log has not the alarm: %v, %v", logs, err)
	}

	telemetry, err := c.Service.TelemetryService()
	if err != nil {
		t.Fatal(err)
	}
	// A change has the report made anew. gofish takes the definition's link to its
	// report for a string.
	definitions := s.admin().get("/redfish/v1/TelemetryService/MetricReportDefinitions").members()
	s.admin().do(http.StatusOK, "PATCH", definitions[0], `{"Schedule": {"RecurrenceInterval": "PT10S"}}`)
	eventually(t, "a report with 60 degrees", 20*time.Second, func() bool {
		reports, err := telemetry.MetricReports()
		if err != nil || len(reports) != 1 {
			t.Fatalf("reports: %v, %v", reports, err)
		}
		return slices.ContainsFunc(reports[0].MetricValues, func(v redfish.MetricValue) bool {
			return v.MetricValue == "60" && strings.HasPrefix(v.MetricProperty, inlet().ODataID)
		})
	})
}

// TestMetrics: the page for Prometheus, which takes a login.
func TestMetrics(t *testing.T) {
	s := start(t, "-host", "fake")
	admin := s.admin()
	s.do("sensor inlet 31")
	metric := func(line string) {
		t.Helper()
		eventually(t, line, 20*time.Second, func() bool { return strings.Contains(string(admin.get("/metrics").body), line) })
	}
	metric(`nitrino_host_power_state{state="Off"} 1`)
	metric(`nitrino_sensor_temperature_celsius{sensor="Inlet temp",place="inlet"} 31`)
	s.ipmitool("chassis", "power", "on").must(t)
	metric(`nitrino_host_power_state{state="On"} 1`)
	metric("process_resident_memory_bytes ")
	if got := admin.get("/metrics").header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("Content-Type: %q", got)
	}
	s.as("", "").do(http.StatusUnauthorized, "GET", "/metrics", "")
	s.as(s.User, "wrong").do(http.StatusUnauthorized, "GET", "/metrics", "")
	admin.do(http.StatusMethodNotAllowed, "POST", "/metrics", "")
	admin.do(http.StatusCreated, "POST", "/redfish/v1/AccountService/Accounts", `{"UserName": "prometheus", "Password": "scrape-it-all-1", "RoleId": "ReadOnly"}`)
	s.as("prometheus", "scrape-it-all-1").get("/metrics")
}

// TestGofishAccounts: users come, change and go, and each may do what the role
// allows.
func TestGofishAccounts(t *testing.T) {
	s := start(t, "-host", "fake")
	c := s.gofish(t, s.User, s.Password)
	accounts, err := c.Service.AccountService()
	if err != nil {
		t.Fatal(err)
	}
	roles, err := accounts.Roles()
	if err != nil || len(roles) != 3 || slices.ContainsFunc(roles, func(r *redfish.Role) bool { return !r.IsPredefined || len(r.AssignedPrivileges) == 0 }) {
		t.Errorf("roles: %+v, %v", roles, err)
	}
	const password = "the-secret-of-bob-1"
	made, err := accounts.CreateAccount("bob", password, "ReadOnly")
	if err != nil || made.UserName != "bob" || made.RoleID != "ReadOnly" || !made.Enabled {
		t.Fatalf("creating bob: %+v, %v", made, err)
	}
	if _, err := accounts.CreateAccount("bob", password, "ReadOnly"); status(err) != http.StatusConflict && status(err) != http.StatusBadRequest {
		t.Errorf("creating bob twice: %v", err)
	}
	if _, err := accounts.CreateAccount("eve", password, "Emperor"); status(err) != http.StatusBadRequest {
		t.Errorf("a role that is none: %v", err)
	}
	bob := func() *redfish.ManagerAccount {
		t.Helper()
		all, err := accounts.Accounts()
		i := slices.IndexFunc(all, func(a *redfish.ManagerAccount) bool { return a.UserName == "bob" })
		if err != nil || i < 0 {
			t.Fatalf("bob: %v, %v", all, err)
		}
		return all[i]
	}
	change := func(f func(*redfish.ManagerAccount)) {
		t.Helper()
		b := bob()
		f(b)
		if err := b.Update(); err != nil {
			t.Fatal(err)
		}
	}
	// ReadOnly sees the host, and does not switch it.
	his := s.gofish(t, "bob", password)
	if err := system(t, his).Reset(redfish.OnResetType); status(err) != http.StatusForbidden {
		t.Errorf("Reset as ReadOnly: %v", err)
	}
	change(func(b *redfish.ManagerAccount) { b.RoleID = "Operator" })
	his = s.gofish(t, "bob", password)
	if err := system(t, his).Reset(redfish.OnResetType); err != nil {
		t.Errorf("Reset as Operator: %v", err)
	}
	his2, err := his.Service.AccountService()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := his2.CreateAccount("eve", password, "Administrator"); status(err) != http.StatusForbidden {
		t.Errorf("an account made by an Operator: %v", err)
	}

	// Sessions: both see their own, the administrator all.
	sessions, err := c.Service.Sessions()
	if err != nil || !slices.ContainsFunc(sessions, func(x *redfish.Session) bool { return x.UserName == "bob" }) {
		t.Errorf("sessions: %v, %v", sessions, err)
	}
	own, err := his.Service.Sessions()
	if err != nil || len(own) == 0 || slices.ContainsFunc(own, func(x *redfish.Session) bool { return x.UserName != "bob" }) {
		t.Errorf("bob's sessions: %v, %v", own, err)
	}

	// Who has to change the password can do only that.
	uri := bob().ODataID
	s.admin().do(http.StatusOK, "PATCH", uri, `{"PasswordChangeRequired": true}`)
	asBob := s.as("bob", password)
	if a := asBob.do(http.StatusForbidden, "GET", "/redfish/v1/Systems/system", ""); !a.said("PasswordChangeRequired") {
		t.Errorf("before the change: %s", a.body)
	}
	asBob.do(http.StatusOK, "PATCH", uri, `{"Password": "another-secret-of-bob-2"}`)
	asBob.do(http.StatusUnauthorized, "GET", "/redfish/v1/Systems/system", "")
	asBob = s.as("bob", "another-secret-of-bob-2")
	asBob.get("/redfish/v1/Systems/system")
	// SSH has the same users.
	if got := clientIn(t, s.askpass("another-secret-of-bob-2"), "", "ssh", append(s.sshArgs("-T", "-l", "bob"), "whoami")...).out; !strings.Contains(got, "bob") {
		t.Errorf("SSH as bob: %q", got)
	}

	change(func(b *redfish.ManagerAccount) { b.Enabled = false })
	asBob.do(http.StatusUnauthorized, "GET", "/redfish/v1/Systems/system", "")
	s.admin().do(http.StatusNoContent, "DELETE", uri, "")
	s.admin().do(http.StatusNotFound, "GET", uri, "")
	// Nobody would be left.
	if a, err := s.admin().try("DELETE", "/redfish/v1/AccountService/Accounts/"+accountID(s.admin(), s.User), ""); err != nil || a.status < 400 {
		t.Errorf("the last administrator: got %d, %v", a.status, err)
	}
}

// TestRedfishLockout: guessing locks the account, which an administrator sees and
// ends; whoever is known from the same place is not locked with it.
func TestRedfishLockout(t *testing.T) {
	s := start(t, "-host", "fake")
	admin := s.admin()
	admin.do(http.StatusOK, "PATCH", "/redfish/v1/AccountService", `{"AccountLockoutThreshold": 3, "AccountLockoutDuration": 600, "AccountLockoutCounterResetAfter": 600}`)
	const password = "the-secret-of-bob-1"
	uri := admin.do(http.StatusCreated, "POST", "/redfish/v1/AccountService/Accounts", `{"UserName": "bob", "Password": "`+password+`", "RoleId": "Operator"}`).text("@odata.id")
	for i := range 3 {
		if got := admin.get(uri).at("Locked"); got != false {
			t.Errorf("after %d guesses: Locked is %v", i, got)
		}
		s.as("bob", fmt.Sprint("guess", i)).do(http.StatusUnauthorized, "GET", "/redfish/v1/Systems", "")
	}
	if got := admin.get(uri).at("Locked"); got != true {
		t.Errorf("after 3 guesses: Locked is %v", got)
	}
	bob := s.as("bob", password)
	bob.do(http.StatusUnauthorized, "GET", "/redfish/v1/Systems", "")
	admin.do(http.StatusBadRequest, "PATCH", uri, `{"Locked": true}`)
	admin.do(http.StatusOK, "PATCH", uri, `{"Locked": false}`)
	bob.get("/redfish/v1/Systems")
}

// TestGofishServices: the switches of the protocols are real.
func TestGofishServices(t *testing.T) {
	s := start(t, "-host", "fake")
	c := s.gofish(t, s.User, s.Password)
	const uri = "/redfish/v1/Managers/bmc/NetworkProtocol"
	for _, tt := range []struct {
		name    string
		answers func() bool
	}{
		{"IPMI", func() bool { return s.ipmitool("-N", "1", "-R", "1", "mc", "info").code == 0 }},
		{"SSH", func() bool { return s.ssh("whoami").code == 0 }},
	} {
		if !tt.answers() {
			t.Fatalf("%s does not answer", tt.name)
		}
		for _, on := range []bool{false, true} {
			s.admin().do(http.StatusOK, "PATCH", uri, fmt.Sprintf(`{%q: {"ProtocolEnabled": %v}}`, tt.name, on))
			eventually(t, fmt.Sprintf("%s answers: %v", tt.name, on), 20*time.Second, func() bool { return tt.answers() == on })
			p, err := manager(t, c).NetworkProtocol()
			if err != nil {
				t.Fatal(err)
			}
			if got := map[string]bool{"IPMI": p.IPMI.ProtocolEnabled, "SSH": p.SSH.ProtocolEnabled}[tt.name]; got != on || !p.HTTPS.ProtocolEnabled || p.HTTP.ProtocolEnabled {
				t.Errorf("%s: got %v, want %v; %+v", tt.name, got, on, p)
			}
		}
	}
	// One of the ways in stays.
	s.admin().do(http.StatusOK, "PATCH", uri, `{"SSH": {"ProtocolEnabled": false}}`)
	if a, err := s.admin().try("PATCH", uri, `{"HTTPS": {"ProtocolEnabled": false}}`); err != nil || a.status != http.StatusBadRequest && a.status != http.StatusConflict {
		t.Errorf("HTTPS off after SSH: got %d, %v, %s", a.status, err, a.body)
	}
	s.admin().do(http.StatusOK, "PATCH", uri, `{"SSH": {"ProtocolEnabled": true}}`)

	interfaces, err := manager(t, c).EthernetInterfaces()
	if err != nil || len(interfaces) != 1 {
		t.Fatalf("interfaces: %v, %v", interfaces, err)
	}
	if x := interfaces[0]; !slices.ContainsFunc(x.IPv4Addresses, func(a redfish.IPv4Address) bool { return a.Address == "127.0.0.1" }) || x.Status.State != common.EnabledState {
		t.Errorf("interface: %+v", x)
	}
	if got := interfaces[0].HostName; got != "bmcsim" {
		t.Errorf("HostName: got %q, want bmcsim", got)
	}
	s.admin().do(http.StatusOK, "PATCH", interfaces[0].ODataID, `{"HostName": "rack9"}`)
	if got := s.ssh("settings show hostname").must(t); !strings.Contains(got, "rack9") {
		t.Errorf("hostname: %q", got)
	}
}
