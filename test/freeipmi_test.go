//go:build e2e

package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// free runs a tool of FreeIPMI as admin with cipher suite 17. The cache of SDR
// records that some keep for each host name goes to a folder of its own.
func (s *sim) free(tool string) func(args ...string) result {
	s.tb.Helper()
	login := []string{"-D", "LAN_2_0", "-I", "17", "-h", s.IPMI, "-u", s.User, "-p", s.IPMIPassword}
	switch tool {
	case "ipmi-sensors", "ipmi-sel", "ipmi-fru", "ipmi-config", "ipmi-pef-config":
		login = append(login, "--sdr-cache-directory="+s.tb.TempDir())
	}
	return func(args ...string) result {
		s.tb.Helper()
		return client(s.tb, tool, append(login, args...)...)
	}
}

// TestFreeIPMIConfig checks each category out, commits it as it is, and finds no
// difference; then changes one value, and finds that.
func TestFreeIPMIConfig(t *testing.T) {
	s := start(t, "-host", "fake")
	for _, test := range []struct {
		tool, category string
		pair, want     string // a change, and how it reads back
	}{
		{"bmc-config", "core", "SOL_Conf:Character_Accumulate_Interval=20", "20"},
		{"ipmi-config", "chassis", "Chassis_Boot_Flags:Boot_Device=PXE", "PXE"},
		{"ipmi-config", "sensors", "", ""},
		{"ipmi-config", "pef", "Community_String:Community_String=cellar", "cellar"},
	} {
		t.Run(test.category, func(t *testing.T) {
			run := s.free(test.tool)
			file := filepath.Join(t.TempDir(), "config")
			with := func(args ...string) []string {
				if test.tool == "ipmi-config" {
					args = append([]string{"--category=" + test.category}, args...)
				}
				return args
			}
			// Its code is 1 where a key of FreeIPMI's own list is not there (K_R,
			// suites that are not on offer): that is no error.
			if got := run(with("--checkout", "--filename="+file)...); got.out != "" && test.category == "core" {
				t.Errorf("checkout: %d %s", got.code, got.out)
			} else if test.category != "core" && got.code != 0 {
				t.Errorf("checkout: %d %s", got.code, got.out)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				if strings.Contains(strings.ToLower(line), "unable to") {
					t.Errorf("checkout: %s", line)
				}
			}
			if got := run(with("--commit", "--filename="+file)...); got.code != 0 || strings.Contains(strings.ToLower(got.out), "fail") {
				t.Errorf("commit: %d %s", got.code, got.out)
			}
			if got := run(with("--diff", "--filename="+file)...); got.code != 0 || strings.TrimSpace(got.out) != "" {
				t.Errorf("diff: %d %s", got.code, got.out)
			}
			if test.pair == "" {
				return
			}
			run(with("--commit", "--key-pair="+test.pair)...).must(t)
			key, _, _ := strings.Cut(test.pair, "=")
			if got := run(with("--checkout", "--key-pair="+key)...).must(t); !strings.Contains(got, test.want) {
				t.Errorf("%s: got %s", test.pair, got)
			}
			if got := run(with("--diff", "--filename="+file)...); strings.TrimSpace(got.out) == "" {
				t.Errorf("diff after %s: nothing", test.pair)
			}
		})
	}
}

func TestFreeIPMITools(t *testing.T) {
	s := start(t, "-host", "fake")
	s.ipmitool("chassis", "power", "on").must(t)
	eventually(t, "an entry of the power", 10*time.Second, func() bool {
		return strings.Contains(s.ipmitool("sel", "elist").out, "S0/G0")
	})
	for _, script := range []struct {
		tool  string
		steps []step
	}{
		{"bmc-info", []step{
			{want: []string{"/IPMI Version +: 2.0", "GUID", "Sensor Device"}},
			{args: "--get-device-id"},
			{args: "--get-system-info"},
		}},
		{"ipmi-sensors", []step{
			{want: []string{"Inlet temp", "/Temperature +\\|.*\\| '?OK"}},
			{args: "--output-sensor-state --verbose", want: []string{"Inlet temp"}},
			{args: "--output-sensor-thresholds --entity-sensor-names", want: []string{"Inlet temp"}},
			{args: "--sdr-cache-recreate --sensor-types=all", want: []string{"Inlet temp"}},
		}},
		{"ipmi-sel", []step{
			{args: "--info", want: []string{"Number of log entries", "Delete SEL command"}},
			{want: []string{"System ACPI Power State"}},
			{args: "--output-event-state --verbose", want: []string{"State"}},
			{args: "--delete=1"},
			{args: "--clear"},
		}},
		{"ipmi-fru", []step{
			{want: []string{"FRU Board", "Manufacturer"}},
			{args: "--verbose", want: []string{"FRU"}},
		}},
		{"ipmi-dcmi", []step{
			{args: "--get-dcmi-capability-info", want: []string{"DCMI Specification Conformance", "1.5"}},
			{args: "--get-system-power-statistics", want: []string{"Current Power", "Watts"}},
			{args: "--set-power-limit --power-limit-requested=350 --correction-time-limit=2000 --statistics-sampling-period=10"},
			{args: "--activate-deactivate-power-limit=ACTIVATE"},
			{args: "--get-power-limit", want: []string{"350"}},
			{args: "--activate-deactivate-power-limit=DEACTIVATE"},
			{args: "--set-asset-tag=cellar-7"},
			{args: "--get-asset-tag", want: []string{"cellar-7"}},
			{args: "--set-management-controller-identifier-string=board-7"},
			{args: "--get-management-controller-identifier-string", want: []string{"board-7"}},
			{args: "--get-dcmi-sensor-info", want: []string{"Inlet"}},
		}},
		{"ipmi-chassis", []step{
			{args: "--get-chassis-status", want: []string{"/System Power +: on"}},
			{args: "--get-power-on-hours-counter", want: []string{"hours"}},
			{args: "--get-system-restart-cause"},
		}},
		{"ipmi-raw", []step{{args: "0 0x6 0x1", want: []string{"rcvd: 01 00 20"}}}},
		{"ipmi-pef-config", []step{{args: "--info", want: []string{"PEF"}}}},
	} {
		t.Run(script.tool, func(t *testing.T) { play(t, s.free(script.tool), script.steps) })
	}
}
