package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"

	"github.com/nitrino/nitrino/bmc"
)

// A readyLine is what scripts read from standard output.
type readyLine struct {
	Ready        bool   `json:"ready"`
	Redfish      string `json:"redfish,omitempty"`
	SSH          string `json:"ssh,omitempty"`
	IPMI         string `json:"ipmi,omitempty"`
	User         string `json:"user"`
	Password     string `json:"password"`
	IPMIPassword string `json:"ipmi_password"`
	ReadyMS      int64  `json:"ready_ms"`
}

func newReadyLine(a bmc.Addresses, l bmc.Login) readyLine {
	r := readyLine{Ready: true, SSH: a.SSH, IPMI: a.IPMI, User: l.User, Password: l.Password, IPMIPassword: l.IPMIPassword}
	if a.HTTPS != "" {
		r.Redfish = "https://" + a.HTTPS
	}
	return r
}

// print writes the line for scripts, and for people what to try.
func (r readyLine) print(stdout, stderr io.Writer) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "%s\n", line); err != nil {
		return err
	}
	return r.hints(stderr)
}

// hints says what a person can type now.
func (r readyLine) hints(w io.Writer) error {
	text := fmt.Sprintf("\nnitrino is ready (%d ms). User %s, password %s\n\n", r.ReadyMS, r.User, r.Password)
	if at, port, err := net.SplitHostPort(r.IPMI); err == nil {
		text += fmt.Sprintf("  ipmitool -I lanplus -C 17 -H %s -p %s -U %s -P %s chassis power on\n", at, port, r.User, r.IPMIPassword)
	}
	if at, port, err := net.SplitHostPort(r.SSH); err == nil {
		text += fmt.Sprintf("  ssh -p %s %s@%s\n  ssh -t -p %[1]s %s@%s console\n", port, r.User, at)
	}
	if r.Redfish != "" {
		text += fmt.Sprintf("  curl -ku %s:%s %s/redfish/v1/Systems/system\n", r.User, r.Password, r.Redfish)
	}
	_, err := io.WriteString(w, text+"\n")
	return err
}
