package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A keeper has a certificate and remembers what it is asked for.
type keeper struct {
	mu    sync.Mutex
	leaf  *x509.Certificate
	chain string
	err   error
	asked []auth.CSR
	given []string
}

func (k *keeper) Leaf() *x509.Certificate { return k.leaf }
func (k *keeper) PEM() string             { return k.chain }

func (k *keeper) GenerateCSR(r auth.CSR, by auth.Attempt) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if by.Name != "admin" || by.Via != resource.Via {
		return "", fmt.Errorf("by %+v", by)
	}
	k.asked = append(k.asked, r)
	return "-----BEGIN CERTIFICATE REQUEST-----\n", k.err
}

func (k *keeper) Replace(text string, by auth.Attempt) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if by.Name != "admin" || by.Via != resource.Via {
		return fmt.Errorf("by %+v", by)
	}
	k.given = append(k.given, text)
	return k.err
}

// newKeeper has a self-signed certificate with all that the schema shows.
func newKeeper(t testing.TB) *keeper {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	email := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "root@example.com"}
	first := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "bmc.example.com"}
	other := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "second"}
	domain := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: "com"}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x0a1b2c),
		Subject: pkix.Name{Organization: []string{"Example"}, OrganizationalUnit: []string{"Lab", "East"}, Locality: []string{"Bern"},
			Province: []string{"BE"}, Country: []string{"CH"}, ExtraNames: []pkix.AttributeTypeAndValue{email, first, other, domain}},
		NotBefore: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), NotAfter: time.Date(2046, 1, 2, 3, 4, 5, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageDecipherOnly, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageOCSPSigning},
		DNSNames: []string{"bmc.example.com"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 5)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &keeper{leaf: leaf, chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

type rig struct {
	*redfishtest.Rig
	*keeper
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{keeper: newKeeper(t)}
	log := slog.New(slog.DiscardHandler)
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: log, Routes: New(r.keeper, log).Routes()})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	return r
}

var _ Keeper = (*auth.Certificate)(nil)

func TestCertificate(t *testing.T) {
	r := newRig(t)
	get := func(uri string) redfishtest.Answer {
		return r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "admin"}, 200)
	}
	a := get(resource.CertificateServiceURI)
	if got := a.At("CertificateLocations", "@odata.id"); got != locationsURI {
		t.Errorf("locations: %v", got)
	}
	for _, uri := range []any{a.At("Actions", "#CertificateService.GenerateCSR", "@Redfish.ActionInfo"), a.At("Actions", "#CertificateService.ReplaceCertificate", "@Redfish.ActionInfo")} {
		text, isString := uri.(string)
		if !isString {
			t.Fatalf("ActionInfo: %v", uri)
		}
		if list, _ := get(text).At("Parameters").([]any); len(list) == 0 {
			t.Errorf("%s: no parameters", text)
		}
	}
	if got := fmt.Sprint(get(locationsURI).At("Links", "Certificates")); got != "[map[@odata.id:"+certificateURI+"]]" {
		t.Errorf("locations: %s", got)
	}
	if got := fmt.Sprint(get(resource.CertificatesURI).At("Members")); got != "[map[@odata.id:"+certificateURI+"]]" {
		t.Errorf("members: %s", got)
	}
	a = get(certificateURI)
	for _, c := range []struct {
		path []string
		want string
	}{
		{[]string{"CertificateString"}, r.chain},
		{[]string{"CertificateType"}, "PEM"},
		{[]string{"Subject", "CommonName"}, "bmc.example.com"},
		{[]string{"Subject", "AdditionalCommonNames"}, "[second]"},
		{[]string{"Subject", "OrganizationalUnit"}, "Lab"},
		{[]string{"Subject", "AdditionalOrganizationalUnits"}, "[East]"},
		{[]string{"Subject", "City"}, "Bern"},
		{[]string{"Subject", "State"}, "BE"},
		{[]string{"Subject", "Country"}, "CH"},
		{[]string{"Subject", "Email"}, "root@example.com"},
		{[]string{"Subject", "DomainComponents"}, "[com]"},
		{[]string{"Subject", "AlternativeNames"}, "[bmc.example.com 192.0.2.5]"},
		{[]string{"Issuer", "Organization"}, "Example"},
		{[]string{"Issuer", "AlternativeNames"}, "<nil>"},
		{[]string{"ValidNotBefore"}, "2026-01-02T03:04:05Z"},
		{[]string{"ValidNotAfter"}, "2046-01-02T03:04:05Z"},
		{[]string{"KeyUsage"}, "[DigitalSignature DecipherOnly ServerAuthentication OCSPSigning]"},
		{[]string{"SerialNumber"}, "0A:1B:2C"},
		{[]string{"FingerprintHashAlgorithm"}, "TPM_ALG_SHA256"},
		{[]string{"SignatureAlgorithm"}, "ecdsa-with-SHA256"},
	} {
		if got := fmt.Sprint(a.At(c.path...)); got != c.want {
			t.Errorf("%v: got %s, want %s", c.path, got, c.want)
		}
	}
	if got, _ := a.At("Fingerprint").(string); len(got) != 32*3-1 {
		t.Errorf("fingerprint %q", got)
	}
	if got := newCertificate(r.leaf, r.chain+r.chain).CertificateType; got != "PEMchain" {
		t.Errorf("a chain: got %s, want PEMchain", got)
	}
	for _, c := range []struct {
		method, uri, user string
		status            int
		key               string
	}{
		{"GET", certificateURI, "oper", 403, "InsufficientPrivilege"},
		{"POST", csrURI, "oper", 403, "InsufficientPrivilege"},
		{"POST", resource.CertificatesURI, "admin", 405, "OperationNotAllowed"},
		{"DELETE", certificateURI, "admin", 405, "OperationNotAllowed"},
	} {
		r.Want(redfishtest.Call{Method: c.method, URI: c.uri, User: c.user, Body: `{}`}, c.status, c.key)
	}
	for _, k := range keyUsages() {
		if bad := r.Schemas.Check("Certificate", "KeyUsage", k); bad != nil {
			t.Errorf("%s: %v", k, bad)
		}
	}
}

const here = `"CertificateCollection":{"@odata.id":"` + resource.CertificatesURI + `"}`

func TestGenerateCSR(t *testing.T) {
	r := newRig(t)
	a := r.Want(redfishtest.Call{Method: "POST", URI: csrURI, User: "admin", Body: `{` + here + `,"CommonName":"bmc.example.com","AlternativeNames":["192.0.2.5"],
		"Country":"CH","State":"BE","City":"Bern","Organization":"Example","OrganizationalUnit":"Lab","Email":"root@example.com",
		"KeyUsage":["DigitalSignature","ServerAuthentication"],"KeyPairAlgorithm":"TPM_ALG_ECDSA","KeyCurveId":"TPM_ECC_NIST_P384"}`}, 200)
	if bad := r.Schemas.Check("CertificateService.v1_2_1", "GenerateCSRResponse", a.JSON); bad != nil {
		t.Errorf("%v in %s", bad, a.Body)
	}
	want := auth.CSR{CommonName: "bmc.example.com", AlternativeNames: []string{"192.0.2.5"}, Country: "CH", State: "BE", City: "Bern", Organization: "Example", OrganizationalUnit: "Lab",
		Email: "root@example.com", KeyUsage: []string{"DigitalSignature", "ServerAuthentication"}, KeyPairAlgorithm: ecdsaKey, KeyCurveID: "TPM_ECC_NIST_P384"}
	if got := fmt.Sprintf("%+v", r.asked); got != fmt.Sprintf("%+v", []auth.CSR{want}) {
		t.Errorf("got %s, want %+v", got, want)
	}
	// A length says RSA.
	r.Want(redfishtest.Call{Method: "POST", URI: csrURI, User: "admin", Body: `{` + here + `,"CommonName":"a","KeyBitLength":3072}`}, 200)
	if got := r.asked[1]; got.KeyPairAlgorithm != rsaKey || got.KeyBitLength != 3072 {
		t.Errorf("got %+v", got)
	}
	const value = "ActionParameterValue"
	for _, c := range []struct{ body, key, related string }{
		{`{"CommonName":"a"}`, "ActionParameterMissing", "#/CertificateCollection"},
		{`{` + here + `}`, "ActionParameterMissing", "#/CommonName"},
		{`{"CertificateCollection":"` + resource.CertificatesURI + `","CommonName":"a"}`, value + "TypeError", "#/CertificateCollection"},
		{`{"CertificateCollection":{},"CommonName":"a"}`, value + "FormatError", "#/CertificateCollection"},
		{`{"CertificateCollection":{"@odata.id":1},"CommonName":"a"}`, value + "TypeError", "#/CertificateCollection"},
		{`{"CertificateCollection":{"@odata.id":"/redfish/v1"},"CommonName":"a"}`, value + "NotInList", "#/CertificateCollection"},
		{`{` + here + `,"CommonName":1}`, value + "TypeError", "#/CommonName"},
		{`{` + here + `,"CommonName":"` + strings.Repeat("a", 65) + `"}`, "StringValueTooLong", "#/CommonName"},
		{`{` + here + `,"CommonName":"a","Country":"C"}`, value + "FormatError", "#/Country"},
		{`{` + here + `,"CommonName":"a","KeyUsage":["Signature"]}`, value + "NotInList", "#/KeyUsage"},
		{`{` + here + `,"CommonName":"a","KeyUsage":"DigitalSignature"}`, value + "TypeError", "#/KeyUsage"},
		{`{` + here + `,"CommonName":"a","AlternativeNames":[1]}`, value + "TypeError", "#/AlternativeNames"},
		{`{` + here + `,"CommonName":"a","KeyPairAlgorithm":"TPM_ALG_SM2"}`, value + "NotInList", "#/KeyPairAlgorithm"},
		{`{` + here + `,"CommonName":"a","KeyBitLength":1024}`, value + "NotInList", "#/KeyBitLength"},
		{`{` + here + `,"CommonName":"a","KeyBitLength":"2048"}`, value + "TypeError", "#/KeyBitLength"},
		{`{` + here + `,"CommonName":"a","KeyBitLength":2048,"KeyPairAlgorithm":"TPM_ALG_ECDSA"}`, value + "Conflict", "#/KeyBitLength"},
		{`{` + here + `,"CommonName":"a","KeyBitLength":2048,"KeyCurveId":"TPM_ECC_NIST_P256"}`, value + "Conflict", "#/KeyCurveId"},
		{`{` + here + `,"CommonName":"a","ChallengePassword":"x"}`, "ActionParameterNotSupported", "#/ChallengePassword"},
		{`{` + here + `,"CommonName":"a","Bogus":"x"}`, "ActionParameterUnknown", "#/Bogus"},
	} {
		a := r.Want(redfishtest.Call{Method: "POST", URI: csrURI, User: "admin", Body: c.body}, 400, c.key)
		if got := a.Related(); !slices.Equal(got, []string{c.related}) {
			t.Errorf("%s: RelatedProperties %v, want %s", c.body, got, c.related)
		}
	}
	r.err = fmt.Errorf("%w: no host name", auth.ErrInvalid)
	a = r.Want(redfishtest.Call{Method: "POST", URI: csrURI, User: "admin", Body: `{` + here + `,"CommonName":"a b"}`}, 400, "GeneralError")
	if !strings.Contains(string(a.Body), "no host name") {
		t.Errorf("no reason in %s", a.Body)
	}
	r.err = errors.New("disk")
	r.Want(redfishtest.Call{Method: "POST", URI: csrURI, User: "admin", Body: `{` + here + `,"CommonName":"a"}`}, 500, "InternalError")
}

func TestRekey(t *testing.T) {
	r := newRig(t)
	a := r.Want(redfishtest.Call{Method: "POST", URI: rekeyURI, User: "admin", Body: `{"KeyPairAlgorithm":"TPM_ALG_RSA"}`}, 200)
	if bad := r.Schemas.Check("Certificate.v1_11_0", "RekeyResponse", a.JSON); bad != nil {
		t.Errorf("%v in %s", bad, a.Body)
	}
	want := auth.CSR{CommonName: "bmc.example.com", AlternativeNames: []string{"bmc.example.com", "192.0.2.5"}, Country: "CH", State: "BE", City: "Bern", Organization: "Example", OrganizationalUnit: "Lab",
		Email: "root@example.com", KeyUsage: usages(r.leaf), KeyPairAlgorithm: rsaKey}
	if got := fmt.Sprintf("%+v", r.asked); got != fmt.Sprintf("%+v", []auth.CSR{want}) {
		t.Errorf("got %s, want %+v", got, want)
	}
	r.Want(redfishtest.Call{Method: "POST", URI: rekeyURI, User: "admin", Body: `{"ChallengePassword":"x"}`}, 400, "ActionParameterNotSupported")
	r.Want(redfishtest.Call{Method: "POST", URI: rekeyURI, User: "admin", Body: `{"KeyBitLength":2048,"KeyPairAlgorithm":"TPM_ALG_ECDSA"}`}, 400, "ActionParameterValueConflict")
	r.err = errors.New("disk")
	r.Want(redfishtest.Call{Method: "POST", URI: rekeyURI, User: "admin"}, 500, "InternalError")
}

func TestReplaceCertificate(t *testing.T) {
	r := newRig(t)
	body := func(uri, kind, text string) string {
		return fmt.Sprintf(`{"CertificateUri":{"@odata.id":%q},"CertificateType":%q,"CertificateString":%q}`, uri, kind, text)
	}
	a := r.Want(redfishtest.Call{Method: "POST", URI: replaceURI, User: "admin", Body: body(certificateURI, "PEMchain", "chain")}, 204)
	if got := a.Header.Get("Location"); got != certificateURI {
		t.Errorf("Location %q", got)
	}
	r.Want(redfishtest.Call{Method: "POST", URI: replaceURI, User: "admin", Body: body(certificateURI+"/", "PEM", "one")}, 204)
	if want := []string{"chain", "one"}; !slices.Equal(r.given, want) {
		t.Errorf("given %q, want %q", r.given, want)
	}
	for _, c := range []struct {
		body    string
		err     error
		status  int
		key     string
		related string
	}{
		{body(certificateURI, "PKCS7", "x"), nil, 400, "ActionParameterValueNotInList", "#/CertificateType"},
		{body(resource.CertificatesURI+"/2", "PEM", "x"), nil, 400, "ActionParameterValueNotInList", "#/CertificateUri"},
		{strings.Replace(body(certificateURI, "PEM", "x"), `"x"`, `5`, 1), nil, 400, "ActionParameterValueTypeError", "#/CertificateString"},
		{strings.Replace(body(certificateURI, "PEM", "x"), `{`, `{"Password":"secret",`, 1), nil, 400, "ActionParameterNotSupported", "#/Password"},
		{body(certificateURI, "PEM", "x"), fmt.Errorf("%w: it expired", auth.ErrCertificate), 400, "ActionParameterValueError", "#/CertificateString"},
		{body(certificateURI, "PEM", "x"), errors.New("disk"), 500, "InternalError", ""},
	} {
		r.err = c.err
		a := r.Want(redfishtest.Call{Method: "POST", URI: replaceURI, User: "admin", Body: c.body}, c.status, c.key)
		if got := strings.Join(a.Related(), " "); got != c.related {
			t.Errorf("%s: RelatedProperties %s, want %s", c.body, got, c.related)
		}
		if c.status == 400 && c.err != nil && !strings.Contains(string(a.Body), "it expired") {
			t.Errorf("no reason in %s", a.Body)
		}
	}
}
