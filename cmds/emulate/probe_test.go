package main

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/cmds/emulate/cardtest"
	"github.com/nitrino/nitrino/internal/card"
)

func TestUntil(t *testing.T) {
	const first, most = 300 * time.Millisecond, time.Second
	for _, c := range []struct {
		name string
		ask  func(began time.Time) func(context.Context) error
		most time.Duration // that it takes; 0: it does not end before ctx
	}{
		{"what is sent at first is lost", func(began time.Time) func(context.Context) error {
			return func(ctx context.Context) error {
				if time.Since(began) > 100*time.Millisecond {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}
		}, first + probePause},
		{"refused at first", func(began time.Time) func(context.Context) error {
			return func(context.Context) error {
				if time.Since(began) < time.Second {
					return errors.New("refused")
				}
				return nil
			}
		}, time.Second + probePause},
		{"slow", func(time.Time) func(context.Context) error {
			return func(ctx context.Context) error {
				select {
				case <-time.After(900 * time.Millisecond):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}, 4 * time.Second},
		{"the end comes first", func(time.Time) func(context.Context) error {
			return func(context.Context) error { return errors.New("refused") }
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				began := time.Now()
				err := until(ctx, first, most, c.ask(began))
				switch took := time.Since(began); {
				case c.most == 0 && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("got %v, want the deadline", err)
				case c.most > 0 && (err != nil || took > c.most):
					t.Errorf("got %v after %v, want an answer within %v", err, took, c.most)
				}
			})
		})
	}
}

// TestAsk asks servers that are none.
func TestAsk(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers := make(chan string, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := c.Write([]byte(<-answers)); err != nil {
				t.Error(err)
			}
			c.Close()
		}
	}()
	for _, c := range []struct {
		answer string
		ok     bool
	}{
		{"SSH-2.0-x\r\n", true},
		{"SSH-1.5-x\r\n", false},
		{"", false},
		{"SSH-2.0", false},
	} {
		answers <- c.answer
		if err := askSSH(t.Context(), l.Addr().String()); (err == nil) != c.ok {
			t.Errorf("SSH %q: got %v, want ok %v", c.answer, err, c.ok)
		}
	}
	for answer, ok := range map[string]bool{"\x23" + strings.Repeat("\x00", 47): true, "\x3F" + strings.Repeat("\x00", 47): false, "\x23": false} {
		answers <- answer
		if err := askISCSI(t.Context(), l.Addr().String()); (err == nil) != ok {
			t.Errorf("iSCSI %x: got %v, want ok %v", answer, err, ok)
		}
	}
	answers <- "HTTP/1.1 200 OK\r\n\r\n"
	if err := askHTTPS(t.Context(), l.Addr().String()); err == nil {
		t.Error("HTTPS without TLS: no error")
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go func() {
		b := make([]byte, 64)
		for _, answer := range []string{"\x06\x00\xff\x06\x00\x00\x11\xbe\x40\x2a\x00\x10", "\x06\x00\xff\x06\x00\x00\x11\xbe\x80\x2a\x00\x00", "x"} {
			_, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			if _, err := u.WriteTo([]byte(answer), from); err != nil {
				t.Error(err)
			}
		}
	}()
	for i, ok := range []bool{true, false, false} {
		if err := askIPMI(t.Context(), u.LocalAddr().String()); (err == nil) != ok {
			t.Errorf("IPMI answer %d: got %v, want ok %v", i, err, ok)
		}
	}
}

func TestExportsDisks(t *testing.T) {
	for text, want := range map[string]bool{
		`{"version":1,"iscsi":{"enabled":true}}`: true, `{"version":1,"iscsi":{"enabled":false}}`: false,
		`{"version":1}`: false, `{"iscsi":[`: false,
	} {
		card := cardtest.New(t, map[int]map[string][]byte{card.BootPartition: {card.SettingsFile: []byte(text)}})
		if got := exportsDisks(card); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
	if exportsDisks("/nowhere") {
		t.Error("no card: got true")
	}
}

func TestReadLogin(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string][]byte
		want  login
		ok    bool
	}{
		{"there", map[string][]byte{card.LoginFile: []byte(`{"user":"a","password":"b","ipmi_password":"c"}`)}, login{"a", "b", "c"}, true},
		{"deleted", nil, login{}, true},
		{"broken", map[string][]byte{card.LoginFile: []byte(`{"user":`)}, login{}, false},
	} {
		got, err := readLogin(cardtest.New(t, map[int]map[string][]byte{card.BootPartition: c.files}))
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: got %v, %v, want %v", c.name, got, err, c.want)
		}
	}
	if _, err := readLogin("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no card: got %v", err)
	}
}
