package manager

import (
	"errors"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const protocolType = "ManagerNetworkProtocol.v1_12_0.ManagerNetworkProtocol"

// A Service is one that the settings switch on and off, by Redfish's name of its
// protocol.
type Service string

// The services that a board may have.
const (
	HTTPS Service = "HTTPS"
	SSH   Service = "SSH"
	IPMI  Service = "IPMI"
	RFB   Service = "RFB" // VNC
)

// Services are the board's.
type Services interface {
	// Service says whether a service is switched on, and its port; false: the
	// board has none such, and it is not on. It never blocks.
	Service(s Service) (on bool, port int, there bool)
	// SetEnabled switches a service; it may take effect after it returns.
	SetEnabled(s Service, on bool, from host.Origin) error
}

// NTP is how the board's clock is kept.
type NTP interface {
	// Config answers whether time servers are asked, and the owner's list of
	// them; where it is empty, Offered are.
	Config() (on bool, servers []string)
	// Offered are those that the network names.
	Offered() []string
	// Set changes Config. What cannot be is a *settings.Error.
	Set(on bool, servers []string, from host.Origin) error
}

const ntpPort = 123

type networkProtocol struct {
	resource.OData
	Status   resource.Status `json:"Status"`
	HostName string          `json:"HostName"`
	FQDN     *string         `json:"FQDN"`
	HTTP     endpoint        `json:"HTTP"`
	HTTPS    *https          `json:"HTTPS,omitempty"`
	SSH      *endpoint       `json:"SSH,omitempty"`
	IPMI     *endpoint       `json:"IPMI,omitempty"`
	RFB      *endpoint       `json:"RFB,omitempty"`
	NTP      *ntp            `json:"NTP,omitempty"`
}

type endpoint struct {
	ProtocolEnabled bool `json:"ProtocolEnabled"`
	Port            *int `json:"Port"` // null: none
}

type https struct {
	endpoint
	Certificates *resource.Link `json:"Certificates,omitempty"`
}

type ntp struct {
	endpoint
	NTPServers             []string `json:"NTPServers"`
	NetworkSuppliedServers []string `json:"NetworkSuppliedServers"`
}

// newProtocol describes a service; nil: there is none.
func (m *Manager) newProtocol(s Service) *endpoint {
	on, port, there := m.opt.Services.Service(s)
	if !there {
		return nil
	}
	return &endpoint{on, &port}
}

func (m *Manager) getProtocol(*resource.Request) *resource.Reply {
	return resource.OK(m.newNetworkProtocol())
}

func (m *Manager) newNetworkProtocol() networkProtocol {
	hostName, fqdn := splitName(m.opt.Network.Config().HostName)
	r := networkProtocol{
		OData:    resource.NewOData(resource.NetworkProtocolURI, protocolType, "Manager Network Protocol"),
		Status:   resource.Enabled(),
		HostName: hostName,
		FQDN:     fqdn,
		SSH:      m.newProtocol(SSH),
		IPMI:     m.newProtocol(IPMI),
		RFB:      m.newProtocol(RFB),
	}
	if p := m.newProtocol(HTTPS); p != nil {
		r.HTTPS = &https{*p, link(m.opt.Certificates, resource.CertificatesURI)}
	}
	if m.opt.NTP != nil {
		on, servers := m.opt.NTP.Config()
		// Both are never nil.
		r.NTP = &ntp{endpoint{on, new(ntpPort)}, append([]string{}, servers...), append([]string{}, m.opt.NTP.Offered()...)}
	}
	return r
}

func (m *Manager) patchProtocol(q *resource.Request) *resource.Reply {
	shown := m.newNetworkProtocol()
	// Nothing here speaks HTTP without TLS, and so nothing is to be switched.
	writable := []resource.Property{resource.Group("HTTP", shown.HTTP)}
	for _, s := range []struct {
		name  Service
		shown any
		there bool
	}{{HTTPS, shown.HTTPS, shown.HTTPS != nil}, {SSH, shown.SSH, shown.SSH != nil}, {IPMI, shown.IPMI, shown.IPMI != nil}, {RFB, shown.RFB, shown.RFB != nil}} {
		if !s.there {
			continue
		}
		writable = append(writable, resource.Group(string(s.name), s.shown, resource.Bool(enabledName, func(on bool) []message.Message {
			return m.switchService(s.name, on, q.Origin())
		})))
	}
	if m.opt.NTP != nil {
		writable = append(writable, m.ntpProperty(shown.NTP, q.Origin()))
	}
	return resource.Patch(q, m.getProtocol, writable...)
}

const enabledName = "ProtocolEnabled"

// switchService switches a service. HTTPS and SSH are the ways in on which the
// other can be switched on again: one of them stays.
func (m *Manager) switchService(s Service, on bool, from host.Origin) []message.Message {
	other := map[Service]Service{HTTPS: SSH, SSH: HTTPS}[s]
	if open, _, _ := m.opt.Services.Service(other); !on && other != "" && !open {
		return []message.Message{message.PropertyValueConflict(string(s)+"/"+enabledName, string(other)+"/"+enabledName)}
	}
	if err := m.opt.Services.SetEnabled(s, on, from); err != nil {
		return m.notUpdated(enabledName, err)
	}
	return nil
}

// ntpProperty writes both of NTP's properties as one: the clock does not turn to
// servers that it is about to forget.
func (m *Manager) ntpProperty(shown *ntp, from host.Origin) resource.Property {
	const servers = "NTPServers"
	on, list := m.opt.NTP.Config()
	return resource.Whole("NTP", shown, []resource.Property{
		resource.Bool(enabledName, func(v bool) []message.Message { on = v; return nil }),
		resource.Strings(servers, list, func(v []string) []message.Message { list = v; return nil }),
	}, func() []message.Message {
		was, before := m.opt.NTP.Config()
		if on == was && slices.Equal(list, before) {
			return nil
		}
		err := m.opt.NTP.Set(on, list, from)
		wrong, is := errors.AsType[*settings.Error](err)
		switch {
		case err == nil:
			return nil
		case !is:
			m.log.Error("NTP not changed", "error", err)
			return []message.Message{message.PropertyNotUpdated("NTP")}
		}
		path := []string{"NTP", servers}
		if _, index, one := strings.Cut(wrong.Pointer, "/servers/"); one {
			path = append(path, index)
		}
		p := message.PropertyValueIncorrect(servers, strings.Join(list, " ")).About(message.Pointer(path...))
		p.Resolution = wrong.Problem
		return []message.Message{p}
	})
}
