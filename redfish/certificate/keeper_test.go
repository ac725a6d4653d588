package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
)

// TestOwnCA goes all the way: a request made here, signed by a CA, and put in
// force, against the real keeper.
func TestOwnCA(t *testing.T) {
	kept, err := auth.OpenCertificate(t.TempDir(), []string{"bmc.example.com"}, time.Now, func(auth.Report) {})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: log, Routes: New(kept, log).Routes()})
	if err != nil {
		t.Fatal(err)
	}
	r := redfishtest.New(t, service)
	get := func() redfishtest.Answer {
		return r.Want(redfishtest.Call{Method: "GET", URI: certificateURI, User: "admin"}, 200)
	}
	first := get()
	post := func(uri, body string, status int, keys ...string) redfishtest.Answer {
		t.Helper()
		return r.Want(redfishtest.Call{Method: "POST", URI: uri, User: "admin", Body: body}, status, keys...)
	}
	// What the keeper alone knows to be wrong.
	post(csrURI, `{`+here+`,"CommonName":"not a name"}`, 400, "GeneralError")
	text, isString := post(csrURI, `{`+here+`,"CommonName":"bmc.example.com","KeyUsage":["DigitalSignature","ServerAuthentication"]}`, 200).At("CSRString").(string)
	block, _ := pem.Decode([]byte(text))
	if !isString || block == nil {
		t.Fatalf("no request: %s", text)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: request.Subject, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: request.DNSNames, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	chain := ""
	for _, each := range []struct {
		x      *x509.Certificate
		public any
	}{{leaf, request.PublicKey}, {ca, &key.PublicKey}} {
		der, err := x509.CreateCertificate(rand.Reader, each.x, ca, each.public, key)
		if err != nil {
			t.Fatal(err)
		}
		chain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	replace := func(text string) string {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return `{"CertificateUri":{"@odata.id":"` + certificateURI + `"},"CertificateType":"PEMchain","CertificateString":` + string(quoted) + `}`
	}
	a := post(replaceURI, replace("no certificate"), 400, "ActionParameterValueError")
	if !strings.Contains(string(a.Body), "no certificate in PEM form") {
		t.Errorf("no reason in %s", a.Body)
	}
	if got := get(); got.Header.Get("ETag") != first.Header.Get("ETag") {
		t.Errorf("a refused certificate changed it: %s", got.Body)
	}
	post(replaceURI, replace(chain), 204)
	a = get()
	if a.At("CertificateString") != chain || a.At("CertificateType") != "PEMchain" || a.At("Issuer", "CommonName") != "CA" || a.At("SerialNumber") != "02" {
		t.Errorf("after its replacement: %s", a.Body)
	}
}
