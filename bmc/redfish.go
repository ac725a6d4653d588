package bmc

import (
	"context"
	"crypto/sha1"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nitrino/nitrino/clock"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/supervise"
	"github.com/nitrino/nitrino/media"
	"github.com/nitrino/nitrino/metrics"
	"github.com/nitrino/nitrino/network"
	"github.com/nitrino/nitrino/redfish"
	"github.com/nitrino/nitrino/redfish/account"
	"github.com/nitrino/nitrino/redfish/certificate"
	"github.com/nitrino/nitrino/redfish/chassis"
	"github.com/nitrino/nitrino/redfish/event"
	eventlog "github.com/nitrino/nitrino/redfish/log"
	"github.com/nitrino/nitrino/redfish/manager"
	redfishmedia "github.com/nitrino/nitrino/redfish/media"
	"github.com/nitrino/nitrino/redfish/resource"
	"github.com/nitrino/nitrino/redfish/storage"
	"github.com/nitrino/nitrino/redfish/system"
	"github.com/nitrino/nitrino/redfish/task"
	"github.com/nitrino/nitrino/redfish/telemetry"
	redfishupdate "github.com/nitrino/nitrino/redfish/update"
	"github.com/nitrino/nitrino/update"
)

// A web is what all that HTTPS serves is made of.
type web struct {
	b     *BMC
	host  *host.Host
	keys  keys
	run   Run
	net   *network.Manager // nil: the network is not the board's
	clock *clock.Clock
	// ports are where the services answer.
	ports *ports
}

// ports are where the services answer, from when they do.
type ports struct{ at atomic.Pointer[Addresses] }

func (p *ports) set(a Addresses) { p.at.Store(&a) }

func (p *ports) get() Addresses {
	if a := p.at.Load(); a != nil {
		return *a
	}
	return Addresses{}
}

// start makes the handler of all that HTTPS serves, and starts what works for it
// in the background.
func (w web) start(group *supervise.Group) (http.Handler, error) {
	b, h := w.b, w.host
	background := map[string]func(context.Context) error{}
	box := chassis.New(chassis.Options{Host: h, Log: b.log, Hardware: h.Hardware, System: true, Manager: true, LogServices: true})
	origin := eventlog.OriginOf(box.SensorURI)
	newLog := func(o eventlog.Options) (*eventlog.Service, error) {
		o.Events, o.Store, o.Log, o.Origin = b.Events, b.db, b.log, origin
		return eventlog.New(o)
	}
	hostLog, err := newLog(eventlog.Options{URI: resource.SystemLogServicesURI, Under: "ComputerSystem", ID: "EventLog",
		Name: "System Event Log", Purposes: []string{"Diagnostic", "Operations"}, Show: eventlog.OfHost})
	if err != nil {
		return nil, err
	}
	ownLog, err := newLog(eventlog.Options{URI: resource.ManagerLogServicesURI, Under: "Manager", ID: "Log",
		Name: "Manager Log", Purposes: []string{"Diagnostic", "Operations", "Security"}})
	if err != nil {
		return nil, err
	}
	measures := len(h.Sensors.List()) > 0
	events, err := event.New(event.Options{Events: b.Events, Store: b.db, Users: b.Users, Log: b.log, Origin: origin,
		LogEntry: func(e host.Event) string {
			return resource.ManagerLogServicesURI + "/Log/Entries/" + strconv.FormatUint(e.ID, 10)
		},
		MetricReports: measures})
	if err != nil {
		return nil, err
	}
	background["redfish-events"] = events.Run
	tasks, err := task.New(task.Options{Store: b.db, Log: b.log, Changed: events.Task})
	if err != nil {
		return nil, err
	}
	background["redfish-tasks"] = tasks.Run
	chapters := []redfish.Chapter{box, hostLog, ownLog, events, tasks, w.accounts(), certificate.New(w.keys.tls, b.log)}
	if measures {
		t := telemetry.New(telemetry.Options{Sensors: h.Sensors.List(), Store: b.db, Log: b.log, Sensor: box.SensorURI, Report: events.Report})
		chapters, background["redfish-telemetry"] = append(chapters, t), t.Run
	}
	drives, err := w.media(tasks, background)
	if err != nil {
		return nil, err
	}
	if drives != nil {
		chapters = append(chapters, drives)
	}
	updates, err := w.updates(tasks)
	if err != nil {
		return nil, err
	}
	if updates != nil {
		chapters = append(chapters, updates)
	}
	disks := w.disks(tasks)
	if disks != nil {
		chapters = append(chapters, disks)
	}
	own := w.manager(drives != nil, updates != nil, group)
	chapters, background["redfish-manager"] = append(chapters, own), own.Run
	rf, err := redfish.New(redfish.Options{Host: h, Auth: b.Users, Log: b.log, Product: product, Version: b.opt.Version,
		System: w.system(drives != nil, disks != nil), Chapters: chapters, Changed: events.Changed})
	if err != nil {
		return nil, err
	}
	measured := metrics.New(metrics.Options{Host: h, Auth: b.Users, Log: b.log, Version: b.opt.Version})
	background["metrics"] = measured.Run
	for _, name := range slices.Sorted(maps.Keys(background)) {
		if err := group.Start(name, background[name]); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/redfish", rf)
	mux.Handle("/redfish/", rf)
	mux.Handle("/metrics", measured)
	if drives != nil {
		mux.Handle(media.LibraryPath, drives.Files(rf.User))
	}
	if disks != nil {
		mux.Handle(storage.VolumesPath, disks.Files(rf.User))
	}
	mux.Handle("GET /{$}", http.RedirectHandler(resource.RootURI, http.StatusFound))
	return mux, nil
}

// product is this software's name.
const product = "nitrino"

// serviceOf is a service as Redfish's chapters want to know it.
func (w web) serviceOf(s manager.Service) (on bool, port int) {
	on, port, _ = managerServices{w.b, w.run, w.ports}.Service(s)
	return on, port
}

// system is the chapter of the host.
func (w web) system(drives, disks bool) *system.System {
	o := system.Options{Host: w.host, Log: w.b.log, Hardware: w.host.Hardware, Chassis: true, Manager: true, LogServices: true, VirtualMedia: drives, Storage: disks}
	if w.host.Console != nil {
		o.SerialConsole = func() system.SerialConsole {
			c := system.SerialConsole{MaxSessions: w.b.channel.settings().SSH.MaxSessions}
			on, port := w.serviceOf(manager.SSH)
			c.SSH = &system.ConsoleService{Enabled: on, Port: port, Shared: true, Command: "console", HotKeys: "~."}
			on, port = w.serviceOf(manager.IPMI)
			c.IPMI = &system.ConsoleService{Enabled: on, Port: port}
			return c
		}
	}
	return system.New(o)
}

// accounts is the chapter of users.
func (w web) accounts() *account.Service {
	o := account.Options{
		Auth: w.b.Users, Log: w.b.log, SaveLockout: w.b.saveLockout, PrivilegeMap: resource.PrivilegeMapURI,
		SSH:  func() bool { on, _ := w.serviceOf(manager.SSH); return on },
		IPMI: func() bool { on, _ := w.serviceOf(manager.IPMI); return on },
	}
	if w.b.opt.Simulated {
		o.MinPassword = 1
	}
	return account.New(o)
}

// manager is the chapter of the board.
func (w web) manager(drives, updates bool, group *supervise.Group) *manager.Manager {
	b := w.b
	n := managerNetwork{b: b, net: w.net}
	if w.run.Network != nil {
		n.iface = w.run.Network.Interface
	}
	var err error
	if n.at, err = netip.ParseAddr(w.run.Address); err != nil {
		n.at = netip.IPv4Unspecified() // an empty address is all
	}
	o := manager.Options{
		UUID: managerUUID(w.host.UUID), ServiceUUID: resource.UUID(w.host.UUID),
		FirmwareVersion: b.opt.Version, Identity: w.host.Identity, Started: time.Now(),
		Clock: managerClock{w.clock}, Network: n, Services: managerServices{b, w.run, w.ports}, Lifecycle: lifecycle{b},
		System: true, Chassis: true, LogServices: true, Certificates: true, VirtualMedia: drives, Firmware: updates,
		Healthy: func() bool { return healthy(group) },
		Log:     b.log,
		Shell: func() manager.Access {
			on, _ := w.serviceOf(manager.SSH)
			return manager.Access{Enabled: on, MaxSessions: b.channel.settings().SSH.MaxSessions, Types: []string{"SSH"}}
		},
	}
	if w.run.Clock != nil {
		o.NTP = managerNTP{b, w.net}
	}
	if w.host.Console != nil {
		o.Console = func() manager.Access {
			a := o.Shell()
			if on, _ := w.serviceOf(manager.IPMI); on {
				a.Enabled, a.Types = true, append(a.Types, "IPMI")
			}
			return a
		}
	}
	return manager.New(o)
}

// managerUUID is the board's own: it is made of the host's, by name (RFC 9562
// section 5.5), so that it stays with the state and nothing else is to be kept.
func managerUUID(host [16]byte) string {
	sum := sha1.Sum(append(host[:], "manager"...))
	u := [16]byte(sum[:16])
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return resource.UUID(u)
}

// media is the chapter of the host's drives; nil: there are none, or the disk does
// not let it be.
func (w web) media(tasks *task.Service, background map[string]func(context.Context) error) (*redfishmedia.Service, error) {
	if len(w.host.Drives) == 0 {
		return nil, nil
	}
	b := w.b
	drives, err := media.Open(media.Options{Drives: w.host.Drives, Dir: filepath.Join(b.opt.Dir, mediaDir), DB: b.db, Events: b.Events, Log: b.log})
	if err != nil {
		// The board serves without, as without updates.
		b.Events.Add(host.Event{Severity: host.Warning, Kind: "media.failed", Message: fmt.Sprintf("There are no virtual media: %v.", err)})
		return nil, nil
	}
	background["media"] = drives.Run
	o := redfishmedia.Options{Library: drives, Tasks: tasks, Store: b.db, Log: b.log, System: true, Manager: true}
	for _, d := range drives.Drives() {
		o.Drives = append(o.Drives, d)
	}
	return redfishmedia.New(o)
}

// updates is the chapter of new software; nil: the disk does not let it be.
func (w web) updates(tasks *task.Service) (*redfishupdate.Service, error) {
	staging := w.b.openUpdates()
	if staging == nil {
		return nil, nil
	}
	return redfishupdate.New(redfishupdate.Options{Bundles: staging, Tasks: tasks, Store: w.b.db, Log: w.b.log, Version: w.b.opt.Version, MaxSize: update.MaxSize, Manager: true})
}

// disks is the chapter of the volumes; nil: there is no disk process.
func (w web) disks(tasks *task.Service) *storage.Service {
	if w.run.Disk == nil {
		return nil
	}
	d := w.b.Disks
	return storage.New(storage.Options{
		Disks: d, Tasks: tasks, Log: w.b.log, Later: []error{ErrDisk, errBusy}, Version: w.b.opt.Version,
		ISCSI: func() (on bool, port int) {
			on = d.iscsi().Enabled
			_, text, err := net.SplitHostPort(d.State().Health.ISCSI)
			if err != nil {
				return on, 0 // it does not listen yet
			}
			at, err := strconv.Atoi(text)
			if err != nil {
				return on, 0
			}
			return on, at
		},
		TargetFailed: d.TargetFailed,
	})
}
