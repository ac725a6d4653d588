package account

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const keyType = "Key.v1_4_1.Key"

type key struct {
	resource.OData
	// KeyString is an authorized_keys line.
	KeyString string `json:"KeyString"`
	KeyType   string `json:"KeyType"`
	SSH       sshKey `json:"SSH"`
}

type sshKey struct {
	Comment     string `json:"Comment,omitempty"`
	Fingerprint string `json:"Fingerprint"`
}

func keysURI(u auth.User) string { return resource.AccountURI(u) + "/Keys" }

// newKey shows a line that package auth has taken: type, key and comment
// (sshd(8), AUTHORIZED_KEYS FILE FORMAT). Its Id is made of the key, so that it
// stays while other keys come and go.
func newKey(u auth.User, line string) (key, bool) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return key{}, false
	}
	wire, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return key{}, false
	}
	sum := sha256.Sum256(wire)
	id := hex.EncodeToString(sum[:8])
	return key{
		OData:     resource.NewOData(keysURI(u)+"/"+id, keyType, "SSH Key"),
		KeyString: line,
		KeyType:   "SSH",
		SSH:       sshKey{strings.Join(fields[2:], " "), "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])},
	}, true
}

// keysOf shows a user's keys, each once.
func keysOf(u auth.User) []key {
	var all []key
	for _, line := range u.Keys {
		k, readable := newKey(u, line)
		if readable && !slices.ContainsFunc(all, func(other key) bool { return other.ID == k.ID }) {
			all = append(all, k)
		}
	}
	return all
}

func (s *Service) getKeys(q *resource.Request) *resource.Reply {
	u, problem := s.visible(q)
	if problem != nil {
		return problem
	}
	var uris []string
	for _, k := range keysOf(u) {
		uris = append(uris, k.ODataID)
	}
	return resource.OK(resource.NewCollection(keysURI(u), "KeyCollection", "Key Collection", uris...))
}

func (s *Service) getKey(q *resource.Request) *resource.Reply {
	u, problem := s.visible(q)
	if problem != nil {
		return problem
	}
	id := q.PathValue("key")
	for _, k := range keysOf(u) {
		if k.ID == id {
			return resource.OK(k)
		}
	}
	return resource.Fail(message.ResourceNotFound("Key", id))
}

// postKey adds a key that the user can log in to SSH with.
func (s *Service) postKey(q *resource.Request) *resource.Reply {
	u, problem := s.visible(q)
	if problem != nil {
		return problem
	}
	var line, kind string
	if problems := q.Parameters("", resource.Required(resource.Text("KeyString", &line)), resource.Required(resource.Word("KeyType", []string{"SSH"}, &kind))); problems != nil {
		return resource.Fail(problems...)
	}
	line = strings.TrimSpace(line) // files end in a newline
	made, readable := newKey(u, line)
	if err := auth.CheckKey(line); err != nil || !readable {
		s.opt.Log.Info("SSH key refused", "user", u.Name, "error", err)
		return resource.Fail(message.PropertyValueFormatError(line, "KeyString").About(message.Pointer("KeyString")))
	}
	s.keys.Lock()
	defer s.keys.Unlock()
	if u, problem = s.visible(q); problem != nil {
		return problem
	}
	if slices.ContainsFunc(keysOf(u), func(k key) bool { return k.ID == made.ID }) {
		return resource.Fail(message.ResourceAlreadyExists("Key", "KeyString", line).About(message.Pointer("KeyString")))
	}
	if len(u.Keys) >= auth.MaxKeys {
		return resource.Fail(message.CreateLimitReachedForResource())
	}
	if err := s.opt.Auth.SetKeys(u.Name, append(u.Keys, line), q.Attempt); err != nil {
		return resource.Fail(s.problem(err, "KeyString", line)...)
	}
	return resource.Created(made, made.ODataID)
}

// deleteKey takes the key away, however often it is there.
func (s *Service) deleteKey(q *resource.Request) *resource.Reply {
	s.keys.Lock()
	defer s.keys.Unlock()
	u, problem := s.visible(q)
	if problem != nil {
		return problem
	}
	id := q.PathValue("key")
	rest := slices.DeleteFunc(slices.Clone(u.Keys), func(line string) bool {
		k, readable := newKey(u, line)
		return readable && k.ID == id
	})
	if len(rest) == len(u.Keys) {
		return resource.Fail(message.ResourceNotFound("Key", id))
	}
	if err := s.opt.Auth.SetKeys(u.Name, rest, q.Attempt); err != nil {
		return resource.Fail(s.failure(err))
	}
	return resource.NoContent()
}
