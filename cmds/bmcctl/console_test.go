package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestKeys(t *testing.T) {
	for _, c := range []struct{ in, host, keys string }{
		{"ls\r", "ls\r", ""},
		{"~.", "", "."},
		{"a~.\r", "a~.\r", ""},
		{"a\r~.", "a\r", "."},
		{"~~.", "~.", ""},
		{"~x\r~?~B~.", "~x\r", "?B."},
		{"\n~\r~.", "\n~\r", "."},
	} {
		for _, size := range []int{1, 2, 100} {
			var k keyFilter
			var host, keys []byte
			for in := []byte(c.in); len(in) > 0; {
				n := min(size, len(in))
				for rest := in[:n]; len(rest) > 0; {
					var out []byte
					var pressed key
					out, pressed, rest = k.filter(rest)
					host = append(host, out...)
					if pressed != noKey {
						keys = append(keys, byte(pressed))
					}
				}
				in = in[n:]
			}
			if string(host) != c.host || string(keys) != c.keys {
				t.Errorf("%q by %d: got %q, %q; want %q, %q", c.in, size, host, keys, c.host, c.keys)
			}
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("a\r~~~.~B"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var k keyFilter
		sent := 0
		for rest := in; len(rest) > 0; {
			var out []byte
			before := len(rest)
			out, _, rest = k.filter(rest)
			if sent += len(out); len(rest) >= before {
				t.Fatal("it does not get on")
			}
		}
		if sent > len(in) {
			t.Errorf("%d bytes of %d", sent, len(in))
		}
	})
}

// sshConsole is a server whose command "console" echoes what is typed.
func sshConsole(t *testing.T) (port int, key ssh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	conf := &ssh.ServerConfig{PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if c.User() == vendorUser && string(password) == vendorPassword {
			return nil, nil
		}
		return nil, errors.New("no")
	}}
	conf.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() { serveConsole(conn, conf) })
		}
	})
	return l.Addr().(*net.TCPAddr).Port, signer.PublicKey()
}

func serveConsole(conn net.Conn, conf *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, conf)
	if err != nil {
		return // a client that did not trust it
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		ch, requests, err := c.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			_ = r.Reply(true, nil) // what fails shows at the client
			if r.Type != "exec" {
				continue
			}
			fmt.Fprintf(ch, "%s: ", r.Payload[4:])
			_, _ = io.Copy(ch, ch)
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
			_ = ch.Close()
		}
	}
}

// Without a terminal the bytes pass as they are.
func TestConsole(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	port, key := sshConsole(t)
	v.set("/redfish/v1/S/Blade.1", strings.Replace(vendorDocs()["/redfish/v1/S/Blade.1"], `"PowerState"`,
		fmt.Sprintf(`"SerialConsole":{"SSH":{"ServiceEnabled":true,"Port":%d,"SharedWithManagerCLI":true,"ConsoleEntryCommand":"console"}},"PowerState"`, port), 1))
	d.do(v, step{line: "console", code: exitNoService, err: ssh.FingerprintSHA256(key)})

	p, stdout, stderr := d.program()
	p.terminal = true
	p.stdin = io.MultiReader(bytes.NewReader([]byte("y\n"))) // the answer, and no keys
	if code := p.main(t.Context(), []string{"console"}); code != 0 || stdout.String() != "console: " {
		t.Errorf("first: %d, %q, %s", code, stdout, stderr)
	}
	p, stdout, stderr = d.program() // the host's key is known now
	p.stdin = strings.NewReader("ls\r~.\r")
	if code := p.main(t.Context(), []string{"console"}); code != 0 || stdout.String() != "console: ls\r~.\r" {
		t.Errorf("typed: %d, %q, %s", code, stdout, stderr)
	}
	other, _ := sshConsole(t)
	d.do(v, step{line: fmt.Sprintf("console -port %d", other), code: exitNoService, err: "is not the one of the profile"})
}

// At a terminal ~. leaves, whatever the host does.
func TestTypeKeys(t *testing.T) {
	var host, notes bytes.Buffer
	breaks := 0
	err := typeKeys(strings.NewReader("hello\r~?~B~.not sent"), closer{&host}, &notes, true, func() error { breaks++; return nil })
	if err != nil || host.String() != "hello\r" || breaks != 1 || !strings.Contains(notes.String(), "~.  leave") {
		t.Errorf("got %v, %q, %d breaks, %q", err, host.String(), breaks, notes.String())
	}
}

type closer struct{ io.Writer }

func (closer) Close() error { return nil }
