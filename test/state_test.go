//go:build e2e

package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestACLoss(t *testing.T) {
	for _, tt := range []struct{ policy, want string }{{"always-off", "off"}, {"previous", "on"}, {"always-on", "on"}} {
		t.Run(tt.policy, func(t *testing.T) { loseAC(t, start(t), tt.policy, tt.want) })
	}
}

// loseAC: the host loses its AC and gets it back while the board runs on.
func loseAC(t *testing.T, s *sim, policy, want string) {
	t.Helper()
	s.ipmitool("chassis", "policy", policy).must(t)
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	s.do("host-ac-off")
	s.power("off")
	if got := s.ipmitool("chassis", "power", "on"); got.code == 0 {
		t.Errorf("power on without AC: got success")
	}
	if got := s.ipmitool("chassis", "status").must(t); !strings.Contains(got, "ac-failed") {
		t.Errorf("status: got %q, want ac-failed", got)
	}
	s.do("host-ac-on")
	if want == "on" {
		s.power("on")
		return
	}
	time.Sleep(4 * time.Second)
	s.power("off")
}

// A person's finger on the power button is seen as the cause.
func TestFrontPanel(t *testing.T) {
	s := start(t)
	s.do("press-power")
	s.power("on")
	if got := s.ipmitool("chassis", "restart_cause").must(t); !strings.Contains(got, "power-up via pushbutton") {
		t.Errorf("restart cause: got %q", got)
	}
	if got := s.ssh("events").must(t); !strings.Contains(got, "panel.power-button") {
		t.Errorf("events: got %q, want panel.power-button", got)
	}
}

// What was changed outlives a clean stop, and the same login works again.
func TestStateSurvivesStop(t *testing.T) {
	s := start(t, "-host", "fake")
	s.ssh("settings set power.off_time 4s").must(t)
	s.ssh("settings set hostname rack9").must(t)
	password := s.Password
	s.stop()
	s.run()
	if s.Password != password {
		t.Errorf("password in the ready line: got %q, want %q as before", s.Password, password)
	}
	if got := s.ssh("settings show power.off_time").must(t); !strings.Contains(got, "4s") {
		t.Errorf("off_time: got %q, want 4s", got)
	}
	if got := s.ssh("events").must(t); strings.Count(got, "bmc.started") != 2 {
		t.Errorf("events: got %q, want both starts", got)
	}
}

// killRounds is how many kills a test does: 5, or as many as SOAK says.
func killRounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("SOAK")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SOAK=%q: want a number of rounds", text)
	}
	return n
}

// Kill -9 at random moments while settings are written: the old value or the
// new one, never neither, and the host runs on.
func TestKill(t *testing.T) {
	rounds := killRounds(t)
	s := start(t, "-password", "kill-test-1")
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	pid := s.qemu()
	acked := 0 // changes of the policy that were acknowledged
	for round := range rounds {
		// One change of the settings after the other, as fast as they go.
		last := make(chan int, 1)
		go func() {
			i := acked
			for s.patch(fmt.Sprintf(`{"PowerRestorePolicy": %q}`, policies[(i+1)%2])) == nil {
				i++
			}
			last <- i
		}()
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		s.kill()
		acked = <-last
		s.run()
		if got := s.qemu(); got != pid || pid == 0 {
			t.Fatalf("round %d: QEMU: got %d, want %d adopted", round, got, pid)
		}
		if got := strings.TrimSpace(s.ipmitool("chassis", "power", "status").must(t)); got != "Chassis Power is on" {
			t.Fatalf("round %d: got %q", round, got)
		}
		got := s.policy(t)
		switch got {
		case policies[acked%2]:
		case policies[(acked+1)%2]: // the one that was under way
			acked++
		default:
			t.Fatalf("round %d: policy %q is neither the old nor the new value", round, got)
		}
		if got := strings.Count(s.ssh("events -n 0").must(t), "bmc.started"); got != round+2 {
			t.Fatalf("round %d: events tell of %d starts, want %d", round, got, round+2)
		}
		if users := s.ssh("users").must(t); !strings.Contains(users, "Administrator") {
			t.Fatalf("round %d: users: %q", round, users)
		}
	}
	// A value at rest is there after a kill.
	for _, want := range policies {
		if err := s.patch(fmt.Sprintf(`{"PowerRestorePolicy": %q}`, want)); err != nil {
			t.Fatal(err)
		}
		s.kill()
		s.run()
		if got := s.policy(t); got != want {
			t.Errorf("policy: got %q, want %q, which was acknowledged", got, want)
		}
	}
	if got := s.ssh("events").must(t); strings.Contains(got, "settings.bad") || strings.Contains(got, "damaged") {
		t.Errorf("events tell of damage: %s", got)
	}
}

var policies = [...]string{"LastState", "AlwaysOn"}

// Kill -9 at random moments while the host is being switched, and so while the
// power state is written: the host ends on or off, what is told is true, and
// the machine takes the next request. A request that had long been accepted is
// brought to its end, or is left where it was; nothing hangs.
func TestKillWhileSwitching(t *testing.T) {
	s := start(t, "-password", "kill-test-1")
	want := "on"
	for round := range killRounds(t) {
		s.ipmitool("chassis", "power", want).must(t)
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		s.kill()
		s.run()
		// Nobody asks for anything here: what is told has to be the truth, twice
		// in a row so that no switching is under way.
		same, last := 0, ""
		eventually(t, "a true and steady power state", 40*time.Second, func() bool {
			before := s.qemu() != 0
			said := strings.TrimSpace(s.ipmitool("chassis", "power", "status").must(t))
			after := s.qemu() != 0
			if before != after || (said == "Chassis Power is on") != after || said != last {
				same, last = 0, said
				return false
			}
			same++
			return same == 10
		})
		// An off that took hold leaves nothing to do; busy is no answer any more.
		eventually(t, "the next request to be taken", 20*time.Second, func() bool {
			return s.ipmitool("chassis", "power", want).code == 0
		})
		s.power(want)
		if on := s.qemu() != 0; on != (want == "on") {
			t.Fatalf("round %d: QEMU runs: %v, want power %s", round, on, want)
		}
		events := s.ssh("events").must(t)
		for _, bad := range []string{"power.record", "state.damaged", "events.damaged", "settings.bad"} {
			if strings.Contains(events, bad) {
				t.Fatalf("round %d: events tell of %s: %s", round, bad, events)
			}
		}
		want = map[string]string{"on": "off", "off": "on"}[want]
	}
}

// policy is the restore policy as Redfish shows it.
func (s *sim) policy(t *testing.T) string {
	t.Helper()
	var system struct{ PowerRestorePolicy string }
	s.getInto(t, "/redfish/v1/Systems/system", &system)
	return system.PowerRestorePolicy
}

func (s *sim) patch(body string) error {
	code, text, err := s.redfish("PATCH", "/redfish/v1/Systems/system", body)
	if err == nil && code != http.StatusOK && code != http.StatusNoContent {
		err = fmt.Errorf("status %d: %s", code, text)
	}
	return err
}

func (s *sim) getInto(t *testing.T, path string, v any) {
	t.Helper()
	code, text, err := s.redfish("GET", path, "")
	if err == nil && code == http.StatusOK {
		err = json.Unmarshal(text, v)
	}
	if err != nil || code != http.StatusOK {
		t.Fatalf("GET %s: %d, %v, %s", path, code, err, text)
	}
}

// A second bmcsim on the same folder refuses and leaves the first alone.
func TestSecondRefuses(t *testing.T) {
	for _, kind := range []string{"qemu", "fake"} {
		t.Run(kind, func(t *testing.T) {
			s := start(t, "-host", kind)
			got := client(t, program, "-dir", s.dir, "-base", fmt.Sprint(freeBase(t)), "-host", kind)
			if got.code != 1 || !strings.Contains(got.out, "another bmcsim") {
				t.Errorf("second: got %d, %q", got.code, got.out)
			}
			s.ipmitool("chassis", "power", "status").must(t)
			s.do("press-power")
			s.power("on")
		})
	}
}

// Two on the same ports: the second says which, and exits.
func TestPortTaken(t *testing.T) {
	s := start(t, "-host", "fake")
	got := client(t, program, "-dir", t.TempDir(), "-base", fmt.Sprint(s.base), "-host", "fake")
	if got.code != 1 || !strings.Contains(got.out, "address already in use") {
		t.Errorf("second: got %d, %q", got.code, got.out)
	}
	s.ipmitool("chassis", "power", "status").must(t)
}

// A folder with a long name: unix sockets have short ones.
func TestLongFolder(t *testing.T) {
	s := &sim{tb: t, program: program, dir: filepath.Join(t.TempDir(), strings.Repeat("a-long-folder-name/", 10)), base: freeBase(t)}
	s.run()
	t.Cleanup(s.stop)
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	s.do("press-power")
}

// A bmc.json that is wrong is told with line and column, and what was good
// before stays in force.
func TestBadSettings(t *testing.T) {
	good := "{\n  \"version\": 1,\n  \"hostname\": \"rack7\"\n}\n"
	tests := []struct {
		name, text string
		want       []string
	}{
		{"unknown field", "{\n  \"version\": 1,\n  \"hostnme\": \"x\"\n}", []string{"bmc.json:3:3", "hostnme"}},
		{"wrong type", "{\n  \"version\": 1,\n  \"hostname\": 7\n}", []string{"bmc.json:3:15"}},
		{"bad duration", "{\"version\": 1, \"power\": {\n\"off_time\": \"5 parsecs\"}}", []string{"bmc.json:2:13", "5 parsecs"}},
		{"out of range", "{\"version\": 1, \"power\": {\n\"off_time\": \"999h\"}}", []string{"bmc.json:2:13", "999h"}},
		{"named twice", "{\"version\": 1,\n \"hostname\": \"a\",\n \"hostname\": \"b\"}", []string{"bmc.json:3:2", "hostname"}},
		{"a wire named twice", "{\"version\": 1, \"wires\": {\n \"reset_button\": {\"line\": 1},\n \"nmi_button\": {\"line\": 1}}}", []string{"bmc.json:3:", "twice"}},
		{"a line that is not there", "{\"version\": 1, \"wires\": {\n \"nmi_button\": {\"line\": 77}}}", []string{"bmc.json:2:", "no such line"}},
		{"cut off", "{\n  \"version\": 1,\n  \"host", []string{"bmc.json:3:"}},
		{"empty", "", []string{"bmc.json"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := filepath.Join(t.TempDir(), "bmc.json")
			if err := os.WriteFile(config, []byte(good), 0o600); err != nil {
				t.Fatal(err)
			}
			s := start(t, "-host", "fake", "-config", config)
			s.stop()
			if err := os.WriteFile(config, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			s.run()
			if got := s.ssh("settings show hostname").must(t); !strings.Contains(got, "rack7") {
				t.Errorf("hostname: got %q, want the last good one, rack7", got)
			}
			events := s.ssh("events").must(t)
			for _, want := range append(tt.want, "settings.bad") {
				if !strings.Contains(events, want) {
					t.Errorf("events: got %q, want %q in it", events, want)
				}
			}
		})
	}
}

// A wire that is not there is not offered.
func TestAbsentWire(t *testing.T) {
	config := filepath.Join(t.TempDir(), "bmc.json")
	if err := os.WriteFile(config, []byte(`{"version": 1, "wires": {"nmi_button": null, "reset_button": null}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "-host", "fake", "-config", config)
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	for _, a := range []string{"reset", "diag"} {
		if got := s.ipmitool("chassis", "power", a); got.code == 0 {
			t.Errorf("power %s: got success without its wire", a)
		}
		if got := s.ssh("power " + a); got.code != 3 {
			t.Errorf("ssh power %s: got %d, %q, want exit code 3", a, got.code, got.out)
		}
	}
	code, text, err := s.redfish("GET", "/redfish/v1/Systems/system", "")
	if err != nil || code != http.StatusOK || strings.Contains(string(text), "Nmi") || strings.Contains(string(text), `"ForceRestart"`) {
		t.Errorf("Redfish: got %d, %v, %s, want no Nmi and no ForceRestart", code, err, text)
	}
}

// Bad arguments are told, and nothing starts.
func TestArguments(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-base 65000", "-base 65000"},
		{"-base x", "invalid value"},
		{"-host vax", "qemu or fake"},
		{"-config /does/not/exist", "no such file"},
		{"extra", "unexpected argument"},
	} {
		got := client(t, program, strings.Fields(tt.args)...)
		if got.code == 0 || !strings.Contains(got.out, tt.want) {
			t.Errorf("bmcsim %s: got %d, %q, want %q in it", tt.args, got.code, got.out, tt.want)
		}
	}
}
