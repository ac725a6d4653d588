package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nitrino/nitrino/internal/atomicfile"
)

// A config is the file of profiles. Nobody but its owner may read it: it may have
// the tokens of open sessions. Passwords are never in it.
type config struct {
	Default  string              `json:"default,omitempty"`
	Profiles map[string]*profile `json:"profiles"`
}

// A profile is a service that somebody uses again and again.
type profile struct {
	Host string `json:"host"` // name or address, with :port if it is not 443
	User string `json:"user,omitempty"`
	// Fingerprint is the SHA-256 of the service's certificate in hexadecimal. With
	// it no authority is asked.
	Fingerprint string `json:"fingerprint,omitempty"`
	CA          string `json:"ca,omitempty"` // a file of authorities, PEM
	// HostKey is the SHA-256 fingerprint of the SSH server's key.
	HostKey string        `json:"ssh_host_key,omitempty"`
	Session *savedSession `json:"session,omitempty"`
}

// A savedSession is one that login leaves open.
type savedSession struct {
	URI   string `json:"uri"`
	Token string `json:"token"`
}

func (p *program) configFile() string { return filepath.Join(p.home, "config.json") }

// load reads the profiles. That there is no file is no error.
func (p *program) load() (*config, error) {
	c := &config{Profiles: map[string]*profile{}}
	if p.home == "" {
		return c, nil
	}
	file := p.configFile()
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the profiles: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("reading the profiles: %s: %w", file, err)
	}
	if c.Profiles == nil {
		c.Profiles = map[string]*profile{}
	}
	for name, one := range c.Profiles {
		if one == nil || one.Host == "" {
			return nil, fmt.Errorf("reading the profiles: %s: profile %q has no host", file, name)
		}
	}
	return c, nil
}

// save writes the profiles.
func (p *program) save(c *config) error {
	if p.home == "" {
		return errors.New("there is no home folder to keep profiles in")
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the profiles: %w", err)
	}
	if err := os.MkdirAll(p.home, 0o700); err != nil {
		return fmt.Errorf("writing the profiles: %w", err)
	}
	if err := atomicfile.Write(p.configFile(), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the profiles: %w", err)
	}
	return nil
}

// chosen is the profile that the flags and the file lead to; name is "" where -H
// names a host that has none.
func (p *program) chosen(c *config) (name string, one *profile, err error) {
	name = p.global.profile
	switch {
	case name != "" && p.global.host != "":
		return "", nil, usagef("-p and -H together: want one of them")
	case p.global.host != "":
		return "", &profile{Host: p.global.host}, nil
	case name == "":
		name = p.getenv("BMCCTL_PROFILE")
	}
	if name == "" {
		name = c.Default
	}
	if name == "" {
		return "", nil, usagef("no service is named: want -H HOST, or a profile (bmcctl profile add NAME HOST)")
	}
	one, found := c.Profiles[name]
	if !found {
		return "", nil, usagef("there is no profile %q; bmcctl profile list shows them", name)
	}
	return name, one, nil
}

// change loads the profiles, lets do change one of them, and saves them.
func (p *program) change(name string, do func(one *profile)) error {
	c, err := p.load()
	if err != nil {
		return err
	}
	one, found := c.Profiles[name]
	if !found {
		return fmt.Errorf("profile %q is gone", name)
	}
	do(one)
	return p.save(c)
}
