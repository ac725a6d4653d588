package sdr

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
)

// A Sensor is a gauge: *host.Sensor.
type Sensor interface {
	Name() string
	Quantity() host.Quantity
	Place() host.Place
	Range() (lowest, highest float64)
	Reading() host.Reading
	Limits() host.Limits
	SetLimits(host.Limits, host.Origin) error
}

// A Power tells of the host's power: *host.Power.
type Power interface {
	Supports(host.Action) bool
	Status() host.PowerStatus
}

// A Watchdog tells of the host's watchdog timer: *host.Watchdog.
type Watchdog interface {
	Status() host.WatchdogStatus
}

// A Clock is the one that the event log and the repository share.
type Clock interface {
	// Time is what it shows at now, in seconds since 1970.
	Time(now time.Time) uint32
	// Set makes it show t at now, for good.
	Set(t uint32, now time.Time, from host.Origin) error
}

// Events is the one event log: *host.Events.
type Events interface {
	Add(host.Event) host.Event
}

// Options are what the sensors are made of.
type Options struct {
	Sensors  []Sensor // at most 223
	Power    Power
	Watchdog Watchdog // nil: none
	// Buttons: those of the front panel are seen.
	Buttons bool
	// PowerLimit: the host's power can be limited.
	PowerLimit bool
	// Inventory: FRU device 0 is there.
	Inventory bool
	// Name is the BMC's, 1 to 16 characters of ASCII.
	Name   string
	Clock  Clock
	Events Events
	Store  *store.Store
	Log    *slog.Logger
}

// A Repository has the sensors and their records. Which there are never
// changes.
type Repository struct {
	records []record // record n has the ID n+1
	sensors []*sensor
	byNum   [256]*sensor
	clock   Clock
	events  Events
	db      *store.Store
	log     *slog.Logger
	added   uint32 // when the newest record came, by clock

	repository, device reservations

	saving sync.Mutex // one change of what is kept at a time
	mu     sync.Mutex // guards every sensor's enables
}

// A record is one of the repository; its gauge is nil unless it is a full
// sensor record.
type record struct {
	data  []byte
	gauge *sensor
}

// A sensor is a gauge, or one that tells of events.
type sensor struct {
	number                uint8
	name                  string
	entity, instance      uint8
	sensorType, eventType uint8
	// asserts and deasserts are the events that it can make, a bit for each
	// offset; states are those that a reading may have.
	asserts, deasserts, states uint16
	record                     uint16

	gauge   Sensor // nil where it is none
	factors Factors

	// state is the present one of a sensor that is no gauge; false: not known.
	// nil: it has none, it only makes events.
	state func() (uint16, bool)

	enables enables
}

// enables are what Set Sensor Event Enable changes.
type enables struct {
	NoEvents  bool   `json:"no_events,omitempty"`
	NoScan    bool   `json:"no_scan,omitempty"`
	Asserts   uint16 `json:"asserts"`
	Deasserts uint16 `json:"deasserts"`
}

// What is kept: each sensor's enables, and the stamp.
const (
	enablesBucket = "sdr-enables"
	stampBucket   = "sdr"
	stampKey      = "stamp"
)

// A stamp says since when the records are as they are. Consoles keep the
// records in files, and take them for outdated when the time differs.
type stamp struct {
	Sum   string `json:"sum"`
	Added uint32 `json:"added"`
}

// New makes the sensors and their records. It fails for too many gauges.
func New(o Options) (*Repository, error) {
	if len(o.Sensors) > maxGauges {
		return nil, fmt.Errorf("IPMI sensors: %d gauges, and at most %d have numbers: %w", len(o.Sensors), maxGauges, host.ErrInvalid)
	}
	r := &Repository{clock: o.Clock, events: o.Events, db: o.Store, log: o.Log}
	r.sensors = append(gauges(o.Sensors), discrete(o)...)
	for _, x := range r.sensors {
		r.byNum[x.number] = x
		x.enables = enables{Asserts: x.asserts, Deasserts: x.deasserts}
		var kept enables
		found, err := r.db.GetJSON(enablesBucket, x.key(), &kept)
		if err != nil {
			r.log.Error("a sensor's events are enabled: what was kept cannot be read", "sensor", x.name, "error", err)
		} else if found {
			kept.Asserts &= x.asserts
			kept.Deasserts &= x.deasserts
			x.enables = kept
		}
		var data []byte
		switch {
		case x.gauge != nil:
			data = fullRecord(x)
		case x.state != nil:
			data = compactRecord(x)
		default:
			data = eventOnlyRecord(x)
		}
		x.record = r.add(data, x)
	}
	const sensorDevice, repository, selDevice, inventory, chassis = 0x01, 0x02, 0x04, 0x08, 0x80
	capabilities := uint8(chassis | selDevice | repository | sensorDevice)
	if o.Inventory {
		capabilities |= inventory
		r.add(fruRecord("System"), nil)
	}
	r.add(mcRecord(o.Name, capabilities), nil)
	r.setStamp()
	return r, nil
}

// add appends a record and answers its ID.
func (r *Repository) add(data []byte, x *sensor) uint16 {
	id := uint16(len(r.records) + 1)
	data[0], data[1] = byte(id), byte(id>>8)
	rec := record{data: data}
	if x != nil && x.gauge != nil {
		rec.gauge = x
	}
	r.records = append(r.records, rec)
	return id
}

// setStamp takes up the time of the records as kept, or makes a new one where
// they are others now. It is later than the last in any case.
func (r *Repository) setStamp() {
	sum := sha256.New()
	for _, rec := range r.records {
		sum.Write(rec.data) // a hash.Hash never fails
	}
	now := stamp{Sum: hex.EncodeToString(sum.Sum(nil))}
	var kept stamp
	if _, err := r.db.GetJSON(stampBucket, stampKey, &kept); err != nil {
		r.log.Error("the time of the sensor records", "error", err)
	}
	if kept.Sum == now.Sum {
		r.added = kept.Added
		return
	}
	now.Added = max(r.clock.Time(time.Now()), kept.Added+1)
	r.added = now.Added
	if err := r.db.PutJSON(stampBucket, stampKey, now); err != nil {
		r.log.Error("the time of the sensor records is not kept", "error", err)
	}
}

// gauges numbers the gauges. Those of one place and quantity are of one thing
// after the other: the second temperature of a CPU is the second CPU's.
func gauges(list []Sensor) []*sensor {
	type what struct {
		entity   uint8
		quantity host.Quantity
	}
	instances := map[what]uint8{}
	var all []*sensor
	for i, g := range list {
		lowest, highest := g.Range()
		sensorType, _, _ := kindOf(g.Quantity())
		x := &sensor{number: uint8(i + 1), name: g.Name(), entity: entityOf(g.Place()),
			sensorType: sensorType, eventType: Threshold, gauge: g, factors: newFactors(lowest, highest)}
		of := what{x.entity, g.Quantity()}
		const maxInstance = 0x5F // the higher ones are relative to a device (section 39.1)
		instances[of] = min(instances[of]+1, maxInstance)
		x.instance = instances[of]
		for _, l := range limits {
			x.asserts |= 1 << Offset(l)
		}
		x.deasserts = x.asserts
		all = append(all, x)
	}
	return all
}

// limits are a gauge's, in the order of the commands' bits and bytes.
var limits = [...]host.Limit{host.LowerCaution, host.LowerCritical, host.LowerFatal, host.UpperCaution, host.UpperCritical, host.UpperFatal}

// Offset is the event offset of a limit (table 42-2): a lower one is crossed
// going low, an upper one going high.
func Offset(l host.Limit) uint8 {
	switch l {
	case host.LowerCaution:
		return 0x00
	case host.LowerCritical:
		return 0x02
	case host.LowerFatal:
		return 0x04
	case host.UpperCaution:
		return 0x07
	case host.UpperCritical:
		return 0x09
	}
	return 0x0B
}

// A Gauge is what others may know of a sensor that measures.
type Gauge struct {
	Number           uint8
	Record           uint16 // ID of its record
	Name             string
	Type             uint8 // table 42-3
	Entity, Instance uint8
	Factors          Factors
}

func (x *sensor) asGauge() Gauge {
	return Gauge{Number: x.number, Record: x.record, Name: x.name, Type: x.sensorType, Entity: x.entity, Instance: x.instance, Factors: x.factors}
}

// Gauges lists the sensors that measure, in the order of their numbers.
func (r *Repository) Gauges() []Gauge {
	var all []Gauge
	for _, x := range r.sensors {
		if x.gauge != nil {
			all = append(all, x.asGauge())
		}
	}
	return all
}

// Gauge finds one by its name.
func (r *Repository) Gauge(name string) (Gauge, bool) {
	i := slices.IndexFunc(r.sensors, func(x *sensor) bool { return x.gauge != nil && x.name == name })
	if i < 0 {
		return Gauge{}, false
	}
	return r.sensors[i].asGauge(), true
}

// Enabled says whether a sensor's event is to be told: Set Sensor Event Enable
// may have switched it off. It is for a number that no sensor has.
func (r *Repository) Enabled(number, offset uint8, deassert bool) bool {
	x := r.byNum[number]
	if x == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := x.enables
	events := e.Asserts
	if deassert {
		events = e.Deasserts
	}
	return !e.NoEvents && !e.NoScan && events>>offset&1 != 0
}

// Commands lists the commands of chapters 33 and 35.
func (r *Repository) Commands() []command.Command {
	const reads, changes, waits = command.Reads, command.Changes, command.Waits
	return []command.Command{
		{NetFn: command.Storage, Cmd: 0x20, Name: "Get SDR Repository Info", Privilege: command.User, Conduct: reads, Run: r.getInfo},
		{NetFn: command.Storage, Cmd: 0x21, Name: "Get SDR Repository Allocation Info", Privilege: command.User, Conduct: reads, Run: r.getAllocation},
		{NetFn: command.Storage, Cmd: 0x22, Name: "Reserve SDR Repository", Privilege: command.User, Conduct: changes, Run: reserve(&r.repository)},
		{NetFn: command.Storage, Cmd: 0x23, Name: "Get SDR", Privilege: command.User, Conduct: reads, MinLen: 6, MaxLen: 6, Run: r.getRecord(&r.repository)},
		{NetFn: command.Storage, Cmd: 0x28, Name: "Get SDR Repository Time", Privilege: command.User, Conduct: reads, Run: r.getTime},
		{NetFn: command.Storage, Cmd: 0x29, Name: "Set SDR Repository Time", Privilege: command.Operator, Conduct: waits, MinLen: 4, MaxLen: 4, Run: r.setTime},

		{NetFn: command.Sensor, Cmd: 0x20, Name: "Get Device SDR Info", Privilege: command.User, Conduct: reads, MaxLen: 1, Run: r.getDeviceInfo},
		{NetFn: command.Sensor, Cmd: 0x21, Name: "Get Device SDR", Privilege: command.User, Conduct: reads, MinLen: 6, MaxLen: 6, Run: r.getRecord(&r.device)},
		{NetFn: command.Sensor, Cmd: 0x22, Name: "Reserve Device SDR Repository", Privilege: command.User, Conduct: changes, Run: reserve(&r.device)},
		{NetFn: command.Sensor, Cmd: 0x23, Name: "Get Sensor Reading Factors", Privilege: command.User, Conduct: reads, MinLen: 2, MaxLen: 2, Run: r.getFactors},
		{NetFn: command.Sensor, Cmd: 0x24, Name: "Set Sensor Hysteresis", Privilege: command.Operator, Conduct: waits, MinLen: 4, MaxLen: 4, Run: r.setHysteresis},
		{NetFn: command.Sensor, Cmd: 0x25, Name: "Get Sensor Hysteresis", Privilege: command.User, Conduct: reads, MinLen: 2, MaxLen: 2, Run: r.getHysteresis},
		{NetFn: command.Sensor, Cmd: 0x26, Name: "Set Sensor Thresholds", Privilege: command.Operator, Conduct: waits, MinLen: 8, MaxLen: 8, Run: r.setThresholds},
		{NetFn: command.Sensor, Cmd: 0x27, Name: "Get Sensor Thresholds", Privilege: command.User, Conduct: reads, MinLen: 1, MaxLen: 1, Run: r.getThresholds},
		{NetFn: command.Sensor, Cmd: 0x28, Name: "Set Sensor Event Enable", Privilege: command.Operator, Conduct: waits, MinLen: 2, MaxLen: 6, Run: r.setEventEnable},
		{NetFn: command.Sensor, Cmd: 0x29, Name: "Get Sensor Event Enable", Privilege: command.User, Conduct: reads, MinLen: 1, MaxLen: 1, Run: r.getEventEnable},
		{NetFn: command.Sensor, Cmd: 0x2A, Name: "Re-arm Sensor Events", Privilege: command.Operator, Conduct: changes, MinLen: 2, MaxLen: 6, Run: r.rearm},
		{NetFn: command.Sensor, Cmd: 0x2B, Name: "Get Sensor Event Status", Privilege: command.User, Conduct: reads, MinLen: 1, MaxLen: 1, Run: r.getEventStatus},
		{NetFn: command.Sensor, Cmd: 0x2D, Name: "Get Sensor Reading", Privilege: command.User, Conduct: reads, MinLen: 1, MaxLen: 1, Run: r.getReading},
		{NetFn: command.Sensor, Cmd: 0x2F, Name: "Get Sensor Type", Privilege: command.User, Conduct: reads, MinLen: 1, MaxLen: 1, Run: r.getType},
	}
}
