//go:build e2e

package test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestCardIPMI is the short form of ipmitool's and FreeIPMI's scripts, against
// the booted card: sensors on a real bus and driver, the inventory in an EEPROM,
// and the board's own network.
func TestCardIPMI(t *testing.T) {
	b := boot(t, card(t), "-host", "pc")
	b.ipmitool("chassis", "power", "on").must(t)
	b.power("on")
	b.do("sensor inlet 31")
	eventually(t, "the thermometer to tell 31 degrees", 20*time.Second, func() bool {
		return strings.Contains(b.ipmitool("sdr", "elist").out, "31 degrees C")
	})
	play(t, b.ipmitool, []step{
		{args: "mc info", want: []string{"Sensor Device", "SEL Device", "FRU Inventory Device"}},
		{args: "sdr elist", want: []string{"/Inlet temp .*31 degrees C", "/Input power .*Watts", "/12 V .*Volts"}},
		{args: "sensor thresh 'Inlet temp' ucr 45"},
		{args: "sensor get 'Inlet temp'", want: []string{"/Upper Critical +: 45.000"}},
		{args: "dcmi power reading", want: []string{"/Instantaneous power reading: +[1-9][0-9]* Watts"}},
		{args: "sel elist", want: []string{"S0/G0"}},
		{args: "fru edit 0 field p 1 cellar-box-9000", any: true, want: []string{"Done."}},
		{args: "user set name 3 bob"},
		{args: "user set password 3 the-secret-of-bob-20 20"},
		{args: "channel setaccess 1 3 ipmi=on privilege=3"},
		{args: "user enable 3"},
		{args: "lan print 1", want: []string{"DHCP Address", "/IP Address +: 10.0.2.15", "/MAC Address +: 52:54"}},
		{args: "sol info 1", want: []string{"/Enabled +: true"}},
		{args: "pef filter list", want: []string{"pre-configured"}},
		{args: "session info active", want: []string{"ADMINISTRATOR"}},
	})
	play(t, func(args ...string) result { return b.ipmitoolAs("bob", "the-secret-of-bob-20", "17", args...) }, []step{
		{args: "-L OPERATOR chassis status", want: []string{"System Power         : on"}},
	})
	for _, script := range []struct {
		tool  string
		steps []step
	}{
		{"bmc-info", []step{{want: []string{"/IPMI Version +: 2.0"}}}},
		{"ipmi-sensors", []step{{want: []string{"Inlet temp", "Input power"}}}},
		{"ipmi-sel", []step{{want: []string{"System ACPI Power State"}}}},
		{"ipmi-fru", []step{{want: []string{"cellar-box-9000"}}}},
		{"ipmi-dcmi", []step{{args: "--get-system-power-statistics", want: []string{"Current Power"}}}},
		{"ipmi-chassis", []step{{args: "--get-chassis-status", want: []string{"/System Power +: on"}}}},
	} {
		t.Run(script.tool, func(t *testing.T) { play(t, b.free(script.tool), script.steps) })
	}
	t.Run("SOL", func(t *testing.T) {
		at, port, err := net.SplitHostPort(b.IPMI)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		// Consoles are to be told the port that leads to the board's 623.
		b.ipmitool("raw", "0x0c", "0x21", "1", "8", fmt.Sprint(n&0xFF), fmt.Sprint(n>>8)).must(t)
		x := b.activate(t, at, port)
		from := x.here()
		x.types("over the card\r")
		from = x.see(from, "over the card")
		b.ipmitool("chassis", "power", "reset").must(t)
		from = x.see(from, "demo host is up")
		b.ipmitool("sol", "deactivate").must(t)
		from = x.see(from, "[SOL ends: deactivated by admin")
		x.types("x") // ipmitool minds the status only in an answer
		x.see(from, "SOL session closed by BMC")
		x.ends()
	})
	t.Run("a cut", func(t *testing.T) {
		b.cut()
		for _, c := range []struct{ args, want string }{
			{"fru print 0", "cellar-box-9000"},
			{"sensor get 'Inlet temp'", "45.000"},
			{"user list 1", "bob"},
		} {
			eventually(t, c.want+" after a cut", 20*time.Second, func() bool {
				return strings.Contains(b.ipmitool(fields(c.args)...).out, c.want)
			})
		}
	})
}

// TestCardNetworkTrial: an address that nobody reaches the board at is taken
// back, whoever set it.
func TestCardNetworkTrial(t *testing.T) {
	b := boot(t, card(t))
	b.ssh("settings set network.trial 10s").must(t)
	// QEMU's network forwards to the address it gave, and to no other.
	for _, args := range []string{"lan set 1 ipsrc static", "lan set 1 ipaddr 10.0.2.77"} {
		b.ipmitool(strings.Fields(args)...) // the answer to the last may not come
	}
	eventually(t, "the board to be away", 20*time.Second, func() bool {
		return b.ipmitool("-R", "1", "-N", "1", "mc", "info").code != 0
	})
	eventually(t, "the board to be back", 60*time.Second, func() bool {
		return b.ipmitool("-R", "1", "-N", "1", "mc", "info").code == 0
	})
	if got := b.ipmitool("lan", "print", "1").must(t); !strings.Contains(got, "DHCP Address") || !strings.Contains(got, "10.0.2.15") {
		t.Errorf("after the trial: %s", got)
	}
	// The event is told when the card has it all, a little after the address.
	var events string
	eventually(t, "the events to say what was taken back", 20*time.Second, func() bool {
		events = b.ssh("events -n 0").out
		return strings.Contains(events, "network.rolled-back")
	})
	if !strings.Contains(events, "admin from 10.0.2.2 by ipmi") {
		t.Errorf("the events do not say whose change it was:\n%s", events)
	}
}
