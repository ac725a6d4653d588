//go:build e2e

package test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// sushy runs a step of the script that uses OpenStack's library, as Debian has it.
func (s *sim) sushy(t *testing.T, step string, args ...string) {
	t.Helper()
	// Debian's own interpreter, without another's trusted authorities.
	env := []string{"REQUESTS_CA_BUNDLE=", "CURL_CA_BUNDLE=", "PYTHONDONTWRITEBYTECODE=1"}
	got := clientFor(t, 2*time.Minute, env, "", "/usr/bin/python3", append([]string{"testdata/sushy_client.py", s.Redfish, s.User, s.Password, step}, args...)...)
	if got.code != 0 || !strings.HasSuffix(got.out, "all well\n") {
		t.Fatalf("%s: exit code %d\n%s", step, got.code, got.out)
	}
	t.Logf("%s:\n%s", step, got.out)
}

// TestSushy: Ironic finds what it needs, and its errors are what it expects.
func TestSushy(t *testing.T) {
	s := start(t, "-host", "fake")
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	s.sushy(t, "look")
	s.sushy(t, "errors")
	if open := s.admin().get("/redfish/v1/SessionService/Sessions").members(); len(open) != 0 {
		t.Errorf("sessions are left open: %v", open)
	}
}

// TestSushyDeploy: a deployment by virtual media of a host that really boots.
func TestSushyDeploy(t *testing.T) {
	s := start(t)
	web := serveImage(t, bootableCD(64<<20, fromCD+"\r\n"))
	s.sushy(t, "deploy", web.URL+"/install.iso")
	s.shows(fromCD, fromDisk)
	s.sushy(t, "cycle", web.URL+"/install.iso")
	s.shows(fromDisk, fromCD)
	s.sushy(t, "deploy", web.URL+"/install.iso") // it is on
	s.shows(fromCD, fromDisk)
}

func TestSushyUpdate(t *testing.T) {
	key, public := releaseKey(t)
	other, _ := releaseKey(t)
	s := trusting(t, public)
	images := map[string][]byte{"/good.bundle": bundle(t, "3.0.0", key), "/bad.bundle": bundle(t, "3.0.1", other)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(images[r.URL.Path]) // the board's end tells
	}))
	t.Cleanup(server.Close)
	s.sushy(t, "fetch", server.URL+"/good.bundle", server.URL+"/bad.bundle")
	if got := s.admin().stagedVersion(); got != "3.0.0" {
		t.Errorf("staged: got %q, want 3.0.0", got)
	}
}
