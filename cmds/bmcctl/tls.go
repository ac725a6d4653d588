package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// address makes of what a person calls a service its base URL, always https:
// passwords go over it.
func address(host string) (base, hostport string, err error) {
	text := host
	if !strings.Contains(text, "://") {
		if strings.Count(text, ":") > 1 && !strings.HasPrefix(text, "[") {
			text = "[" + text + "]" // a bare IPv6 address
		}
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", "", usagef("%q is no host: want NAME or ADDRESS, with :PORT if it is not 443", host)
	}
	if u.Scheme != "https" {
		return "", "", usagef("%q: only https, since passwords go over it", host)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return "https://" + u.Host, net.JoinHostPort(u.Hostname(), port), nil
}

// fingerprint is how a certificate is pinned: the SHA-256 of its DER, in
// hexadecimal with colons.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	var parts []string
	for _, b := range sum {
		parts = append(parts, fmt.Sprintf("%02X", b))
	}
	return strings.Join(parts, ":")
}

// parseFingerprint takes it with or without colons, in either case.
func parseFingerprint(text string) (string, error) {
	plain := strings.NewReplacer(":", "", " ", "").Replace(strings.TrimPrefix(strings.ToLower(text), "sha256:"))
	sum, err := hex.DecodeString(plain)
	if err != nil || len(sum) != sha256.Size {
		return "", usagef("fingerprint %q: want the 64 hexadecimal digits of a SHA-256", text)
	}
	var parts []string
	for _, b := range sum {
		parts = append(parts, fmt.Sprintf("%02X", b))
	}
	return strings.Join(parts, ":"), nil
}

// trust makes the TLS settings of a profile: the pinned certificate and no other,
// or what the authorities of a file, or else those of the system, have signed.
func trust(one profile) (*tls.Config, error) {
	if one.Fingerprint != "" {
		want, err := parseFingerprint(one.Fingerprint)
		if err != nil {
			return nil, err
		}
		return pinned(one.Host, want), nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if one.CA != "" {
		data, err := os.ReadFile(one.CA)
		if err != nil {
			return nil, fmt.Errorf("reading the authorities: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(data) {
			return nil, usagef("%s has no certificate in PEM", one.CA)
		}
	}
	return c, nil
}

// pinned trusts certificates by their fingerprints, and nothing else.
func pinned(host string, prints ...string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection does it, on resumed connections too
		VerifyConnection: func(s tls.ConnectionState) error {
			got := fingerprint(s.PeerCertificates[0].Raw)
			if slices.Contains(prints, got) {
				return nil
			}
			return &certificateError{fmt.Sprintf("the certificate of %s is not the one that was pinned, so nothing was sent to it: either it was replaced, or somebody stands in between.\n"+
				"  pinned: %s\n  now:    %s\nIf you know of the change: bmcctl profile trust", host, prints[0], got)}
		},
	}
}

// seen asks a service for its certificate, and says whether the authorities of the
// system have signed it for this host.
func seen(ctx context.Context, host string) (print string, signed bool, err error) {
	_, hostport, err := address(host)
	if err != nil {
		return "", false, err
	}
	// Nothing is sent over this connection but the handshake.
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", hostport)
	if err != nil {
		return "", false, &url.Error{Op: "connecting to", URL: host, Err: err}
	}
	state := conn.(*tls.Conn).ConnectionState() // a tls.Dialer's connections are these
	if err := conn.Close(); err != nil {
		return "", false, fmt.Errorf("closing the connection: %w", err)
	}
	chain := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		chain.AddCert(c)
	}
	name, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return "", false, fmt.Errorf("host %s: %w", host, err)
	}
	_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Intermediates: chain})
	return fingerprint(state.PeerCertificates[0].Raw), err == nil, nil
}

// A transport is the HTTP client's: gofish asks to close the connection after each
// request, which would be a handshake for every resource of a list.
type transport struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Close = false
	r.Header.Del("Connection")
	r.Header.Set("User-Agent", "bmcctl")
	return t.Transport.RoundTrip(r)
}

func newHTTP(t *tls.Config) *http.Client {
	return &http.Client{
		Transport: transport{&http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:     t,
			TLSHandshakeTimeout: 10 * time.Second,
			// Inserting a medium may wait for the server that the image is on.
			ResponseHeaderTimeout: 5 * time.Minute,
			// With none, the bytes would not wait for the answer to Expect.
			ExpectContinueTimeout: 10 * time.Second,
			IdleConnTimeout:       time.Minute,
			ForceAttemptHTTP2:     true,
		}},
		// The token goes with every request, so it may go to nobody else.
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Host != via[0].URL.Host || r.URL.Scheme != "https" || len(via) > 5 {
				return fmt.Errorf("the service leads to %s, which is not asked", r.URL.Host)
			}
			return nil
		},
	}
}
