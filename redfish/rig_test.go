package redfish

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Where a host is reset.
const resetURI = resource.SystemURI + "/Actions/ComputerSystem.Reset"

func uuidOf(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func authAttempt(name string) auth.Attempt {
	return auth.Attempt{Via: resource.Via, Source: netip.MustParseAddr("127.0.0.1"), Name: name}
}

// A rig is the whole service on a host of fake wires.
type rig struct {
	*redfishtest.Rig
	host *redfishtest.Host
	auth *redfishtest.Auth
}

func newRig(t testing.TB, o redfishtest.HostOptions) *rig {
	t.Helper()
	r := &rig{host: redfishtest.NewHost(t, o), auth: redfishtest.NewAuth()}
	service, err := New(Options{Host: r.host.Host, Auth: r.auth, Log: slog.New(slog.DiscardHandler), Product: "nitrino", Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	return r
}
