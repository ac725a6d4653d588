package console

import (
	"bytes"

	gossh "golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/auth"
)

// config allows the algorithms that are strong today and that every OpenSSH
// since 7.4 (2016) speaks one of.
func (c *conn) config() *gossh.ServerConfig {
	return &gossh.ServerConfig{
		Config: gossh.Config{
			KeyExchanges: []string{gossh.KeyExchangeMLKEM768X25519, gossh.KeyExchangeCurve25519},
			Ciphers:      []string{gossh.CipherAES128GCM, gossh.CipherAES256GCM, gossh.CipherChaCha20Poly1305},
			MACs:         []string{gossh.HMACSHA256ETM, gossh.HMACSHA512ETM},
		},
		// ssh-rsa, which signs with SHA-1, is left out (RFC 8332).
		PublicKeyAuthAlgorithms: []string{
			gossh.KeyAlgoED25519, gossh.KeyAlgoSKED25519, gossh.KeyAlgoSKECDSA256,
			gossh.KeyAlgoECDSA256, gossh.KeyAlgoECDSA384, gossh.KeyAlgoECDSA521,
			gossh.KeyAlgoRSASHA256, gossh.KeyAlgoRSASHA512,
		},
		MaxAuthTries:              maxAuthTries,
		PreAuthConnCallback:       func(m gossh.ServerPreAuthConn) { c.meta = m },
		VerifiedPublicKeyCallback: c.accept,
	}
}

func (c *conn) attempt(name string) auth.Attempt {
	return auth.Attempt{Via: Via, Source: c.source, Name: name, Begun: c.begun}
}

// Via names this front-end in attempts and origins.
const Via = "ssh"

func (c *conn) password(password string) bool {
	if c.passwords++; c.passwords > maxPasswords {
		c.cancel()
		return false
	}
	u, err := c.s.opt.Auth.Password(c.ctx, c.attempt(c.meta.User()), password)
	if err != nil {
		c.s.opt.Log.Debug("ssh: password", "source", c.source, "error", err)
		return false
	}
	c.enter(u.Name)
	return true
}

// offer answers whether a key could log the user in. The client has not proved
// yet that it has the key (RFC 4252 section 7), so this neither counts as an
// attempt nor makes an event.
func (c *conn) offer(key gossh.PublicKey) bool {
	u, ok := c.s.opt.Auth.User(c.meta.User())
	if !ok || !u.Enabled {
		return false
	}
	want := key.Marshal()
	for _, line := range u.Keys {
		if k, err := readKey(line); err == nil && bytes.Equal(k.Marshal(), want) {
			return true
		}
	}
	return false
}

// accept decides once the client has signed with an offered key.
func (c *conn) accept(m gossh.ConnMetadata, key gossh.PublicKey, p *gossh.Permissions, _ string) (*gossh.Permissions, error) {
	u, err := c.s.opt.Auth.PublicKey(c.ctx, c.attempt(m.User()), key.Marshal())
	if err != nil {
		c.s.opt.Log.Debug("ssh: public key", "source", c.source, "error", err)
		return nil, auth.ErrDenied
	}
	c.enter(u.Name)
	return p, nil
}
