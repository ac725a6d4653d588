package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
)

// users are an Auth whose passwords are the names and whose one token is "t".
type users struct{ broken bool }

func (u users) Password(_ context.Context, t auth.Attempt, password string) (auth.User, error) {
	roles := map[string]auth.Role{"admin": auth.Administrator, "reader": auth.ReadOnly, "guest": "Guest", "new": auth.ReadOnly}
	role, found := roles[t.Name]
	switch {
	case u.broken:
		return auth.User{}, auth.ErrBusy
	case !found || password != t.Name || t.Via != Via || !t.Source.IsLoopback():
		return auth.User{}, fmt.Errorf("fake: %w", auth.ErrDenied)
	}
	return auth.User{Name: t.Name, Role: role, Enabled: true, PasswordChangeRequired: t.Name == "new"}, nil
}

func (u users) Session(token string) (auth.Session, auth.User, bool) {
	return auth.Session{}, auth.User{Name: "reader", Role: auth.ReadOnly, Enabled: true}, token == "t"
}

func (u users) Sessions() []auth.Session {
	return []auth.Session{{Via: "redfish"}, {Via: "ssh"}, {Via: "redfish"}}
}

type sensor struct {
	value float64
	err   error
}

func (s sensor) Read(context.Context) (float64, error) { return s.value, s.err }

func newHandler(t *testing.T, u users) (*Handler, *host.Host) {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	log := slog.New(slog.DiscardHandler)
	events, err := host.OpenEvents(db, log)
	if err != nil {
		t.Fatal(err)
	}
	hs, err := host.New(host.Parts{Sensors: []host.SensorPart{
		{Name: `in "a\b"`, Quantity: host.Temperature, Place: host.PlaceInlet, Min: -40, Max: 125, Gauge: sensor{value: 21.5}},
		{Name: "rh", Quantity: host.Humidity, Place: host.PlaceBoard, Min: 0, Max: 100, Gauge: sensor{value: 40}},
		{Name: "12v", Quantity: host.Voltage, Place: host.PlaceSystem, Min: 0, Max: 20, Gauge: sensor{err: errors.New("no chip")}},
	}}, host.Options{Store: db, Events: events, Log: log, Power: host.DefaultPowerConfig(),
		SaveRestorePolicy: func(host.RestorePolicy, host.Origin) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	h := New(Options{Host: hs, Auth: u, Log: log, Version: "1.2.3"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	for _, run := range []func(context.Context) error{hs.Run, h.Run} {
		go func() { done <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	return h, hs
}

// A page is all samples, and the type of each family.
type page struct {
	samples map[string]float64
	types   map[string]string
}

// parse reads the text format strictly, and finds what promtool's linter would.
func parse(t *testing.T, text string) page {
	t.Helper()
	sampleForm := regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\["\\n])*",? ?)*\})? (\S+)$`)
	metaForm := regexp.MustCompile(`^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$`)
	p := page{map[string]float64{}, map[string]string{}}
	helped, now, closed := map[string]bool{}, "", map[string]bool{}
	if !strings.HasSuffix(text, "\n") {
		t.Error("the last line does not end")
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := metaForm.FindStringSubmatch(line); m != nil {
			switch {
			case m[1] == "HELP" && (helped[m[2]] || !strings.HasSuffix(m[3], ".")):
				t.Errorf("help: %s", line)
			case m[1] == "HELP":
				helped[m[2]] = true
			case p.types[m[2]] != "" || closed[m[2]]:
				t.Errorf("late or second type: %s", line)
			case m[3] == "counter" != strings.HasSuffix(m[2], "_total"):
				t.Errorf("a counter, and nothing else, ends in _total: %s", line)
			default:
				p.types[m[2]] = m[3]
			}
			continue
		}
		m := sampleForm.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("no sample: %q", line)
			continue
		}
		name, value := m[1], m[3]
		if name != now && closed[name] {
			t.Errorf("the samples of %s do not stand together", name)
		}
		now, closed[name] = name, true
		if strings.HasPrefix(name, "nitrino_") && (!helped[name] || p.types[name] == "") {
			t.Errorf("%s has no help or type", name)
		}
		f, err := strconv.ParseFloat(value, 64)
		if _, twice := p.samples[name+m[2]]; err != nil || twice {
			t.Errorf("%s: %v, twice: %v", line, err, twice)
		}
		p.samples[name+m[2]] = f
	}
	for name := range p.types {
		if strings.HasPrefix(name, "nitrino_") && !closed[name] {
			t.Errorf("%s has no samples", name)
		}
		if strings.ToLower(name) != name {
			t.Errorf("%s has capital letters", name)
		}
	}
	return p
}

func scrape(t *testing.T, s *httptest.Server) page {
	t.Helper()
	req, err := http.NewRequest("GET", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("reader", "reader")
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Fatalf("%d, Content-Type %q", resp.StatusCode, got)
	}
	return parse(t, string(body))
}

func TestMetrics(t *testing.T) {
	h, hs := newHandler(t, users{})
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	for range 3 {
		hs.Events.Add(host.Event{Kind: "auth.failed", Severity: host.Warning, Message: "A login failed."})
	}
	want := map[string]float64{
		`nitrino_host_power_state{state="Unknown"}`:                              1,
		`nitrino_host_power_state{state="On"}`:                                   0,
		`nitrino_sessions{via="redfish"}`:                                        2,
		`nitrino_sensor_temperature_celsius{sensor="in \"a\\b\"",place="inlet"}`: 21.5,
		`nitrino_sensor_humidity_ratio{sensor="rh",place="board"}`:               0.4,
		`nitrino_sensor_up{sensor="12v",place="system"}`:                         0,
		`nitrino_sensor_up{sensor="rh",place="board"}`:                           1,
		`nitrino_host_watchdog_running`:                                          0,
		`nitrino_events_total{kind="auth.failed",severity="Warning"}`:            3,
	}
	var p page
	for range 500 { // the sensors have to be read, and the events counted
		p = scrape(t, s)
		all := true
		for name, value := range want {
			got, found := p.samples[name]
			all = all && found && got == value
		}
		if all {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for name, value := range want {
		if got, found := p.samples[name]; !found || got != value {
			t.Errorf("%s: got %v, %v, want %v", name, got, found, value)
		}
	}
	for _, name := range []string{"process_resident_memory_bytes", "process_start_time_seconds", "go_goroutines", "go_memstats_heap_inuse_bytes", "nitrino_uptime_seconds"} {
		if p.samples[name] <= 0 {
			t.Errorf("%s: got %v", name, p.samples[name])
		}
	}
	// What nothing measures is not there.
	for name := range p.samples {
		if strings.Contains(name, "watts") || strings.Contains(name, "ac_power") || strings.HasPrefix(name, "nitrino_sensor_volts") {
			t.Errorf("%s is there", name)
		}
	}
}

func TestAdmission(t *testing.T) {
	for _, c := range []struct {
		method, name, header, value string
		broken, plain               bool
		want                        int
	}{
		{name: "admin", want: 200},
		{method: "HEAD", name: "reader", want: 200},
		{header: "X-Auth-Token", value: "t", want: 200},
		{header: "Authorization", value: "Bearer t", want: 200},
		{header: "Authorization", value: "Bearer x", want: 401},
		{header: "X-Auth-Token", value: "x", name: "admin", want: 401},
		{want: 401},
		{name: "nobody", want: 401},
		{name: "guest", want: 403},
		{name: "new", want: 403},
		{name: "admin", plain: true, want: 403},
		{name: "admin", broken: true, want: 503},
		{method: "POST", name: "admin", want: 405},
	} {
		h, _ := newHandler(t, users{c.broken})
		s := httptest.NewTLSServer(h)
		if c.plain {
			s = httptest.NewServer(h)
		}
		if c.method == "" {
			c.method = "GET"
		}
		req, err := http.NewRequest(c.method, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.name != "" {
			req.SetBasicAuth(c.name, c.name)
		}
		if c.header != "" {
			req.Header.Set(c.header, c.value)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		s.Close()
		if resp.StatusCode != c.want || (c.want == 401) != (resp.Header.Get("WWW-Authenticate") != "") {
			t.Errorf("%+v: got %d %v", c, resp.StatusCode, resp.Header)
		}
	}
}
