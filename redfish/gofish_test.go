package redfish

import (
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/stmcginnis/gofish"
	client "github.com/stmcginnis/gofish/redfish"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A client that others wrote (gofish) with the real package auth: log in, look,
// reset, set the boot override, log out.
func TestGofish(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{})
	db, err := store.Open(filepath.Join(t.TempDir(), "auth"))
	if err != nil {
		t.Fatal(err)
	}
	users, err := auth.Open(auth.Options{Store: db})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := users.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	const password = "correct horse battery"
	if err := users.Create(auth.User{Name: "admin", Role: auth.Administrator, Enabled: true}, password, auth.Attempt{}); err != nil {
		t.Fatal(err)
	}
	service, err := New(Options{Host: r.host.Host, Auth: users, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(service)
	t.Cleanup(server.Close)

	config := gofish.ClientConfig{Endpoint: server.URL, Username: "admin", Password: "wrong", HTTPClient: server.Client()}
	if _, err := gofish.Connect(config); err == nil {
		t.Fatal("a wrong password was taken")
	}
	config.Password = password
	for _, basic := range []bool{true, false} {
		config.BasicAuth = basic
		c, err := gofish.Connect(config)
		if err != nil {
			t.Fatal(err)
		}
		systems, err := c.Service.Systems()
		if err != nil || len(systems) != 1 {
			t.Fatalf("basic %v: systems %v, %v", basic, systems, err)
		}
		if got, want := systems[0].UUID, uuidOf(r.host.UUID); got != want {
			t.Errorf("UUID: got %s, want %s", got, want)
		}
		if basic {
			continue
		}
		if got := len(users.Sessions()); got != 1 {
			t.Errorf("got %d sessions, want 1", got)
		}
		useSystem(t, r, c)
		c.Logout()
		if got := len(users.Sessions()); got != 0 {
			t.Errorf("got %d sessions after logout, want 0", got)
		}
	}
}

func useSystem(t *testing.T, r *rig, c *gofish.APIClient) {
	t.Helper()
	// gofish sends the ETag of what it read as If-Match, so it must read again
	// after each change, that of PowerState included.
	read := func() *client.ComputerSystem {
		system, err := client.GetComputerSystem(c, resource.SystemURI)
		if err != nil {
			t.Fatal(err)
		}
		return system
	}
	system := read()
	if got := system.PowerState; got != client.OffPowerState {
		t.Errorf("PowerState: got %s, want Off", got)
	}
	if err := system.Reset(client.OnResetType); err != nil {
		t.Errorf("Reset: %v", err)
	}
	r.host.Await(t, host.StateOn)
	override := client.Boot{BootSourceOverrideEnabled: client.OnceBootSourceOverrideEnabled, BootSourceOverrideTarget: client.PxeBootSourceOverrideTarget}
	if err := system.SetBoot(override); err == nil {
		t.Error("SetBoot with the ETag of before the reset: no error")
	}
	if err := read().SetBoot(override); err != nil {
		t.Errorf("SetBoot: %v", err)
	}
	if got := r.host.Boot.Get(); got.Target != host.BootPXE || got.Continuous {
		t.Errorf("override: got %+v, want one boot from Pxe", got)
	}
	system = read()
	system.PowerRestorePolicy = client.PowerState(client.LastStatePowerRestorePolicyTypes) // gofish declares it so
	if err := system.Update(); err != nil {
		t.Errorf("Update: %v", err)
	}
	if got := r.host.Power.Status().Restore; got != host.LastState {
		t.Errorf("restore policy: got %s, want last-state", got)
	}
}
