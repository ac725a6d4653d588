package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTrustOnFirstUse(t *testing.T) {
	v := newVendor(t)
	d := &desk{t: t, home: filepath.Join(t.TempDir(), "bmcctl"), env: map[string]string{"BMCCTL_PASSWORD": vendorPassword}}
	d.do(v,
		step{line: "info", code: exitUsage, err: "no service is named"},
		step{line: "-u root -H " + v.host() + " info", code: exitNoService, err: "is not trusted"},
		step{line: "-u root -fingerprint 12 -H " + v.host() + " info", code: exitUsage},
		step{line: "-u root -fingerprint " + strings.Repeat("00", 32) + " -H " + v.host() + " info", code: exitNoService, err: "nothing was sent to it"},
		step{line: "-u root -fingerprint " + strings.ToLower(strings.ReplaceAll(v.fingerprint(), ":", "")) + " -H " + v.host() + " info", out: "Other BMC"},
		step{line: "profile add lab " + v.host(), code: exitNoService, err: "no terminal"},
		step{line: "-u root -H http://" + v.host() + " info", code: exitUsage, err: "only https"},
		step{line: "profile add lab user@host/path", code: exitUsage})
	d.answers = "n\n"
	d.do(v, step{line: "profile add lab " + v.host(), code: exitNoService, err: v.fingerprint()},
		step{line: "profile list -o json", out: "[]"})
	d.answers = "y\n"
	d.do(v, step{line: "-u root profile add lab " + v.host(), out: "certificate pinned"},
		step{line: "info", out: "Other BMC"},
		step{line: "-o json profile list", out: `"default": true`},
		step{line: "profile add lab other", code: exitFailed, err: "-f replaces it"})
	info, err := os.Stat(filepath.Join(d.home, "config.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}

	// Authorities may be named instead; the server's certificate signs itself.
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeCertificate(t, ca, v)
	d.do(v, step{line: "-ca " + ca + " profile trust lab", out: "signed by " + ca},
		step{line: "info", out: "Other BMC"},
		step{line: "-ca /nowhere profile trust lab", code: exitFailed})

	// Another server with the same name, as one in between would be.
	other := newVendor(t)
	d.do(v, step{line: "profile trust lab", out: "pinned"})
	file := filepath.Join(d.home, "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(v.host(), other.host(), v.fingerprint(), fingerprint([]byte("its"))).Replace(string(data))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.do(other, step{line: "power off", code: exitNoService, err: "somebody stands in between.\n  pinned: " + fingerprint([]byte("its"))})
	if other.logins != 0 {
		t.Error("the password was sent to a server that is not trusted")
	}
	d.do(other, step{line: "profile trust", out: "pinned"}, step{line: "power status", out: "Off"},
		step{line: "profile rm lab", out: "forgotten"}, step{line: "power status", code: exitUsage},
		step{line: "-p lab power status", code: exitUsage, err: `no profile "lab"`})
	if err := os.WriteFile(file, []byte(`{"passwords":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d.do(other, step{line: "info", code: exitFailed, err: file})
}

func writeCertificate(t *testing.T, file string, v *vendor) {
	t.Helper()
	if err := os.WriteFile(file, certificatePEM(v.server.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
}

// login keeps one session for many commands, until it ends or logout ends it.
func TestLogin(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	run := func(code, open, logins int, line string) {
		t.Helper()
		r := d.run(strings.Fields(line)...)
		if r.code != code || v.open() != open || v.logins != logins {
			t.Errorf("%s: %+v, %d sessions open, %d logins; want %d, %d, %d", line, r, v.open(), v.logins, code, open, logins)
		}
	}
	run(0, 0, 1, "info")
	run(0, 1, 2, "login")
	delete(d.env, "BMCCTL_PASSWORD")
	run(0, 1, 2, "info")
	run(0, 1, 2, "login")
	run(0, 0, 2, "logout")
	run(0, 0, 2, "logout")
	run(exitUsage, 0, 2, "info") // nobody to ask for the password
	d.env["BMCCTL_PASSWORD"] = "wrong"
	run(exitDenied, 0, 2, "info")
	d.env["BMCCTL_PASSWORD"] = vendorPassword
	run(0, 1, 3, "login")
	// The service has forgotten it.
	v.handle("GET", "/redfish/v1/Login/7", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	run(0, 1, 4, "info") // one that this command began and ended
	// -u is somebody else.
	run(exitDenied, 1, 4, "-u eve info")
	file := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(file, []byte(vendorPassword+"\r\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.env["BMCCTL_PASSWORD"] = "wrong"
	run(0, 1, 5, "-password-file "+file+" info")
}

// The token goes to no other host.
func TestRedirect(t *testing.T) {
	v, other := newVendor(t), newVendor(t)
	d := newDesk(t, v)
	asked := false
	other.handle("GET", "/stolen", func(http.ResponseWriter, *http.Request) { asked = true })
	v.handle("GET", "/redfish/v1/M", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.server.URL+"/stolen", http.StatusFound)
	})
	d.do(v, step{line: "get /redfish/v1/M", code: exitNoService, err: "which is not asked"})
	if asked {
		t.Error("another host was asked")
	}
}

func TestAddress(t *testing.T) {
	for _, c := range []struct{ host, base, hostport string }{
		{"bmc1", "https://bmc1", "bmc1:443"},
		{"bmc1:8443", "https://bmc1:8443", "bmc1:8443"},
		{"https://bmc1/", "https://bmc1", "bmc1:443"},
		{"192.0.2.1", "https://192.0.2.1", "192.0.2.1:443"},
		{"2001:db8::1", "https://[2001:db8::1]", "[2001:db8::1]:443"},
		{"[2001:db8::1]:8443", "https://[2001:db8::1]:8443", "[2001:db8::1]:8443"},
		{"", "", ""}, {"http://bmc1", "", ""}, {"user@bmc1", "", ""}, {"bmc1/redfish", "", ""}, {"bmc1?x", "", ""},
	} {
		base, hostport, err := address(c.host)
		if base != c.base || hostport != c.hostport || (err == nil) != (c.base != "") {
			t.Errorf("%q: got %q, %q, %v; want %q, %q", c.host, base, hostport, err, c.base, c.hostport)
		}
	}
}
