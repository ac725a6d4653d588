package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// A keyRow is an SSH key of a user.
type keyRow struct {
	ID          string `json:"id"`
	Type        string `json:"type,omitempty"` // as authorized_keys has it
	Fingerprint string `json:"fingerprint,omitempty"`
	Comment     string `json:"comment,omitempty"`
	uri         string
}

// keys finds an account's.
func (c *client) keys(name string) (all []keyRow, err error) {
	a, err := c.account(name)
	if err != nil {
		return nil, err
	}
	some, err := members[struct {
		URI                string `json:"@odata.id"`
		ID                 string `json:"Id"`
		KeyString, KeyType string
		SSH                struct{ Fingerprint, Comment string }
	}](c, a.keys)
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", name, err)
	}
	all = []keyRow{}
	for _, k := range some {
		if k.KeyType != "SSH" {
			continue
		}
		kind, _, _ := strings.Cut(k.KeyString, " ")
		all = append(all, keyRow{k.ID, kind, k.SSH.Fingerprint, k.SSH.Comment, k.URI})
	}
	return all, nil
}

func listKeys(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	all, err := c.keys(args[0])
	if err != nil {
		return err
	}
	return p.show(all, func(w io.Writer) {
		row(w, "ID", "TYPE", "FINGERPRINT", "COMMENT")
		for _, k := range all {
			row(w, k.ID, k.Type, k.Fingerprint, k.Comment)
		}
	})
}

// keyFileLimit is how much of a file of public keys is read, in bytes.
const keyFileLimit = 1 << 20

// publicKeys reads a file as ssh-keygen(1) or authorized_keys have it: a line each.
func (p *program) publicKeys(file string) (lines []string, err error) {
	in := p.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, keyFileLimit))
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	// A private key belongs to nobody else, the BMC included.
	if strings.Contains(string(data), "PRIVATE KEY-----") {
		return nil, usagef("%s has a private key: want the public one, as in %s.pub", file, file)
	}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if lines == nil {
		return nil, usagef("%s has no public key", file)
	}
	return lines, nil
}

func addKeys(ctx context.Context, p *program, args []string) error {
	lines, err := p.publicKeys(args[1])
	if err != nil {
		return err
	}
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	a, err := c.account(args[0])
	if err != nil {
		return err
	}
	if a.keys == "" {
		return fmt.Errorf("keys of %s: %w", a.Name, errUnsupported)
	}
	var bad []error
	for _, line := range lines {
		_, err := c.call(http.MethodPost, a.keys, struct{ KeyString, KeyType string }{line, "SSH"}, nil)
		bad = append(bad, err)
	}
	if err := errors.Join(bad...); err != nil {
		return err
	}
	if len(lines) == 1 {
		return p.done("%s has the key", a.Name)
	}
	return p.done("%s has the %d keys", a.Name, len(lines))
}

func removeKey(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	all, err := c.keys(args[0])
	if err != nil {
		return err
	}
	for _, k := range all {
		if k.ID != args[1] && k.Fingerprint != args[1] {
			continue
		}
		if _, err := c.call(http.MethodDelete, k.uri, nil, nil); err != nil {
			return err
		}
		return p.done("%s has the key %s no more", args[0], k.ID)
	}
	return fmt.Errorf("%s has no key %q", args[0], args[1])
}
