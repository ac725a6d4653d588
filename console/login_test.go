package console

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

func newSigner(t *testing.T, key any) gossh.Signer {
	t.Helper()
	s, err := gossh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keys(t *testing.T) (ed, ec, rsa2048 gossh.Signer) {
	t.Helper()
	_, a, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return newSigner(t, a), newSigner(t, b), newSigner(t, c)
}

func only1(t *testing.T, s gossh.Signer, algorithms ...string) gossh.Signer {
	t.Helper()
	m, err := gossh.NewSignerWithAlgorithms(s.(gossh.AlgorithmSigner), algorithms)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLogin(t *testing.T) {
	r := newRig(t, nil)
	ed, ec, big := keys(t)
	other, _, _ := keys(t)
	for _, name := range []string{"admin", "off"} {
		var lines []string
		for _, k := range []gossh.Signer{ed, ec, big} {
			lines = append(lines, authorized(k))
		}
		if err := r.users.SetKeys(name, lines, clientAttempt); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, user string
		method     gossh.AuthMethod
		ok         bool
	}{
		{"password", "admin", gossh.Password("admin-password"), true},
		{"wrong password", "admin", gossh.Password("x"), false},
		{"empty password", "admin", gossh.Password(""), false},
		{"unknown user", "nobody", gossh.Password("admin-password"), false},
		{"disabled user", "off", gossh.Password("off-password"), false},
		{"ed25519", "admin", gossh.PublicKeys(ed), true},
		{"ecdsa", "admin", gossh.PublicKeys(ec), true},
		{"rsa sha2-256", "admin", gossh.PublicKeys(only1(t, big, gossh.KeyAlgoRSASHA256)), true},
		{"rsa sha2-512", "admin", gossh.PublicKeys(only1(t, big, gossh.KeyAlgoRSASHA512)), true},
		{"rsa sha1", "admin", gossh.PublicKeys(only1(t, big, gossh.KeyAlgoRSA)), false},
		{"another key", "admin", gossh.PublicKeys(other), false},
		{"the key of another user", "op", gossh.PublicKeys(ed), false},
		{"disabled user's key", "off", gossh.PublicKeys(ed), false},
		{"the right one of several keys", "admin", gossh.PublicKeys(other, ed), true},
		{"keyboard-interactive", "admin", gossh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
			return make([]string, len(q)), nil
		}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := gossh.Dial("tcp", r.addr, clientConfig(tt.user, tt.method))
			if got := err == nil; got != tt.ok {
				t.Fatalf("login: got %v (%v), want %v", got, err, tt.ok)
			}
			if c == nil {
				return
			}
			defer func() { _ = c.Close() }()
			if got, _, _ := r.exec(c, "whoami", ""); got != tt.user+" (Administrator) from 127.0.0.1\n" {
				t.Errorf("whoami: %q", got)
			}
		})
	}
	if c, err := gossh.Dial("tcp", r.addr, clientConfig("admin")); err == nil {
		_ = c.Close()
		t.Error("a client without any method was let in")
	}
}

// What auth is told: the name and the source, and a key only once the client
// has signed with it.
func TestAttempts(t *testing.T) {
	r := newRig(t, nil)
	ed, other, _ := keys(t)
	if err := r.users.SetKeys("op", []string{authorized(ed)}, clientAttempt); err != nil {
		t.Fatal(err)
	}
	c, err := gossh.Dial("tcp", r.addr, clientConfig("op", gossh.PublicKeys(other, ed)))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	want := clientAttempt
	want.Name = "op"
	got := r.users.attempts
	if len(got) == 1 {
		want.Begun = got[0].Begun
	}
	if len(got) != 1 || got[0] != want || time.Since(want.Begun) > patience {
		t.Errorf("attempts: got %+v, want one: %+v", got, want)
	}
}

func TestPasswordsPerConnection(t *testing.T) {
	r := newRig(t, nil)
	n := 0
	_, err := gossh.Dial("tcp", r.addr, clientConfig("admin", gossh.RetryableAuthMethod(gossh.PasswordCallback(func() (string, error) {
		if n++; n > maxPasswords {
			return "admin-password", nil
		}
		return "wrong", nil
	}), 10)))
	if err == nil {
		t.Fatal("let in")
	}
	if got := len(r.users.attempts); got != maxPasswords {
		t.Errorf("passwords checked: got %d, want %d", got, maxPasswords)
	}
}

func TestAlgorithms(t *testing.T) {
	r := newRig(t, nil)
	for _, tt := range []struct {
		name string
		cfg  gossh.Config
		host []string
		ok   bool
	}{
		{"post-quantum", gossh.Config{KeyExchanges: []string{"mlkem768x25519-sha256"}}, nil, true},
		{"curve25519", gossh.Config{KeyExchanges: []string{"curve25519-sha256"}}, nil, true},
		{"old name of curve25519", gossh.Config{KeyExchanges: []string{"curve25519-sha256@libssh.org"}}, nil, true},
		{"aes128-gcm", gossh.Config{Ciphers: []string{"aes128-gcm@openssh.com"}}, nil, true},
		{"aes256-gcm", gossh.Config{Ciphers: []string{"aes256-gcm@openssh.com"}}, nil, true},
		{"chacha20", gossh.Config{Ciphers: []string{"chacha20-poly1305@openssh.com"}}, nil, true},
		{"DH group 1", gossh.Config{KeyExchanges: []string{"diffie-hellman-group1-sha1"}}, nil, false},
		{"DH group 14", gossh.Config{KeyExchanges: []string{"diffie-hellman-group14-sha1", "diffie-hellman-group14-sha256"}}, nil, false},
		{"NIST curves", gossh.Config{KeyExchanges: []string{"ecdh-sha2-nistp256", "ecdh-sha2-nistp384"}}, nil, false},
		{"CBC", gossh.Config{Ciphers: []string{"aes128-cbc", "3des-cbc"}}, nil, false},
		{"CTR", gossh.Config{Ciphers: []string{"aes128-ctr", "aes256-ctr"}, MACs: []string{"hmac-sha1"}}, nil, false},
		{"RC4", gossh.Config{Ciphers: []string{"arcfour256"}}, nil, false},
		{"RSA host key", gossh.Config{}, []string{"rsa-sha2-512", "ssh-rsa"}, false},
		{"ed25519 host key", gossh.Config{}, []string{"ssh-ed25519"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := clientConfig("admin", gossh.Password("admin-password"))
			cfg.Config, cfg.HostKeyAlgorithms = tt.cfg, tt.host
			c, err := gossh.Dial("tcp", r.addr, cfg)
			if err == nil {
				_ = c.Close()
			}
			if got := err == nil; got != tt.ok {
				t.Errorf("got %v (%v), want %v", got, err, tt.ok)
			}
		})
	}
}

// What a client may ask for besides a shell or a command is refused.
func TestRefusedRequests(t *testing.T) {
	r := newRig(t, nil)
	c := r.login("admin")
	for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com", "x11", "auth-agent@openssh.com"} {
		if ch, _, err := c.OpenChannel(kind, nil); err == nil {
			_ = ch.Close()
			t.Errorf("channel %s was opened", kind)
		}
	}
	if ok, _, err := c.SendRequest("tcpip-forward", true, gossh.Marshal(struct {
		Addr string
		Port uint32
	}{"127.0.0.1", 0})); ok || err != nil {
		t.Errorf("tcpip-forward: %v, %v", ok, err)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	type text struct{ S string }
	type pair struct{ Name, Value string }
	for _, tt := range []struct {
		kind    string
		payload []byte
		want    bool
	}{
		{"auth-agent-req@openssh.com", nil, false},
		{"x11-req", nil, false},
		{"subsystem", gossh.Marshal(text{"sftp"}), false},
		{"env", gossh.Marshal(pair{"LANG", "C"}), true},
		{"env", gossh.Marshal(pair{"LD_PRELOAD", "x"}), false},
		{"window-change", make([]byte, 16), false}, // no pty yet
		{"pty-req", []byte{1}, false},
		{"break", make([]byte, 4), false}, // no console
	} {
		if got, err := s.SendRequest(tt.kind, true, tt.payload); got != tt.want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", tt.kind, got, err, tt.want)
		}
	}
	if got, err := s.Output("version"); string(got) != "nitrino 1.2.3\n" {
		t.Errorf("version: %q, %v", got, err)
	}
}

func authorized(s gossh.Signer) string {
	return strings.TrimSpace(string(gossh.MarshalAuthorizedKey(s.PublicKey())))
}
