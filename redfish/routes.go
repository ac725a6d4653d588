package redfish

import (
	"slices"
	"strings"

	"github.com/nitrino/nitrino/auth"
)

// A privilege is a set of Redfish's standard privileges (DSP0266, Privilege
// model). A method needs any one of its set; the empty set needs no login.
type privilege uint8

const (
	login privilege = 1 << iota
	configureManager
	configureUsers
	configureSelf
	configureComponents

	noAuth privilege = 0
)

// privilegesOf lists what the predefined roles may do (DSP0266, Roles); they
// cannot be changed.
func privilegesOf(r auth.Role) privilege {
	switch r {
	case auth.Administrator:
		return login | configureManager | configureUsers | configureSelf | configureComponents
	case auth.Operator:
		return login | configureSelf | configureComponents
	case auth.ReadOnly:
		return login | configureSelf
	}
	return 0
}

// A method is one HTTP method of a route. GET stands for HEAD too.
type method struct {
	name   string
	need   privilege
	handle func(*request) *reply
}

// A route is a URI (a pattern of http.ServeMux) and its methods.
type route struct {
	pattern string
	methods []method
}

func (r route) method(name string) (method, bool) {
	if name == "HEAD" {
		name = "GET"
	}
	i := slices.IndexFunc(r.methods, func(m method) bool { return m.name == name })
	if i < 0 {
		return method{}, false
	}
	return r.methods[i], true
}

// allow is the value of the header Allow.
func (r route) allow() string {
	var names []string
	for _, m := range r.methods {
		names = append(names, m.name)
		if m.name == "GET" {
			names = append(names, "HEAD")
		}
	}
	return strings.Join(names, ", ")
}

// public: every method can be had without login.
func (r route) public() bool {
	return len(r.methods) > 0 && !slices.ContainsFunc(r.methods, func(m method) bool { return m.need != noAuth })
}

// The URIs. Systems have one member, with the id that most tooling assumes.
const (
	versionsURI       = "/redfish"
	rootURI           = "/redfish/v1/"
	odataURI          = "/redfish/v1/odata"
	metadataURI       = "/redfish/v1/$metadata"
	systemsURI        = "/redfish/v1/Systems"
	systemURI         = systemsURI + "/system"
	resetURI          = systemURI + "/Actions/ComputerSystem.Reset"
	sessionServiceURI = "/redfish/v1/SessionService"
	sessionsURI       = sessionServiceURI + "/Sessions"
)

// routes is the whole service. The privileges are those of DMTF's
// Redfish_1.8.0_PrivilegeRegistry.
func (s *Service) routes() []route {
	const get, post, patch, del = "GET", "POST", "PATCH", "DELETE"
	all := []route{
		{versionsURI, []method{{get, noAuth, s.getVersions}}},
		{strings.TrimSuffix(rootURI, "/"), []method{{get, noAuth, s.getRoot}}},
		{odataURI, []method{{get, noAuth, s.getOData}}},
		{metadataURI, []method{{get, noAuth, s.getMetadata}}},
		{systemsURI, []method{{get, login, s.getSystems}}},
		{systemURI, []method{{get, login, s.getSystem}, {patch, configureComponents, s.patchSystem}}},
		{sessionServiceURI, []method{{get, login, s.getSessionService}, {patch, configureManager, s.patchSessionService}}},
		// Who logs in has no session yet; and a POST to a collection's
		// Members is one to the collection (DSP0266, POST (create)).
		{sessionsURI, []method{{get, login, s.getSessions}, {post, noAuth, s.postSession}}},
		{sessionsURI + "/Members", []method{{post, noAuth, s.postSession}}},
		{sessionsURI + "/{id}", []method{
			{get, configureManager | configureSelf, s.getSession},
			{del, configureManager | configureSelf, s.deleteSession},
		}},
	}
	if s.resets != nil {
		all = append(all, route{resetURI, []method{{post, configureComponents, s.postReset}}})
	}
	return all
}

// actionOf is the name of the action that a URI invokes, "" for no action.
func actionOf(uri string) string {
	_, name, _ := strings.Cut(uri, "/Actions/")
	return name
}
