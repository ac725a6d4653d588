// Package certificate is Redfish's CertificateService, and the certificate that
// HTTPS proves the board's identity with.
package certificate

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A Keeper has the certificate of HTTPS, as auth.Certificate does.
type Keeper interface {
	// Leaf is the board's own certificate, and PEM the chain that begins with it,
	// without the key.
	Leaf() *x509.Certificate
	PEM() string
	// GenerateCSR makes a key, which may take seconds, and answers the request to
	// certify it, in PEM. What cannot be asked for is an auth.ErrInvalid.
	GenerateCSR(r auth.CSR, by auth.Attempt) (string, error)
	// Replace puts the chain of a PEM text in force for new connections. The key
	// is in the text, or the last GenerateCSR's, or the present one. A text that
	// cannot be used changes nothing, and is an auth.ErrCertificate.
	Replace(text string, by auth.Attempt) error
}

// Service is the chapter.
type Service struct {
	keeper Keeper
	log    *slog.Logger
}

// New makes it.
func New(k Keeper, log *slog.Logger) *Service { return &Service{k, log} }

const (
	serviceType     = "CertificateService.v1_2_1.CertificateService"
	locationsType   = "CertificateLocations.v1_0_4.CertificateLocations"
	collectionType  = "CertificateCollection.CertificateCollection"
	certificateType = "Certificate.v1_11_0.Certificate"
	infoType        = "ActionInfo.v1_5_0.ActionInfo"

	locationsURI   = resource.CertificateServiceURI + "/CertificateLocations"
	certificateURI = resource.CertificatesURI + "/1"
	csrInfoURI     = resource.CertificateServiceURI + "/GenerateCSRActionInfo"
	replaceInfoURI = resource.CertificateServiceURI + "/ReplaceCertificateActionInfo"
)

// Routes are the chapter's. The collection takes no other certificate: HTTPS uses
// one, which ReplaceCertificate replaces.
func (s *Service) Routes() []resource.Route {
	return []resource.Route{
		{Pattern: resource.CertificateServiceURI, Type: serviceType, Get: s.getService},
		{Pattern: csrURI, Type: serviceType, Action: csrName, Post: s.postCSR},
		{Pattern: replaceURI, Type: serviceType, Action: replaceName, Post: s.postReplace},
		{Pattern: csrInfoURI, Type: infoType, Get: s.getCSRInfo},
		{Pattern: replaceInfoURI, Type: infoType, Get: s.getReplaceInfo},
		{Pattern: locationsURI, Type: locationsType, Get: s.getLocations},
		{Pattern: resource.CertificatesURI, Type: collectionType, Get: s.getCertificates},
		{Pattern: certificateURI, Type: certificateType, Get: s.getCertificate},
		{Pattern: rekeyURI, Type: certificateType, Action: rekeyName, Post: s.postRekey},
	}
}

type service struct {
	resource.OData
	CertificateLocations resource.Link  `json:"CertificateLocations"`
	Actions              serviceActions `json:"Actions"`
}

type serviceActions struct {
	GenerateCSR        csrAction     `json:"#CertificateService.GenerateCSR"`
	ReplaceCertificate replaceAction `json:"#CertificateService.ReplaceCertificate"`
}

func (s *Service) getService(*resource.Request) *resource.Reply {
	return resource.OK(service{
		OData:                resource.NewOData(resource.CertificateServiceURI, serviceType, "Certificate Service"),
		CertificateLocations: resource.Link{ODataID: locationsURI},
		Actions: serviceActions{
			csrAction{csrURI, csrInfoURI, keyOptions{keyAlgorithms(), keyCurves()}, keyUsages()},
			replaceAction{replaceURI, replaceInfoURI, certificateTypes()},
		},
	})
}

type locations struct {
	resource.OData
	Links locationsLinks `json:"Links"`
}

type locationsLinks struct {
	Count        int             `json:"Certificates@odata.count"`
	Certificates []resource.Link `json:"Certificates"`
}

func (s *Service) getLocations(*resource.Request) *resource.Reply {
	return resource.OK(locations{
		OData: resource.NewOData(locationsURI, locationsType, "Certificate Locations"),
		Links: locationsLinks{1, resource.Links(certificateURI)},
	})
}

func (s *Service) getCertificates(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(resource.CertificatesURI, "CertificateCollection", "HTTPS Certificate Collection", certificateURI))
}

type certificate struct {
	resource.OData
	CertificateString        string             `json:"CertificateString"`
	CertificateType          string             `json:"CertificateType"`
	CertificateUsageTypes    []string           `json:"CertificateUsageTypes"`
	Subject                  identifier         `json:"Subject"`
	Issuer                   identifier         `json:"Issuer"`
	ValidNotBefore           string             `json:"ValidNotBefore"`
	ValidNotAfter            string             `json:"ValidNotAfter"`
	KeyUsage                 []string           `json:"KeyUsage"`
	SerialNumber             string             `json:"SerialNumber,omitempty"`
	Fingerprint              string             `json:"Fingerprint"`
	FingerprintHashAlgorithm string             `json:"FingerprintHashAlgorithm"`
	SignatureAlgorithm       string             `json:"SignatureAlgorithm,omitempty"`
	Actions                  certificateActions `json:"Actions"`
}

type certificateActions struct {
	Rekey rekeyAction `json:"#Certificate.Rekey"`
}

// identifier is Certificate.Identifier: a name of X.500.
type identifier struct {
	CommonName                    string   `json:"CommonName,omitempty"`
	AdditionalCommonNames         []string `json:"AdditionalCommonNames,omitempty"`
	Organization                  string   `json:"Organization,omitempty"`
	OrganizationalUnit            string   `json:"OrganizationalUnit,omitempty"`
	AdditionalOrganizationalUnits []string `json:"AdditionalOrganizationalUnits,omitempty"`
	City                          string   `json:"City,omitempty"`
	State                         string   `json:"State,omitempty"`
	Country                       string   `json:"Country,omitempty"`
	Email                         string   `json:"Email,omitempty"`
	DomainComponents              []string `json:"DomainComponents,omitempty"`
	DisplayString                 string   `json:"DisplayString,omitempty"`
	AlternativeNames              []string `json:"AlternativeNames,omitempty"`
}

func (s *Service) getCertificate(*resource.Request) *resource.Reply {
	return resource.OK(newCertificate(s.keeper.Leaf(), s.keeper.PEM()))
}

func newCertificate(x *x509.Certificate, chain string) certificate {
	sum := sha256.Sum256(x.Raw)
	c := certificate{
		OData:                 resource.NewOData(certificateURI, certificateType, "HTTPS Certificate"),
		CertificateString:     chain,
		CertificateType:       "PEM",
		CertificateUsageTypes: []string{"Web"},
		Subject:               newIdentifier(x.Subject),
		Issuer:                newIdentifier(x.Issuer),
		ValidNotBefore:        x.NotBefore.UTC().Format(time.RFC3339),
		ValidNotAfter:         x.NotAfter.UTC().Format(time.RFC3339),
		KeyUsage:              usages(x),
		SerialNumber:          octets(x.SerialNumber.Bytes()),
		Fingerprint:           octets(sum[:]),
		// The names of TCG's Algorithm Registry.
		FingerprintHashAlgorithm: "TPM_ALG_SHA256",
		SignatureAlgorithm:       signatureName(x.SignatureAlgorithm),
		Actions:                  certificateActions{rekeyAction{rekeyURI, keyOptions{keyAlgorithms(), keyCurves()}}},
	}
	if strings.Count(chain, "-----BEGIN CERTIFICATE-----") > 1 {
		c.CertificateType = "PEMchain"
	}
	c.Subject.AlternativeNames = alternativeNames(x)
	return c
}

func alternativeNames(x *x509.Certificate) []string {
	names := append([]string(nil), x.DNSNames...)
	for _, ip := range x.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// octets writes bytes as "0A:1B".
func octets(b []byte) string { return strings.ReplaceAll(fmt.Sprintf("% X", b), " ", ":") }

// The attribute types that package pkix has no field for: emailAddress (RFC 2985)
// and domainComponent (RFC 4519).
const (
	emailOID  = "1.2.840.113549.1.9.1"
	domainOID = "0.9.2342.19200300.100.1.25"
	nameOID   = "2.5.4.3"
)

func newIdentifier(n pkix.Name) identifier {
	first := func(all []string) string {
		if len(all) == 0 {
			return ""
		}
		return all[0]
	}
	i := identifier{
		Organization: first(n.Organization), OrganizationalUnit: first(n.OrganizationalUnit),
		City: first(n.Locality), State: first(n.Province), Country: first(n.Country),
		DisplayString: n.String(),
	}
	if len(n.OrganizationalUnit) > 1 {
		i.AdditionalOrganizationalUnits = n.OrganizationalUnit[1:]
	}
	for _, a := range n.Names {
		text, isString := a.Value.(string)
		if !isString {
			continue
		}
		switch a.Type.String() {
		case emailOID:
			i.Email = text
		case domainOID:
			i.DomainComponents = append(i.DomainComponents, text)
		case nameOID:
			if i.CommonName == "" {
				i.CommonName = text
			} else {
				i.AdditionalCommonNames = append(i.AdditionalCommonNames, text)
			}
		}
	}
	return i
}

// signatureName is the name that RFC 4055 or RFC 5758 gives to the algorithm's
// object identifier; empty: it has none here.
func signatureName(a x509.SignatureAlgorithm) string {
	switch a {
	case x509.SHA256WithRSA:
		return "sha256WithRSAEncryption"
	case x509.SHA384WithRSA:
		return "sha384WithRSAEncryption"
	case x509.SHA512WithRSA:
		return "sha512WithRSAEncryption"
	case x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return "id-RSASSA-PSS"
	case x509.ECDSAWithSHA256:
		return "ecdsa-with-SHA256"
	case x509.ECDSAWithSHA384:
		return "ecdsa-with-SHA384"
	case x509.ECDSAWithSHA512:
		return "ecdsa-with-SHA512"
	case x509.PureEd25519:
		return "id-Ed25519"
	}
	return ""
}

// keyUsages are Certificate.KeyUsage: the bits of RFC 5280 section 4.2.1.3 in
// their order, and then the purposes of section 4.2.1.12 that have a word.
func keyUsages() []string {
	return []string{
		"DigitalSignature", "NonRepudiation", "KeyEncipherment", "DataEncipherment", "KeyAgreement",
		"KeyCertSign", "CRLSigning", "EncipherOnly", "DecipherOnly",
		"ServerAuthentication", "ClientAuthentication", "CodeSigning", "EmailProtection", "Timestamping", "OCSPSigning",
	}
}

func usages(x *x509.Certificate) []string {
	words := keyUsages()
	list := []string{}
	for i, word := range words[:9] {
		if x.KeyUsage&(1<<i) != 0 {
			list = append(list, word)
		}
	}
	for i, u := range []x509.ExtKeyUsage{
		x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageCodeSigning,
		x509.ExtKeyUsageEmailProtection, x509.ExtKeyUsageTimeStamping, x509.ExtKeyUsageOCSPSigning,
	} {
		for _, has := range x.ExtKeyUsage {
			if has == u {
				list = append(list, words[9+i])
			}
		}
	}
	return list
}

// problem logs what is no client's fault, and says what is: about a parameter of
// an action, or where name is empty about some of them.
func (s *Service) problem(err error, action, name string) *resource.Reply {
	if !errors.Is(err, auth.ErrInvalid) && !errors.Is(err, auth.ErrCertificate) {
		s.log.Error("certificate", "action", action, "error", err)
		return resource.Fail(message.InternalError())
	}
	if name == "" {
		return resource.Fail(message.GeneralError(400, err.Error()))
	}
	p := message.ActionParameterValueError(name, action).About(message.Pointer(name))
	p.Resolution = err.Error()
	return resource.Fail(p)
}
