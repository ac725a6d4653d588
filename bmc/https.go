package bmc

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/internal/httplimit"
	"github.com/nitrino/nitrino/redfish/protocol"
)

// The limits of a connection: a client that stalls gives its place back. Handlers
// of streams and uploads lift readLimit and answerLimit for themselves, by
// http.ResponseController.
const (
	headerLimit   = 10 * time.Second
	readLimit     = 30 * time.Second // header and body
	answerLimit   = 2 * time.Minute
	keepAlive     = 2 * time.Minute
	maxHeader     = 32 << 10
	shutdownLimit = 3 * time.Second
	// maxConns is how many connections there may be at once; each costs some
	// tens of kilobytes.
	maxConns = 256
	// The limits of one HTTP/2 connection: requests at once, and bytes that may
	// be under way to them.
	maxStreams    = 32
	streamBuffer  = 256 << 10
	connectBuffer = 512 << 10
)

// tlsConfig allows TLS 1.3, and of TLS 1.2 what is as good: keys of the moment,
// and ciphers that authenticate (RFC 9325 section 4.2).
func tlsConfig(certificate *auth.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: certificate.Get,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// serveHTTPS serves l until ctx ends.
func serveHTTPS(ctx context.Context, l net.Listener, h http.Handler, certificate *auth.Certificate, log *slog.Logger) error {
	bounded := httplimit.New(l, maxConns)
	srv := &http.Server{
		Handler:           h,
		TLSConfig:         tlsConfig(certificate),
		ReadHeaderTimeout: headerLimit, ReadTimeout: readLimit, WriteTimeout: answerLimit, IdleTimeout: keepAlive,
		MaxHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerStream: streamBuffer, MaxReceiveBufferPerConnection: connectBuffer,
		},
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: protocol.ConnContext,
		ConnState:   bounded.ConnState,
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.ServeTLS(bounded, "", "") }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancel()
	err := srv.Shutdown(limit)
	if err != nil {
		err = srv.Close() // a request lasted too long
	}
	<-ended
	return errors.Join(ctx.Err(), err)
}
