package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/stmcginnis/gofish/redfish"
)

func certificateCommands() []command {
	return []command{
		{name: "cert show", help: "show the certificates of the BMC's HTTPS", setup: plain(showCertificates)},
		{name: "cert csr", help: "let the BMC make a key, and print the request to sign it (PEM)", setup: makeRequest},
		{name: "cert replace", args: "FILE", help: "give the BMC another certificate: a chain in PEM, for the key of the last request, or with a key", setup: replaceCertificate},
	}
}

// httpsCertificates finds the collection of HTTPS's certificates by the links.
func (p *program) httpsCertificates(c *client) (uri string, err error) {
	m, err := p.manager(c)
	if err != nil {
		return "", err
	}
	var n struct{ HTTPS struct{ Certificates link } }
	if _, err := c.read(m.NetworkProtocol.URI, &n); err != nil {
		return "", fmt.Errorf("certificates: %w", err)
	}
	if n.HTTPS.Certificates.URI == "" {
		return "", fmt.Errorf("certificates: %w", errUnsupported)
	}
	return n.HTTPS.Certificates.URI, nil
}

// A certificateRow is one of cert show.
type certificateRow struct {
	URI         string `json:"uri"`
	Subject     string `json:"subject"`
	Issuer      string `json:"issuer"`
	NotBefore   string `json:"not_before"`
	NotAfter    string `json:"not_after"`
	Fingerprint string `json:"fingerprint,omitempty"` // SHA-256 of the certificate
}

// A wireCertificate is the schema Certificate's.
type wireCertificate struct {
	URI                           string `json:"@odata.id"`
	CertificateString             string
	Subject, Issuer               redfish.CertificateIdentifier
	ValidNotBefore, ValidNotAfter string
}

func identify(c redfish.CertificateIdentifier) string {
	if c.CommonName != "" {
		return c.CommonName
	}
	return c.Organization
}

// leafPrint is the fingerprint of the first certificate of a PEM text; "": none.
func leafPrint(text string) string {
	for rest := []byte(text); ; {
		block, after := pem.Decode(rest)
		if block == nil {
			return ""
		}
		if block.Type == "CERTIFICATE" {
			return fingerprint(block.Bytes)
		}
		rest = after
	}
}

func showCertificates(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	uri, err := p.httpsCertificates(c)
	if err != nil {
		return err
	}
	some, err := members[wireCertificate](c, uri)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	all := []certificateRow{}
	for _, s := range some {
		all = append(all, certificateRow{s.URI, identify(s.Subject), identify(s.Issuer), s.ValidNotBefore, s.ValidNotAfter, leafPrint(s.CertificateString)})
	}
	return p.show(all, func(w io.Writer) {
		for i, s := range all {
			if i > 0 {
				fmt.Fprintln(w)
			}
			field(w, "Subject", s.Subject)
			field(w, "Issuer", s.Issuer)
			field(w, "Valid from", local(s.NotBefore))
			field(w, "Valid until", local(s.NotAfter))
			field(w, "SHA-256", s.Fingerprint)
		}
	})
}

// A certificateService is the schema CertificateService's.
type certificateService struct {
	Actions struct {
		Generate action `json:"#CertificateService.GenerateCSR"`
		Replace  action `json:"#CertificateService.ReplaceCertificate"`
	}
}

func (c *client) certificateService() (s certificateService, err error) {
	r, err := c.root()
	if err != nil {
		return s, err
	}
	if _, err = c.read(r.CertificateService.URI, &s); err != nil {
		return s, fmt.Errorf("certificate service: %w", err)
	}
	return s, nil
}

// csrBody is GenerateCSR's parameters.
type csrBody struct {
	CommonName       string
	AlternativeNames []string `json:",omitempty"`
	Organization     string   `json:",omitempty"`
	Unit             string   `json:"OrganizationalUnit,omitempty"`
	City             string   `json:",omitempty"`
	State            string   `json:",omitempty"`
	Country          string   `json:",omitempty"`
	Algorithm        string   `json:"KeyPairAlgorithm,omitempty"`
	Bits             int      `json:"KeyBitLength,omitempty"`
	Collection       link     `json:"CertificateCollection"`
}

func makeRequest(f *flag.FlagSet) call {
	var body csrBody
	f.StringVar(&body.CommonName, "cn", "", "the BMC's full `name`")
	names := f.String("san", "", "further `names` and addresses, parted by commas")
	f.StringVar(&body.Organization, "org", "", "`organization`")
	f.StringVar(&body.Unit, "unit", "", "organizational `unit`")
	f.StringVar(&body.City, "city", "", "`city`")
	f.StringVar(&body.State, "state", "", "`state` or province")
	f.StringVar(&body.Country, "country", "", "`country`, two letters")
	f.StringVar(&body.Algorithm, "key", "", "`algorithm` of the key, as in TPM_ALG_ECDSA (default: the service's)")
	f.IntVar(&body.Bits, "bits", 0, "`length` of an RSA key")
	return func(ctx context.Context, p *program, _ []string) error {
		if body.CommonName == "" {
			return usagef("a request needs the BMC's name: want -cn NAME")
		}
		if *names != "" {
			body.AlternativeNames = strings.Split(*names, ",")
		}
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		if body.Collection.URI, err = p.httpsCertificates(c); err != nil {
			return err
		}
		s, err := c.certificateService()
		if err != nil {
			return err
		}
		a, err := c.act(s.Actions.Generate, "cert csr", body)
		if err != nil {
			return err
		}
		var made struct{ CSRString string }
		if err := json.Unmarshal(a.body, &made); err != nil || !strings.HasPrefix(made.CSRString, "-----BEGIN ") {
			return fmt.Errorf("cert csr: the service sent no request in PEM")
		}
		return p.show(struct {
			CSR string `json:"csr"`
		}{made.CSRString}, func(w io.Writer) { fmt.Fprintln(w, strings.TrimSpace(made.CSRString)) })
	}
}

func replaceCertificate(f *flag.FlagSet) call {
	uri := f.String("uri", "", "`URI` of the certificate to replace, where HTTPS has several")
	return func(ctx context.Context, p *program, args []string) error {
		data, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		print := leafPrint(string(data))
		if print == "" {
			return usagef("%s has no certificate in PEM", args[0])
		}
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		if *uri == "" {
			where, err := p.httpsCertificates(c)
			if err != nil {
				return err
			}
			all, err := members[wireCertificate](c, where)
			if err != nil {
				return fmt.Errorf("certificates: %w", err)
			}
			if len(all) != 1 {
				return usagef("HTTPS has %d certificates: say with -uri which one", len(all))
			}
			*uri = all[0].URI
		}
		s, err := c.certificateService()
		if err != nil {
			return err
		}
		kind := "PEM"
		if strings.Count(string(data), "-----BEGIN CERTIFICATE-----") > 1 {
			kind = "PEMchain"
		}
		body := struct {
			CertificateString string
			CertificateType   string
			CertificateURI    link `json:"CertificateUri"`
		}{string(data), kind, link{*uri}}
		a, err := c.act(s.Actions.Replace, "cert replace", body)
		if err != nil {
			return err
		}
		if err := c.settle(ctx, p, a, "cert replace"); err != nil {
			return err
		}
		// Whoever gave the certificate knows it: it need not be asked about again.
		if c.profile.Fingerprint != "" {
			if c.name != "" {
				if err := p.change(c.name, func(one *profile) { one.Fingerprint = print }); err != nil {
					return err
				}
			}
			c.repin(print)
		}
		return p.done("HTTPS has the certificate %s", print)
	}
}
