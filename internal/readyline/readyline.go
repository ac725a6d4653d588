// Package readyline is the one line of JSON by which a program tells scripts
// where the board's services answer and who may log in.
package readyline

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
)

// A Line is what scripts read from standard output. What is empty is left out:
// a service that does not answer, a login that the owner has deleted.
type Line struct {
	Redfish string // URL
	SSH     string // host:port
	IPMI    string // host:port
	ISCSI   string // host:port

	User, Password, IPMIPassword string

	// ReadyMS is the time from the program's start, in milliseconds.
	ReadyMS int64
}

// Print writes the line for scripts to stdout, and for people what to try to
// stderr.
func (l Line) Print(stdout, stderr io.Writer) error {
	text, err := json.Marshal(struct {
		Ready        bool   `json:"ready"`
		Redfish      string `json:"redfish,omitempty"`
		SSH          string `json:"ssh,omitempty"`
		IPMI         string `json:"ipmi,omitempty"`
		ISCSI        string `json:"iscsi,omitempty"`
		User         string `json:"user,omitempty"`
		Password     string `json:"password,omitempty"`
		IPMIPassword string `json:"ipmi_password,omitempty"`
		ReadyMS      int64  `json:"ready_ms"`
	}{true, l.Redfish, l.SSH, l.IPMI, l.ISCSI, l.User, l.Password, l.IPMIPassword, l.ReadyMS})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "%s\n", text); err != nil {
		return err
	}
	_, err = io.WriteString(stderr, l.hints())
	return err
}

// hints says what a person can type now.
func (l Line) hints() string {
	text := fmt.Sprintf("\nnitrino is ready (%d ms).", l.ReadyMS)
	user, password, ipmi := l.User, l.Password, l.IPMIPassword
	if user == "" {
		text += " Log in with what you chose.\n\n"
		user, password, ipmi = "USER", "PASSWORD", "PASSWORD"
	} else {
		text += fmt.Sprintf(" User %s, password %s\n\n", user, password)
	}
	if at, port, err := net.SplitHostPort(l.IPMI); err == nil {
		text += fmt.Sprintf("  ipmitool -I lanplus -C 17 -H %s -p %s -U %s -P %s chassis power on\n", at, port, user, ipmi)
	}
	if at, port, err := net.SplitHostPort(l.SSH); err == nil {
		text += fmt.Sprintf("  ssh -p %s %s@%s\n  ssh -t -p %[1]s %s@%s console\n", port, user, at)
	}
	if l.Redfish != "" {
		text += fmt.Sprintf("  curl -ku %s:%s %s/redfish/v1/Systems/system\n", user, password, l.Redfish)
	}
	if at, port, err := net.SplitHostPort(l.ISCSI); err == nil {
		text += fmt.Sprintf("  iscsi-ls -s iscsi://%s\n", net.JoinHostPort(at, port))
	}
	return text + "\n"
}
