package certificate

import (
	"crypto/x509"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	csrName     = "CertificateService.GenerateCSR"
	csrURI      = resource.CertificateServiceURI + "/Actions/" + csrName
	replaceName = "CertificateService.ReplaceCertificate"
	replaceURI  = resource.CertificateServiceURI + "/Actions/" + replaceName
	rekeyName   = "Certificate.Rekey"
	rekeyURI    = certificateURI + "/Actions/" + rekeyName
)

// The algorithms of keys, curves and lengths of TCG's Algorithm Registry that
// TLS clients take.
const (
	ecdsaKey = "TPM_ALG_ECDSA"
	rsaKey   = "TPM_ALG_RSA"
)

func keyAlgorithms() []string    { return []string{ecdsaKey, rsaKey} }
func keyCurves() []string        { return []string{"TPM_ECC_NIST_P256", "TPM_ECC_NIST_P384"} }
func keyLengths() []string       { return []string{"2048", "3072", "4096"} }
func certificateTypes() []string { return []string{"PEM", "PEMchain"} }

type csrAction struct {
	Target string `json:"target"`
	Info   string `json:"@Redfish.ActionInfo"`
	keyOptions
	KeyUsages []string `json:"KeyUsage@Redfish.AllowableValues"`
}

type keyOptions struct {
	Algorithms []string `json:"KeyPairAlgorithm@Redfish.AllowableValues"`
	Curves     []string `json:"KeyCurveId@Redfish.AllowableValues"`
}

type replaceAction struct {
	Target string   `json:"target"`
	Info   string   `json:"@Redfish.ActionInfo"`
	Types  []string `json:"CertificateType@Redfish.AllowableValues"`
}

type rekeyAction struct {
	Target string `json:"target"`
	keyOptions
}

// A nameField is a parameter that is a part of the subject's name, with its limit
// in characters (RFC 5280 appendix A.1).
type nameField struct {
	name  string
	limit int
	to    *string
}

func nameFields(r *auth.CSR) []nameField {
	return []nameField{
		{"CommonName", 64, &r.CommonName},
		{"Country", 2, &r.Country},
		{"State", 128, &r.State},
		{"City", 128, &r.City},
		{"Organization", 64, &r.Organization},
		{"OrganizationalUnit", 64, &r.OrganizationalUnit},
		{"Email", 255, &r.Email},
	}
}

// parameter takes a part of the name.
func (f nameField) parameter() resource.Parameter {
	return resource.Parameter{Name: f.name, Set: func(value any, action string) *message.Message {
		if problem := resource.Text(f.name, f.to).Set(value, action); problem != nil {
			return problem
		}
		switch n := utf8.RuneCountInString(*f.to); {
		case n > f.limit:
			return new(message.StringValueTooLong(*f.to, f.limit))
		case f.name == "Country" && n != f.limit:
			return resource.BadFormat(value, f.name, action)
		}
		return nil
	}}
}

// reference is a parameter that is a link to uri, the only one there is.
func reference(name, uri string) resource.Parameter {
	return resource.Parameter{Name: name, Required: true, Set: func(value any, action string) *message.Message {
		o, isObject := value.(resource.Object)
		if !isObject {
			return resource.WrongType(value, name, action)
		}
		for _, m := range o {
			if m.Name != "@odata.id" {
				continue
			}
			text, isString := m.Value.(string)
			switch {
			case !isString:
				return resource.WrongType(m.Value, name, action)
			case strings.TrimSuffix(text, "/") != uri:
				return resource.NotInList(text, name, action)
			}
			return nil
		}
		return resource.BadFormat(value, name, action)
	}}
}

// unsupported are parameters of the schema that are not done here: challenge
// passwords and what no CA reads. They are refused rather than passed over.
func unsupported(names ...string) (all []resource.Parameter) {
	for _, name := range names {
		all = append(all, resource.Parameter{Name: name, Set: func(_ any, action string) *message.Message {
			return new(message.ActionParameterNotSupported(name, action))
		}})
	}
	return all
}

// keyParameters say what key is to be made.
func keyParameters(r *auth.CSR) []resource.Parameter {
	return []resource.Parameter{
		resource.Word("KeyPairAlgorithm", keyAlgorithms(), &r.KeyPairAlgorithm),
		resource.Word("KeyCurveId", keyCurves(), &r.KeyCurveID),
		{Name: "KeyBitLength", Set: func(value any, action string) *message.Message {
			var n int64
			if problem := resource.Count("KeyBitLength", 1, 1<<20, &n).Set(value, action); problem != nil {
				return problem
			}
			if !slices.Contains(keyLengths(), message.Show(n)) {
				return resource.NotInList(value, "KeyBitLength", action)
			}
			r.KeyBitLength = int(n)
			return nil
		}},
	}
}

// checkKey sees to it that the key's parameters fit together. A length alone says
// RSA, which is the only one that has a choice of it.
func checkKey(r *auth.CSR) []message.Message {
	if r.KeyPairAlgorithm == "" && r.KeyBitLength != 0 {
		r.KeyPairAlgorithm = rsaKey
	}
	switch {
	case r.KeyPairAlgorithm == rsaKey && r.KeyCurveID != "":
		return []message.Message{message.ActionParameterValueConflict("KeyCurveId", r.KeyCurveID).About(message.Pointer("KeyCurveId"))}
	case r.KeyPairAlgorithm == ecdsaKey && r.KeyBitLength != 0:
		return []message.Message{message.ActionParameterValueConflict("KeyBitLength", r.KeyBitLength).About(message.Pointer("KeyBitLength"))}
	}
	return nil
}

// csrResponse is CertificateService.GenerateCSRResponse.
type csrResponse struct {
	CertificateCollection resource.Link `json:"CertificateCollection"`
	CSRString             string        `json:"CSRString"`
}

func (s *Service) postCSR(q *resource.Request) *resource.Reply {
	var r auth.CSR
	all := []resource.Parameter{
		reference("CertificateCollection", resource.CertificatesURI),
		resource.Texts("AlternativeNames", &r.AlternativeNames),
		{Name: "KeyUsage", Set: func(value any, action string) *message.Message {
			if problem := resource.Texts("KeyUsage", &r.KeyUsage).Set(value, action); problem != nil {
				return problem
			}
			for _, word := range r.KeyUsage {
				if !slices.Contains(keyUsages(), word) {
					return resource.NotInList(word, "KeyUsage", action)
				}
			}
			return nil
		}},
	}
	for _, f := range nameFields(&r) {
		all = append(all, f.parameter())
	}
	all = append(all, keyParameters(&r)...)
	all = append(all, unsupported("ChallengePassword", "ContactPerson", "GivenName", "Initials", "Surname", "UnstructuredName")...)
	problems := q.Parameters(csrName, all...)
	if problems == nil {
		problems = checkKey(&r)
	}
	if problems == nil && r.CommonName == "" && len(r.AlternativeNames) == 0 {
		problems = []message.Message{message.ActionParameterMissing(csrName, "CommonName").About(message.Pointer("CommonName"))}
	}
	if problems != nil {
		return resource.Fail(problems...)
	}
	text, err := s.keeper.GenerateCSR(r, q.Attempt)
	if err != nil {
		return s.problem(err, csrName, "")
	}
	return s.response(csrResponse{resource.Link{ODataID: resource.CertificatesURI}, text})
}

// rekeyResponse is Certificate.RekeyResponse.
type rekeyResponse struct {
	Certificate resource.Link `json:"Certificate"`
	CSRString   string        `json:"CSRString"`
}

// postRekey asks for a certificate like the present one, with another key.
func (s *Service) postRekey(q *resource.Request) *resource.Reply {
	r := like(s.keeper.Leaf())
	problems := q.Parameters(rekeyName, append(keyParameters(&r), unsupported("ChallengePassword")...)...)
	if problems == nil {
		problems = checkKey(&r)
	}
	if problems != nil {
		return resource.Fail(problems...)
	}
	text, err := s.keeper.GenerateCSR(r, q.Attempt)
	if err != nil {
		return s.problem(err, rekeyName, "")
	}
	return s.response(rekeyResponse{resource.Link{ODataID: certificateURI}, text})
}

// like asks for the name and uses of a certificate.
func like(x *x509.Certificate) (r auth.CSR) {
	i := newIdentifier(x.Subject)
	r.CommonName, r.Country, r.State, r.City = i.CommonName, i.Country, i.State, i.City
	r.Organization, r.OrganizationalUnit, r.Email = i.Organization, i.OrganizationalUnit, i.Email
	r.AlternativeNames, r.KeyUsage = alternativeNames(x), usages(x)
	return r
}

// response is an action's, which is no resource.
func (s *Service) response(v any) *resource.Reply {
	d, err := protocol.JSONDocument(v)
	if err != nil {
		s.log.Error("certificate", "error", err)
		return resource.Fail(message.InternalError())
	}
	return &resource.Reply{Status: 200, Document: d}
}

func (s *Service) postReplace(q *resource.Request) *resource.Reply {
	const text = "CertificateString"
	var chain, kind string
	all := []resource.Parameter{
		// It may have the private key in it.
		resource.Required(resource.Password(text, &chain)),
		resource.Required(resource.Word("CertificateType", certificateTypes(), &kind)),
		reference("CertificateUri", certificateURI),
	}
	// A password is for PKCS12.
	if problems := q.Parameters(replaceName, append(all, unsupported("Password")...)...); problems != nil {
		return resource.Fail(problems...)
	}
	if err := s.keeper.Replace(chain, q.Attempt); err != nil {
		return s.problem(err, replaceName, text)
	}
	return &resource.Reply{Status: 204, Location: certificateURI}
}
