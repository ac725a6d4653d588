//go:build e2e

package test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestCardRedfish is the short form of the tests against bmcsim, against the
// booted card: all that there is, and what only a real board has.
func TestCardRedfish(t *testing.T) {
	b := boot(t, card(t), "-host", "pc")
	admin := b.admin()
	b.do("sensor inlet 31")
	admin.do(http.StatusNoContent, "POST", "/redfish/v1/Systems/system/Actions/ComputerSystem.Reset", `{"ResetType": "On"}`)
	eventually(t, "PowerState On", 30*time.Second, func() bool { return admin.get("/redfish/v1/Systems/system").text("PowerState") == "On" })
	eventually(t, "31 degrees", 20*time.Second, func() bool {
		return strings.Contains(string(admin.get("/metrics").body), `{sensor="Inlet temp",place="inlet"} 31`)
	})
	began := time.Now()
	tree := validTree(t, admin)
	t.Logf("%d resources in %v", len(tree), time.Since(began).Round(time.Millisecond))
	interfaces := admin.get("/redfish/v1/Managers/bmc/EthernetInterfaces").members()
	if len(interfaces) != 1 {
		t.Fatalf("interfaces: %v", interfaces)
	}
	if a := admin.get(interfaces[0]); a.at("DHCPv4", "DHCPEnabled") != true || !strings.Contains(string(a.body), `"10.0.2.15"`) || !strings.HasPrefix(a.text("MACAddress"), "52:54") {
		t.Errorf("the interface: %s", a.body)
	}
	if a := admin.get("/redfish/v1/Managers/bmc/NetworkProtocol"); a.text("HostName") != "rack7" || a.at("NTP", "ProtocolEnabled") != true {
		t.Errorf("the protocols: %s", a.body)
	}
	s := b.process("core")
	t.Logf("core: %d KiB resident after the walk", s.resident)

	const reset = "/redfish/v1/Managers/bmc/Actions/Manager.Reset"
	before := admin.started()
	admin.do(http.StatusNoContent, "POST", reset, `{"ResetType": "ForceRestart"}`)
	eventually(t, "another start", 60*time.Second, func() bool { return admin.started() == before+1 })
	if got := admin.get("/redfish/v1/Systems/system").text("PowerState"); got != "On" {
		t.Errorf("PowerState after the reset of the BMC: got %s, want On", got)
	}
}
