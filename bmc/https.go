package bmc

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish"
)

// web is the handler of all that HTTPS serves.
func (b *BMC) web(h *host.Host) (http.Handler, error) {
	rf, err := redfish.New(redfish.Options{Host: h, Auth: b.Users, Log: b.log, Product: "nitrino", Version: b.opt.Version})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/redfish", rf)
	mux.Handle("/redfish/", rf)
	mux.Handle("GET /{$}", http.RedirectHandler("/redfish/v1/", http.StatusFound))
	return mux, nil
}

// The limits of a connection: a client that stalls gives its place back.
const (
	headerLimit   = 10 * time.Second
	bodyLimit     = time.Minute
	answerLimit   = 2 * time.Minute
	keepAlive     = 2 * time.Minute
	maxHeader     = 32 << 10
	shutdownLimit = 3 * time.Second
	// maxConns is how many connections there may be at once; each costs some
	// tens of kilobytes.
	maxConns = 256
)

// A limited listener has at most so many connections open at once; further
// ones wait in the system's queue.
type limited struct {
	net.Listener
	places chan struct{}
}

// Accept waits for a place, then for a connection. A listener that is closed
// meanwhile is noticed as soon as there is a place.
func (l limited) Accept() (net.Conn, error) {
	l.places <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: c, places: l.places}, nil
}

// limitedConn gives its place back once.
type limitedConn struct {
	net.Conn
	once   sync.Once
	places chan struct{}
}

// Close closes the connection.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.places })
	return err
}

// serveHTTPS serves l until ctx ends.
func serveHTTPS(ctx context.Context, l net.Listener, h http.Handler, cert tls.Certificate, log *slog.Logger) error {
	srv := &http.Server{
		Handler: h,
		// A build in the old module mode would make TLS 1.0 the default.
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}},
		ReadHeaderTimeout: headerLimit, ReadTimeout: bodyLimit, WriteTimeout: answerLimit, IdleTimeout: keepAlive,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ConnContext:    redfish.ConnContext,
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.ServeTLS(limited{l, make(chan struct{}, maxConns)}, "", "") }()
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
