//go:build e2e

package nbd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/blocktest"
)

// A program is an NBD server that can be killed and started again.
type program struct {
	t    testing.TB
	port string
	args []string
	cmd  *exec.Cmd
}

// start starts a server; its arguments have PORT for the port.
func start(t testing.TB, args ...string) *program {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, port: port, args: args}
	p.run()
	t.Cleanup(p.kill)
	return p
}

func (p *program) run() {
	var args []string
	for _, a := range p.args {
		if a == "PORT" {
			a = p.port
		}
		args = append(args, a)
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // by a signal
}

// connect waits for a server that starts.
func (p *program) connect(t testing.TB, scheme string, o Options) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		c, err := Dial(ctx, fmt.Sprintf("%s://127.0.0.1:%s/", scheme, p.port), o)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() }) // tests look at it where it matters
			return c
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// servers are other people's, of a file.
var servers = map[string]func(path string) []string{
	"qemu-nbd": func(path string) []string {
		return []string{"qemu-nbd", "-f", "raw", "-t", "-e", "4", "-b", "127.0.0.1", "-p", "PORT", "--discard=unmap", path}
	},
	"nbdkit": func(path string) []string {
		return []string{"nbdkit", "-f", "-i", "127.0.0.1", "-p", "PORT", "file", path}
	},
	"nbdkit, simple replies": func(path string) []string {
		return []string{"nbdkit", "-f", "--no-sr", "-i", "127.0.0.1", "-p", "PORT", "file", path}
	},
	"nbdkit, blocks of 4096": func(path string) []string {
		return []string{"nbdkit", "-f", "-i", "127.0.0.1", "-p", "PORT", "--filter=blocksize-policy", "file", path,
			"blocksize-minimum=4096", "blocksize-preferred=4096", "blocksize-maximum=65536", "blocksize-error-policy=error"}
	},
	"nbdkit, no clearing": func(path string) []string {
		return []string{"nbdkit", "-f", "-i", "127.0.0.1", "-p", "PORT", "--filter=nozero", "file", path}
	},
}

func file(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServers(t *testing.T) {
	for name, command := range servers {
		t.Run(name, func(t *testing.T) {
			of := make(map[block.Device]*program)
			dial := func(t *testing.T, p *program, size int64) block.Device {
				c := p.connect(t, "nbd", Options{})
				c.size = size // the export may be larger
				of[c] = p
				return c
			}
			blocktest.Run(t, blocktest.Options{
				New: func(t *testing.T, size int64) block.Device {
					return dial(t, start(t, command(file(t, (size+4095)&^4095))...), size)
				},
				Reopen: func(t *testing.T, d block.Device) block.Device {
					if err := d.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
					return dial(t, of[d], d.Size())
				},
			})
		})
	}
}

// Holes are seen where a server tells them.
func TestServersExtent(t *testing.T) {
	for _, name := range []string{"qemu-nbd", "nbdkit"} {
		c := start(t, servers[name](file(t, 8<<20))...).connect(t, "nbd", Options{})
		if err := c.Writev([][]byte{make([]byte, 1<<20)}, 4<<20); err != nil {
			t.Fatal(err)
		}
		for at, want := range map[int64]bool{0: false, 4 << 20: true, 5 << 20: false} {
			if n, mapped, err := c.Extent(at); mapped != want || n < 1<<20 || err != nil {
				t.Errorf("%s: at %d: got %d bytes, mapped %t, %v", name, at, n, mapped, err)
			}
		}
	}
}

// A server that is killed and started again under load loses nothing.
func TestServersKilled(t *testing.T) {
	for _, name := range []string{"qemu-nbd", "nbdkit"} {
		p := start(t, servers[name](file(t, 1<<20))...)
		var told reports
		c := p.connect(t, "nbd", Options{Report: told.add})
		done := make(chan struct{})
		var killer sync.WaitGroup
		kills := 0
		killer.Go(func() {
			for kills < 5 {
				select {
				case <-done:
					return
				case <-time.After(100 * time.Millisecond):
				}
				p.kill()
				kills++
				p.run()
				for range 200 { // until the client is back, so that there is a load to lose
					if words := told.words(); len(words) > 0 && words[len(words)-1] == "up" && len(words) >= 2*kills {
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
		load(t, c, nil, 4000, func() {})
		close(done)
		killer.Wait()
		t.Logf("%s: %d kills, reports %q", name, kills, told.words())
		if kills == 0 {
			t.Errorf("%s: it was never killed", name)
		}
	}
}

func TestServerTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{
		"ca-cert.pem": cert, "server-cert.pem": cert, "server-key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, "nbdkit", "-f", "-i", "127.0.0.1", "-p", "PORT", "--tls=require", "--tls-certificates="+dir, "memory", "1M")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	c := p.connect(t, "nbds", Options{Roots: roots})
	load(t, c, nil, 300, func() {})
	uri := fmt.Sprintf("://127.0.0.1:%s/", p.port)
	if _, err := Dial(t.Context(), "nbds"+uri, Options{}); err == nil {
		t.Error("a server that nobody vouches for was taken")
	}
	if _, err := Dial(t.Context(), "nbd"+uri, Options{}); err == nil {
		t.Error("without TLS: connected to a server that requires it")
	}
}
