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
// random ones where password is empty) and writes them to path, in clear and
// for its owner alone. At other starts it answers what is at path, which is no
// longer right once somebody changed it.
func (b *BMC) Login(path, password string) (Login, error) {
	l := Login{auth.FirstUser, password, password}
	switch {
	case !b.Users.HasAdministrator():
		if password == "" {
			c := auth.RandomCredentials()
			l = Login{c.User, c.Password, c.IPMISecret}
		}
		// The file comes first: a cut after it costs nothing, and one before
		// it would leave an administrator whose password nobody knows.
		if err := l.save(path); err != nil {
			return Login{}, err
		}
		if _, _, err := b.Users.FirstStart(l.Password, l.IPMIPassword); err != nil {
			return Login{}, fmt.Errorf("the first login: %w", err)
		}
		return l, nil
	case password != "":
		err := errors.Join(b.Users.SetPassword(l.User, password, auth.Attempt{}), b.Users.SetIPMISecret(l.User, password, auth.Attempt{}))
		if err != nil {
			return Login{}, fmt.Errorf("the password of %s: %w", l.User, err)
		}
		return l, l.save(path)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
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
