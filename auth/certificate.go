package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nitrino/nitrino/internal/atomicfile"
)

// ErrCertificate says that a certificate cannot be the board's; the error that it
// is in says why, in words for people.
var ErrCertificate = errors.New("the certificate cannot be used")

// The life of a self-made certificate. The board has no clock of its own: it
// may make the certificate long before it learns the time, and must not lose
// it then. 2049 is the last year that RFC 5280 section 4.1.2.5 writes in the
// form that every client reads.
var (
	certificateFrom = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	certificateTo   = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// What a certificate from outside is held to.
const (
	maxCertificateText = 64 << 10
	maxChain           = 8
	minTLSBits         = 2048
	// maxTLSBits is where crypto/tls, and so many a client, draws the line.
	maxTLSBits = 8192
	// clockDoubt is how far the board's clock may be behind: where nobody has
	// told the time it is that of the software's build, or of the last run.
	clockDoubt = 3 * 365 * 24 * time.Hour
)

// A Certificate is what HTTPS proves the board's identity with: a chain of
// certificates and the key of its first, kept in one file. It is safe for several
// goroutines, and can be replaced while they use it.
type Certificate struct {
	dir    string
	now    func() time.Time
	report func(Report)

	current atomic.Pointer[tls.Certificate]

	changing sync.Mutex    // held over each change, disk included
	next     crypto.Signer // of the CSR that waits for its certificate; nil: none does
}

// OpenCertificate opens the certificate in dir; where there is none it makes one:
// ECDSA P-256, self-signed, for the board's host name, localhost, 127.0.0.1, ::1
// and the given names or addresses. It is made once: other names later change
// nothing, since clients have pinned it. The owner may put another (chain first,
// then key, PEM) in its place. A damaged file is renamed to "….bad" and replaced.
// report takes the audit trail, of kinds key.damaged, certificate.requested and
// certificate.replaced; it must not block.
func OpenCertificate(dir string, names []string, now func() time.Time, report func(Report)) (*Certificate, error) {
	c := &Certificate{dir: dir, now: now, report: report}
	damaged := func(message string) { report(Report{Kind: "key.damaged", Level: Critical, Message: message}) }
	kept, err := keptOrMade(c.path(),
		func(data []byte) (tls.Certificate, error) { return tls.X509KeyPair(data, data) },
		func() ([]byte, error) { return makeCertificate(names, now()) },
		"HTTPS has a new self-made certificate", damaged)
	if err != nil {
		return nil, err
	}
	c.current.Store(&kept)
	return c, c.openNext(damaged)
}

func (c *Certificate) path() string     { return filepath.Join(c.dir, tlsFile) }
func (c *Certificate) nextPath() string { return filepath.Join(c.dir, nextFile) }

// openNext reads the key of a CSR that waits for its certificate.
func (c *Certificate) openNext(damaged func(string)) error {
	text, err := os.ReadFile(c.nextPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		err = errors.New("it is not PEM")
	} else {
		c.next, err = parseKeyBlock(block.Bytes)
	}
	if err != nil {
		damaged(fmt.Sprintf("The key of the last certificate signing request is damaged (%v); the request has to be made again.", err))
		return c.forgetNext()
	}
	if fits(c.next, c.Leaf()) {
		return c.forgetNext() // the power failed after its certificate had come
	}
	return keepPrivate(c.nextPath())
}

func (c *Certificate) forgetNext() error {
	c.next = nil
	if err := os.Remove(c.nextPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("key: %w", err)
	}
	return nil
}

// Get answers the certificate in force; it is for tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// Leaf is the board's own certificate. It must not be changed.
func (c *Certificate) Leaf() *x509.Certificate { return c.current.Load().Leaf }

// PEM is the chain, the board's own certificate first, without the key.
func (c *Certificate) PEM() string { return string(encodeChain(c.current.Load().Certificate)) }

func encodeChain(chain [][]byte) []byte {
	var text bytes.Buffer
	for _, der := range chain {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return text.Bytes()
}

// Replace puts the certificate of a PEM text in force for new connections: first
// the board's, then those that lead up to a CA, each signed by the next. The
// private key may be in the text; else it is that of the last GenerateCSR, or the
// present one. A text that cannot be used changes nothing, and is an
// ErrCertificate. by made the change.
func (c *Certificate) Replace(text string, by Attempt) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	chain, key, err := parseChain(text)
	if err != nil {
		return err
	}
	leaf := chain[0]
	if err := c.check(chain); err != nil {
		return err
	}
	present, ok := c.current.Load().PrivateKey.(crypto.Signer)
	switch {
	case key != nil:
		if !fits(key, leaf) {
			return fmt.Errorf("%w: the private key is another certificate's", ErrCertificate)
		}
	case c.next != nil && fits(c.next, leaf):
		key = c.next
	case ok && fits(present, leaf):
		key = present
	case c.next != nil:
		return fmt.Errorf("%w: it fits neither the key of the last signing request nor the present one, and no private key is with it", ErrCertificate)
	default:
		return fmt.Errorf("%w: it does not fit the present key, and no private key is with it", ErrCertificate)
	}
	next := &tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, x := range chain {
		next.Certificate = append(next.Certificate, x.Raw)
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(c.path(), append(encodeChain(next.Certificate), private...), 0o600); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	c.current.Store(next)
	c.report(Report{Kind: "certificate.replaced", Level: OK,
		Message: fmt.Sprintf("HTTPS has another certificate: serial number %x, valid until %s.", leaf.SerialNumber, leaf.NotAfter.UTC().Format(time.DateOnly))}.by(by))
	if c.next != nil && fits(c.next, leaf) {
		return c.forgetNext()
	}
	return nil
}

// parseChain reads the certificates of a PEM text, and the private key where one
// is among them.
func parseChain(text string) (chain []*x509.Certificate, key crypto.Signer, err error) {
	if len(text) > maxCertificateText {
		return nil, nil, fmt.Errorf("%w: the text is longer than %d KiB", ErrCertificate, maxCertificateText>>10)
	}
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			x, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("%w: number %d: %w", ErrCertificate, len(chain)+1, err)
			}
			if chain = append(chain, x); len(chain) > maxChain {
				return nil, nil, fmt.Errorf("%w: there are more than %d certificates", ErrCertificate, maxChain)
			}
		case "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY":
			if key != nil {
				return nil, nil, fmt.Errorf("%w: there is more than one private key", ErrCertificate)
			}
			// RFC 1421's encryption of a block shows in its headers.
			if block.Headers["DEK-Info"] != "" {
				return nil, nil, fmt.Errorf("%w: the private key is encrypted", ErrCertificate)
			}
			if key, err = parseKeyBlock(block.Bytes); err != nil {
				return nil, nil, fmt.Errorf("%w: the private key: %w", ErrCertificate, err)
			}
		case "EC PARAMETERS": // openssl puts the curve's name before the key that tells it too
		case "ENCRYPTED PRIVATE KEY":
			return nil, nil, fmt.Errorf("%w: the private key is encrypted", ErrCertificate)
		default:
			return nil, nil, fmt.Errorf("%w: a block %q is neither a certificate nor a private key", ErrCertificate, printable(block.Type))
		}
	}
	if len(chain) == 0 {
		return nil, nil, fmt.Errorf("%w: there is no certificate in PEM form", ErrCertificate)
	}
	return chain, key, nil
}

// parseKeyBlock reads the private key of a PEM block: PKCS #8, SEC 1 or PKCS #1.
func parseKeyBlock(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// fits says whether a certificate is a key's.
func fits(key crypto.Signer, x *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(x.PublicKey)
}

// check refuses a chain that clients would refuse, whichever CAs they trust.
func (c *Certificate) check(chain []*x509.Certificate) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrCertificate}, args...)...)
	}
	leaf := chain[0]
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minTLSBits || bits > maxTLSBits {
			return refuse("its RSA key has %d bits, not %d to %d", bits, minTLSBits, maxTLSBits)
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P224() {
			return refuse("TLS has no use for its curve P-224")
		}
	default: // Ed25519's: browsers do not know it
		return refuse("its key is neither RSA nor ECDSA")
	}
	switch leaf.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.DSAWithSHA256:
		return refuse("it is signed with %v, which clients no longer take", leaf.SignatureAlgorithm)
	}
	// A self-signed certificate is often its own CA. TLS 1.3 and the suites with
	// forward secrecy have the server sign (RFC 8446 section 4.4.2.2).
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		if leaf.IsCA {
			return refuse("it is a CA's, and not for a server; the server's comes first")
		}
		return refuse("its key usage does not have digital signature")
	}
	usages := leaf.ExtKeyUsage
	if len(usages)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(usages, x509.ExtKeyUsageServerAuth) && !slices.Contains(usages, x509.ExtKeyUsageAny) {
		return refuse("its extended key usage does not have server authentication")
	}
	for i, x := range chain {
		// The clock is never ahead, but it may be behind.
		now := c.now()
		switch {
		case now.After(x.NotAfter):
			return refuse("number %d (%s) expired on %s", i+1, subject(x), x.NotAfter.UTC().Format(time.DateOnly))
		case now.Add(clockDoubt).Before(x.NotBefore):
			return refuse("number %d (%s) is not valid before %s", i+1, subject(x), x.NotBefore.UTC().Format(time.DateOnly))
		case x.NotAfter.Before(x.NotBefore):
			return refuse("number %d (%s) ends before it begins", i+1, subject(x))
		}
		if i+1 == len(chain) {
			break
		}
		if err := x.CheckSignatureFrom(chain[i+1]); err != nil {
			return refuse("number %d (%s) is not signed by number %d (%s): %w", i+1, subject(x), i+2, subject(chain[i+1]), err)
		}
	}
	return nil
}

// subject is a certificate's name for an error.
func subject(x *x509.Certificate) string { return fmt.Sprintf("%.100q", x.Subject.String()) }

func makeCertificate(names []string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	from := certificateFrom
	if now.Before(from) {
		from = now.Add(-24 * time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(randomBytes(16)),
		NotBefore:             from,
		NotAfter:              certificateTo,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	hostname, err := os.Hostname()
	if err == nil && isHostName(hostname) {
		template.DNSNames = append(template.DNSNames, hostname)
	}
	template.DNSNames = append(template.DNSNames, "localhost")
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			if !slices.ContainsFunc(template.IPAddresses, ip.Equal) {
				template.IPAddresses = append(template.IPAddresses, ip)
			}
			continue
		}
		if !isHostName(name) {
			return nil, fmt.Errorf("%w: %q is no host name or address", ErrInvalid, name)
		}
		if !slices.Contains(template.DNSNames, name) {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	// The name is for people; clients look at the alternative names only
	// (RFC 9525). 64 is RFC 5280's upper bound for it.
	first := slices.Concat(names, template.DNSNames)[0]
	template.Subject = pkix.Name{CommonName: first[:min(len(first), 64)]}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return append(encodeChain([][]byte{der}), private...), nil
}
