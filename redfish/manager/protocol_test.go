package manager

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

func TestNetworkProtocol(t *testing.T) {
	r := newRig(t, nil)
	a := r.get(resource.NetworkProtocolURI)
	for _, c := range []struct{ name, want string }{
		{"HostName", "bmc"},
		{"FQDN", "bmc.example.com"},
		{"HTTP", "map[Port:<nil> ProtocolEnabled:false]"},
		{"HTTPS", "map[Certificates:map[@odata.id:" + resource.CertificatesURI + "] Port:443 ProtocolEnabled:true]"},
		{"SSH", "map[Port:22 ProtocolEnabled:true]"},
		{"IPMI", "map[Port:623 ProtocolEnabled:false]"},
		{"RFB", "<nil>"},
		{"NTP", "map[NTPServers:[a.example] NetworkSuppliedServers:[192.0.2.123] Port:123 ProtocolEnabled:true]"},
	} {
		if got := fmt.Sprint(a.At(c.name)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestPatchNetworkProtocol(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		body    string
		err     error
		status  int
		keys    []string
		related []string
		want    string // the services that are on
	}{
		{`{"IPMI":{"ProtocolEnabled":true}}`, nil, 200, nil, nil, "HTTPS IPMI SSH"},
		{`{"SSH":{"ProtocolEnabled":false},"IPMI":{"ProtocolEnabled":false}}`, nil, 200, nil, nil, "HTTPS"},
		{`{"HTTPS":{"ProtocolEnabled":false}}`, nil, 400, []string{"PropertyValueConflict"}, []string{"#/HTTPS/ProtocolEnabled"}, "HTTPS"},
		{`{"HTTPS":{"ProtocolEnabled":true}}`, nil, 200, nil, nil, "HTTPS"},
		{`{"SSH":{"ProtocolEnabled":true}}`, nil, 200, nil, nil, "HTTPS SSH"},
		{`{"HTTPS":{"ProtocolEnabled":false},"SSH":{"ProtocolEnabled":false}}`, nil, 200, []string{"PropertyValueConflict"}, []string{"#/SSH/ProtocolEnabled"}, "SSH"},
		{`{"HTTPS":{"ProtocolEnabled":true}}`, nil, 200, nil, nil, "HTTPS SSH"},
		{`{"SSH":{"Port":2222}}`, nil, 400, []string{"PropertyNotWritable"}, []string{"#/SSH/Port"}, "HTTPS SSH"},
		{`{"SSH":{"ProtocolEnabled":"no"}}`, nil, 400, []string{"PropertyValueTypeError"}, []string{"#/SSH/ProtocolEnabled"}, "HTTPS SSH"},
		{`{"SSH":{"ProtocolEnabled":false}}`, errors.New("disk"), 500, []string{"PropertyNotUpdated"}, []string{"#/SSH/ProtocolEnabled"}, "HTTPS SSH"},
		{`{"HTTP":{"ProtocolEnabled":true}}`, nil, 400, []string{"PropertyNotWritable"}, []string{"#/HTTP/ProtocolEnabled"}, "HTTPS SSH"},
		{`{"RFB":{"ProtocolEnabled":true}}`, nil, 400, []string{"PropertyUnknown"}, []string{"#/RFB"}, "HTTPS SSH"},
		{`{"HostName":"x"}`, nil, 400, []string{"PropertyNotWritable"}, []string{"#/HostName"}, "HTTPS SSH"},
	} {
		r.fail(c.err)
		r.patch(t, resource.NetworkProtocolURI, c.body, c.status, c.keys, c.related)
		var on string
		for _, s := range []Service{HTTPS, IPMI, SSH} {
			if r.enabled[s] {
				on += " " + string(s)
			}
		}
		if on != " "+c.want {
			t.Errorf("%s: on are%s, want %s", c.body, on, c.want)
		}
	}
	r.fail(nil)
	r.Want(redfishtest.Call{Method: "PATCH", URI: resource.NetworkProtocolURI, User: "oper", Body: `{"IPMI":{"ProtocolEnabled":true}}`}, 403, "InsufficientPrivilege")
}

func TestPatchNTP(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		ntp     string
		err     error
		status  int
		keys    []string
		related []string
		want    string
	}{
		{`{"NTPServers":["a.example","b.example"]}`, nil, 200, nil, nil, "true [a.example b.example]"},
		{`{"NTPServers":[null,"b.example"]}`, nil, 200, nil, nil, "true [b.example]"},
		{`{"NTPServers":["a.example","b.example"]}`, nil, 200, nil, nil, "true [a.example b.example]"},
		{`{"NTPServers":[{},"d.example"]}`, nil, 200, nil, nil, "true [a.example d.example]"},
		{`{"NTPServers":["b.example"]}`, nil, 200, nil, nil, "true [b.example]"},
		{`{"NTPServers":[{},{},null]}`, nil, 200, nil, nil, "true [b.example]"},
		{`{"NTPServers":[7]}`, nil, 400, []string{"PropertyValueTypeError"}, []string{"#/NTP/NTPServers/0"}, "true [b.example]"},
		{`{"NTPServers":[{"a":1}]}`, nil, 400, []string{"PropertyValueTypeError"}, []string{"#/NTP/NTPServers/0"}, "true [b.example]"},
		{`{"NTPServers":"b.example"}`, nil, 400, []string{"PropertyValueTypeError"}, []string{"#/NTP/NTPServers"}, "true [b.example]"},
		{`{"NTPServers":["x y"]}`, &settings.Error{Pointer: "/time/servers/0"}, 400, []string{"PropertyValueIncorrect"}, []string{"#/NTP/NTPServers/0"}, "true [b.example]"},
		{`{"NTPServers":["x"]}`, &settings.Error{Pointer: "/time/servers"}, 400, []string{"PropertyValueIncorrect"}, []string{"#/NTP/NTPServers"}, "true [b.example]"},
		{`{"NTPServers":["x"]}`, errors.New("disk"), 500, []string{"PropertyNotUpdated"}, []string{"#/NTP"}, "true [b.example]"},
		{`{"ProtocolEnabled":false,"NTPServers":[]}`, nil, 200, nil, nil, "false []"},
		{`{"Port":124}`, nil, 400, []string{"PropertyNotWritable"}, []string{"#/NTP/Port"}, "false []"},
		{`{"ProtocolEnabled":false}`, nil, 200, nil, nil, "false []"},
	} {
		r.fail(c.err)
		r.patch(t, resource.NetworkProtocolURI, `{"NTP":`+c.ntp+`}`, c.status, c.keys, c.related)
		if got := fmt.Sprint(r.ntp, r.servers); got != c.want {
			t.Errorf("%s: got %s, want %s", c.ntp, got, c.want)
		}
	}
}
