package sol

import (
	"fmt"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Settings are the parameters of table 26-5 that can be changed.
type Settings struct {
	Enabled   bool              `json:"enabled"`
	Privilege command.Privilege `json:"privilege"` // the least that may activate SOL
	// Accumulate is how long characters wait for more, in steps of 5 ms from 1;
	// Threshold of them wait no longer.
	Accumulate uint8 `json:"accumulate"`
	Threshold  uint8 `json:"threshold"`
	// Retries, at most 7, come RetryInterval after one another, in steps of 10 ms.
	Retries       uint8 `json:"retries"`
	RetryInterval uint8 `json:"retry_interval"`
	// Port is the UDP port that consoles are told, which is another than the
	// board's own behind a port forwarding. 0: the board's own.
	Port uint16 `json:"port,omitempty"`
}

// DefaultSettings suit a person who types and a line of 115200 bit/s. Typing
// needs an operator, as it does over SSH.
func DefaultSettings() Settings {
	return Settings{Enabled: true, Privilege: command.Operator, Accumulate: 10, Threshold: 96, Retries: 7, RetryInterval: 10}
}

// validate answers host.ErrInvalid for settings that no command can have made.
func (x Settings) validate() error {
	if x.Privilege < command.User || x.Privilege > command.OEMLevel || x.Accumulate == 0 || x.Threshold == 0 || x.Retries > 7 {
		return fmt.Errorf("SOL settings %+v: %w", x, host.ErrInvalid)
	}
	return nil
}

func (x Settings) timing() timing {
	return timing{
		accumulate: time.Duration(x.Accumulate) * 5 * time.Millisecond,
		threshold:  int(x.Threshold),
		retries:    int(x.Retries),
		interval:   time.Duration(x.RetryInterval) * 10 * time.Millisecond,
	}
}

// The parameters (table 26-5).
const (
	paramSetInProgress = iota
	paramEnable
	paramAuthentication
	paramAccumulate
	paramRetry
	paramBitRate         // non-volatile
	paramVolatileBitRate // the same here: it is the serial port's
	paramChannel
	paramPort
	parameters // how many
)

// Completion codes of the two commands.
const (
	codeNoParameter  command.Code = 0x80
	codeNotComplete  command.Code = 0x81 // set in progress is taken
	codeReadOnly     command.Code = 0x82
	parameterVersion              = 0x11
	force                         = 0xC0 // encryption and authentication: always
)

// Commands are the SOL commands but for the payload's (chapter 26).
func (s *SOL) Commands() []command.Command {
	return []command.Command{
		{NetFn: command.Transport, Cmd: 0x21, Name: "Set SOL Configuration Parameters", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 2, MaxLen: 4, Run: s.setParameter},
		{NetFn: command.Transport, Cmd: 0x22, Name: "Get SOL Configuration Parameters", Privilege: command.User, MinLen: 4, MaxLen: 4, Run: s.getParameter},
	}
}

// getParameter: section 26.3.
func (s *SOL) getParameter(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	rate := s.rateCode()
	switch which := c.Data[1]; {
	case which >= parameters, rate == 0 && (which == paramBitRate || which == paramVolatileBitRate):
		return codeNoParameter
	case c.Data[2] != 0 || c.Data[3] != 0: // no parameter has sets or blocks
		return command.InvalidField
	}
	c.Put(parameterVersion)
	if c.Data[0]&0x80 != 0 { // only the revision
		return command.OK
	}
	s.mu.Lock()
	x, state := s.settings, s.inProgress
	s.mu.Unlock()
	switch c.Data[1] {
	case paramSetInProgress:
		c.Put(state)
	case paramEnable:
		if x.Enabled {
			c.Put(1)
		} else {
			c.Put(0)
		}
	case paramAuthentication:
		c.Put(force | byte(x.Privilege))
	case paramAccumulate:
		c.Put(x.Accumulate, x.Threshold)
	case paramRetry:
		c.Put(x.Retries, x.RetryInterval)
	case paramBitRate, paramVolatileBitRate:
		c.Put(rate)
	case paramChannel:
		c.Put(command.ChannelLAN)
	case paramPort:
		c.Put16(s.Port())
	}
	return command.OK
}

// setParameter: section 26.2.
func (s *SOL) setParameter(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	which, data := c.Data[1], c.Data[2:]
	if which >= parameters {
		return codeNoParameter
	}
	if want := [parameters]int{1, 1, 1, 2, 2, 1, 1, 1, 2}[which]; len(data) != want {
		return command.BadLength
	}
	switch which {
	case paramSetInProgress:
		return s.setInProgress(data[0])
	case paramBitRate, paramVolatileBitRate:
		// The rate is a setting of the board's serial port, which serves SSH
		// as well: the one that is set may be set again.
		switch rate := s.rateCode(); {
		case rate == 0:
			return codeNoParameter
		case data[0]&0x0F != rate:
			return command.OutOfRange
		}
		return command.OK
	case paramChannel:
		return codeReadOnly
	}
	s.setting.Lock()
	defer s.setting.Unlock()
	x := s.Settings()
	what := ""
	switch which {
	case paramEnable:
		x.Enabled = data[0]&1 != 0
		what = fmt.Sprintf("enabled: %v", x.Enabled)
	case paramAuthentication:
		if data[0]&force != force {
			return command.InvalidField
		}
		x.Privilege = command.Privilege(data[0] & 0x0F)
		what = fmt.Sprintf("least privilege: %v", x.Privilege)
	case paramAccumulate:
		x.Accumulate, x.Threshold = data[0], data[1]
		what = fmt.Sprintf("accumulate interval: %d ms, send threshold: %d", 5*int(data[0]), data[1])
	case paramRetry:
		x.Retries, x.RetryInterval = data[0]&0x07, data[1]
		what = fmt.Sprintf("retries: %d, each %d ms", x.Retries, 10*int(data[1]))
	case paramPort:
		x.Port = uint16(data[0]) | uint16(data[1])<<8
		if x.Port == s.opt.Port() {
			x.Port = 0
		}
		what = fmt.Sprintf("port: %d", x.Port)
	}
	if x.validate() != nil {
		return command.InvalidField
	}
	return command.Result(s.opt.Log, "Set SOL Configuration Parameters", s.change(x, what, c.Origin))
}

// setInProgress is parameter 0: a notice to others, which keeps nobody out.
// There is no roll-back, and so no commit.
func (s *SOL) setInProgress(state byte) command.Code {
	const setComplete, setInProgress = 0, 1
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case state > setInProgress:
		return command.InvalidField
	case state == setInProgress && s.inProgress != setComplete:
		return codeNotComplete
	}
	s.inProgress = state
	return command.OK
}

// change keeps x and acts on it. s.setting is held.
func (s *SOL) change(x Settings, what string, from host.Origin) error {
	if x == s.Settings() {
		return nil
	}
	if s.opt.Store != nil {
		if err := s.opt.Store.PutJSON(bucket, settingsKey, x); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.settings = x
	s.mu.Unlock()
	if s.opt.Changed != nil {
		s.opt.Changed("The settings of serial over LAN were changed, "+what+".", from)
	}
	if !x.Enabled {
		s.endAll("it was disabled by " + from.String())
	}
	return nil
}

// rateCode is the serial port's rate as parameters 5 and 6 have it, 0 where it
// is none of those.
func (s *SOL) rateCode() byte {
	for i, rate := range [...]int{9600, 19200, 38400, 57600, 115200} {
		if s.opt.BitRate() == rate {
			return byte(6 + i)
		}
	}
	return 0
}
