//go:build e2e

package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
)

// started is when the board's software came up, and how often, as its log says.
func (c caller) started() int {
	a, err := c.try("GET", "/redfish/v1/Managers/bmc/LogServices/Log/Entries", "")
	if err != nil || a.status != http.StatusOK {
		return 0
	}
	return strings.Count(string(a.body), "BmcStarted")
}

// TestManagerReset: the software starts anew, and the host does not notice.
func TestManagerReset(t *testing.T) {
	s := start(t)
	admin := s.admin()
	admin.do(http.StatusNoContent, "POST", "/redfish/v1/Systems/system/Actions/ComputerSystem.Reset", `{"ResetType": "On"}`)
	s.power("on")
	pid, before := s.qemu(), admin.started()
	const reset = "/redfish/v1/Managers/bmc/Actions/Manager.Reset"
	for i, body := range []string{`{"ResetType": "GracefulRestart"}`, `{}`} {
		admin.do(http.StatusNoContent, "POST", reset, body)
		eventually(t, "another start", 30*time.Second, func() bool { return admin.started() == before+i+1 })
	}
	if got := admin.get("/redfish/v1/Systems/system").text("PowerState"); got != "On" || s.qemu() != pid || pid == 0 {
		t.Errorf("the host is %s, and QEMU %d, want On and %d as before", got, s.qemu(), pid)
	}
	admin.do(http.StatusBadRequest, "POST", reset, `{"ResetType": "PowerCycle"}`)
	s.ipmitool("mc", "info").must(t)
	s.ssh("whoami").must(t)
}

// TestResetToDefaults: what each scope takes is gone, and everything answers.
func TestResetToDefaults(t *testing.T) {
	const reset = "/redfish/v1/Managers/bmc/Actions/Manager.ResetToDefaults"
	for _, tt := range []struct {
		scope             string
		keepsName, keepsU bool
	}{{"ResetAll", false, false}, {"PreserveNetwork", true, false}, {"PreserveNetworkAndUsers", true, true}} {
		t.Run(tt.scope, func(t *testing.T) {
			s := start(t, "-host", "fake")
			admin := s.admin()
			admin.do(http.StatusCreated, "POST", "/redfish/v1/AccountService/Accounts", `{"UserName": "bob", "Password": "the-secret-of-bob-1", "RoleId": "Operator"}`)
			admin.do(http.StatusOK, "PATCH", admin.get("/redfish/v1/Managers/bmc/EthernetInterfaces").members()[0], `{"HostName": "rack9"}`)
			admin.do(http.StatusOK, "PATCH", "/redfish/v1/SessionService", `{"SessionTimeout": 333}`)
			admin.do(http.StatusCreated, "POST", "/redfish/v1/EventService/Subscriptions", `{"Destination": "http://127.0.0.1:9/", "Protocol": "Redfish"}`)
			admin.do(http.StatusCreated, "PUT", "/media/x.iso", "an image")
			admin.do(http.StatusNoContent, "POST", reset, fmt.Sprintf(`{"ResetType": %q}`, tt.scope))
			// The simulator makes its login anew with the password that it had.
			eventually(t, "the reset", 30*time.Second, func() bool {
				a, err := admin.try("GET", "/redfish/v1/Managers/bmc/LogServices/Log/Entries", "")
				return err == nil && a.status == http.StatusOK && strings.Contains(string(a.body), "BmcDefaults")
			})
			if got, want := admin.get("/redfish/v1/Managers/bmc/NetworkProtocol").text("HostName"), map[bool]string{true: "rack9", false: "bmcsim"}[tt.keepsName]; got != want {
				t.Errorf("HostName: got %q, want %q", got, want)
			}
			bob, err := s.as("bob", "the-secret-of-bob-1").try("GET", "/redfish/v1/Systems/system", "")
			if err != nil || (bob.status == http.StatusOK) != tt.keepsU {
				t.Errorf("bob: got %d, %v, want to be kept: %v", bob.status, err, tt.keepsU)
			}
			if got := admin.get("/redfish/v1/SessionService").at("SessionTimeout"); got == 333.0 {
				t.Error("SessionTimeout stayed")
			}
			if got := admin.get("/redfish/v1/EventService/Subscriptions").members(); len(got) != 0 {
				t.Errorf("subscriptions stayed: %v", got)
			}
			if images, _ := admin.get("/media/").at("images").([]any); len(images) != 0 {
				t.Errorf("images stayed: %v", images)
			}
			validTree(t, admin)
			s.ipmitool("mc", "info").must(t)
			s.ssh("whoami").must(t)
		})
	}
	s := start(t, "-host", "fake")
	s.admin().do(http.StatusBadRequest, "POST", reset, `{}`)
	s.admin().do(http.StatusBadRequest, "POST", reset, `{"ResetType": "Everything"}`)
}

// TestCertificate: a request that the board makes is signed by a CA, and put in
// force without a restart.
func TestCertificate(t *testing.T) {
	s := start(t, "-host", "fake")
	admin := s.admin()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the cellar's CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	sign := func(x *x509.Certificate, public any) []byte {
		t.Helper()
		der, err := x509.CreateCertificate(rand.Reader, x, ca, public, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	root, err := x509.ParseCertificate(sign(ca, &key.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	trusted := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{ServerName: "rack9.example", RootCAs: x509.NewCertPool()}}}
	trusted.Transport.(*http.Transport).TLSClientConfig.RootCAs.AddCert(root)
	t.Cleanup(trusted.CloseIdleConnections)
	if _, err := trusted.Get(s.Redfish + "/redfish/v1/"); err == nil {
		t.Fatal("the board's own certificate is trusted")
	}

	const collection = "/redfish/v1/Managers/bmc/NetworkProtocol/HTTPS/Certificates"
	for _, algorithm := range []string{`"KeyPairAlgorithm": "TPM_ALG_ECDSA", "KeyCurveId": "TPM_ECC_NIST_P384"`, `"KeyPairAlgorithm": "TPM_ALG_RSA", "KeyBitLength": 2048`} {
		csr := admin.do(http.StatusOK, "POST", "/redfish/v1/CertificateService/Actions/CertificateService.GenerateCSR",
			`{"CertificateCollection": {"@odata.id": "`+collection+`"}, "CommonName": "rack9.example", "AlternativeNames": ["rack9.example"], "Organization": "The Cellar", `+algorithm+`}`)
		block, _ := pem.Decode([]byte(csr.text("CSRString")))
		if block == nil {
			t.Fatalf("no request: %s", csr.body)
		}
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || request.CheckSignature() != nil || request.Subject.CommonName != "rack9.example" || len(request.DNSNames) != 1 {
			t.Fatalf("the request: %v, %+v", err, request)
		}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: request.Subject, DNSNames: request.DNSNames, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		text, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sign(leaf, request.PublicKey)})))
		if err != nil {
			t.Fatal(err)
		}
		replace := func(certificate string, want int) {
			t.Helper()
			admin.do(want, "POST", "/redfish/v1/CertificateService/Actions/CertificateService.ReplaceCertificate",
				`{"CertificateUri": {"@odata.id": "`+collection+`/1"}, "CertificateType": "PEM", "CertificateString": `+certificate+`}`)
		}
		replace(`"no certificate"`, http.StatusBadRequest)
		replace(string(text), http.StatusNoContent)
		trusted.CloseIdleConnections()
		resp, err := trusted.Get(s.Redfish + "/redfish/v1/")
		if err != nil {
			t.Fatalf("with the new certificate: %v", err)
		}
		resp.Body.Close()
		if got := resp.TLS.PeerCertificates[0].SerialNumber; got.Cmp(leaf.SerialNumber) != 0 {
			t.Errorf("serial number: got %v, want %v", got, leaf.SerialNumber)
		}
		if got := admin.get(collection + "/1"); got.text("Issuer", "CommonName") != "the cellar's CA" || got.text("Subject", "Organization") != "The Cellar" {
			t.Errorf("the certificate: %s", got.body)
		}
	}
	if got := admin.started(); got != 1 {
		t.Errorf("the software started %d times, want once", got)
	}
	// It is the one after a restart, too.
	s.reset()
	resp, err := trusted.Get(s.Redfish + "/redfish/v1/")
	if err != nil {
		t.Fatalf("after a restart: %v", err)
	}
	resp.Body.Close()
}
