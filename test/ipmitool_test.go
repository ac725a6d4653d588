//go:build e2e

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A step is one run of a client in a script.
type step struct {
	args string   // split at blanks; 'a b' is one argument
	want []string // each is in the output, whatever the case; a leading / makes it a regular expression
	fail bool     // the client is to end with another code than 0
	any  bool     // its code says nothing: some of ipmitool's do not
}

// fields splits a step's arguments.
func fields(args string) (list []string) {
	for i, part := range strings.Split(args, "'") {
		if i%2 == 1 {
			list = append(list, part)
		} else {
			list = append(list, strings.Fields(part)...)
		}
	}
	return list
}

// play runs the steps one after the other, each as a test.
func play(t *testing.T, run func(args ...string) result, steps []step) {
	t.Helper()
	for i, st := range steps {
		t.Run(fmt.Sprintf("%02d %s", i, st.args), func(t *testing.T) {
			got := run(fields(st.args)...)
			if !st.any && (got.code != 0) != st.fail {
				t.Errorf("exit code %d, want it to fail: %v", got.code, st.fail)
			}
			for _, want := range st.want {
				ok := strings.Contains(strings.ToLower(got.out), strings.ToLower(want))
				if p, is := strings.CutPrefix(want, "/"); is {
					ok = regexp.MustCompile("(?im)" + p).MatchString(got.out)
				}
				if !ok {
					t.Errorf("no %q in\n%s", want, got.out)
				}
			}
			if t.Failed() {
				t.Logf("all of it:\n%s", got.out)
			}
		})
	}
}

func TestIPMIToolMC(t *testing.T) {
	s := start(t, "-host", "fake")
	play(t, s.ipmitool, []step{
		{args: "mc info", want: []string{"IPMI Version              : 2.0", "Sensor Device", "SDR Repository Device", "SEL Device", "FRU Inventory Device", "Chassis Device"}},
		{args: "mc guid", want: []string{"System GUID"}},
		{args: "mc selftest", want: []string{"Selftest: passed"}},
		{args: "mc getenables", want: []string{"/System Event Logging +: enabled", "/Receive Message Queue Interrupt +: disabled"}},
		{args: "mc setenables system_event_log off"},
		{args: "mc getenables", want: []string{"/System Event Logging +: disabled"}},
		{args: "mc setenables recv_msg_intr on", want: []string{"Invalid data field"}, any: true},
		{args: "mc setenables system_event_log on"},
		{args: "mc setsysinfo system_name machine-of-the-cellar"},
		{args: "mc getsysinfo system_name", want: []string{"machine-of-the-cellar"}},
		{args: "mc setsysinfo primary_os_name 'Debian GNU/Linux 12 (bookworm), on the metal'"},
		{args: "mc getsysinfo primary_os_name", want: []string{"Debian GNU/Linux 12 (bookworm), on the metal"}},
		{args: "mc watchdog get", want: []string{"/Watchdog Timer Is: +Stopped"}},
		{args: "mc watchdog reset", fail: true}, // it was never set
		{args: "raw 0x06 0x24 0x44 0x01 0x00 0x10 0x58 0x02"},
		{args: "mc watchdog reset"},
		{args: "mc watchdog get", want: []string{"/Watchdog Timer Is: +Started/Running", "SMS/OS", "Hard Reset", "/Initial Countdown: +60"}},
		{args: "mc watchdog off"},
		{args: "mc watchdog get", want: []string{"/Watchdog Timer Is: +Stopped"}},
		{args: "raw 0x06 0x07", want: []string{" 06 00"}},
		{args: "bmc info", want: []string{"Device ID"}},
	})
}

func TestIPMIToolChassis(t *testing.T) {
	s := start(t, "-host", "fake")
	play(t, s.ipmitool, []step{
		{args: "chassis status", want: []string{"System Power         : off"}},
		{args: "chassis poh", want: []string{"POH Counter"}},
		{args: "chassis restart_cause", want: []string{"restart cause"}},
		{args: "chassis policy always-on", want: []string{"always-on"}},
		{args: "chassis policy previous", want: []string{"previous"}},
		{args: "chassis selftest", want: []string{"passed"}},
		{args: "chassis identify force", want: []string{"indefinite"}},
		{args: "chassis identify 0"},
		{args: "chassis bootdev pxe options=persistent"},
		{args: "chassis bootparam get 5", want: []string{"Force PXE", "all future boots"}},
		{args: "chassis bootdev cdrom"},
		{args: "chassis bootparam get 5", want: []string{"Force Boot from CD/DVD"}},
		{args: "chassis bootdev disk clear-cmos=yes", want: []string{"Invalid data field"}, any: true},
		{args: "chassis bootdev disk options=efiboot"},
		{args: "raw 0x00 0x09 0x05 0x00 0x00", want: []string{"01 05 a0 08 00 00 00"}},
		{args: "chassis bootparam set bootflag force_pxe options=PEF,timeout"},
		{args: "chassis bootparam get 3", want: []string{"BMC boot flag valid bit clearing"}},
		{args: "chassis bootdev none"},
		{args: "chassis bootparam get 0", want: []string{"Set In Progress"}},
		{args: "chassis bootparam get 1", want: []string{"Service Partition Selector"}},
		{args: "chassis bootparam get 2", want: []string{"Service Partition Scan"}},
		{args: "chassis bootparam get 4", want: []string{"Boot Info Acknowledge"}},
		{args: "chassis bootparam get 6", want: []string{"Boot Initiator Info"}},
		{args: "chassis bootmbox set text 7154 'cellar, left'"},
		{args: "chassis bootmbox get text", want: []string{"cellar, left"}},
		{args: "raw 0x00 0x0b 0x05"}, // five seconds of power cycle interval
		{args: "raw 0x00 0x0a 0x00"},
		{args: "raw 0x00 0x0a 0x01", want: []string{"0xd6"}, fail: true},
		{args: "chassis power on", want: []string{"Up/On"}},
	})
	s.power("on")
	if got := s.ssh("settings show power.off_time").must(t); !strings.Contains(got, "5s") {
		t.Errorf("power.off_time: got %q, want 5s", got)
	}
}

func TestIPMIToolSDR(t *testing.T) {
	s := start(t, "-host", "fake")
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	eventually(t, "the fan to turn", 15*time.Second, func() bool { return strings.Contains(s.ipmitool("sdr", "elist").out, "RPM") })
	dump := filepath.Join(t.TempDir(), "sdr.bin")
	play(t, s.ipmitool, []step{
		{args: "sdr list", want: []string{"/Inlet temp +\\| [0-9.]+ degrees C +\\| ok", "/ok"}},
		{args: "sdr list all", want: []string{"Dynamic MC", "Log FRU @00h"}},
		{args: "sdr elist full", want: []string{"degrees C", "RPM", "Volts", "Watts"}},
		{args: "sdr list compact"},
		{args: "sdr list fru"},
		{args: "sdr list mcloc"},
		{args: "sdr type Temperature", want: []string{"degrees C"}},
		{args: "sdr type list", want: []string{"Temperature"}},
		{args: "sdr entity 7", want: []string{""}},
		{args: "sdr info", want: []string{"/Record Count +: [1-9]", "/Free Space +:"}},
		{args: "sdr get 'Inlet temp'", want: []string{"Sensor Reading        :", "Upper critical", "Settable Thresholds"}},
		{args: "sdr dump " + dump, want: []string{"Dumping Sensor Data Repository"}},
		{args: "-S " + dump + " sensor list", want: []string{"Inlet temp"}},
		{args: "-v sdr", want: []string{"Sensor ID"}},
		{args: "sensor list", want: []string{"Inlet temp"}},
		{args: "sensor reading 'Inlet temp'", want: []string{"Inlet temp"}},
		{args: "sensor get 'Inlet temp'", want: []string{"Sensor ID", "Upper Critical"}},
		{args: "sensor thresh 'Inlet temp' ucr 41"},
		{args: "sensor get 'Inlet temp'", want: []string{"/Upper Critical +: 41.0"}},
		{args: "sensor thresh 'Inlet temp' upper 38 42 46"},
		{args: "sensor get 'Inlet temp'", want: []string{"/Upper Non-Critical +: 38.0", "/Upper Non-Recoverable +: 46.0"}},
		{args: "sensor thresh 'Inlet temp' upper 60 70 80"}, // one at a time, each above the old ones
		{args: "sensor get 'Inlet temp'", want: []string{"/Upper Non-Critical +: 60.0", "/Upper Non-Recoverable +: 80.0"}},
		{args: "sensor thresh 'Inlet temp' lcr 90", want: []string{"Invalid data field"}, any: true},
	})
}

// TestIPMIToolSEL: the log over the one event log.
func TestIPMIToolSEL(t *testing.T) {
	s := start(t, "-host", "fake")
	s.ipmitool("chassis", "power", "on").must(t)
	eventually(t, "an entry of the power", 10*time.Second, func() bool {
		return strings.Contains(s.ipmitool("sel", "elist").out, "S0/G0")
	})
	dir := t.TempDir()
	file := filepath.Join(dir, "events")
	// As ipmitool's "sel add" takes them: EvM revision, sensor type, number,
	// direction and event type, three bytes of data.
	text := "0x04 0x01 0x30 0x01 0x59 0x30 0x28 # a temperature\n0x04 0x0c 0x31 0x6f 0x00 0xff 0xff # memory\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	raw, saved := filepath.Join(dir, "raw"), filepath.Join(dir, "saved")
	play(t, s.ipmitool, []step{
		{args: "sel info", want: []string{"Version", "/Entries +: [1-9]", "/Supported Cmds +:.*Delete"}},
		{args: "sel list", want: []string{"/Power State|ACPI Power State"}},
		{args: "sel elist", want: []string{"/S0/G0|working"}},
		{args: "sel elist last 3", want: []string{"|"}},
		{args: "sel add " + file, want: []string{""}},
		{args: "sel list", want: []string{"Temperature #0x30", "Memory #0x31", "Correctable ECC"}},
		{args: "sel get 0x1", want: []string{"SEL Record ID", "Timestamp"}},
		{args: "sel save " + saved, want: []string{"|"}},
		{args: "sel writeraw " + raw},
		{args: "sel readraw " + raw, want: []string{"|"}},
		{args: "sel delete 0x1"},
		{args: "sel get 0x1", fail: true},
		{args: "sel time set '01/02/30 03:04:05'", want: []string{"01/02/30"}},
		{args: "sel time get", want: []string{"/01/02/(20)?30"}},
		{args: "event 1", want: []string{"Temperature - Upper Critical"}},
		{args: "event 3", want: []string{"Memory"}},
		{args: "sel list last 2", want: []string{"/01/02/(20)?30"}},
		{args: "event 'Inlet temp' ucr assert", want: []string{"Upper Critical"}},
		{args: "sel elist last 1", want: []string{"Temperature #0x01", "Upper Critical"}}, // its generator is the console
		{args: "sel clear", want: []string{"Clearing SEL"}},
	})
	eventually(t, "the log to be cleared", 5*time.Second, func() bool {
		got := s.ipmitool("sel", "list").out
		return !strings.Contains(got, "Memory") && strings.Contains(got, "Log area reset/cleared")
	})
	// It is a view: the one event log has it all.
	for _, want := range []string{"sel.cleared", "sel.added"} {
		if got := s.ssh("events -n 0").must(t); !strings.Contains(got, want) {
			t.Errorf("the event log has no %s:\n%s", want, got)
		}
	}
}

// TestThresholdEvent: a sensor that goes over its limit makes an entry, and one
// that comes back another.
func TestThresholdEvent(t *testing.T) {
	s := start(t, "-host", "fake")
	s.do("sensor inlet 60")
	eventually(t, "the entry", 10*time.Second, func() bool {
		return strings.Contains(s.ipmitool("sel", "elist").out, "Upper Critical going high")
	})
	if got := s.ipmitool("sensor", "get", "Inlet temp").must(t); !strings.Contains(got, "60") {
		t.Errorf("got %q, want 60 degrees", got)
	}
	s.do("sensor inlet fail")
	eventually(t, "no reading", 10*time.Second, func() bool {
		return strings.Contains(s.ipmitool("sdr", "get", "Inlet temp").out, "No Reading")
	})
	s.do("sensor inlet auto")
	eventually(t, "the way back", 10*time.Second, func() bool {
		return regexp.MustCompile("Upper Critical going high.*Deasserted").MatchString(s.ipmitool("sel", "elist").out)
	})
}

func TestIPMIToolFRU(t *testing.T) {
	s := start(t, "-host", "fake")
	file := filepath.Join(t.TempDir(), "fru.bin")
	play(t, s.ipmitool, []step{
		{args: "fru print", want: []string{"Board Mfg", "Product"}},
		{args: "fru list", want: []string{"FRU Device Description"}},
		{args: "fru read 0 " + file, want: []string{"Fru Size", "Done"}},
		{args: "fru write 0 " + file, want: []string{"Fru Size"}},
		{args: "fru edit 0 field p 1 cellar-box-9000", want: []string{"Done."}, any: true},
		{args: "fru print 0", want: []string{"cellar-box-9000"}},
	})
	s.reset()
	if got := s.ipmitool("fru", "print", "0").must(t); !strings.Contains(got, "cellar-box-9000") {
		t.Errorf("after a restart: %q", got)
	}
}

func TestIPMIToolUser(t *testing.T) {
	s := start(t, "-host", "fake")
	play(t, s.ipmitool, []step{
		{args: "user summary 1", want: []string{"/Maximum IDs\\s+: 17", "/Enabled User Count\\s+: 1"}},
		{args: "user list 1", want: []string{"/2 +admin.*ADMINISTRATOR"}},
		{args: "user set name 3 bob"},
		{args: "user set password 3 the-secret-of-bob-20 20", want: []string{"successful"}},
		{args: "channel setaccess 1 3 callin=off ipmi=on link=on privilege=3"},
		{args: "user enable 3"},
		{args: "user list 1", want: []string{"/3 +bob.*true +true +OPERATOR"}},
		{args: "user test 3 20 the-secret-of-bob-20", want: []string{"Success"}},
		{args: "user test 3 20 another-secret", fail: true},
		{args: "user priv 3 4 1"},
		{args: "channel getaccess 1 3", want: []string{"/Privilege Level +: ADMINISTRATOR", "/Enable Status +: enabled"}},
		{args: "sol payload status 1 3", want: []string{"User 3 on channel 1 is enabled"}},
		{args: "sol payload disable 1 3"},
		{args: "sol payload status 1 3", want: []string{"User 3 on channel 1 is disabled"}},
		{args: "sol payload enable 1 3"},
		{args: "user summary 1", want: []string{"/Enabled User Count\\s+: 2"}},
	})
	play(t, func(args ...string) result { return s.ipmitoolAs("bob", "the-secret-of-bob-20", "17", args...) }, []step{
		{args: "mc info", want: []string{"Device ID"}},
		{args: "user set name 4 eve"},
	})
	play(t, s.ipmitool, []step{
		{args: "user disable 3"},
		{args: "user set name 3 ''"},
		{args: "user list 1", want: []string{"eve"}},
		{args: "user disable 2", fail: true}, // nobody would be left
		{args: "user set name 1 somebody", fail: true},
	})
	if got := s.ipmitoolAs("bob", "the-secret-of-bob-20", "17", "mc", "info"); got.code == 0 {
		t.Errorf("bob is gone and gets in: %s", got.out)
	}
	if got := s.ssh("events -n 0").must(t); !strings.Contains(got, "auth.role-changed") || !strings.Contains(got, "admin from 127.0.0.1 by ipmi") {
		t.Errorf("the events do not say who changed the users, and from where:\n%s", got)
	}
}

func TestIPMIToolLAN(t *testing.T) {
	s := start(t, "-host", "fake")
	play(t, s.ipmitool, []step{
		{args: "lan print 1", want: []string{"/IP Address +: 127.0.0.1", "/Subnet Mask +: 255.0.0.0", "/MAC Address", "/RMCP\\+ Cipher Suites +: 17", "/Cipher Suite Priv Max"}},
		{args: "lan6 print 1", want: []string{"IPv6"}},
		{args: "lan set 1 ipaddr 192.0.2.7", fail: true}, // a simulator has no network of its own
		{args: "channel info 1", want: []string{"802.3 LAN", "multi-session"}},
		{args: "channel authcap 1 4", want: []string{"/IPMI v1.5 +: no", "/IPMI v2.0 +: yes"}},
		{args: "channel getaccess 1", want: []string{"admin"}},
		{args: "channel getciphers ipmi 1", want: []string{"sha256"}},
		{args: "channel getciphers sol 1", want: []string{"sha256"}},
		{args: "lan alert print 1 1", want: []string{"Alert Destination"}},
		{args: "lan alert set 1 1 ipaddr 127.0.0.1"},
		{args: "lan alert print 1 1", want: []string{"/Alert Gateway|127.0.0.1"}},
		{args: "lan set 1 snmp cellar"},
		{args: "lan print 1", want: []string{"/SNMP Community String +: cellar"}},
		{args: "session info active", want: []string{"ADMINISTRATOR", "127.0.0.1"}},
		{args: "session info all", want: []string{"ADMINISTRATOR"}},
	})
}

func TestIPMIToolSOLConfig(t *testing.T) {
	s := start(t, "-host", "fake")
	play(t, s.ipmitool, []step{
		{args: "sol info 1", want: []string{"/Enabled +: true", "/Force Encryption +: true", "/Payload Channel +: 1", "/Payload Port +: 623|[0-9]+"}},
		{args: "sol set retry-count 5 1"},
		{args: "sol set character-accumulate-level 12 1"},
		{args: "sol info 1", want: []string{"/Retry Count +: 5", "/Character Accumulate Level.*: 60"}},
		{args: "sol set enabled false 1"},
		{args: "sol info 1", want: []string{"/Enabled +: false"}},
		{args: "sol activate", fail: true},
		{args: "sol set enabled true 1"},
		{args: "sol deactivate", want: []string{"already de-activated"}, fail: true},
	})
}

func TestIPMIToolPEF(t *testing.T) {
	s := start(t, "-host", "fake")
	play(t, s.ipmitool, []step{
		{args: "pef info", want: []string{"0x51 | 16 | 8", "Alert,Power-off,Reset,Power-cycle,Diagnostic-interrupt"}},
		{args: "pef status", want: []string{"PEF | Alert"}},
		{args: "pef filter list", want: []string{"1 | disabled, pre-configured"}},
		{args: "pef filter enable 1"},
		{args: "pef filter list", want: []string{"/1 \\| enabled, pre-configured \\| .*Temperature"}},
		{args: "pef filter disable 1"},
		{args: "pef policy list"},
		{args: "pef timer set 0x10"},
		{args: "pef timer get"},
	})
}

func TestIPMIToolDCMI(t *testing.T) {
	s := start(t, "-host", "fake")
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	play(t, s.ipmitool, []step{
		{args: "dcmi discover", want: []string{"Power management available", "Temperature monitor available", "SEL automatic rollover is enabled"}},
		{args: "dcmi power reading", want: []string{"/Instantaneous power reading: +[1-9][0-9]* Watts", "Sampling period"}},
		{args: "dcmi power get_limit", want: []string{"Power Limit"}},
		{args: "dcmi power set_limit limit 400"},
		{args: "dcmi power activate"},
		{args: "dcmi power get_limit", want: []string{"400"}},
		{args: "dcmi power deactivate"},
		{args: "dcmi sensors", want: []string{"Inlet"}},
		{args: "dcmi get_temp_reading", want: []string{"Inlet"}},
		{args: "dcmi set_asset_tag cellar-7"},
		{args: "dcmi asset_tag", want: []string{"cellar-7"}},
		{args: "dcmi set_mc_id_string board-7"},
		{args: "dcmi get_mc_id_string", want: []string{"board-7"}},
		{args: "fru print 0", want: []string{"cellar-7"}},
	})
	if got := s.ssh("settings show hostname").must(t); !strings.Contains(got, "board-7") {
		t.Errorf("hostname: got %q, want board-7: the identifier is the host name", got)
	}
}

// TestIPMIToolExtra is for what has no word of its own.
func TestIPMIToolExtra(t *testing.T) {
	s := start(t, "-host", "fake")
	play(t, s.ipmitool, []step{
		{args: "raw 0x06 0x39 0x02", want: []string{"rsp=0xc1"}, fail: true}, // v1.5 sessions
		{args: "raw 0x06 0x52 0x01 0xa0 0x01 0x00", want: []string{"rsp=0xc1"}, fail: true},
		{args: "raw 0x2c 0x00 0x00", want: []string{"rsp=0xc1"}, fail: true},
		{args: "raw 0x2c 0x3e 0x00", want: []string{"rsp=0xc1"}, fail: true},
		{args: "raw 0x04 0x28 0x01 0x80"},
		{args: "raw 0x06 0x4e 0x01", want: []string{"03 00"}},
	})
}
