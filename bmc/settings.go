package bmc

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/clock"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/ipmi"
	"github.com/nitrino/nitrino/network"
)

// SettingsVersion is the version of the document bmc.json.
const SettingsVersion = 1

// Settings is the document bmc.json. docs/settings.md explains each field.
type Settings struct {
	Version  int    `json:"version"`
	HostName string `json:"hostname"`
	// SSHKeys are authorized_keys lines of the user admin.
	SSHKeys []string         `json:"ssh_keys"`
	Wires   board.Wires      `json:"wires"`
	Serial  board.Serial     `json:"serial"`
	Sensors board.Sensors    `json:"sensors"`
	Network network.Config   `json:"network"`
	Power   host.PowerConfig `json:"power"`
	HTTPS   HTTPSSettings    `json:"https"`
	SSH     SSHSettings      `json:"ssh"`
	IPMI    IPMISettings     `json:"ipmi"`
	Lockout LockoutSettings  `json:"lockout"`
	Time    clock.Config     `json:"time"`
	Update  UpdateSettings   `json:"update"`
	// Volumes are those that shall be there.
	Volumes []VolumeSettings `json:"volumes"`
	ISCSI   ISCSISettings    `json:"iscsi"`
}

// HTTPSSettings are those of the web server, which Redfish lives on.
type HTTPSSettings struct {
	Enabled bool `json:"enabled"`
}

// SSHSettings are those of the SSH console.
type SSHSettings struct {
	Enabled     bool `json:"enabled"`
	MaxSessions int  `json:"max_sessions"`
	// IdleTimeout closes a connection that nothing comes or goes over; 0 never.
	IdleTimeout time.Duration `json:"idle_timeout"`
}

// IPMISettings are those of IPMI over LAN.
type IPMISettings struct {
	Enabled bool `json:"enabled"`
	// CipherSuite3 allows the SHA-1 suite 3 besides 17.
	CipherSuite3 bool `json:"cipher_suite_3"`
	MaxSessions  int  `json:"max_sessions"`
	// IdleTimeout ends a session without traffic (IPMI 2.0 section 6.12.15).
	IdleTimeout time.Duration `json:"idle_timeout"`
	// LoginsPerSecond is how many logins one address may begin a second.
	LoginsPerSecond int `json:"logins_per_second"`
	// MaxPrivilege is the most that any session may do: "user", "operator" or
	// "administrator".
	MaxPrivilege string `json:"max_privilege"`
	// Alerts: the event filter may send alerts to the network.
	Alerts bool `json:"alerts"`
}

// config is what package ipmi takes.
func (s IPMISettings) config() ipmi.Config {
	c := ipmi.DefaultConfig()
	c.Suite3, c.MaxSessions, c.IdleTimeout, c.LoginsPerSecond = s.CipherSuite3, s.MaxSessions, s.IdleTimeout, s.LoginsPerSecond
	return c
}

// LockoutSettings is auth.Lockout with names for the document.
type LockoutSettings struct {
	Threshold     int           `json:"threshold"`
	UserThreshold int           `json:"user_threshold"`
	First         time.Duration `json:"first"`
	Factor        int           `json:"factor"`
	Max           time.Duration `json:"max"`
	UserMax       time.Duration `json:"user_max"`
	Forget        time.Duration `json:"forget"`
}

// Defaults are the settings of a board that nobody has set up. IPMI over LAN
// is off: its handshake lets anybody take a hash home to crack (CVE-2013-4786),
// so its owner has to want it; so is iSCSI, which gives disks to who asks.
func Defaults() Settings {
	lan := ipmi.DefaultConfig()
	return Settings{
		Version:  SettingsVersion,
		HostName: "nitrino",
		SSHKeys:  []string{},
		Serial:   board.DefaultSerial(),
		Sensors:  board.DefaultSensors(),
		Network:  network.DefaultConfig(),
		Power:    host.DefaultPowerConfig(),
		HTTPS:    HTTPSSettings{Enabled: true},
		SSH:      SSHSettings{Enabled: true, MaxSessions: 16},
		IPMI:     IPMISettings{MaxSessions: lan.MaxSessions, IdleTimeout: lan.IdleTimeout, LoginsPerSecond: lan.LoginsPerSecond, MaxPrivilege: "administrator", Alerts: true},
		Lockout:  LockoutSettings(auth.DefaultLockout()),
		Time:     clock.DefaultConfig(),
		Update:   UpdateSettings{Keys: []string{}},
		Volumes:  []VolumeSettings{},
		ISCSI:    ISCSISettings{Targets: []block.Target{}},
	}
}

// validate answers what is wrong with a document beyond its types. onBoard may
// be nil.
func validate(s *Settings, onBoard func(board.Wires) error) error {
	var errs []error
	bad := func(pointer string, err error) {
		if f, ok := errors.AsType[*settings.FieldError](err); ok {
			pointer, err = pointer+f.Pointer, f.Err
		}
		if err != nil {
			errs = append(errs, &settings.FieldError{Pointer: pointer, Err: err})
		}
	}
	bad("/hostname", checkHostName(s.HostName))
	if len(s.SSHKeys) > auth.MaxKeys {
		bad("/ssh_keys", fmt.Errorf("%d keys are more than %d", len(s.SSHKeys), auth.MaxKeys))
	}
	for i, k := range s.SSHKeys {
		bad(fmt.Sprintf("/ssh_keys/%d", i), auth.CheckKey(k))
	}
	err := s.Wires.Validate()
	if err == nil && onBoard != nil {
		err = onBoard(s.Wires)
	}
	bad("/wires", err)
	bad("/serial", s.Serial.Validate())
	bad("/sensors", s.Sensors.Validate())
	bad("/network", s.Network.Validate())
	bad("/power", s.Power.Validate())
	bad("/ssh/max_sessions", between(s.SSH.MaxSessions, 1, 256))
	bad("/ssh/idle_timeout", between(s.SSH.IdleTimeout, 0, 24*time.Hour))
	if _, err := privilegeOf(s.IPMI.MaxPrivilege); err != nil {
		bad("/ipmi/max_privilege", err)
	} else {
		bad("/ipmi", s.IPMI.config().Validate())
	}
	bad("/lockout", auth.Lockout(s.Lockout).Validate())
	bad("/time", s.Time.Validate())
	pointer, err := s.Update.validate()
	bad("/update"+pointer, err)
	pointer, err = checkVolumes(s.Volumes)
	bad("/volumes"+pointer, err)
	pointer, err = s.ISCSI.check()
	bad("/iscsi"+pointer, err)
	return errors.Join(errs...)
}

func between[T int | time.Duration](v, low, high T) error {
	if v < low || v > high {
		return fmt.Errorf("%v is not between %v and %v", v, low, high)
	}
	return nil
}

// checkHostName takes a name of RFC 1123 section 2.1, dots included.
func checkHostName(name string) error {
	if len(name) > 253 {
		return errors.New("a host name has at most 253 characters")
	}
	for label := range strings.SplitSeq(name, ".") {
		ok := label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
		for _, c := range label {
			ok = ok && (c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
		}
		if !ok {
			return fmt.Errorf("%q is not a host name (letters, digits and hyphens, in labels of 1 to 63 joined by dots)", name)
		}
	}
	return nil
}
