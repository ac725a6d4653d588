//go:build e2e

package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var insecure = &http.Client{
	Timeout:   10 * time.Second,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}},
}

// redfish sends a request with Basic login and returns status and body.
func (s *sim) redfish(method, path, body string) (int, []byte, error) {
	req, err := http.NewRequest(method, s.Redfish+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.SetBasicAuth(s.User, s.Password)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := insecure.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

func TestRedfish(t *testing.T) { redfishLife(t, start(t)) }

// redfishLife: Redfish drives the same machine as ipmitool.
func redfishLife(t *testing.T, s *sim) {
	t.Helper()
	reset := func(kind string, want int) {
		t.Helper()
		code, text, err := s.redfish("POST", "/redfish/v1/Systems/system/Actions/ComputerSystem.Reset", fmt.Sprintf(`{"ResetType": %q}`, kind))
		if err != nil || code != want {
			t.Errorf("Reset %s: got %d, %v, %s, want %d", kind, code, err, text, want)
		}
	}
	var root struct{ RedfishVersion string }
	s.getInto(t, "/redfish/v1/", &root)
	if root.RedfishVersion == "" {
		t.Error("the service root has no RedfishVersion")
	}
	state := func(want string) {
		t.Helper()
		eventually(t, "PowerState "+want, 30*time.Second, func() bool {
			var system struct{ PowerState string }
			s.getInto(t, "/redfish/v1/Systems/system", &system)
			return system.PowerState == want
		})
	}
	state("Off")
	reset("ForceRestart", http.StatusNoContent) // of a host that is off switches it on
	state("On")
	s.power("on")
	eventually(t, "the demo host", 60*time.Second, func() bool { return strings.Contains(s.ssh("console -p").out, "demo host is up") })
	reset("GracefulShutdown", http.StatusNoContent)
	state("PoweringOff")
	state("Off")
	reset("Explode", http.StatusBadRequest)
}

// A session as a stranger with curl would use it, and old TLS refused.
func TestRedfishSession(t *testing.T) {
	s := start(t, "-host", "fake")
	login := fmt.Sprintf(`{"UserName": %q, "Password": %q}`, s.User, s.Password)
	head := filepath.Join(t.TempDir(), "head")
	client(t, "curl", "-sSfk", "-D", head, "-H", "Content-Type: application/json", "-d", login, s.Redfish+"/redfish/v1/SessionService/Sessions").must(t)
	headers, err := os.ReadFile(head)
	if err != nil {
		t.Fatal(err)
	}
	var token, location string
	for line := range bytes.Lines(headers) {
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), ": ")
		switch strings.ToLower(name) {
		case "x-auth-token":
			token = value
		case "location":
			location = value
		}
	}
	system := s.Redfish + "/redfish/v1/Systems/system"
	client(t, "curl", "-sSfk", "-H", "X-Auth-Token: "+token, system).must(t)
	client(t, "curl", "-sSfk", "-X", "DELETE", "-H", "X-Auth-Token: "+token, s.Redfish+location).must(t)
	if got := client(t, "curl", "-sSfk", "-H", "X-Auth-Token: "+token, system); got.code == 0 {
		t.Error("a token works after its session has ended")
	}
	if got := client(t, "curl", "-sSfk", "-u", s.User+":wrong", system); got.code == 0 {
		t.Error("a wrong password works")
	}
	for _, old := range []string{"--tls-max 1.1", "--tlsv1.0 --tls-max 1.0"} {
		if got := client(t, "curl", append(strings.Fields(old), "-sSk", s.Redfish+"/redfish/v1/")...); got.code == 0 {
			t.Errorf("curl %s: got an answer, want it refused", old)
		}
	}
}
