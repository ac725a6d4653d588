package media

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/nitrino/nitrino/host"
)

// LibraryPath is what the path of an image of the library begins with.
const LibraryPath = "/media/"

// A Source says what to insert.
type Source struct {
	// Image is an http or https URL, or LibraryPath and the name of an image of
	// the library.
	Image string
	// UserName and Password are for the server (RFC 7617). Those in the URL are
	// taken where these are empty.
	UserName, Password string
	// VerifyCertificate: the server's certificate has to be one that the system
	// trusts, and no redirection leads away from https.
	VerifyCertificate bool
	// WriteProtected: the host cannot write. What it writes to an image of the
	// library is in that image; what it writes to one from a server stays on the
	// board, never goes to the server, and is lost when the medium is ejected or
	// the board loses power. A CD is always write-protected.
	WriteProtected bool
	// Kind is what the host takes the image for; empty: a CD where it is one and
	// the drive can, else the drive's usual kind.
	Kind host.MediumKind
}

// parseSource checks s and returns it in its usual form, and the name in the
// library or the URL.
func parseSource(s Source) (Source, string, *url.URL, error) {
	if name, ok := strings.CutPrefix(s.Image, LibraryPath); ok {
		if !validName(name) {
			return s, "", nil, ErrName
		}
		s.UserName, s.Password = "", ""
		return s, name, nil, nil
	}
	u, err := url.Parse(s.Image)
	if err != nil {
		return s, "", nil, ErrScheme // the error would show a password that is in the URL
	}
	u.Scheme = strings.ToLower(u.Scheme)
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "" {
		return s, "", nil, ErrScheme
	}
	if u.User != nil {
		if s.UserName == "" {
			s.UserName = u.User.Username()
			s.Password, _ = u.User.Password()
		}
		u.User = nil
	}
	u.Fragment, u.RawFragment = "", ""
	s.Image = u.String()
	if len(s.Image) > 2048 {
		return s, "", nil, fmt.Errorf("%w: the URL is too long", ErrScheme)
	}
	return s, "", u, nil
}

// imageName is the image's file name, for people.
func imageName(u *url.URL) string {
	if name := path.Base(u.Path); name != "." && name != "/" {
		return name
	}
	return u.Hostname()
}

// shown is the URL as events and logs name it: a query may be a secret.
func shown(u *url.URL) string {
	s := *u
	s.User, s.RawQuery, s.ForceQuery = nil, "", false
	return s.String()
}

// validName keeps to names that are the same in a URL, a file system and a
// header.
func validName(name string) bool {
	if len(name) < 1 || len(name) > 128 || name[0] == '.' {
		return false
	}
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("._-+", r):
		default:
			return false
		}
	}
	return true
}
