package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/cmds/emulate/firmware"
	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/internal/readyline"
)

// ipmiLimit is how long IPMI, which may be switched off, and iSCSI, where the card
// switches it on, are waited for once the others have answered.
const ipmiLimit = 3 * time.Second

// linkLimit is how long the guest's network card is waited for, where QEMU does
// not tell that it is in use.
const linkLimit = 5 * time.Second

// probe waits until the board's services answer, and says where. Linked is
// closed when the guest has brought its network up: what is sent before,
// user-mode networking keeps and delivers seconds later. A login that cannot be
// read is an error beside a line that says the rest.
func probe(ctx context.Context, o options, linked <-chan struct{}) (readyline.Line, error) {
	select {
	case <-linked:
	case <-time.After(linkLimit):
	case <-ctx.Done():
		return readyline.Line{}, ctx.Err()
	}
	var line readyline.Line
	var others, both sync.WaitGroup
	othersCtx, cancel := context.WithCancel(ctx)
	defer others.Wait()
	defer cancel()
	answered := make(chan struct{})
	disks := make(chan struct{})
	exports := exportsDisks(o.card)
	if exports {
		others.Go(func() {
			err := until(othersCtx, 300*time.Millisecond, 3*time.Second, func(ctx context.Context) error { return askISCSI(ctx, iscsi().at(o)) })
			if err == nil {
				close(disks)
			}
		})
	}
	others.Go(func() {
		err := until(othersCtx, 100*time.Millisecond, time.Second, func(ctx context.Context) error { return askIPMI(ctx, ipmi().at(o)) })
		if err == nil {
			close(answered)
		}
	})
	both.Go(func() {
		err := until(ctx, 300*time.Millisecond, 3*time.Second, func(ctx context.Context) error { return askSSH(ctx, ssh().at(o)) })
		if err == nil {
			line.SSH = ssh().at(o)
		}
	})
	both.Go(func() {
		err := until(ctx, 500*time.Millisecond, 5*time.Second, func(ctx context.Context) error { return askHTTPS(ctx, https().at(o)) })
		if err == nil {
			line.Redfish = "https://" + https().at(o)
		}
	})
	both.Wait()
	limit := time.After(ipmiLimit)
	waiting := true
	for waiting && (line.IPMI == "" || exports && line.ISCSI == "") {
		select {
		case <-answered:
			line.IPMI, answered = ipmi().at(o), nil
		case <-disks:
			line.ISCSI, disks = iscsi().at(o), nil
		case <-limit:
			waiting = false
		case <-ctx.Done():
			waiting = false
		}
	}
	if err := ctx.Err(); err != nil {
		return readyline.Line{}, err
	}
	login, err := readLogin(o.card)
	if err != nil {
		err = fmt.Errorf("the first login on the card: %w", err)
	}
	line.User, line.Password, line.IPMIPassword = login.User, login.Password, login.IPMIPassword
	return line, err
}

// probePause is the time between two attempts.
const probePause = 20 * time.Millisecond

// until calls ask until a call succeeds, or ctx ends, whose error it returns
// then. One attempt at a time: the board limits how many connections may wait
// for a login. What gets no answer gets more time at the next attempt, from
// first up to most; an attempt from before the guest had its address gets none.
func until(ctx context.Context, first, most time.Duration, ask func(context.Context) error) error {
	for limit := first; ; {
		attempt, cancel := context.WithTimeout(ctx, limit)
		err := ask(attempt)
		if attempt.Err() != nil {
			limit = min(limit*3/2, most)
		}
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(probePause):
		}
	}
}

// askHTTPS reads Redfish's service root.
func askHTTPS(ctx context.Context, at string) error {
	t := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, // the board's certificate is its own
		DisableKeepAlives: true,
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+at+"/redfish/v1/", nil)
	if err != nil {
		return err
	}
	answer, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	if err := answer.Body.Close(); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("redfish: %s", answer.Status)
	}
	return nil
}

// dial connects, and gives reads and writes the ctx's limit and end.
func dial(ctx context.Context, s service, at string) (net.Conn, func(), error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, s.protocol, at)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = conn.Close() // makes Read return, whose error is the one that counts
	})
	return conn, func() {
		stop()
		_ = conn.Close() // nothing was to be kept
	}, nil
}

// askSSH waits for the server's identification (RFC 4253 section 4.2).
func askSSH(ctx context.Context, at string) error {
	conn, end, err := dial(ctx, ssh(), at)
	if err != nil {
		return err
	}
	defer end()
	line, err := bufio.NewReaderSize(conn, 256).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "SSH-2.0-") {
		return fmt.Errorf("ssh: got %q", line)
	}
	return nil
}

// askIPMI sends an ASF presence ping and waits for the pong (IPMI 2.0 section
// 13.2.3, tables 13-6 and 13-7).
func askIPMI(ctx context.Context, at string) error {
	conn, end, err := dial(ctx, ipmi(), at)
	if err != nil {
		return err
	}
	defer end()
	// RMCP 1.0, no acknowledgement, class ASF; IANA number of ASF, type 0x80
	// (presence ping), tag, reserved, no data.
	ping := []byte{6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x80, 0x2a, 0, 0}
	if _, err := conn.Write(ping); err != nil {
		return err
	}
	answer := make([]byte, 128)
	n, err := conn.Read(answer)
	if err != nil {
		return err
	}
	if n < 12 || !bytes.Equal(answer[3:8], ping[3:8]) || answer[8] != 0x40 {
		return fmt.Errorf("ipmi: got %x, not a presence pong", answer[:n])
	}
	return nil
}

// askISCSI begins a discovery session, whatever the answer is (RFC 7143 sections
// 11.12 and 11.13).
func askISCSI(ctx context.Context, at string) error {
	conn, end, err := dial(ctx, iscsi(), at)
	if err != nil {
		return err
	}
	defer end()
	text := "InitiatorName=iqn.2026-01.io.nitrino:emulate\x00SessionType=Discovery\x00AuthMethod=None\x00"
	const request, response = 0x03, 0x23
	login := make([]byte, 48, 48+len(text)+3)
	login[0], login[1] = 0x40|request, 0x81 // immediate; to the operational stage, from that of security
	login[7] = byte(len(text))
	login[8] = 0x80 // an ISID of random bytes, which are these zeros
	login = append(login, text...)
	for len(login)%4 != 0 {
		login = append(login, 0)
	}
	if _, err := conn.Write(login); err != nil {
		return err
	}
	answer := make([]byte, 48)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if answer[0] != response {
		return fmt.Errorf("iscsi: got %x, not the answer to a login", answer)
	}
	return nil
}

// exportsDisks says whether the settings on the card switch iSCSI on. What is wrong
// with them is the board's to say, and what with the card readLogin's.
func exportsDisks(path string) bool {
	var settings struct {
		ISCSI struct {
			Enabled bool `json:"enabled"`
		} `json:"iscsi"`
	}
	text, err := readCard(path, card.SettingsFile)
	return err == nil && json.Unmarshal(text, &settings) == nil && settings.ISCSI.Enabled
}

// readCard reads a file of the boot partition; it is empty where it is not there.
func readCard(path, name string) (text []byte, err error) {
	disk, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = disk.Close() }() // it was only read
	info, err := disk.Stat()
	if err != nil {
		return nil, err
	}
	text, err = firmware.ReadFile(disk, info.Size(), card.BootPartition, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// A login is the first one, which the board leaves on the card for its owner.
type login struct {
	User         string `json:"user"`
	Password     string `json:"password"`
	IPMIPassword string `json:"ipmi_password"`
}

// readLogin reads the first login; it is empty once the owner has deleted it.
func readLogin(path string) (l login, err error) {
	text, err := readCard(path, card.LoginFile)
	if err != nil || text == nil {
		return login{}, err
	}
	return l, json.Unmarshal(text, &l)
}
