package pef

import (
	"bytes"
	"fmt"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// The sizes of the tables. Chapter 17 recommends at least 16 filters.
const (
	filters      = 16
	policies     = 8
	alertStrings = 4 // besides string 0, which is lost at a restart

	blockLen  = 16 // of a string
	blocks    = 5  // the longest string of FreeIPMI, 64 characters, ends in the fifth
	stringLen = blocks * blockLen
)

// Bits of the PEF control (parameter 1). Event messages about PEF's own actions
// are not offered: each is in the event log anyway.
const (
	controlPEF          = 0x01
	controlStartupDelay = 0x04
	controlAlertDelay   = 0x08
)

// A config is the configuration parameters. One that is in use never changes:
// who changes it puts a copy in its place.
type config struct {
	Control    byte   `json:"control"`
	Actions    action `json:"actions"`
	Startup    byte   `json:"startup_delay"` // s
	AlertDelay byte   `json:"alert_delay"`   // s

	Filters  [filters]filter           `json:"filters"`
	Policies [policies]policy          `json:"policies"`
	UseGUID  bool                      `json:"use_guid"`
	GUID     [16]byte                  `json:"guid"`
	Keys     [alertStrings + 1][2]byte `json:"string_keys"` // filter, string set
	Strings  [alertStrings + 1]text    `json:"strings"`
}

// factoryPolicy is the policy that the factory's filters name.
const factoryPolicy = 1

// factoryConfig is that of a board that nobody has set up: with a filter, a
// policy entry and a destination switched on, alerts go out.
func factoryConfig(can action) *config {
	c := &config{Control: controlPEF, Actions: can, Startup: 60, AlertDelay: 60, Filters: factoryFilters()}
	for i := range c.Policies {
		const perSet = 4
		c.Policies[i] = policy{byte(factoryPolicy+i/perSet) << 4, command.ChannelLAN<<4 | byte(1+i%perSet), 0}
	}
	return c
}

// A policy is an entry of the alert policy table (chapter 17), as it is written
// and read.
type policy [3]byte

const policyEnabled = 0x08

func (p *policy) number() byte     { return p[0] >> 4 }
func (p *policy) enabled() bool    { return p[0]&policyEnabled != 0 }
func (p *policy) rule() byte       { return p[0] & 0x07 }
func (p *policy) channel() byte    { return p[1] >> 4 }
func (p *policy) destination() int { return int(p[1] & 0x0F) }

// The rules: what an entry does where the alert before it succeeded.
const (
	ruleAlways          = 0
	ruleNextEntry       = 1
	ruleStop            = 2
	ruleNextChannel     = 3
	ruleNextDestination = 4
)

// valid says whether a policy can be in the table. One that is off may name
// anything: consoles write field by field.
func (p *policy) valid(exists func(destination int) bool) bool {
	return p.rule() <= ruleNextDestination && (!p.enabled() || command.IsLAN(p.channel()) && exists(p.destination()))
}

// A text is an alert string, ended by a zero byte or the end.
type text [stringLen]byte

func (t *text) String() string {
	s, _, _ := bytes.Cut(t[:], []byte{0})
	return string(s)
}

// MarshalText keeps what is before the zeros at the end.
func (t text) MarshalText() ([]byte, error) { return bytes.TrimRight(t[:], "\x00"), nil }

// UnmarshalText reads what MarshalText made.
func (t *text) UnmarshalText(b []byte) error {
	if len(b) > len(t) {
		return fmt.Errorf("an alert string of %d bytes is too long", len(b))
	}
	*t = text{}
	copy(t[:], b)
	return nil
}

// stringFor is the alert string that goes with an alert of a filter by a policy
// entry (chapter 17): its own, or the one that the string keys name for the
// filter.
func (c *config) stringFor(p *policy, filter byte) string {
	const eventSpecific = 0x80
	n := int(p[2] &^ eventSpecific)
	if p[2]&eventSpecific != 0 {
		for i, k := range c.Keys {
			if k[0]&0x7F == filter && int(k[1]&0x7F) == n && i > 0 {
				return c.Strings[i].String()
			}
		}
		return ""
	}
	if n == 0 || n > alertStrings {
		return ""
	}
	return c.Strings[n].String()
}

// The parameters (table 30-6).
const (
	paramInProgress = 0
	paramControl    = 1
	paramActions    = 2
	paramStartup    = 3
	paramAlertDelay = 4
	paramFilters    = 5
	paramFilter     = 6
	paramFilterByte = 7
	paramPolicies   = 8
	paramPolicy     = 9
	paramGUID       = 10
	paramStrings    = 11
	paramKey        = 12
	paramString     = 13
)

// Completion codes of Set and Get PEF Configuration Parameters alone (sections
// 30.3 and 30.4).
const (
	codeUnsupported command.Code = 0x80
	codeInProgress  command.Code = 0x81
	codeReadOnly    command.Code = 0x82
)

const (
	revision      = 0x11 // of the parameters: 1, and compatible back to 1
	selectorFlag  = 0x80 // of a selector byte: the revision alone
	selectorParam = 0x7F
)

// getConfig is section 30.4.
func (p *PEF) getConfig(c *command.Call) command.Code {
	c.Put(revision)
	if c.Data[0]&selectorFlag != 0 {
		return command.OK
	}
	conf, set, block := p.config.Load(), c.Data[1], c.Data[2]
	index := func(first, last byte) bool { return set >= first && set <= last }
	switch c.Data[0] {
	case paramInProgress:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.locked(c.Now) {
			c.Put(1)
		} else {
			c.Put(0)
		}
	case paramControl:
		c.Put(conf.Control)
	case paramActions:
		c.Put(byte(conf.Actions))
	case paramStartup:
		c.Put(conf.Startup)
	case paramAlertDelay:
		c.Put(conf.AlertDelay)
	case paramFilters:
		c.Put(filters)
	case paramPolicies:
		c.Put(policies)
	case paramStrings:
		c.Put(alertStrings)
	case paramFilter, paramFilterByte:
		if !index(1, filters) {
			return command.OutOfRange
		}
		f := &conf.Filters[set-1]
		n := filterLen
		if c.Data[0] == paramFilterByte {
			n = 1
		}
		c.Put(set)
		c.Put(f[:n]...)
	case paramPolicy:
		if !index(1, policies) {
			return command.OutOfRange
		}
		c.Put(set)
		c.Put(conf.Policies[set-1][:]...)
	case paramGUID:
		var use byte
		if conf.UseGUID {
			use = 1
		}
		c.Put(use)
		c.Put(conf.GUID[:]...)
	case paramKey:
		if !index(0, alertStrings) {
			return command.OutOfRange
		}
		c.Put(set)
		c.Put(conf.Keys[set][:]...)
	case paramString:
		if !index(0, alertStrings) || block < 1 || block > blocks {
			return command.OutOfRange
		}
		c.Put(set, block)
		c.Put(conf.Strings[set][int(block-1)*blockLen : int(block)*blockLen]...)
	default:
		return codeUnsupported
	}
	return command.OK
}

// setConfig is section 30.3.
func (p *PEF) setConfig(c *command.Call) command.Code {
	p.changing.Lock()
	defer p.changing.Unlock()
	if c.Data[0]&selectorFlag != 0 {
		return command.InvalidField
	}
	param, data := c.Data[0], c.Data[1:]
	if param == paramInProgress {
		return p.setInProgress(c, data)
	}
	before := p.config.Load()
	conf := *before
	if code := p.edit(&conf, param, data); code != command.OK {
		return code
	}
	if conf == *before {
		return command.OK // consoles write back whole configurations that they read
	}
	return command.Result(p.opt.Log, "Set PEF Configuration Parameters", p.replace(&conf, c))
}

// setInProgress is parameter 0. There is no roll-back, and so no commit.
func (p *PEF) setInProgress(c *command.Call, data []byte) command.Code {
	if len(data) != 1 {
		return command.BadLength
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch data[0] {
	case 0:
		p.inProgress = c.Now.Add(-lockLife)
	case 1:
		if p.locked(c.Now) {
			return codeInProgress
		}
		p.inProgress = c.Now
	default:
		return command.InvalidField
	}
	return command.OK
}

// edit writes a parameter into a configuration.
func (p *PEF) edit(conf *config, param byte, data []byte) command.Code {
	want := map[byte]int{paramControl: 1, paramActions: 1, paramStartup: 1, paramAlertDelay: 1, paramFilter: 1 + filterLen, paramFilterByte: 2, paramPolicy: 4, paramGUID: 17, paramKey: 3}
	n, known := want[param]
	switch {
	case param == paramString:
		return conf.setString(data)
	case param == paramFilters, param == paramPolicies, param == paramStrings:
		return codeReadOnly
	case !known:
		return codeUnsupported
	case len(data) != n:
		return command.BadLength
	}
	switch param {
	case paramControl:
		if data[0]&^(controlPEF|controlStartupDelay|controlAlertDelay) != 0 {
			return command.InvalidField
		}
		conf.Control = data[0]
	case paramActions:
		if action(data[0])&^p.can != 0 {
			return command.InvalidField
		}
		conf.Actions = action(data[0])
	case paramStartup:
		conf.Startup = data[0]
	case paramAlertDelay:
		conf.AlertDelay = data[0]
	case paramFilter, paramFilterByte:
		return conf.setFilter(data, p.can)
	case paramPolicy:
		entry := policy(data[1:])
		if data[0] < 1 || data[0] > policies {
			return command.OutOfRange
		}
		if !entry.valid(p.destinationExists) {
			return command.InvalidField
		}
		conf.Policies[data[0]-1] = entry
	case paramGUID:
		if data[0] > 1 {
			return command.InvalidField
		}
		conf.UseGUID, conf.GUID = data[0] == 1, [16]byte(data[1:])
	case paramKey:
		if data[0] > alertStrings {
			return command.OutOfRange
		}
		if data[1]&0x80 != 0 || data[2]&0x80 != 0 {
			return command.InvalidField
		}
		conf.Keys[data[0]] = [2]byte(data[1:])
	}
	return command.OK
}

// setFilter is the parameters 6 and 7: a filter, or its first byte alone. The
// latter keeps the type of the factory's filters, which ipmitool would write
// away with each enabling, and which chapter 17 does not let it alter.
func (c *config) setFilter(data []byte, can action) command.Code {
	if data[0] < 1 || data[0] > filters {
		return command.OutOfRange
	}
	f := c.Filters[data[0]-1]
	copy(f[:], data[1:])
	if !f.valid(can) {
		return command.InvalidField
	}
	if was := &c.Filters[data[0]-1]; len(data) == 2 && was[0]&typeBits == factory {
		f[0] = f[0]&^typeBits | factory
	}
	c.Filters[data[0]-1] = f
	return command.OK
}

// setString is parameter 13: string, block, and up to 16 characters.
func (c *config) setString(data []byte) command.Code {
	if len(data) < 2 || len(data) > 2+blockLen {
		return command.BadLength
	}
	if data[0] > alertStrings || data[1] < 1 || data[1] > blocks {
		return command.OutOfRange
	}
	for _, b := range data[2:] {
		if b != 0 && (b < ' ' || b > '~') {
			return command.InvalidField
		}
	}
	var block [blockLen]byte
	copy(block[:], data[2:])
	copy(c.Strings[data[0]][int(data[1]-1)*blockLen:], block[:])
	return command.OK
}

// replace puts a configuration in place of the one before, and on the disk.
func (p *PEF) replace(conf *config, c *command.Call) error {
	p.mu.Lock()
	if p.config.Load().Control&controlPEF == 0 {
		// What happened while it was off is over.
		p.state.Processed = max(p.state.Processed, p.opt.SEL.Last())
	}
	p.mu.Unlock()
	// The place in the log goes first: a new filter must not match what was
	// logged before it, whatever happens in between.
	if err := p.save(); err != nil {
		return err
	}
	kept := *conf
	kept.Strings[0], kept.Keys[0] = text{}, [2]byte{}
	if err := p.opt.Store.PutJSON(bucket, configKey, &kept); err != nil {
		return fmt.Errorf("keeping the event filters: %w", err)
	}
	p.config.Store(conf)
	p.mu.Lock()
	quiet := p.told == c.Origin && c.Now.Sub(p.toldAt) < tellAgain
	if !quiet {
		p.told, p.toldAt = c.Origin, c.Now
	}
	p.kick()
	p.mu.Unlock()
	if !quiet {
		p.opt.Events.Add(host.Event{Kind: "pef.changed", Message: "The configuration of platform event filtering was changed.", Origin: c.Origin})
	}
	return nil
}
