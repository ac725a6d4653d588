//go:build e2e

package test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stmcginnis/gofish/redfish"
)

// bootableCD is an El Torito CD without emulation whose code writes text to
// COM1 ("El Torito" Bootable CD-ROM Format Specification 1.0, section 2).
func bootableCD(size int, text string) []byte {
	cd := make([]byte, size)
	for i := range cd {
		cd[i] = byte(i >> 11) // each sector another
	}
	clear(cd[16*2048 : 21*2048])
	copy(cd[16*2048:], "\x01CD001\x01")
	copy(cd[17*2048:], "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(cd[17*2048+0x47:], 19) // the catalog
	copy(cd[18*2048:], "\xffCD001\x01")
	catalog := cd[19*2048:]
	catalog[0], catalog[30], catalog[31] = 1, 0x55, 0xaa // validation entry
	var sum uint16
	for i := 0; i < 32; i += 2 {
		sum += binary.LittleEndian.Uint16(catalog[i:])
	}
	binary.LittleEndian.PutUint16(catalog[28:], -sum)
	catalog[32] = 0x88                             // bootable, no emulation
	binary.LittleEndian.PutUint16(catalog[38:], 4) // sectors of 512 bytes
	binary.LittleEndian.PutUint32(catalog[40:], 20)
	code := []byte{
		0x31, 0xc0, // 7c00 xor ax,ax
		0x8e, 0xd8, // 7c02 mov ds,ax
		0xfc,             // 7c04 cld
		0xbe, 0x1e, 0x7c, // 7c05 mov si,text
		0xba, 0xfd, 0x03, // 7c08 mov dx,0x3fd
		0xec,       // 7c0b in al,dx
		0xa8, 0x20, // 7c0c test al,0x20: room in the UART
		0x74, 0xfb, // 7c0e jz 7c0b
		0xba, 0xf8, 0x03, // 7c10 mov dx,0x3f8
		0xac,       // 7c13 lodsb
		0x84, 0xc0, // 7c14 test al,al
		0x74, 0x03, // 7c16 jz 7c1b
		0xee,       // 7c18 out dx,al
		0xeb, 0xed, // 7c19 jmp 7c08
		0xf4,       // 7c1b hlt
		0xeb, 0xfd, // 7c1c jmp 7c1b
	}
	copy(cd[20*2048:], append(append(code, text...), 0))
	return cd
}

// An imageServer gives an image, also in parts, and counts what it gave.
type imageServer struct {
	*httptest.Server
	bytes atomic.Int64
	parts atomic.Int64
}

func serveImage(t *testing.T, image []byte) *imageServer {
	t.Helper()
	x := &imageServer{}
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); r.URL.Path == "/secret.iso" && (name != "cellar" || password != "key") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if !strings.HasSuffix(r.URL.Path, ".iso") {
			http.NotFound(w, r)
			return
		}
		if r.Header.Get("Range") != "" {
			x.parts.Add(1)
		}
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(&countingWriter{w, &x.bytes}, r, "", time.Time{}, bytes.NewReader(image))
	}))
	t.Cleanup(x.Close)
	return x
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// shows waits until the serial console shows a text later than any other.
func (s *sim) shows(text, other string) {
	s.tb.Helper()
	eventually(s.tb, text, 90*time.Second, func() bool {
		got := s.ssh("console -p").out
		return strings.LastIndex(got, text) > strings.LastIndex(got, other)
	})
}

const (
	fromDisk = "demo host is up"
	fromCD   = "booted from the CD"
)

// TestMediaURL: the host boots from an image on a server, of which only what it
// reads is fetched, and from its disk again when that is ejected.
func TestMediaURL(t *testing.T) {
	const size = 256 << 20
	s := start(t)
	web := serveImage(t, bootableCD(size, fromCD+"\r\n"))
	c := s.gofish(t, s.User, s.Password)
	drive := func(under string) *redfish.VirtualMedia {
		t.Helper()
		all, err := manager(t, c).VirtualMedia()
		if under == "Systems" {
			all, err = system(t, c).VirtualMedia()
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			if d.ID == "cd" && strings.Contains(d.ODataID, under) {
				return d
			}
		}
		t.Fatalf("no drive cd below %s: %v", under, all)
		return nil
	}
	if d := drive("Managers"); d.Inserted || d.Image != "" {
		t.Fatalf("at first: %+v", d)
	}
	if err := drive("Managers").InsertMedia(web.URL+"/install.iso", true, true); err != nil {
		t.Fatal(err)
	}
	for _, under := range []string{"Managers", "Systems"} {
		if d := drive(under); !d.Inserted || d.Image != web.URL+"/install.iso" || d.ImageName != "install.iso" || !d.WriteProtected || d.ConnectedVia != redfish.URIConnectedVia {
			t.Errorf("below %s: %+v", under, d)
		}
	}
	if err := drive("Systems").InsertMedia(web.URL+"/other.iso", true, true); status(err) != http.StatusConflict && status(err) != http.StatusBadRequest {
		t.Errorf("a second medium: %v", err)
	}
	once := redfish.Boot{BootSourceOverrideEnabled: redfish.OnceBootSourceOverrideEnabled, BootSourceOverrideTarget: redfish.CdBootSourceOverrideTarget}
	if err := system(t, c).SetBoot(once); err != nil {
		t.Fatal(err)
	}
	if err := system(t, c).Reset(redfish.OnResetType); err != nil {
		t.Fatal(err)
	}
	s.shows(fromCD, fromDisk)
	t.Logf("booted with %d of %d bytes, in %d parts", web.bytes.Load(), size, web.parts.Load())
	if got := web.bytes.Load(); got > 8<<20 || web.parts.Load() == 0 {
		t.Errorf("%d bytes were fetched, in %d parts", got, web.parts.Load())
	}
	// It is in still after the board's software was restarted.
	s.reset()
	c = s.gofish(t, s.User, s.Password)
	if d := drive("Systems"); !d.Inserted {
		t.Errorf("after a restart of the BMC: %+v", d)
	}
	eventually(t, "the override to be over", 30*time.Second, func() bool {
		return system(t, c).Boot.BootSourceOverrideEnabled == redfish.DisabledBootSourceOverrideEnabled
	})
	if err := system(t, c).SetBoot(once); err != nil {
		t.Fatal(err)
	}
	if err := drive("Systems").EjectMedia(); err != nil {
		t.Fatal(err)
	}
	if d := drive("Managers"); d.Inserted || d.Image != "" || d.ConnectedVia != redfish.NotConnectedConnectedVia {
		t.Errorf("after the ejection: %+v", d)
	}
	if err := drive("Systems").EjectMedia(); err != nil {
		t.Errorf("ejecting from the empty drive: %v", err)
	}
	if err := system(t, c).Reset(redfish.ForceRestartResetType); err != nil {
		t.Fatal(err)
	}
	s.shows(fromDisk, fromCD) // there is nothing to boot from in the CD drive
}

// TestMediaUpload: the host boots from an image that was uploaded.
func TestMediaUpload(t *testing.T) {
	const size = 8 << 20
	s := start(t)
	admin := s.admin()
	image := bootableCD(size, fromCD+"\r\n")
	a := admin.do(http.StatusCreated, "PUT", "/media/install.iso", string(image))
	if a.header.Get("Location") != "/media/install.iso" || a.at("size") != float64(size) {
		t.Errorf("the upload: %s", a.body)
	}
	if got := admin.get("/media/install.iso"); !bytes.Equal(got.body, image) {
		t.Error("the download is another image")
	}
	r := admin.request("GET", "/media/install.iso", nil)
	r.Header.Set("Range", "bytes=2048-4095")
	if got, err := admin.send(r); err != nil || got.status != http.StatusPartialContent || !bytes.Equal(got.body, image[2048:4096]) {
		t.Errorf("a part: got %d, %v", got.status, err)
	}
	const cd = "/redfish/v1/Systems/system/VirtualMedia/cd"
	insert, eject := cd+"/Actions/VirtualMedia.InsertMedia", cd+"/Actions/VirtualMedia.EjectMedia"
	admin.do(http.StatusNoContent, "POST", insert, `{"Image": "/media/install.iso"}`)
	admin.do(http.StatusOK, "PATCH", "/redfish/v1/Systems/system", `{"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Cd"}}`)
	admin.do(http.StatusNoContent, "POST", "/redfish/v1/Systems/system/Actions/ComputerSystem.Reset", `{"ResetType": "On"}`)
	s.shows(fromCD, fromDisk)
	admin.do(http.StatusConflict, "DELETE", "/media/install.iso", "") // it is in the drive
	admin.do(http.StatusNoContent, "POST", eject, "{}")
	admin.do(http.StatusNoContent, "DELETE", "/media/install.iso", "")
	admin.do(http.StatusNotFound, "GET", "/media/install.iso", "")
}

// TestMediaRefused: what cannot be inserted is refused with its reason, and the
// drive stays empty.
func TestMediaRefused(t *testing.T) {
	s := start(t, "-host", "fake")
	admin := s.admin()
	web := serveImage(t, bootableCD(1<<20, fromCD))
	const cd = "/redfish/v1/Managers/bmc/VirtualMedia/cd"
	insert := cd + "/Actions/VirtualMedia.InsertMedia"
	for _, tt := range []struct {
		body string
		key  string
	}{
		{`{}`, "ActionParameterMissing"},
		{`{"Image": 5}`, "ActionParameterValueTypeError"},
		{`{"Image": "nfs://127.0.0.1/x.iso"}`, "ActionParameterValueFormatError"},
		{`{"Image": "file:///etc/passwd"}`, "ActionParameterValueFormatError"},
		{`{"Image": "/media/../state.db"}`, "ActionParameterValueFormatError"},
		{`{"Image": "/media/none.iso"}`, "ResourceMissingAtURI"},
		{fmt.Sprintf(`{"Image": "%s/none"}`, web.URL), "CouldNotEstablishConnection"},
		{`{"Image": "http://127.0.0.1:9/x.iso"}`, "CouldNotEstablishConnection"},
		{fmt.Sprintf(`{"Image": "%s/x.iso", "TransferProtocolType": "CIFS"}`, web.URL), "ActionParameterValueNotInList"},
		{fmt.Sprintf(`{"Image": "%s/x.iso", "Inserted": false}`, web.URL), "ActionParameterValueNotInList"},
		{fmt.Sprintf(`{"Image": "%s/x.iso", "Colour": "red"}`, web.URL), "ActionParameterUnknown"},
	} {
		a, err := admin.try("POST", insert, tt.body)
		if err != nil || a.status < 400 || a.status >= 500 || !a.said(tt.key) {
			t.Errorf("%s: got %d, %v, %s, want %s", tt.body, a.status, err, a.body, tt.key)
		}
		if got := admin.get(cd).at("Inserted"); got != false {
			t.Errorf("%s: Inserted is %v", tt.body, got)
		}
	}
	if a, err := admin.try("POST", insert, fmt.Sprintf(`{"Image": "%s/secret.iso"}`, web.URL)); err != nil || a.status < 400 {
		t.Errorf("without the password: got %d, %v", a.status, err)
	}
	admin.do(http.StatusNoContent, "POST", insert, fmt.Sprintf(`{"Image": "%s/secret.iso", "UserName": "cellar", "Password": "key"}`, web.URL))
	if a := admin.get(cd); strings.Contains(string(a.body), `"key"`) || a.text("UserName") != "cellar" {
		t.Errorf("the drive: %s", a.body)
	}
	// Who may only read sees it, and changes nothing.
	admin.do(http.StatusCreated, "POST", "/redfish/v1/AccountService/Accounts", `{"UserName": "reader", "Password": "reader-password-1", "RoleId": "ReadOnly"}`)
	reader := s.as("reader", "reader-password-1")
	reader.get(cd)
	reader.do(http.StatusForbidden, "POST", cd+"/Actions/VirtualMedia.EjectMedia", "{}")
	reader.do(http.StatusForbidden, "PUT", "/media/x.iso", "an image")
}
