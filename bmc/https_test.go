package bmc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
)

// A webRig is an HTTPS server with the handler h.
type webRig struct {
	at          string
	certificate *auth.Certificate
	stop        func() error // twice answers the same
}

func serveWeb(t *testing.T, h http.Handler) *webRig {
	t.Helper()
	c, err := auth.OpenCertificate(t.TempDir(), nil, time.Now, func(auth.Report) {})
	fail(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fail(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serveHTTPS(ctx, l, h, c, slog.New(slog.DiscardHandler)) }()
	r := &webRig{at: l.Addr().String(), certificate: c}
	r.stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() {
		if err := r.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("serving ended with %v", err)
		}
	})
	return r
}

// client speaks HTTP/1.1 or HTTP/2 from an address of the loopback network.
func client(t *testing.T, from string, protocol2 bool) *http.Client {
	var p http.Protocols
	p.SetHTTP1(!protocol2)
	p.SetHTTP2(protocol2)
	tr := &http.Transport{
		DialContext:     (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: &p,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func get(c *http.Client, url string) (*http.Response, error) {
	resp, err := c.Get(url)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, errors.Join(err, resp.Body.Close())
}

func TestTLS(t *testing.T) {
	r := serveWeb(t, http.NotFoundHandler())
	old := func(suites ...uint16) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12, CipherSuites: suites}
	}
	for name, tt := range map[string]struct {
		config *tls.Config
		ok     bool
	}{
		"TLS 1.3":                   {&tls.Config{MinVersion: tls.VersionTLS13}, true},
		"TLS 1.2":                   {old(), true},
		"TLS 1.2 AES-256":           {old(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384), true},
		"TLS 1.2 ChaCha20":          {old(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256), true},
		"TLS 1.2 CBC":               {old(tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA), false},
		"TLS 1.2 without ephemeral": {old(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), false},
		"TLS 1.1":                   {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
	} {
		tt.config.InsecureSkipVerify = true
		c, err := tls.Dial("tcp", r.at, tt.config)
		if (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want success %v", name, err, tt.ok)
		}
		if err == nil {
			c.Close()
		}
	}
}

// A new certificate counts for new connections; the old ones stay.
func TestNewCertificate(t *testing.T) {
	r := serveWeb(t, http.NotFoundHandler())
	before, after := client(t, "127.0.0.1", false), client(t, "127.0.0.1", false)
	serial := func(c *http.Client) int64 {
		t.Helper()
		resp, err := get(c, "https://"+r.at+"/")
		fail(t, err)
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	old := serial(before)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(t, err)
	x := &x509.Certificate{SerialNumber: big.NewInt(77), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	fail(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	fail(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	fail(t, r.certificate.Replace(string(text), auth.Attempt{}))
	if got := serial(after); got != 77 {
		t.Errorf("a new connection: got serial number %d, want 77", got)
	}
	if got := serial(before); got != old {
		t.Errorf("the old connection: got serial number %d, want %d", got, old)
	}
}

// A handler can have more time than the server gives, in both protocols, and no
// header is longer than 32 KiB.
func TestHTTPLimits(t *testing.T) {
	r := serveWeb(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		rc := http.NewResponseController(w)
		if err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}), rc.Flush()); err != nil {
			t.Errorf("%s: %v", q.Proto, err)
		}
	}))
	for _, two := range []bool{false, true} {
		c := client(t, "127.0.0.1", two)
		resp, err := get(c, "https://"+r.at+"/")
		if err != nil || resp.ProtoMajor == 2 != two {
			t.Fatalf("HTTP/2 %v: got %v, %v", two, resp, err)
		}
		q, err := http.NewRequest("GET", "https://"+r.at+"/", nil)
		fail(t, err)
		q.Header.Set("X-Long", strings.Repeat("x", maxHeader+8<<10))
		if resp, err = c.Do(q); err == nil {
			resp.Body.Close()
		}
		if err == nil && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("HTTP/2 %v, a long header: got %s", two, resp.Status)
		}
	}
}

// Who only holds connections keeps nobody out, nor the server from ending.
func TestIdleConnections(t *testing.T) {
	r := serveWeb(t, http.NotFoundHandler())
	for i := range 2 * maxConns {
		c, err := net.Dial("tcp", r.at)
		fail(t, err)
		defer c.Close()
		if i%100 == 0 { // silent after its handshake
			tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{[]string{"h2", "http/1.1"}[i/100%2]}})
			fail(t, tc.Handshake())
		}
	}
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		for _, two := range []bool{false, true} {
			began := time.Now()
			if _, err := get(client(t, from, two), "https://"+r.at+"/"); err != nil {
				t.Errorf("%s, HTTP/2 %v: %v", from, two, err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s, HTTP/2 %v: it took %v", from, two, took)
			}
		}
	}
	began := time.Now()
	if err := r.stop(); !errors.Is(err, context.Canceled) || time.Since(began) > shutdownLimit-time.Second {
		t.Errorf("the end: got %v after %v", err, time.Since(began))
	}
}

// Requests that do not end, from one source, have half of the places at most.
func TestUnendingRequests(t *testing.T) {
	r := serveWeb(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest) // the test has closed it
		}
	}))
	refused := 0
	for range maxConns/2 + 20 {
		c, err := tls.Dial("tcp", r.at, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			defer c.Close()
			_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
		}
		if err == nil { // it is read once the request is under way
			_, err = c.Read(make([]byte, 100))
		}
		if err != nil {
			refused++
		}
	}
	if refused != 20 {
		t.Errorf("%d were refused, want 20", refused)
	}
	if _, err := get(client(t, "127.0.0.2", false), "https://"+r.at+"/"); err != nil {
		t.Errorf("another source: %v", err)
	}
}
