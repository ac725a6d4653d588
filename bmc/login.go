package bmc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/internal/atomicfile"
)

// A Login is what a person needs to get in as the first administrator.
type Login struct {
	User         string `json:"user"`
	Password     string `json:"password"`
	IPMIPassword string `json:"ipmi_password"`
}

// Login makes sure that there is an administrator. On the first start, and
// whenever password is given, it sets password and IPMI secret (the same, or
// where password is empty random ones) and writes them to path, in clear and
// for its owner alone. Where the users are gone and path is still there, what
// it says is set again. At other starts it answers what is at path, which is no
// longer right once somebody changed it.
func (b *BMC) Login(path, password string) (Login, error) {
	l := Login{auth.FirstUser, password, password}
	switch {
	case !b.Users.HasAdministrator():
		l, err := b.firstLogin(path, l)
		if err != nil {
			return Login{}, err
		}
		if err := b.giveKeys(b.Settings.Get().SSHKeys); err != nil {
			b.notApplied(err) // the password does
		}
		return l, nil
	case password != "":
		err := errors.Join(b.Users.SetPassword(l.User, password, auth.Attempt{}), b.Users.SetIPMISecret(l.User, password, auth.Attempt{}))
		if err != nil {
			return Login{}, fmt.Errorf("the password of %s: %w", l.User, err)
		}
		return l, l.save(path)
	}
	kept, err := readLogin(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	return kept, err
}

// firstLogin makes the administrator l; where l has no password, the one at
// path or a random one.
func (b *BMC) firstLogin(path string, l Login) (Login, error) {
	if l.Password == "" {
		kept, err := readLogin(path)
		if err == nil && kept.User == auth.FirstUser && kept.Password != "" && kept.IPMIPassword != "" {
			_, _, err := b.Users.FirstStart(kept.Password, kept.IPMIPassword)
			if err == nil {
				return kept, nil
			}
			b.log.Warn("the kept login cannot be used again", "error", err)
		}
		c := auth.RandomCredentials()
		l = Login{c.User, c.Password, c.IPMISecret}
	}
	// The file comes first: a cut after it costs nothing, and one before it
	// would leave an administrator whose password nobody knows.
	if err := l.save(path); err != nil {
		return Login{}, err
	}
	if _, _, err := b.Users.FirstStart(l.Password, l.IPMIPassword); err != nil {
		return Login{}, fmt.Errorf("the first login: %w", err)
	}
	return l, nil
}

// readLogin reads what save wrote.
func readLogin(path string) (l Login, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	if err != nil {
		return Login{}, fmt.Errorf("the kept login: %w", err)
	}
	return l, nil
}

func (l Login) save(path string) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, text, 0o600)
}
