//go:build e2e

package ipmi

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestClients drives the real consoles. None may come near its first retry,
// which is 1 s for both.
func TestClients(t *testing.T) {
	b := newBMC(t, func(o *Options, _ *machine) { o.Config.Suite3 = true })
	port := strconv.Itoa(serve(t, b, "udp4", "127.0.0.1:0").Port)
	ipmitool := func(suite, rest string) []string {
		return append([]string{"ipmitool", "-I", "lanplus", "-C", suite, "-H", "127.0.0.1", "-p", port, "-U", "admin", "-P", "secret-20-characters"}, strings.Fields(rest)...)
	}
	free := func(tool, suite, rest string) []string {
		return append([]string{tool, "-D", "LAN_2_0", "-I", suite, "-h", "127.0.0.1:" + port, "-u", "admin", "-p", "secret-20-characters"}, strings.Fields(rest)...)
	}
	for _, test := range []struct {
		command []string
		want    string
	}{
		{ipmitool("17", "mc info"), "Firmware Revision         : 1.23"},
		{ipmitool("3", "mc info"), "Firmware Revision         : 1.23"},
		{ipmitool("17", "mc guid"), "00010203-0405-4607-8809-0a0b0c0d0e0f"},
		{ipmitool("17", "chassis status"), "Power Restore Policy : previous"},
		{ipmitool("17", "power status"), "Chassis Power is off"},
		{ipmitool("17", "power on"), "Up/On"},
		{ipmitool("17", "power cycle"), "Cycle"},
		{ipmitool("17", "chassis identify force"), "indefinite"},
		{ipmitool("17", "chassis bootdev pxe options=persistent,efiboot"), "Set Boot Device to pxe"},
		{ipmitool("17", "chassis bootparam get 5"), "Force PXE"},
		{ipmitool("17", "raw 0 8 3 8"), ""},
		{ipmitool("17", "raw 0 8 5 0xa0 0x08 0 0 0"), ""},
		{ipmitool("17", "raw 0 9 5 0 0"), "01 05 a0 08 00 00 00"},
		{ipmitool("17", "chassis restart_cause"), "unknown"},
		{ipmitool("17", "chassis policy list"), "always-off always-on previous"},
		{ipmitool("17", "chassis policy always-on"), "always-on"},
		{ipmitool("17", "session info active"), "RMCP+"},
		{ipmitool("17", "mc reset cold"), "cold reset"},
		{free("ipmipower", "17", "--stat"), "off"},
		{free("ipmipower", "3", "--stat"), "off"},
		{free("ipmipower", "17", "-W opensesspriv --reset"), "ok"},
		{free("bmc-info", "17", ""), "IPMI Version          : 2.0"},
		{free("ipmi-chassis", "17", "--get-status"), "Always on"},
		{free("ipmi-chassis-config", "17", "--commit --key-pair Chassis_Boot_Flags:Boot_Device=CD-DVD --key-pair Chassis_Boot_Flags:Boot_Flags_Persistent=No"), ""},
		{free("ipmi-chassis-config", "17", "--checkout -S Chassis_Boot_Flags"), "CD-DVD"},
	} {
		name := strings.Join(test.command, " ")
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		began := time.Now()
		out, err := exec.CommandContext(ctx, test.command[0], test.command[1:]...).CombinedOutput()
		took := time.Since(began)
		cancel()
		if err != nil || !strings.Contains(string(out), test.want) {
			t.Errorf("%s: %v, want %q in\n%s", name, err, test.want, out)
		}
		if took > 950*time.Millisecond {
			t.Errorf("%s took %v: an answer was lost or late", name, took)
		}
	}
	for _, suite := range []string{"0", "1", "2", "6", "7", "8", "11", "12", "15", "16"} {
		out, err := exec.Command("ipmitool", ipmitool(suite, "mc info")[1:]...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "no matching cipher suite") {
			t.Errorf("suite %s: %v\n%s", suite, err, out)
		}
	}
}
