//go:build e2e

package test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stmcginnis/gofish/redfish"

	"github.com/nitrino/nitrino/update"
	"github.com/nitrino/nitrino/update/manifest"
)

// releaseKey makes a key to sign with, and its public half as the settings have it.
func releaseKey(t *testing.T) (ed25519.PrivateKey, string) {
	t.Helper()
	text, public, err := update.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	private, err := update.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return private, update.FormatKey(public)
}

// bundle makes a signed one of about 2 MiB.
func bundle(t *testing.T, version string, key ed25519.PrivateKey) []byte {
	t.Helper()
	files := map[string][]byte{"config.txt": []byte("arm_64bit=1\n"), "kernel8.img": bytes.Repeat([]byte("kernel "), 300_000)}
	sum := func(data []byte) string {
		s := sha256.Sum256(data)
		return hex.EncodeToString(s[:])
	}
	m := manifest.Manifest{Format: manifest.Format, Version: version, Revision: "0123abc", Arch: "arm64", Cmdline: "quiet",
		Components: []manifest.Component{{Name: "all", Version: "1", Source: "test", SHA256: sum(nil)}}}
	for _, name := range []string{"config.txt", "kernel8.img"} {
		m.Files = append(m.Files, manifest.File{Name: name, Component: "all", Size: int64(len(files[name])), SHA256: sum(files[name])})
	}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := update.Write(&b, text, func(name string) (io.Reader, error) { return bytes.NewReader(files[name]), nil }, key); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// trusting starts a board that trusts a key.
func trusting(t *testing.T, key string) *sim {
	t.Helper()
	config := filepath.Join(t.TempDir(), "bmc.json")
	if err := os.WriteFile(config, fmt.Appendf(nil, `{"version": 1, "update": {"keys": [%q]}}`, key), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, "-host", "fake", "-config", config)
}

// push uploads a bundle as DSP0266 (Multipart HTTP push updates) has it.
func (c caller) push(t *testing.T, image []byte) answer {
	t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, part := range []struct {
		disposition, kind string
		body              []byte
	}{
		{`form-data; name="UpdateParameters"`, "application/json", []byte(`{"Targets": ["/redfish/v1/UpdateService/FirmwareInventory/bmc"]}`)},
		{`form-data; name="UpdateFile"; filename="next.bundle"`, "application/octet-stream", image},
	} {
		p, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {part.disposition}, "Content-Type": {part.kind}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write(part.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := c.request("POST", c.get("/redfish/v1/UpdateService").text("MultipartHttpPushUri"), &form)
	r.Header.Set("Content-Type", w.FormDataContentType())
	a, err := c.send(r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// finish waits for the task of an answer, and returns what its monitor says then.
func (c caller) finish(t *testing.T, a answer) (end, task answer) {
	t.Helper()
	if a.status != http.StatusAccepted || a.header.Get("Location") == "" {
		t.Fatalf("got %d, %s, want a task", a.status, a.body)
	}
	eventually(t, "the task to end", 30*time.Second, func() bool {
		var err error
		end, err = c.try("GET", a.header.Get("Location"), "")
		return err == nil && end.status != http.StatusAccepted
	})
	return end, c.get(a.text("@odata.id"))
}

// stagedVersion is that of the bundle that is kept; "": none is.
func (c caller) stagedVersion() string {
	c.tb.Helper()
	uris := c.get("/redfish/v1/UpdateService/FirmwareInventory").members()
	i := slices.IndexFunc(uris, func(uri string) bool { return c.get(uri).at("Staged") == true })
	if i < 0 {
		return ""
	}
	return c.get(uris[i]).text("Version")
}

// TestUpdatePush: a signed bundle that is uploaded is kept, and any other is not.
func TestUpdatePush(t *testing.T) {
	key, public := releaseKey(t)
	s := trusting(t, public)
	admin := s.admin()
	end, task := admin.finish(t, admin.push(t, bundle(t, "1.2.3", key)))
	if end.status != http.StatusOK || task.text("TaskState") != "Completed" || task.text("TaskStatus") != "OK" || task.at("PercentComplete") != 100.0 {
		t.Errorf("the upload ended with %d, %s", end.status, task.body)
	}
	if got := admin.stagedVersion(); got != "1.2.3" {
		t.Errorf("staged: got %q, want 1.2.3", got)
	}
	other, _ := releaseKey(t)
	good := bundle(t, "1.2.4", key)
	damaged := slices.Clone(good)
	damaged[len(damaged)/2] ^= 1
	for name, tt := range map[string]struct {
		image []byte
		key   string
	}{
		"another key":  {bundle(t, "1.2.4", other), "VerificationFailed"},
		"damaged":      {damaged, "VerificationFailed"},
		"cut off":      {good[:len(good)/2], "VerificationFailed"},
		"no bundle":    {[]byte("a letter"), "VerificationFailed"},
		"nothing":      {nil, "VerificationFailed"},
		"only zeros":   {make([]byte, 3<<20), "VerificationFailed"},
		"not in order": {append([]byte("x"), good...), "VerificationFailed"},
	} {
		if a := admin.push(t, tt.image); a.status != http.StatusBadRequest || !a.said(tt.key) {
			t.Errorf("%s: got %d, %s, want %s", name, a.status, a.body, tt.key)
		}
	}
	// The one before stays, over a restart, until it is discarded.
	if got := admin.stagedVersion(); got != "1.2.3" {
		t.Errorf("staged after bad ones: got %q, want 1.2.3", got)
	}
	s.stop()
	s.run()
	admin = s.admin()
	if got := admin.stagedVersion(); got != "1.2.3" {
		t.Errorf("staged after a restart: got %q, want 1.2.3", got)
	}
	admin.do(http.StatusNoContent, "DELETE", "/redfish/v1/UpdateService/FirmwareInventory/bmc-staged", "")
	if got := admin.stagedVersion(); got != "" {
		t.Errorf("staged after its end: %q", got)
	}
	// curl is how people do it by hand.
	path := filepath.Join(t.TempDir(), "next.bundle")
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	client(t, "curl", "-sSfk", "-u", s.User+":"+s.Password, "-F", "UpdateParameters={};type=application/json", "-F", "UpdateFile=@"+path+";type=application/octet-stream",
		s.Redfish+"/redfish/v1/UpdateService/update-multipart").must(t)
	eventually(t, "curl's bundle", 10*time.Second, func() bool { return admin.stagedVersion() == "1.2.4" })
	if got := s.ssh("events -n 0").must(t); !strings.Contains(got, "update.staged") || !strings.Contains(got, "update.refused") {
		t.Errorf("the events do not tell: %s", got)
	}
}

// TestUpdateFetch: the board fetches a bundle by SimpleUpdate, as a task.
func TestUpdateFetch(t *testing.T) {
	key, public := releaseKey(t)
	s := trusting(t, public)
	other, _ := releaseKey(t)
	good, bad := bundle(t, "2.0.0", key), bundle(t, "2.0.1", other)
	mux := http.NewServeMux()
	release := make(chan struct{})
	mux.HandleFunc("/good.bundle", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(good)))
		half := len(good) / 2
		if _, err := w.Write(good[:half]); err != nil {
			return // the board's end tells
		}
		<-release
		_, _ = w.Write(good[half:]) // likewise
	})
	mux.HandleFunc("/bad.bundle", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(bad) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c := s.gofish(t, s.User, s.Password)
	updates, err := c.Service.UpdateService()
	if err != nil {
		t.Fatal(err)
	}
	if err := updates.SimpleUpdate(&redfish.SimpleUpdateParameters{ImageURI: server.URL + "/good.bundle"}); err != nil {
		t.Fatal(err)
	}
	last := func() *redfish.Task {
		t.Helper()
		tasks, err := c.Service.Tasks()
		if err != nil || len(tasks) == 0 {
			t.Fatalf("tasks: %v, %v", tasks, err)
		}
		return tasks[len(tasks)-1]
	}
	eventually(t, "half of it", 20*time.Second, func() bool {
		task := last()
		return task.TaskState == redfish.RunningTaskState && task.PercentComplete > 40 && task.PercentComplete < 60
	})
	// One at a time.
	if err := updates.SimpleUpdate(&redfish.SimpleUpdateParameters{ImageURI: server.URL + "/bad.bundle"}); status(err) != http.StatusConflict {
		t.Errorf("a second one meanwhile: %v", err)
	}
	close(release)
	eventually(t, "the task to complete", 20*time.Second, func() bool { return last().TaskState == redfish.CompletedTaskState })
	if got := s.admin().stagedVersion(); got != "2.0.0" {
		t.Errorf("staged: got %q, want 2.0.0", got)
	}
	inventory, err := updates.FirmwareInventories()
	if err != nil || len(inventory) != 2 {
		t.Errorf("inventory: %v, %v", inventory, err)
	}
	admin := s.admin()
	const uri = "/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate"
	for name, key := range map[string]string{"bad.bundle": "VerificationFailed", "none.bundle": "TransferFailed"} {
		end, task := admin.finish(t, admin.do(http.StatusAccepted, "POST", uri, fmt.Sprintf(`{"ImageURI": %q}`, server.URL+"/"+name)))
		if end.status < 400 || task.text("TaskState") != "Exception" || task.text("TaskStatus") != "Critical" || !task.said(key) {
			t.Errorf("%s: ended with %d, %s, want %s", name, end.status, task.body, key)
		}
	}
	if got := admin.stagedVersion(); got != "2.0.0" {
		t.Errorf("staged after bad ones: got %q, want 2.0.0", got)
	}
	for _, bad := range []string{`{}`, `{"ImageURI": "ftp://127.0.0.1/x"}`, `{"ImageURI": 5}`, `{"ImageURI": "http://127.0.0.1/x", "TransferProtocol": "TFTP"}`,
		`{"ImageURI": "http://127.0.0.1/x", "Targets": ["/redfish/v1/Systems/system"]}`} {
		admin.do(http.StatusBadRequest, "POST", uri, bad)
	}
}
