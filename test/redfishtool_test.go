//go:build e2e

package test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// redfishtool runs DMTF's command-line client as a user.
func (s *sim) redfishtool(user, password string) func(args ...string) result {
	return func(args ...string) result {
		s.tb.Helper()
		full := append([]string{"-r", strings.TrimPrefix(s.Redfish, "https://"), "-u", user, "-p", password, "-S", "Always"}, args...)
		return clientIn(s.tb, []string{"REQUESTS_CA_BUNDLE=", "CURL_CA_BUNDLE=", "PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore"}, "", "redfishtool", full...)
	}
}

func TestRedfishtoolSystems(t *testing.T) {
	s := start(t, "-host", "fake")
	tool := s.redfishtool(s.User, s.Password)
	power := func(want string) {
		t.Helper()
		eventually(t, "PowerState "+want, 30*time.Second, func() bool {
			return strings.Contains(tool("Systems", "-I", "system", "-P", "PowerState").out, `"`+want+`"`)
		})
	}
	play(t, tool, []step{
		{args: "versions", want: []string{`"v1": "/redfish/v1/"`}},
		{args: "root", want: []string{"RedfishVersion", "Systems"}},
		{args: "odata", want: []string{"@odata.context"}},
		{args: "metadata", want: []string{"edmx"}, any: true},
		{args: "Systems", want: []string{"/redfish/v1/Systems/system"}},
		{args: "Systems list", want: []string{"system"}},
		{args: "Systems -1 get", want: []string{"MemorySummary", `"PowerState": "Off"`}},
		{args: "Systems -I none get", fail: true},
		{args: "Systems -I system reset Explode", fail: true},
		{args: "Systems -I system setBootOverride Once Pxe"},
		{args: "Systems -I system get", want: []string{`"BootSourceOverrideTarget": "Pxe"`, `"BootSourceOverrideEnabled": "Once"`}},
		{args: "Systems -I system setBootOverride Continuous Hdd"},
		{args: "Systems -I system get", want: []string{`"BootSourceOverrideTarget": "Hdd"`, `"BootSourceOverrideEnabled": "Continuous"`}},
		{args: "Systems -I system setBootOverride Disabled"},
		{args: "Systems -I system get", want: []string{`"BootSourceOverrideEnabled": "Disabled"`}},
		{args: "Systems -I system setBootOverride Once Floppy", fail: true},
		{args: "Systems -I system setIndicatorLed Lit"},
		{args: "Systems -I system get", want: []string{`"LocationIndicatorActive": true`}},
		{args: "Systems -I system setIndicatorLed Off"},
		{args: `Systems -I system patch '{"PowerRestorePolicy": "AlwaysOn"}'`, want: []string{`"PowerRestorePolicy": "AlwaysOn"`}},
		{args: `Systems -I system patch '{"PowerRestorePolicy": "Sometimes"}'`, fail: true},
		{args: "Systems -I system Logs", want: []string{"LogServices/EventLog"}},
		{args: "Systems -I system Logs -i EventLog", want: []string{"MaxNumberOfRecords"}},
		{args: "Systems -I system reset On"},
	})
	power("On")
	play(t, tool, []step{{args: "Systems -I system reset GracefulShutdown"}})
	power("Off")
	play(t, tool, []step{{args: "Systems -I system reset On"}})
	power("On")
	play(t, tool, []step{{args: "Systems -I system reset ForceOff"}})
	power("Off")
	play(t, s.redfishtool(s.User, "wrong"), []step{{args: "Systems -I system get", fail: true}})
}

func TestRedfishtoolAccounts(t *testing.T) {
	s := start(t, "-host", "fake")
	tool := s.redfishtool(s.User, s.Password)
	play(t, tool, []step{
		{args: "AccountService", want: []string{"MinPasswordLength", "AccountLockoutThreshold"}},
		{args: "AccountService Accounts list", want: []string{"admin"}},
		{args: "AccountService Roles list", want: []string{"Administrator", "Operator", "ReadOnly"}},
		{args: "AccountService adduser bob the-secret-of-bob-1 Operator", want: []string{`"UserName": "bob"`}},
		{args: "AccountService adduser bob the-secret-of-bob-1 Operator", fail: true},
		{args: "AccountService adduser eve the-secret-of-eve-1 Emperor", fail: true},
		{args: "AccountService Accounts -mUserName:bob", want: []string{`"RoleId": "Operator"`, `"Enabled": true`}},
		{args: "AccountService useradmin bob setRoleId ReadOnly"},
		{args: "AccountService Accounts -mUserName:bob", want: []string{`"RoleId": "ReadOnly"`}},
		{args: "AccountService setpassword bob another-secret-of-bob-2"},
	})
	play(t, s.redfishtool("bob", "the-secret-of-bob-1"), []step{{args: "Systems -1 get", fail: true}})
	bob := s.redfishtool("bob", "another-secret-of-bob-2")
	play(t, bob, []step{{args: "Systems -1 get", want: []string{"PowerState"}}, {args: "Systems -1 reset On", fail: true}})
	play(t, tool, []step{
		{args: "AccountService useradmin bob disable"},
		{args: "AccountService Accounts -mUserName:bob", want: []string{`"Enabled": false`}},
	})
	play(t, bob, []step{{args: "Systems -1 get", fail: true}})
	play(t, tool, []step{
		{args: "AccountService useradmin bob enable"},
		{args: "AccountService useradmin bob unlock"},
		{args: `AccountService patch '{"AccountLockoutThreshold": 7}'`, want: []string{`"AccountLockoutThreshold": 7`}},
		{args: "AccountService deleteuser bob"},
		{args: "AccountService deleteuser bob", fail: true},
		{args: "SessionService setSessionTimeout 444", want: []string{"444"}},
		{args: "SessionService get", want: []string{`"SessionTimeout": 444`}},
		{args: "-A Session Systems -1 get", want: []string{"PowerState"}}, // logs in and out
		{args: "SessionService Sessions", want: []string{`"Members@odata.count": 0`}},
	})
	var session struct {
		ID    string `json:"SessionId"`
		Token string `json:"X-Auth-Token"`
	}
	if out := tool("SessionService", "login").must(t); json.Unmarshal([]byte(out), &session) != nil || session.Token == "" {
		t.Fatalf("login: %s", out)
	}
	play(t, func(args ...string) result {
		return client(t, "redfishtool", append([]string{"-r", strings.TrimPrefix(s.Redfish, "https://"), "-S", "Always", "-A", "Session", "-t", session.Token}, args...)...)
	}, []step{
		{args: "Systems -1 get", want: []string{"PowerState"}},
		{args: "SessionService Sessions -i " + session.ID, want: []string{`"UserName": "admin"`}},
		{args: "SessionService logout -i " + session.ID},
		{args: "Systems -1 get", fail: true},
	})
}

func TestRedfishtoolChassisManagers(t *testing.T) {
	s := start(t, "-host", "fake")
	tool := s.redfishtool(s.User, s.Password)
	s.do("sensor inlet 31")
	eventually(t, "the inlet", 15*time.Second, func() bool { return strings.Contains(tool("Chassis", "-1", "Sensors").out, "31") })
	play(t, tool, []step{
		{args: "Chassis list", want: []string{"chassis"}},
		{args: "Chassis -1 get", want: []string{"ChassisType"}},
		{args: "Chassis -1 Sensors", want: []string{"/Inlet_temp +31 +40"}},
		{args: "Chassis -1 Thermal", want: []string{"Temperatures", `"ReadingCelsius": 31`, "Fans"}},
		{args: "Chassis -1 Power", want: []string{"PowerControl"}},
		{args: "Chassis -1 getPowerReading", want: []string{"PowerConsumedWatts"}},
		{args: "Managers list", want: []string{"bmc"}},
		{args: "Managers -1 get", want: []string{"FirmwareVersion", `"ManagerType": "BMC"`}},
		{args: "Managers -1 NetworkProtocol", want: []string{"HTTPS", "IPMI"}},
		{args: "Managers -1 EthernetInterfaces list", want: []string{"EthernetInterfaces"}},
		{args: "Managers -1 Logs", want: []string{"LogServices/Log"}},
		{args: "Managers -1 Logs -i Log", want: []string{"OverWritePolicy"}},
		{args: `-d '{"SessionTimeout": 555}' raw PATCH /redfish/v1/SessionService`, want: []string{"555"}},
		{args: "Managers -1 reset PowerCycle", fail: true},
	})
	admin := s.admin()
	before := admin.get("/redfish/v1/Managers/bmc").text("LastResetTime")
	play(t, tool, []step{{args: "Managers -1 reset GracefulRestart"}})
	eventually(t, "another start", 30*time.Second, func() bool {
		a, err := admin.try("GET", "/redfish/v1/Managers/bmc", "")
		return err == nil && a.status == http.StatusOK && a.text("LastResetTime") != before
	})
	play(t, tool, []step{{args: "Managers -1 get", want: []string{"FirmwareVersion"}}})
}
