package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"net"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nitrino/nitrino/internal/atomicfile"
)

// A CSR says what GenerateCSR is to ask a CA for, in the words of DSP0268,
// CertificateService.GenerateCSR. Empty fields are left out.
type CSR struct {
	// CommonName is a host name or address, or any name if there are
	// AlternativeNames, which are host names and addresses; one of the two is
	// needed.
	CommonName       string
	AlternativeNames []string
	// Country has two letters (ISO 3166-1).
	Country, State, City             string
	Organization, OrganizationalUnit string
	Email                            string
	// KeyUsage are Redfish's words; none: what a server needs.
	KeyUsage []string
	// KeyPairAlgorithm is "TPM_ALG_ECDSA" (or empty) or "TPM_ALG_RSA".
	KeyPairAlgorithm string
	// KeyCurveID, for ECDSA, is "TPM_ECC_NIST_P256" (or empty) or
	// "TPM_ECC_NIST_P384".
	KeyCurveID string
	// KeyBitLength, for RSA, is 2048 (or 0), 3072 or 4096.
	KeyBitLength int
}

// GenerateCSR makes a key, which takes seconds for long ones of RSA, and the
// request to certify it, PKCS #10 in PEM. The key is kept until its certificate
// comes by Replace; that of another request takes its place. What cannot be asked
// for is an ErrInvalid. by made the request.
func (c *Certificate) GenerateCSR(r CSR, by Attempt) (string, error) {
	template, err := r.template()
	if err != nil {
		return "", err
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	key, err := r.key()
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return "", fmt.Errorf("signing request: %w", err)
	}
	private, err := encodeKey(key)
	if err != nil {
		return "", fmt.Errorf("signing request: %w", err)
	}
	if err := atomicfile.Write(c.nextPath(), private, 0o600); err != nil {
		return "", fmt.Errorf("signing request: %w", err)
	}
	c.next = key
	c.report(Report{Kind: "certificate.requested", Level: OK,
		Message: fmt.Sprintf("A certificate signing request was made for %s.", strings.Join(requestedNames(template), ", "))}.by(by))
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// requestedNames are what the certificate is to be for.
func requestedNames(r *x509.CertificateRequest) []string {
	names := slices.Clone(r.DNSNames)
	for _, ip := range r.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// key makes the key that is asked for.
func (r CSR) key() (crypto.Signer, error) {
	switch r.KeyPairAlgorithm {
	case "", "TPM_ALG_ECDSA":
		switch {
		case r.KeyBitLength != 0:
			return nil, fmt.Errorf("%w: KeyBitLength is for TPM_ALG_RSA", ErrInvalid)
		case r.KeyCurveID == "", r.KeyCurveID == "TPM_ECC_NIST_P256":
			return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		case r.KeyCurveID == "TPM_ECC_NIST_P384":
			return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		}
		return nil, fmt.Errorf("%w: KeyCurveId %.40q: want TPM_ECC_NIST_P256 or TPM_ECC_NIST_P384", ErrInvalid, r.KeyCurveID)
	case "TPM_ALG_RSA":
		if r.KeyCurveID != "" {
			return nil, fmt.Errorf("%w: KeyCurveId is for TPM_ALG_ECDSA", ErrInvalid)
		}
		switch r.KeyBitLength {
		case 0:
			return rsa.GenerateKey(rand.Reader, minTLSBits)
		case 2048, 3072, 4096:
			return rsa.GenerateKey(rand.Reader, r.KeyBitLength)
		}
		return nil, fmt.Errorf("%w: KeyBitLength %d: want 2048, 3072 or 4096", ErrInvalid, r.KeyBitLength)
	}
	return nil, fmt.Errorf("%w: KeyPairAlgorithm %.40q: want TPM_ALG_ECDSA or TPM_ALG_RSA", ErrInvalid, r.KeyPairAlgorithm)
}

// maxAlternativeNames bounds the size of a request.
const maxAlternativeNames = 64

// template checks what is asked for.
func (r CSR) template() (*x509.CertificateRequest, error) {
	t := &x509.CertificateRequest{}
	t.Subject.CommonName = r.CommonName
	for _, p := range []struct {
		name, value string
		limit       int // in characters: RFC 5280 appendix A.1's upper bounds
		to          *[]string
	}{
		{"CommonName", r.CommonName, 64, nil},
		{"Country", r.Country, 2, &t.Subject.Country},
		{"State", r.State, 128, &t.Subject.Province},
		{"City", r.City, 128, &t.Subject.Locality},
		{"Organization", r.Organization, 64, &t.Subject.Organization},
		{"OrganizationalUnit", r.OrganizationalUnit, 64, &t.Subject.OrganizationalUnit},
		{"Email", r.Email, 255, &t.EmailAddresses},
	} {
		switch {
		case !utf8.ValidString(p.value) || strings.ContainsFunc(p.value, unicode.IsControl):
			return nil, fmt.Errorf("%w: %s is UTF-8 text without control characters", ErrInvalid, p.name)
		case utf8.RuneCountInString(p.value) > p.limit:
			return nil, fmt.Errorf("%w: %s has at most %d characters", ErrInvalid, p.name, p.limit)
		}
		if p.to != nil && p.value != "" {
			*p.to = []string{p.value}
		}
	}
	if c := r.Country; c != "" && (len(c) != 2 || !isLetter(c[0]) || !isLetter(c[1])) {
		return nil, fmt.Errorf("%w: Country is a code of two letters", ErrInvalid)
	}
	if at := strings.LastIndexByte(r.Email, '@'); r.Email != "" && (at < 1 || !isHostName(r.Email[at+1:]) || !isASCII(r.Email)) {
		return nil, fmt.Errorf("%w: Email %.40q is no address", ErrInvalid, r.Email)
	}
	if len(r.AlternativeNames) > maxAlternativeNames {
		return nil, fmt.Errorf("%w: AlternativeNames has at most %d entries", ErrInvalid, maxAlternativeNames)
	}
	// Clients look at the alternative names only (RFC 9525 section 6.2).
	if err := addName(t, r.CommonName); err != nil && len(r.AlternativeNames) == 0 {
		return nil, fmt.Errorf("%w; AlternativeNames has none", err)
	}
	for _, name := range r.AlternativeNames {
		if err := addName(t, name); err != nil {
			return nil, err
		}
	}
	var err error
	t.ExtraExtensions, err = usageExtensions(r.KeyUsage)
	return t, err
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c > unicode.MaxASCII })
}

// addName adds an address or a host name, which may begin with "*.".
func addName(t *x509.CertificateRequest, name string) error {
	if ip := net.ParseIP(name); ip != nil {
		if !slices.ContainsFunc(t.IPAddresses, ip.Equal) {
			t.IPAddresses = append(t.IPAddresses, ip)
		}
		return nil
	}
	if !isHostName(strings.TrimPrefix(name, "*.")) {
		return fmt.Errorf("%w: %.80q is no host name or address", ErrInvalid, name)
	}
	if !slices.Contains(t.DNSNames, name) {
		t.DNSNames = append(t.DNSNames, name)
	}
	return nil
}

// usageExtensions encodes Redfish's words for the uses of a key (DSP0268,
// Certificate.KeyUsage) as the extensions of RFC 5280 sections 4.2.1.3 and
// 4.2.1.12, which they mix.
func usageExtensions(words []string) ([]pkix.Extension, error) {
	if len(words) == 0 {
		words = []string{"DigitalSignature", "ServerAuthentication"}
	}
	var bits asn1.BitString
	var extended []asn1.ObjectIdentifier
	for _, word := range words {
		if i := slices.Index([]string{
			"DigitalSignature", "NonRepudiation", "KeyEncipherment", "DataEncipherment", "KeyAgreement",
			"KeyCertSign", "CRLSigning", "EncipherOnly", "DecipherOnly",
		}, word); i >= 0 {
			bits.BitLength = max(bits.BitLength, i+1)
			for len(bits.Bytes) <= i/8 {
				bits.Bytes = append(bits.Bytes, 0)
			}
			bits.Bytes[i/8] |= 0x80 >> (i % 8)
			continue
		}
		// id-kp (RFC 5280 section 4.2.1.12) and the last arc; 0 is none.
		arc := map[string]int{
			"ServerAuthentication": 1, "ClientAuthentication": 2, "CodeSigning": 3, "EmailProtection": 4,
			"Timestamping": 8, "OCSPSigning": 9,
		}[word]
		if arc == 0 {
			return nil, fmt.Errorf("%w: KeyUsage %.40q is not known", ErrInvalid, word)
		}
		id := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, arc}
		if !slices.ContainsFunc(extended, id.Equal) {
			extended = append(extended, id)
		}
	}
	var found []pkix.Extension
	if bits.BitLength > 0 {
		value, err := asn1.Marshal(bits)
		if err != nil {
			return nil, fmt.Errorf("key usage: %w", err)
		}
		found = append(found, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: value})
	}
	if len(extended) > 0 {
		value, err := asn1.Marshal(extended)
		if err != nil {
			return nil, fmt.Errorf("extended key usage: %w", err)
		}
		found = append(found, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: value})
	}
	return found, nil
}
