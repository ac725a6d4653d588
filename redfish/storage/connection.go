package storage

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// connectionURI is the URI of a target's connection, whose Id is the target's name.
func connectionURI(target string) string { return connectionsURI + "/" + url.PathEscape(target) }

// A connection is a target with what it shows, and to whom: there is one for each.
// Without initiators it is shown to all that can prove who they are.
type connection struct {
	resource.OData
	ConnectionType string            `json:"ConnectionType"`
	Status         resource.Status   `json:"Status"`
	VolumeInfo     []volumeInfo      `json:"VolumeInfo"`
	ConnectionKeys connectionKeys    `json:"ConnectionKeys"`
	Links          connectionLinks   `json:"Links"`
	OEM            connectionOEM     `json:"Oem"`
	Writeable      []string          `json:"@Redfish.WriteableProperties"`
	Actions        connectionActions `json:"Actions"`
}

type connectionActions struct {
	Add    resource.Action `json:"#Connection.AddVolumeInfo"`
	Remove resource.Action `json:"#Connection.RemoveVolumeInfo"`
}

type volumeInfo struct {
	Volume             *resource.Link `json:"Volume,omitempty"` // absent where the volume is
	LUN                uint16         `json:"LUN"`
	AccessCapabilities []string       `json:"AccessCapabilities"`
}

type connectionKeys struct {
	CHAP chapKey `json:"CHAP"`
}

// A chapKey has no passwords: they are never told. Name and password are what an
// initiator proves; the target's password is what the target proves in turn.
type chapKey struct {
	CHAPUsername       *string `json:"CHAPUsername"`
	CHAPPassword       *string `json:"CHAPPassword"`
	TargetCHAPPassword *string `json:"TargetCHAPPassword"`
}

type connectionLinks struct {
	InitiatorEndpoints []resource.Link `json:"InitiatorEndpoints"`
	TargetEndpoints    []resource.Link `json:"TargetEndpoints"`
}

type connectionOEM struct {
	Nitrino nitrinoConnection `json:"Nitrino"`
}

// A nitrinoConnection is what Connection has no words for.
type nitrinoConnection struct {
	Type  string `json:"@odata.type"`
	Alias string `json:"Alias"`
	// CDLUNs are the logical units that are CD-ROM drives.
	CDLUNs []uint16 `json:"CDLUNs"`
	// TargetCHAPUsername goes with TargetCHAPPassword; by default it is the target's
	// name.
	TargetCHAPUsername *string `json:"TargetCHAPUsername"`
	// Volumes are the names of those that are shown, in the order of VolumeInfo, also
	// of those that are not there.
	Volumes  []string  `json:"Volumes"`
	Sessions []session `json:"Sessions"`
	Failed   *string   `json:"Failed,omitempty"` // what is not served, and why
}

// A session is an initiator that is logged in.
type session struct {
	Initiator string  `json:"Initiator"`
	ISID      string  `json:"ISID"`
	Address   string  `json:"Address"`
	User      *string `json:"CHAPUsername,omitempty"`
	Since     string  `json:"Since"`
}

func (s *Service) getConnections(*resource.Request) *resource.Reply {
	var uris []string
	for _, t := range s.Disks.Targets() {
		uris = append(uris, connectionURI(t.Name))
	}
	return resource.OK(resource.NewCollection(connectionsURI, "ConnectionCollection", "Connection Collection", uris...))
}

func (s *Service) getConnection(q *resource.Request) *resource.Reply {
	t, problem := s.target(q.PathValue("id"))
	if problem != nil {
		return problem
	}
	return resource.OK(s.connection(t))
}

// target finds one by its name.
func (s *Service) target(name string) (block.Target, *resource.Reply) {
	all := s.Disks.Targets()
	i := slices.IndexFunc(all, func(t block.Target) bool { return t.Name == name })
	if i < 0 {
		return block.Target{}, resource.Fail(message.ResourceNotFound("Connection", name))
	}
	return all[i], nil
}

func (s *Service) connection(t block.Target) connection {
	uri := connectionURI(t.Name)
	r := connection{
		OData:          resource.OData{ODataID: uri, ODataType: "#" + connectionType, ID: t.Name, Name: t.Name},
		ConnectionType: "Storage",
		Status:         s.targetStatus(t),
		VolumeInfo:     []volumeInfo{},
		ConnectionKeys: connectionKeys{chapKey{CHAPUsername: known(t.CHAP.User)}},
		Links:          connectionLinks{[]resource.Link{}, resource.Links(endpointURI(t.Name))},
		OEM: connectionOEM{nitrinoConnection{Type: "#NitrinoConnection.v1_0_0.Connection", Alias: t.Alias, CDLUNs: []uint16{},
			TargetCHAPUsername: known(t.Mutual.User), Volumes: []string{}, Sessions: []session{}}},
		Writeable: []string{"CHAPPassword", "CHAPUsername", "ConnectionKeys", "InitiatorEndpoints", "TargetCHAPPassword", "VolumeInfo"},
		Actions:   connectionActions{resource.Action{Target: uri + "/Actions/" + addName}, resource.Action{Target: uri + "/Actions/" + removeName}},
	}
	oem := &r.OEM.Nitrino
	for _, l := range t.LUNs {
		v := volumeInfo{LUN: l.Number, AccessCapabilities: []string{}}
		if i, err := s.Disks.Get(l.Volume); err == nil {
			v.Volume, v.AccessCapabilities = &resource.Link{ODataID: volumeURI(l.Volume)}, access(i.Kind)
			if l.CD {
				v.AccessCapabilities = []string{canRead}
			}
		}
		if l.CD {
			oem.CDLUNs = append(oem.CDLUNs, l.Number)
		}
		r.VolumeInfo, oem.Volumes = append(r.VolumeInfo, v), append(oem.Volumes, l.Volume)
	}
	for _, name := range t.Initiators {
		r.Links.InitiatorEndpoints = append(r.Links.InitiatorEndpoints, resource.Link{ODataID: endpointURI(name)})
	}
	for _, o := range s.Disks.Sessions() {
		if o.Target == t.Name {
			oem.Sessions = append(oem.Sessions, session{o.Initiator, o.ISID, o.Address, known(o.User), when(o.Since)})
		}
	}
	if s.TargetFailed != nil {
		oem.Failed = known(s.TargetFailed(t.Name))
	}
	return r
}

// A change is what a request wants of a target.
type change struct {
	target block.Target
	cds    *[]uint16 // nil: not said
}

// commit makes the change of the target, by an action where that is not empty.
func (s *Service) commit(q *resource.Request, c *change, action string) []message.Message {
	t := &c.target
	if c.cds != nil {
		t.LUNs = slices.Clone(t.LUNs)
		for i := range t.LUNs {
			t.LUNs[i].CD = slices.Contains(*c.cds, t.LUNs[i].Number)
		}
	}
	if t.Mutual.Secret != "" && t.Mutual.User == "" {
		t.Mutual.User = t.Name
	}
	err := s.Disks.PutTarget(q.Context(), *t, q.Origin())
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[*settings.Error](err); ok {
		if m, ok := wrongValue(wrong, action); ok {
			return []message.Message{m}
		}
	}
	return []message.Message{s.problem(err, t.Name)}
}

// wrongValue is the message for what the settings, which targets are kept in, say of
// a part of a target; false: it is of none that has a property.
func wrongValue(e *settings.Error, action string) (message.Message, bool) {
	rest, ok := strings.CutPrefix(e.Pointer, "/iscsi/targets/")
	at := strings.Split(rest, "/")[1:] // behind the target's place in the list
	var path []string
	switch {
	case !ok || len(at) == 0:
		return message.Message{}, false
	case at[0] == "name":
		path = []string{"Name"}
	case at[0] == "alias":
		path = []string{"Oem", "Nitrino", "Alias"}
	case at[0] == "initiators":
		path = append([]string{"Links", "InitiatorEndpoints"}, at[1:]...)
	case at[0] == "luns" && slices.Contains(at, "lun"):
		path = []string{"VolumeInfo", at[1], "LUN"}
	case at[0] == "luns":
		path = append([]string{"VolumeInfo"}, at[1:min(len(at), 2)]...)
	case at[0] == "chap" && slices.Contains(at, "user"):
		path = []string{"ConnectionKeys", "CHAP", "CHAPUsername"}
	case at[0] == "chap":
		path = []string{"ConnectionKeys", "CHAP", "CHAPPassword"}
	case at[0] == "mutual_chap" && slices.Contains(at, "user"):
		path = []string{"Oem", "Nitrino", "TargetCHAPUsername"}
	case at[0] == "mutual_chap":
		path = []string{"ConnectionKeys", "CHAP", "TargetCHAPPassword"}
	default:
		return message.Message{}, false
	}
	name := path[len(path)-1]
	if _, err := strconv.Atoi(name); err == nil { // an element is known by its array
		name = path[len(path)-2]
	}
	m := message.PropertyValueError(name).About(message.Pointer(path...))
	if action != "" {
		m = message.ActionParameterValueError(name, action).About(message.Pointer(name))
	}
	return advise(m, sentence(errors.New(e.Problem))), true
}

// properties are those of a connection that can be written, in c. shown is what
// they are now.
func (s *Service) properties(c *change, shown connection) []resource.Property {
	t := &c.target
	was := []unit{}
	for _, l := range t.LUNs {
		was = append(was, unit{LUN: l, numbered: true})
	}
	user := func(name string, of *block.Credentials, more ...*block.Credentials) resource.Property {
		return resource.Nullable(resource.String(name, func(text string) []message.Message { of.User = text; return nil }), func() []message.Message {
			for _, each := range append(more, of) { // who proves nothing has nothing proven to him
				*each = block.Credentials{}
			}
			return nil
		})
	}
	// A password is null where a client sends back what it has read.
	secret := func(name string, of *block.Credentials) resource.Property {
		return resource.Nullable(resource.Secret(name, func(text string) []message.Message { of.Secret = text; return nil }), func() []message.Message { return nil })
	}
	return []resource.Property{
		{Name: "VolumeInfo", Set: func(value any) (bool, []message.Message) {
			units, problems := resource.Elements("VolumeInfo", value, was, s.volumeInfo)
			if problems != nil {
				return false, problems
			}
			t.LUNs = numbered(units)
			return true, nil
		}},
		resource.Group("ConnectionKeys", shown.ConnectionKeys, resource.Group("CHAP", shown.ConnectionKeys.CHAP,
			user("CHAPUsername", &t.CHAP, &t.Mutual), secret("CHAPPassword", &t.CHAP), secret("TargetCHAPPassword", &t.Mutual))),
		resource.Group("Links", shown.Links, initiators(&t.Initiators)),
		resource.Group("Oem", shown.OEM, resource.Group("Nitrino", shown.OEM.Nitrino,
			resource.String("Alias", func(text string) []message.Message { t.Alias = text; return nil }),
			cdLUNs(&c.cds), user("TargetCHAPUsername", &t.Mutual))),
	}
}

// initiators is the property InitiatorEndpoints. An endpoint is there as soon as a
// connection names it, so any may be linked to.
func initiators(to *[]string) resource.Property {
	const name = "InitiatorEndpoints"
	was := slices.Clone(*to)
	return resource.Property{Name: name, Set: func(value any) (bool, []message.Message) {
		all, problems := resource.Elements(name, value, was, func(_ *string, value any) (string, []message.Message) {
			id, ok := linked(value, endpointsURI)
			if !ok {
				return "", []message.Message{message.PropertyValueFormatError(value, name)}
			}
			return id, nil
		})
		if problems != nil {
			return false, problems
		}
		*to = all
		return true, nil
	}}
}

// cdLUNs is the property CDLUNs.
func cdLUNs(to **[]uint16) resource.Property {
	const name = "CDLUNs"
	return resource.Property{Name: name, Set: func(value any) (bool, []message.Message) {
		list, isList := value.([]any)
		numbers := []uint16{}
		for _, each := range list {
			n, isNumber := each.(json.Number)
			i, err := n.Int64()
			if !isNumber || err != nil || i < 0 || i > maxLUN {
				return false, []message.Message{message.PropertyValueOutOfRange(each, name).About(message.Pointer(name))}
			}
			numbers = append(numbers, uint16(i))
		}
		if !isList {
			return false, []message.Message{message.PropertyValueTypeError(value, name).About(message.Pointer(name))}
		}
		*to = &numbers
		return true, nil
	}}
}

// maxLUN is the greatest number of a logical unit.
const maxLUN = 255

// A unit is a logical unit of a request; numbered: which one, was said.
type unit struct {
	block.LUN
	numbered bool
}

// numbered gives the units that have no number the least that are free.
func numbered(units []unit) []block.LUN {
	taken := map[uint16]bool{}
	for _, u := range units {
		taken[u.Number] = taken[u.Number] || u.numbered
	}
	luns := []block.LUN{}
	for _, u := range units {
		for !u.numbered && taken[u.Number] {
			u.Number++
		}
		taken[u.Number] = true
		luns = append(luns, u.LUN)
	}
	return luns
}

// volumeInfo reads an element of VolumeInfo.
func (s *Service) volumeInfo(was *unit, value any) (u unit, problems []message.Message) {
	body, isObject := value.(resource.Object)
	if !isObject {
		return u, []message.Message{message.PropertyValueTypeError(value, "VolumeInfo")}
	}
	if was != nil {
		u = *was
	}
	problems = s.readUnit(&resource.Request{Body: body}, "", &u)
	return u, problems
}

// readUnit reads the properties of a unit, or the parameters of an action.
// AccessCapabilities follow from the volume, and may be said.
func (s *Service) readUnit(q *resource.Request, action string, u *unit) []message.Message {
	number, may := int64(-1), []string(nil)
	link := s.volumeLink("Volume", &u.Volume)
	link.Required = u.Volume == ""
	problems := q.Parameters(action, link, resource.Count("LUN", 0, maxLUN, &number), resource.Texts("AccessCapabilities", &may))
	if problems == nil && action != "" && number < 0 && may == nil { // the schema wants one of them
		problems = append(problems, message.ActionParameterMissing(action, "LUN").About(message.Pointer("LUN")))
	}
	if problems != nil {
		return problems
	}
	if number >= 0 {
		u.Number, u.numbered = uint16(number), true
	}
	i, err := s.Disks.Get(u.Volume)
	if err != nil || may == nil {
		return nil
	}
	slices.Sort(may)
	if readable := slices.Equal(may, []string{canRead}) && u.CD; !readable && !slices.Equal(may, access(i.Kind)) {
		m := message.PropertyValueConflict("AccessCapabilities", "Volume")
		if action != "" {
			m = message.ActionParameterValueConflict("AccessCapabilities", may)
		}
		problems = append(problems, m.About(message.Pointer("AccessCapabilities")))
	}
	return problems
}

// postConnection makes a target. Its iSCSI name is Name, by default the usual one for
// the first volume.
func (s *Service) postConnection(q *resource.Request) *resource.Reply {
	var c change
	var kind string
	parameters := []resource.Parameter{resource.Text("Name", &c.target.Name), resource.Word("ConnectionType", []string{"Storage"}, &kind)}
	for _, p := range s.properties(&c, s.connection(block.Target{})) {
		parameters = append(parameters, resource.Parameter{Name: p.Name, Set: func(value any, _ string) *message.Message {
			if _, problems := p.Set(value); problems != nil {
				return &problems[0]
			}
			return nil
		}})
	}
	problems := q.Parameters("", parameters...)
	t := &c.target
	if t.Name == "" && len(t.LUNs) > 0 {
		t.Name = s.Disks.TargetName(t.LUNs[0].Volume)
	}
	switch _, missing := s.target(t.Name); {
	case problems != nil:
	case t.Name == "":
		problems = append(problems, message.PropertyMissing("Name").About(message.Pointer("Name")))
	case missing == nil:
		problems = append(problems, message.ResourceAlreadyExists("Connection", "Name", t.Name))
	default:
		problems = s.commit(q, &c, "")
	}
	if problems != nil {
		return resource.Fail(problems...)
	}
	made, problem := s.target(t.Name)
	if problem != nil {
		return &resource.Reply{Status: http.StatusNoContent, Location: connectionURI(t.Name)}
	}
	return resource.Created(s.connection(made), connectionURI(t.Name))
}

func (s *Service) patchConnection(q *resource.Request) *resource.Reply {
	t, problem := s.target(q.PathValue("id"))
	if problem != nil {
		return problem
	}
	c := &change{target: t}
	return resource.PatchWhole(q, s.getConnection, func() []message.Message { return s.commit(q, c, "") }, s.properties(c, s.connection(t))...)
}

// postAddVolume shows one more volume.
func (s *Service) postAddVolume(q *resource.Request) *resource.Reply {
	t, problem := s.target(q.PathValue("id"))
	if problem != nil {
		return problem
	}
	var added unit
	if problems := s.readUnit(q, addName, &added); problems != nil {
		return resource.Fail(problems...)
	}
	units := []unit{}
	for _, l := range t.LUNs {
		units = append(units, unit{l, true})
	}
	t.LUNs = numbered(append(units, added))
	return s.showing(q, t, addName)
}

// postRemoveVolume shows a volume no more, or no more under one number.
func (s *Service) postRemoveVolume(q *resource.Request) *resource.Reply {
	t, problem := s.target(q.PathValue("id"))
	if problem != nil {
		return problem
	}
	var name string
	number := int64(-1)
	if problems := q.Parameters(removeName, resource.Required(volumeOf("Volume", &name)), resource.Count("LUN", 0, maxLUN, &number)); problems != nil {
		return resource.Fail(problems...)
	}
	kept := slices.DeleteFunc(slices.Clone(t.LUNs), func(l block.LUN) bool {
		return l.Volume == name && (number < 0 || number == int64(l.Number))
	})
	if len(kept) == len(t.LUNs) {
		return resource.Fail(message.ActionParameterValueError("Volume", removeName).About(message.Pointer("Volume")))
	}
	t.LUNs = kept
	return s.showing(q, t, removeName)
}

// showing puts a target whose units are others now, by an action.
func (s *Service) showing(q *resource.Request, t block.Target, action string) *resource.Reply {
	if problems := s.commit(q, &change{target: t}, action); problems != nil {
		return resource.Fail(problems...)
	}
	return resource.NoContent()
}

// deleteConnection takes the target away, also from who is logged in.
func (s *Service) deleteConnection(q *resource.Request) *resource.Reply {
	name := q.PathValue("id")
	if _, problem := s.target(name); problem != nil {
		return problem
	}
	if err := s.Disks.DeleteTarget(q.Context(), name, q.Origin()); err != nil {
		return resource.Fail(s.problem(err, name))
	}
	return resource.NoContent()
}
