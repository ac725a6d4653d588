//go:build e2e

package bmc

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	floodConns   = 10_000
	floodSources = 4
	// floodLimit is what an answer may take meanwhile.
	floodLimit = time.Second
)

// TestFlood opens 10,000 connections of every idle kind, from a few sources, and
// holds what the server lets it hold. Somebody else meanwhile asks for the host's
// power and switches it, each time over a new connection.
func TestFlood(t *testing.T) {
	files := syscall.Rlimit{Cur: 3 * floodConns, Max: 3 * floodConns}
	var now syscall.Rlimit
	fail(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now))
	if now.Max < floodConns+2000 {
		fail(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files))
	} else {
		now.Cur = now.Max
		fail(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now))
	}
	r := start(t, t.TempDir())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)

	var flood sync.WaitGroup
	var opened, shaken atomic.Int64
	conns := make([]net.Conn, floodConns)
	work := make(chan int)
	for range 32 {
		flood.Go(func() {
			for i := range work {
				c, shook, err := idle(r.at.HTTPS, i)
				if c != nil {
					conns[i] = c
					opened.Add(1)
				}
				if err == nil && shook {
					shaken.Add(1)
				}
			}
		})
	}
	begun := time.Now()
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		for i := range floodConns {
			work <- i
		}
		close(work)
		flood.Wait()
	}()
	worst, asked := time.Duration(0), 0
	for flooding := true; flooding; {
		select {
		case <-fed:
			flooding = false
		default:
		}
		for _, two := range []bool{false, true} {
			took, err := ask(t, r.at.HTTPS, "127.0.0.100", two)
			if err != nil {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
			worst, asked = max(worst, took), asked+1
		}
	}
	if worst > floodLimit {
		t.Errorf("during the flood: the slowest of %d answers took %v, want at most %v", asked, worst, floodLimit)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d connections (%d handshakes) in %v; the slowest of %d answers took %v; heap and stacks in use: %d KiB before, %d KiB after",
		opened.Load(), shaken.Load(), time.Since(begun), asked, worst, inUse(before)>>10, inUse(after)>>10)
	if opened.Load() < floodConns*9/10 {
		t.Errorf("only %d connections could be opened", opened.Load())
	}
	// From a source that floods too, once it only holds.
	for range 20 {
		for _, from := range []string{"127.0.0.1", "127.0.0.100"} {
			took, err := ask(t, r.at.HTTPS, from, false)
			if err != nil || took > floodLimit {
				t.Errorf("from %s after the flood: %v, took %v", from, err, took)
			}
		}
	}
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

func inUse(m runtime.MemStats) uint64 { return m.HeapInuse + m.StackInuse }

// idle opens the i-th idle connection: one that says nothing, one that says
// nothing after the handshake, one whose header does not end, one that has had its
// answer, and the last two in HTTP/2.
func idle(at string, i int) (c net.Conn, shook bool, err error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/6%floodSources))}, Timeout: 20 * time.Second}
	if c, err = d.Dial("tcp", at); err != nil {
		return nil, false, err
	}
	kind := i % 6
	if kind == 0 {
		return c, false, nil
	}
	proto := "http/1.1"
	if kind >= 4 {
		proto = "h2"
	}
	tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}})
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return c, false, err
	}
	if err := tc.Handshake(); err != nil {
		return c, false, err // it had to give way
	}
	// The preface of HTTP/2 and an empty SETTINGS (RFC 9113 section 3.4).
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	say := map[int]string{
		2: "GET /redfish/v1/ HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		3: "GET /redfish/v1/ HTTP/1.1\r\nHost: x\r\n\r\n",
		4: preface,
		// GET / over https, indexed fields of HPACK; a block that does not end.
		5: preface + "\x00\x00\x03\x01\x01\x00\x00\x00\x01\x82\x84\x87",
	}[kind]
	if say == "" {
		return c, true, nil
	}
	_, err = tc.Write([]byte(say))
	if err == nil && kind == 3 {
		_, err = tc.Read(make([]byte, 4096))
	}
	return c, true, err
}

// ask reads the host's power and presses the power button, over a new connection.
func ask(t *testing.T, at, from string, two bool) (time.Duration, error) {
	c := client(t, from, two)
	defer c.CloseIdleConnections()
	begun := time.Now()
	for _, q := range []struct{ method, path, body string }{
		{"GET", "/redfish/v1/Systems/system", ""},
		{"POST", "/redfish/v1/Systems/system/Actions/ComputerSystem.Reset", `{"ResetType":"On"}`},
	} {
		r, err := http.NewRequestWithContext(t.Context(), q.method, "https://"+at+q.path, strings.NewReader(q.body))
		if err != nil {
			return 0, err
		}
		r.SetBasicAuth("admin", "secret")
		if q.body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		resp, err := c.Do(r)
		if err != nil {
			return time.Since(begun), err
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode >= 500 || resp.StatusCode == 401 {
			return time.Since(begun), errors.Join(err, fmt.Errorf("%s %s: %s", q.method, q.path, resp.Status))
		}
	}
	return time.Since(begun), nil
}
