package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func openCertificate(t *testing.T, dir string, names ...string) *Certificate {
	t.Helper()
	c, err := OpenCertificate(dir, names, clock, func(Report) {})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOpenCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	made := openCertificate(t, dir, "bmc-7.example", "192.0.2.9", "localhost", "::1")
	leaf := made.Leaf()
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("got key %T, want ECDSA P-256", leaf.PublicKey)
	}
	if len(leaf.IPAddresses) != 3 || leaf.Subject.CommonName != "bmc-7.example" || leaf.SerialNumber.Sign() <= 0 {
		t.Errorf("got addresses %v, subject %v, serial %v", leaf.IPAddresses, leaf.Subject, leaf.SerialNumber)
	}
	names := []string{"bmc-7.example", "192.0.2.9", "localhost", "127.0.0.1", "::1"}
	if h, err := os.Hostname(); err == nil && isHostName(h) {
		names = append(names, h)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for _, name := range names {
		for _, at := range []time.Time{time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC), now, now.AddDate(20, 0, 0)} {
			if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: at}); err != nil {
				t.Errorf("%s in %d: %v", name, at.Year(), err)
			}
		}
	}
	again := openCertificate(t, dir, "other")
	if again.PEM() != made.PEM() {
		t.Error("another certificate at the second start")
	}
	if err := handshake(again, &tls.Config{RootCAs: roots}); err != nil {
		t.Errorf("handshake: %v", err)
	}
	early := func() time.Time { return time.Unix(3600, 0) }
	c, err := OpenCertificate(t.TempDir(), nil, early, func(Report) {})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Leaf().NotBefore.Before(early()) {
		t.Errorf("begins %v, after now", c.Leaf().NotBefore)
	}
	if _, err := OpenCertificate(t.TempDir(), []string{"no name"}, clock, func(Report) {}); !errors.Is(err, ErrInvalid) {
		t.Errorf("bad name: got %v, want %v", err, ErrInvalid)
	}
}

// handshake connects to a server that has the certificate.
func handshake(c *Certificate, client *tls.Config) error {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: c.Get})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = errors.Join(conn.(*tls.Conn).Handshake(), conn.Close())
		}
		served <- err
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		err = conn.Close()
	}
	return errors.Join(err, l.Close(), <-served)
}

// A ca signs what the tests want certified.
type ca struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newCA(t *testing.T, name string, above *ca) *ca {
	t.Helper()
	c := &ca{key: newKey(t, "P-256")}
	x := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	parent, key := x, c.key
	if above != nil {
		parent, key = above.cert, above.key
	}
	c.cert = parse(t, must(x509.CreateCertificate(rand.Reader, x, parent, c.key.Public(), key)))
	return c
}

// issue signs a server's certificate that edit may change before.
func (c *ca) issue(t *testing.T, public crypto.PublicKey, edit func(*x509.Certificate)) string {
	t.Helper()
	x := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "bmc.example"}, DNSNames: []string{"bmc.example"},
		NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if edit != nil {
		edit(x)
	}
	return string(encodeChain([][]byte{must(x509.CreateCertificate(rand.Reader, x, c.cert, public, c.key))}))
}

func (c *ca) pem() string { return string(encodeChain([][]byte{c.cert.Raw})) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	return must(x509.ParseCertificate(der))
}

func newKey(t *testing.T, kind string) crypto.Signer {
	t.Helper()
	switch kind {
	case "P-224":
		return must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	case "P-384":
		return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case "RSA 1024":
		t.Setenv("GODEBUG", "rsa1024min=0") // to make one that the board has to refuse
		return must(rsa.GenerateKey(rand.Reader, 1024))
	case "RSA 2048":
		return must(rsa.GenerateKey(rand.Reader, 2048))
	case "Ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return must(key, err)
	}
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func keyPEM(kind string, key crypto.Signer) string {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		if kind == "EC PRIVATE KEY" {
			return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: must(x509.MarshalECPrivateKey(k))}))
		}
	case *rsa.PrivateKey:
		if kind == "RSA PRIVATE KEY" {
			return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: x509.MarshalPKCS1PrivateKey(k)}))
		}
	}
	return string(must(encodeKey(key)))
}

func TestReplace(t *testing.T) {
	root := newCA(t, "root", nil)
	middle := newCA(t, "middle", root)
	key, other, long, short, ed := newKey(t, ""), newKey(t, ""), newKey(t, "RSA 2048"), newKey(t, "RSA 1024"), newKey(t, "Ed25519")
	small := newKey(t, "P-224")
	good := middle.issue(t, key.Public(), nil)
	edited := func(edit func(*x509.Certificate)) string { return middle.issue(t, key.Public(), edit) }
	pkcs8 := keyPEM("", key)
	// What openssl req -x509 makes: its own CA, without a key usage.
	own := &x509.Certificate{SerialNumber: big.NewInt(3), DNSNames: []string{"x"}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true}
	selfSigned := string(encodeChain([][]byte{must(x509.CreateCertificate(rand.Reader, own, own, key.Public(), key))}))
	for _, tt := range []struct {
		name, text, want string // want: part of the error; empty: taken
	}{
		{"alone with its key", good + pkcs8, ""},
		{"key first", pkcs8 + good, ""},
		{"chain", good + middle.pem() + pkcs8, ""},
		{"chain up to the root", good + middle.pem() + root.pem() + pkcs8, ""},
		{"key of openssl", good + "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + keyPEM("EC PRIVATE KEY", key), ""},
		{"text around", "subject=CN = bmc\n" + good + "\nissuer\n" + pkcs8, ""},
		{"RSA", middle.issue(t, long.Public(), nil) + keyPEM("RSA PRIVATE KEY", long), ""},
		{"self-signed", selfSigned + pkcs8, ""},
		{"a little too early", edited(func(x *x509.Certificate) { x.NotBefore = now.AddDate(0, 6, 0) }) + pkcs8, ""},
		{"empty", "", "no certificate"},
		{"no PEM", "hello", "no certificate"},
		{"key alone", pkcs8, "no certificate"},
		{"bad DER", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "number 1"},
		{"a request", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "neither"},
		{"too long", good + strings.Repeat("\n", maxCertificateText), "longer"},
		{"too many", strings.Repeat(good, maxChain+1), "more than"},
		{"no key", good, "present key"},
		{"another's key", good + keyPEM("", other), "another certificate's"},
		{"two keys", good + pkcs8 + pkcs8, "more than one private key"},
		{"bad key", good + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "private key"},
		{"encrypted key", good + "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted"},
		{"encrypted key of old", good + "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", "encrypted"},
		{"expired", edited(func(x *x509.Certificate) { x.NotAfter = now.Add(-time.Minute) }) + pkcs8, "expired on 2026-02-28"},
		{"far too early", edited(func(x *x509.Certificate) { x.NotBefore, x.NotAfter = now.AddDate(4, 0, 0), now.AddDate(5, 0, 0) }) + pkcs8, "not valid before"},
		{"wrong order", middle.pem() + good + pkcs8, "CA's"},
		{"chain of another", good + root.pem() + pkcs8, "not signed by number 2"},
		{"chain over a leaf", good + good + pkcs8, "not signed by number 2"},
		{"short RSA", middle.issue(t, short.Public(), nil) + keyPEM("", short), "1024 bits"},
		{"P-224", middle.issue(t, small.Public(), nil) + keyPEM("", small), "P-224"},
		{"Ed25519", middle.issue(t, ed.Public(), nil) + keyPEM("", ed), "neither RSA nor ECDSA"},
		{"not to sign", edited(func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageKeyEncipherment }) + pkcs8, "digital signature"},
		{"for clients", edited(func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }) + pkcs8, "server authentication"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			var reports []Report
			c, err := OpenCertificate(dir, nil, clock, func(r Report) { reports = append(reports, r) })
			if err != nil {
				t.Fatal(err)
			}
			before := c.PEM()
			err = c.Replace(tt.text, Attempt{Via: "redfish", Name: "admin", Source: netip.MustParseAddr("192.0.2.1")})
			kept := openCertificate(t, dir)
			if kept.PEM() != c.PEM() {
				t.Error("a restart brings another certificate")
			}
			if tt.want != "" {
				if !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got error %v, want one with %q", err, tt.want)
				}
				if c.PEM() != before || len(reports) != 0 {
					t.Errorf("what was refused changed the certificate, or was told: %v", reports)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			chain, _, err := parseChain(tt.text)
			if err != nil || c.Leaf().SerialNumber.Cmp(chain[0].SerialNumber) != 0 || strings.Count(c.PEM(), "BEGIN") != len(chain) || strings.Contains(c.PEM(), "PRIVATE KEY") {
				t.Errorf("got %s, %v", c.PEM(), err)
			}
			if len(reports) != 1 || reports[0].Kind != "certificate.replaced" || reports[0].User != "admin" || reports[0].Source != "192.0.2.1" {
				t.Errorf("got reports %+v", reports)
			}
			if info, err := os.Stat(filepath.Join(dir, tlsFile)); err != nil || info.Mode() != 0o600 {
				t.Errorf("got mode %v, %v", info.Mode(), err)
			}
			if err := handshake(kept, &tls.Config{InsecureSkipVerify: true}); err != nil {
				t.Errorf("handshake: %v", err)
			}
		})
	}
}

// A request is made, signed and installed, and connections that come then see the
// new certificate.
func TestGenerateCSR(t *testing.T) {
	root := newCA(t, "root", nil)
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	for _, tt := range []struct {
		name string
		csr  CSR
		want func(crypto.PublicKey) bool
	}{
		{"least", CSR{CommonName: "bmc.example"}, isCurve(elliptic.P256())},
		{"P-256", CSR{CommonName: "The BMC", AlternativeNames: []string{"bmc.example"}, KeyPairAlgorithm: "TPM_ALG_ECDSA", KeyCurveID: "TPM_ECC_NIST_P256"}, isCurve(elliptic.P256())},
		{"P-384", CSR{AlternativeNames: []string{"*.example", "bmc.example", "192.0.2.7", "2001:db8::1"}, KeyCurveID: "TPM_ECC_NIST_P384"}, isCurve(elliptic.P384())},
		{"RSA", CSR{CommonName: "bmc.example", KeyPairAlgorithm: "TPM_ALG_RSA"}, isRSA(2048)},
		{"RSA 3072", CSR{CommonName: "bmc.example", KeyPairAlgorithm: "TPM_ALG_RSA", KeyBitLength: 3072}, isRSA(3072)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			c := openCertificate(t, dir)
			tt.csr.Country, tt.csr.State, tt.csr.City = "DE", "Baden-Württemberg", "Ulm"
			tt.csr.Organization, tt.csr.OrganizationalUnit, tt.csr.Email = "Example", "Ops", "ops@example.com"
			text, err := c.GenerateCSR(tt.csr, Attempt{})
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode([]byte(text))
			if block == nil || block.Type != "CERTIFICATE REQUEST" {
				t.Fatalf("got %q", text)
			}
			r, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil || r.CheckSignature() != nil || !tt.want(r.PublicKey) {
				t.Fatalf("got key %T, error %v", r.PublicKey, err)
			}
			if s := r.Subject; s.Country[0] != "DE" || s.Province[0] != "Baden-Württemberg" || s.Locality[0] != "Ulm" || s.Organization[0] != "Example" ||
				s.OrganizationalUnit[0] != "Ops" || r.EmailAddresses[0] != "ops@example.com" || s.CommonName != tt.csr.CommonName {
				t.Errorf("got subject %v, %v", s, r.EmailAddresses)
			}
			if got := len(r.DNSNames) + len(r.IPAddresses); got != max(1, len(tt.csr.AlternativeNames)) {
				t.Errorf("got names %v %v", r.DNSNames, r.IPAddresses)
			}
			// The board may be started again before the CA answers.
			c = openCertificate(t, dir)
			signed := root.issue(t, r.PublicKey, nil)
			if err := c.Replace(root.issue(t, newKey(t, "").Public(), nil), Attempt{}); !errors.Is(err, ErrCertificate) {
				t.Errorf("a certificate of another key: got %v, want %v", err, ErrCertificate)
			}
			if err := c.Replace(signed, Attempt{}); err != nil {
				t.Fatal(err)
			}
			client := &tls.Config{RootCAs: roots, ServerName: "bmc.example", Time: clock}
			if err := handshake(c, client); err != nil {
				t.Errorf("handshake: %v", err)
			}
			if err := handshake(openCertificate(t, dir), client); err != nil {
				t.Errorf("handshake after a restart: %v", err)
			}
			if _, err := os.Stat(filepath.Join(dir, nextFile)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the request's key is still there: %v", err)
			}
			// Renewed without a new key.
			if err := c.Replace(root.issue(t, r.PublicKey, func(x *x509.Certificate) { x.SerialNumber = big.NewInt(9) }), Attempt{}); err != nil || c.Leaf().SerialNumber.Int64() != 9 {
				t.Errorf("renewing: got %v, serial number %v", err, c.Leaf().SerialNumber)
			}
		})
	}
}

func isCurve(want elliptic.Curve) func(crypto.PublicKey) bool {
	return func(k crypto.PublicKey) bool { key, ok := k.(*ecdsa.PublicKey); return ok && key.Curve == want }
}

func isRSA(bits int) func(crypto.PublicKey) bool {
	return func(k crypto.PublicKey) bool { key, ok := k.(*rsa.PublicKey); return ok && key.N.BitLen() == bits }
}

func TestGenerateCSRInvalid(t *testing.T) {
	c := openCertificate(t, t.TempDir())
	for name, r := range map[string]CSR{
		"nothing":               {},
		"no name to connect to": {CommonName: "The BMC"},
		"bad alternative name":  {CommonName: "a", AlternativeNames: []string{"b c"}},
		"too many names":        {AlternativeNames: make([]string, maxAlternativeNames+1)},
		"long name":             {CommonName: strings.Repeat("a", 65), AlternativeNames: []string{"a"}},
		"control character":     {CommonName: "a", City: "U\nlm"},
		"not UTF-8":             {CommonName: "a", Organization: "\xff"},
		"country":               {CommonName: "a", Country: "Germany"},
		"country of one":        {CommonName: "a", Country: "D"},
		"country of digits":     {CommonName: "a", Country: "49"},
		"email":                 {CommonName: "a", Email: "ops"},
		"email not ASCII":       {CommonName: "a", Email: "ü@example.com"},
		"algorithm":             {CommonName: "a", KeyPairAlgorithm: "TPM_ALG_SM2"},
		"curve":                 {CommonName: "a", KeyCurveID: "TPM_ECC_NIST_P192"},
		"curve for RSA":         {CommonName: "a", KeyPairAlgorithm: "TPM_ALG_RSA", KeyCurveID: "TPM_ECC_NIST_P256"},
		"length":                {CommonName: "a", KeyPairAlgorithm: "TPM_ALG_RSA", KeyBitLength: 1024},
		"odd length":            {CommonName: "a", KeyPairAlgorithm: "TPM_ALG_RSA", KeyBitLength: 2049},
		"length for ECDSA":      {CommonName: "a", KeyBitLength: 256},
		"key usage":             {CommonName: "a", KeyUsage: []string{"Everything"}},
	} {
		if _, err := c.GenerateCSR(r, Attempt{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, ErrInvalid)
		}
	}
	if c.next != nil {
		t.Error("a request that was refused left a key")
	}
}

func TestKeyUsage(t *testing.T) {
	c := openCertificate(t, t.TempDir())
	text, err := c.GenerateCSR(CSR{CommonName: "a", KeyUsage: []string{"DigitalSignature", "DecipherOnly", "ClientAuthentication", "ServerAuthentication"}}, Attempt{})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(text))
	r := must(x509.ParseCertificateRequest(block.Bytes))
	// As a CA copies them.
	copied := &x509.Certificate{SerialNumber: big.NewInt(1), ExtraExtensions: r.Extensions}
	key := newKey(t, "")
	x := parse(t, must(x509.CreateCertificate(rand.Reader, copied, copied, key.Public(), key)))
	if want := x509.KeyUsageDigitalSignature | x509.KeyUsageDecipherOnly; x.KeyUsage != want {
		t.Errorf("got key usage %b, want %b", x.KeyUsage, want)
	}
	if len(x.ExtKeyUsage) != 2 || x.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || x.ExtKeyUsage[1] != x509.ExtKeyUsageServerAuth {
		t.Errorf("got extended key usage %v", x.ExtKeyUsage)
	}
}

// A second request takes the place of the first; a leftover or damaged key of one
// is no reason not to start.
func TestPendingKey(t *testing.T) {
	dir := t.TempDir()
	root := newCA(t, "root", nil)
	c := openCertificate(t, dir)
	request := func() crypto.Signer {
		t.Helper()
		if _, err := c.GenerateCSR(CSR{CommonName: "a"}, Attempt{}); err != nil {
			t.Fatal(err)
		}
		return c.next
	}
	first, second := request(), request()
	if err := c.Replace(root.issue(t, first.Public(), nil), Attempt{}); !errors.Is(err, ErrCertificate) {
		t.Errorf("the first request's certificate: got %v, want %v", err, ErrCertificate)
	}
	// A certificate of other ways leaves the request.
	if err := c.Replace(root.issue(t, first.Public(), nil)+keyPEM("", first), Attempt{}); err != nil || c.next == nil {
		t.Errorf("got %v, request's key %v", err, c.next)
	}
	kept, err := os.ReadFile(filepath.Join(dir, nextFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Replace(root.issue(t, second.Public(), nil), Attempt{}); err != nil {
		t.Fatal(err)
	}
	// The power failed before the key was removed.
	if err := os.WriteFile(filepath.Join(dir, nextFile), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if c = openCertificate(t, dir); c.next != nil {
		t.Error("a key whose certificate is in force still waits for one")
	}
	if err := os.WriteFile(filepath.Join(dir, nextFile), kept[:50], 0o600); err != nil {
		t.Fatal(err)
	}
	var reports []Report
	if c, err = OpenCertificate(dir, nil, clock, func(r Report) { reports = append(reports, r) }); err != nil || c.next != nil {
		t.Errorf("got %v, request's key %v", err, c.next)
	}
	if len(reports) != 1 || reports[0].Kind != "key.damaged" {
		t.Errorf("got reports %v", reports)
	}
}

func TestRemoveKeys(t *testing.T) {
	dir := t.TempDir()
	all := []string{tlsFile, nextFile, sshFile, sealFile, tlsFile + ".bad", sealFile + ".bad", "state.db"}
	for _, seal := range []bool{false, true} {
		for _, name := range all {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(RemoveKeys(dir, seal), RemoveKeys(dir, seal)); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if want := map[bool]int{true: 1, false: 3}[seal]; err != nil || len(entries) != want {
			t.Errorf("seal %v: got %v, %v, want %d files", seal, entries, err, want)
		}
	}
}

func FuzzReplace(f *testing.F) {
	dir := f.TempDir()
	c, err := OpenCertificate(dir, nil, clock, func(Report) {})
	if err != nil {
		f.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, tlsFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(kept))
	f.Add(c.PEM() + c.PEM())
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		before := c.PEM()
		if err := c.Replace(text, Attempt{}); err != nil {
			if !errors.Is(err, ErrCertificate) || c.PEM() != before {
				t.Errorf("got %v, or another certificate", err)
			}
			return
		}
		if _, err := tls.LoadX509KeyPair(filepath.Join(dir, tlsFile), filepath.Join(dir, tlsFile)); err != nil {
			t.Errorf("taken, and not to be opened again: %v", err)
		}
	})
}

func FuzzCSR(f *testing.F) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	f.Add("bmc.example", "192.0.2.1", "DE", "Ulm", "ops@example.com", "ServerAuthentication")
	f.Add("*.a", "::1", "", "\xff", "@", "DecipherOnly")
	f.Fuzz(func(t *testing.T, name, alternative, country, city, email, usage string) {
		r := CSR{CommonName: name, AlternativeNames: []string{alternative}, Country: country, City: city, Email: email, KeyUsage: []string{usage}}
		template, err := r.template()
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want %v", err, ErrInvalid)
			}
			return
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		if err == nil {
			_, err = x509.ParseCertificateRequest(der)
		}
		if err != nil {
			t.Errorf("%+v was taken and makes no request: %v", r, err)
		}
	})
}
