package bmc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/nbd"
	"github.com/nitrino/nitrino/block/volume"
)

// A VolumeSettings is a volume that shall be there. It is made where it is missing
// and grown where it is smaller; settings never shrink or delete one.
type VolumeSettings struct {
	Name string `json:"name"`
	// Size is in bytes; 0: that of what it is made of.
	Size int64 `json:"size,omitzero"`
	// BlockSize is 512 or 4096; 0: 512, or that of what it is made of.
	BlockSize int `json:"block_size,omitzero"`
	// At most one of these says what it is made of.
	Clone    string         `json:"clone,omitzero"`    // an image or a snapshot
	Upstream string         `json:"upstream,omitzero"` // an NBD URI
	Image    *ImageSettings `json:"image,omitzero"`
}

// An ImageSettings is a file on a web server, which becomes a golden image.
type ImageSettings struct {
	URL string `json:"url"`
	// SHA256 is what the file must have, 64 hexadecimal digits.
	SHA256 string `json:"sha256,omitzero"`
	// Format is "raw" or "qcow2"; empty: what it looks like.
	Format string `json:"format,omitzero"`
}

// ISCSISettings are those of iSCSI.
type ISCSISettings struct {
	Enabled bool           `json:"enabled"`
	Targets []block.Target `json:"targets"`
}

// Limits of the settings.
const (
	maxVolumes    = 1024
	maxTargets    = 1024
	maxLUNs       = 256
	maxInitiators = 64
	maxAlias      = 255
	maxURL        = 2048
	maxVolumeSize = volume.MaxSize
)

// checkVolumes answers what is wrong with the volumes, and where in the list.
func checkVolumes(list []VolumeSettings) (pointer string, err error) {
	if len(list) > maxVolumes {
		return "", fmt.Errorf("%d volumes are more than %d", len(list), maxVolumes)
	}
	seen := make(map[string]bool, len(list))
	for i, v := range list {
		if field, err := v.check(); err != nil {
			return fmt.Sprintf("/%d%s", i, field), err
		}
		if seen[v.Name] {
			return fmt.Sprintf("/%d/name", i), fmt.Errorf("the name %s stands twice", v.Name)
		}
		seen[v.Name] = true
	}
	return "", nil
}

func (v VolumeSettings) check() (field string, err error) {
	if err := checkVolumeName(v.Name); err != nil {
		return "/name", err
	}
	sources := 0
	for _, there := range []bool{v.Clone != "", v.Upstream != "", v.Image != nil} {
		if there {
			sources++
		}
	}
	switch {
	case sources > 1:
		return "", errors.New("a volume is made of one of clone, upstream and image")
	case v.Size < 0 || v.Size > maxVolumeSize || v.Size%block.SectorSize != 0 || v.BlockSize == 4096 && v.Size%4096 != 0:
		return "/size", fmt.Errorf("a volume has at most %d bytes, in whole blocks", int64(maxVolumeSize))
	case v.Size == 0 && sources == 0:
		return "/size", errors.New("an empty volume needs a size")
	case v.BlockSize != 0 && v.BlockSize != 512 && v.BlockSize != 4096:
		return "/block_size", errors.New("blocks have 512 or 4096 bytes")
	case v.Clone != "" && checkVolumeName(v.Clone) != nil:
		return "/clone", checkVolumeName(v.Clone)
	case hasUser(v.Upstream):
		return "/upstream", errUser
	case v.Upstream != "" && (len(v.Upstream) > maxURL || nbd.Check(v.Upstream) != nil):
		return "/upstream", errors.New("want nbd://host/export or nbds://host/export")
	case v.Image == nil:
		return "", nil
	case hasUser(v.Image.URL):
		return "/image/url", errUser
	case !isURL(v.Image.URL, "http", "https"):
		return "/image/url", errors.New("want an http or https URL")
	case v.Image.SHA256 != "" && !isHex(v.Image.SHA256, 32):
		return "/image/sha256", errors.New("want 64 hexadecimal digits")
	case v.Image.Format != "" && v.Image.Format != "raw" && v.Image.Format != "qcow2":
		return "/image/format", errors.New("want raw or qcow2")
	}
	return "", nil
}

// checkVolumeName takes what block.CreateRequest does.
func checkVolumeName(name string) error {
	ok := len(name) >= 1 && len(name) <= 63
	for i, c := range name {
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || i > 0 && strings.ContainsRune("-_.", c))
	}
	if !ok {
		return fmt.Errorf("%.80q is not a volume's name (1 to 63 of a-z, 0-9, '-', '_' and '.', a letter or digit first)", name)
	}
	return nil
}

func isURL(text string, schemes ...string) bool {
	u, err := url.Parse(text)
	return err == nil && len(text) <= maxURL && slices.Contains(schemes, strings.ToLower(u.Scheme)) && u.Hostname() != ""
}

// errUser refuses what the settings and the events of their changes would show.
var errUser = errors.New("no user or password can be in this URL, since settings are shown (the command volume import takes one)")

// hasUser says whether there is a user, and perhaps a password, before a URL's host;
// what cannot be parsed may have one.
func hasUser(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.User != nil || err != nil && strings.Contains(text, "@")
}

func isHex(text string, bytes int) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == bytes
}

// check answers what is wrong with the section, and where in it. No error shows a
// secret.
func (s ISCSISettings) check() (pointer string, err error) {
	if len(s.Targets) > maxTargets {
		return "/targets", fmt.Errorf("%d targets are more than %d", len(s.Targets), maxTargets)
	}
	seen := make(map[string]bool, len(s.Targets))
	for i, t := range s.Targets {
		at := fmt.Sprintf("/targets/%d", i)
		if field, err := checkTarget(t); err != nil {
			return at + field, err
		}
		if seen[t.Name] {
			return at + "/name", fmt.Errorf("the name %s stands twice", t.Name)
		}
		seen[t.Name] = true
	}
	// Who is given the one to check a target by could answer as an initiator with it,
	// also of another target (RFC 7143 section 9.2.1).
	for i, t := range s.Targets {
		if t.Mutual.Secret == "" {
			continue
		}
		for _, o := range s.Targets {
			if o.CHAP.Secret == t.Mutual.Secret {
				return fmt.Sprintf("/targets/%d/mutual_chap/secret", i), fmt.Errorf("the secret is also that of chap of %s: no secret may serve both directions (RFC 7143 section 9.2.1)", o.Name)
			}
		}
	}
	return "", nil
}

func checkTarget(t block.Target) (field string, err error) {
	if err := checkISCSIName(t.Name); err != nil {
		return "/name", err
	}
	if len(t.Alias) > maxAlias || strings.ContainsFunc(t.Alias, func(c rune) bool { return c < ' ' || c == 0x7F }) {
		return "/alias", fmt.Errorf("an alias has at most %d bytes, and no control characters", maxAlias)
	}
	if len(t.LUNs) > maxLUNs {
		return "/luns", fmt.Errorf("%d logical units are more than %d", len(t.LUNs), maxLUNs)
	}
	numbers := make(map[uint16]bool, len(t.LUNs))
	for i, l := range t.LUNs {
		at := fmt.Sprintf("/luns/%d", i)
		if err := checkVolumeName(l.Volume); err != nil {
			return at + "/volume", err
		}
		switch {
		case l.Number >= maxLUNs:
			return at + "/lun", fmt.Errorf("%d is not between 0 and %d", l.Number, maxLUNs-1)
		case numbers[l.Number]:
			return at + "/lun", fmt.Errorf("the number %d stands twice", l.Number)
		}
		numbers[l.Number] = true
	}
	if len(t.Initiators) > maxInitiators {
		return "/initiators", fmt.Errorf("%d initiators are more than %d", len(t.Initiators), maxInitiators)
	}
	for i, name := range t.Initiators {
		if err := checkISCSIName(name); err != nil {
			return fmt.Sprintf("/initiators/%d", i), err
		}
	}
	if field, err := checkCredentials(t.CHAP); err != nil {
		return "/chap" + field, err
	}
	if field, err := checkCredentials(t.Mutual); err != nil {
		return "/mutual_chap" + field, err
	}
	switch {
	case t.Mutual.User != "" && t.CHAP.User == "":
		return "/mutual_chap", errors.New("the target proves itself only to who has to prove himself: set chap too")
	case t.Mutual.User != "" && t.Mutual.Secret == t.CHAP.Secret:
		return "/mutual_chap/secret", errors.New("the secrets of both directions must differ (RFC 7143 section 12.1.3)")
	}
	return "", nil
}

// checkCredentials: RFC 7143 section 12.1.3 wants 96 random bits at least.
func checkCredentials(c block.Credentials) (field string, err error) {
	switch {
	case c.User == "" && c.Secret == "":
		return "", nil
	case c.User == "" || len(c.User) > 255 || strings.ContainsFunc(c.User, func(r rune) bool { return r <= ' ' || r == 0x7F }):
		return "/user", errors.New("a secret needs a user, of 1 to 255 bytes without spaces")
	case c.Secret == hiddenSecret:
		return "/secret", errors.New("the secret is hidden, and there is none that it could stand for")
	case len(c.Secret) < 12 || len(c.Secret) > 255:
		return "/secret", errors.New("a secret has 12 to 255 bytes")
	}
	return "", nil
}

// checkISCSIName takes the names of RFC 7143 section 4.2.7, in their usual form
// (RFC 3722): small letters.
func checkISCSIName(name string) error {
	kind, rest, _ := strings.Cut(name, ".")
	ok := len(name) <= 223
	for _, c := range name {
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.ContainsRune("-.:", c) || c > 0x7F)
	}
	switch kind {
	case "iqn":
		authority, _, _ := strings.Cut(rest, ":")
		month, domain, _ := strings.Cut(authority, ".")
		_, err := time.Parse("2006-01", month)
		ok = ok && err == nil && domain != "" && !slices.Contains(strings.Split(domain, "."), "")
	case "eui":
		ok = ok && isHex(rest, 8)
	case "naa":
		ok = ok && (isHex(rest, 8) || isHex(rest, 16))
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("%.240q is not an iSCSI name (such as iqn.2026-01.com.example:disk0, in small letters)", name)
	}
	return nil
}

// TargetName is the usual name of the target of a volume.
func TargetName(volume string) string {
	// RFC 3722 section 5 has no underscore.
	return "iqn.2026-01.io.nitrino:" + strings.ReplaceAll(volume, "_", "-")
}

// TargetOf is a target of the usual name for one volume, which is its LUN 0. Anybody
// may log in.
func TargetOf(volume string) block.Target {
	return block.Target{Name: TargetName(volume), LUNs: []block.LUN{{Volume: volume}}, Initiators: []string{}}
}

// hiddenSecret is shown in the place of a secret; set again, it leaves that as it is.
const hiddenSecret = "****"

// isSecret says whether what is at a pointer in the settings is a secret.
func isSecret(at jsontext.Pointer) bool {
	names := slices.Collect(at.Tokens())
	return len(names) == 5 && names[0] == "iscsi" && names[1] == "targets" && (names[3] == "chap" || names[3] == "mutual_chap") && names[4] == "secret"
}

// edit copies the JSON text of the part of the settings that is at base, and lets
// change replace the strings that are secrets. What is no JSON is an error.
func edit(base jsontext.Pointer, text []byte, change func(at jsontext.Pointer, secret string) (string, error)) ([]byte, error) {
	in := jsontext.NewDecoder(bytes.NewReader(text))
	var out bytes.Buffer
	enc := jsontext.NewEncoder(&out, jsontext.WithIndent("  "))
	for {
		// A string is a name or a value; only after a value is at its pointer.
		t, err := in.ReadToken()
		if err != nil {
			return nil, err
		}
		kind, n := in.StackIndex(in.StackDepth())
		isName := kind == jsontext.KindBeginObject && n%2 == 1
		at := base + in.StackPointer()
		if t.Kind() == jsontext.KindString && !isName && isSecret(at) {
			s, err := change(at, t.String())
			if err != nil {
				return nil, err
			}
			t = jsontext.String(s)
		}
		if err := enc.WriteToken(t); err != nil {
			return nil, err
		}
		if in.StackDepth() == 0 {
			return out.Bytes(), nil
		}
	}
}

// hideSecrets hides the secrets of a part of the settings.
func hideSecrets(base jsontext.Pointer, text []byte) ([]byte, error) {
	return edit(base, text, func(_ jsontext.Pointer, secret string) (string, error) {
		if secret == "" {
			return "", nil
		}
		return hiddenSecret, nil
	})
}

// secretsIn says whether a path of the settings has secrets in it, and which pointer
// it is.
func secretsIn(path string) (base jsontext.Pointer, ok bool) {
	switch strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", ".") {
	case "":
		return "", true
	case "iscsi":
		return "/iscsi", true
	case "iscsi.targets":
		return "/iscsi/targets", true
	}
	return "", false
}

// Show is settings.Store's, without secrets.
func (s *SettingsStore) Show(path string) ([]byte, error) {
	text, err := s.Store.Show(path)
	if base, ok := secretsIn(path); err == nil && ok {
		return hideSecrets(base, text)
	}
	return text, err
}

// withoutSecrets is a new value of a setting for the log of events.
func withoutSecrets(path, value string) string {
	base, ok := secretsIn(path)
	if !ok {
		return value
	}
	text, err := hideSecrets(base, []byte(value))
	if err == nil {
		err = (*jsontext.Value)(&text).Compact()
	}
	if err != nil {
		return "something else" // it was taken as a string, and has none
	}
	return string(text)
}

// unhide puts the secrets that are hidden in a new value back: they are those of the
// target that has the name now.
func unhide(path, value string, now ISCSISettings) string {
	base, ok := secretsIn(path)
	if !ok || !strings.Contains(value, hiddenSecret) {
		return value
	}
	names, err := targetNames(base, []byte(value))
	if err != nil {
		return value // what is wrong with it is the settings' to say
	}
	text, err := edit(base, []byte(value), func(at jsontext.Pointer, secret string) (string, error) {
		parts := slices.Collect(at.Tokens())
		i := slices.IndexFunc(now.Targets, func(t block.Target) bool { return t.Name != "" && t.Name == names[parts[2]] })
		if secret != hiddenSecret || i < 0 {
			return secret, nil // checkCredentials refuses one that stays hidden
		}
		if parts[3] == "chap" {
			return now.Targets[i].CHAP.Secret, nil
		}
		return now.Targets[i].Mutual.Secret, nil
	})
	if err != nil {
		return value
	}
	return string(text)
}

// targetNames are the names of the targets in a part of the settings, by their
// places in the list.
func targetNames(base jsontext.Pointer, text []byte) (map[string]string, error) {
	names := make(map[string]string)
	in := jsontext.NewDecoder(bytes.NewReader(text))
	for {
		t, err := in.ReadToken()
		if err != nil {
			return nil, err
		}
		parts := slices.Collect((base + in.StackPointer()).Tokens())
		if kind, n := in.StackIndex(in.StackDepth()); len(parts) == 4 && parts[0] == "iscsi" && parts[1] == "targets" && parts[3] == "name" &&
			t.Kind() == jsontext.KindString && kind == jsontext.KindBeginObject && n%2 == 0 {
			names[parts[2]] = t.String()
		}
		if in.StackDepth() == 0 {
			return names, nil
		}
	}
}
