package qmp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The greeting is the one of QEMU 7.2; the others are from the QEMU Machine
// Protocol Specification, section 3.
const (
	qmpGreeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2"}, "capabilities": ["oob"]}}`
	qmpReturn   = `{ "return": { "running": true, "singlestep": false, "status": "running" }, "id": 7 }`
	qmpRefusal  = `{ "error": { "class": "CommandNotFound", "desc": "The command x has not been found" }, "id": 1 }`
	qmpEvent    = `{"timestamp": {"seconds": 1401385907, "microseconds": 422329}, "event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}`
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name, line string
		ok         bool
	}{
		{"greeting", qmpGreeting, true},
		{"return", qmpReturn, true},
		{"refusal", qmpRefusal, true},
		{"event", qmpEvent, true},
		{"event without data", `{"timestamp":{"seconds":1,"microseconds":2},"event":"STOP"}`, true},
		{"empty", ``, false},
		{"no object", `[]`, false},
		{"nothing", `{}`, false},
		{"two kinds", `{"return":{},"event":"STOP"}`, false},
		{"unknown member", `{"return":{},"id":1,"more":1}`, true},
		{"member twice", `{"return":{},"id":1,"id":2}`, false},
		{"other case", `{"Return":{},"id":1}`, false},
		{"id of an event", `{"event":"STOP","id":1}`, false},
		{"data of an answer", `{"return":{},"data":{},"id":1}`, false},
		{"id that is a string", `{"return":{},"id":"1"}`, false},
		{"two objects", `{"return":{},"id":1}{}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := decode([]byte(c.line))
			if (err == nil) != c.ok {
				t.Fatalf("got %v, want ok %v", err, c.ok)
			}
			if err != nil && !errors.Is(err, errMessage) {
				t.Fatalf("got %v, want errMessage", err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{qmpGreeting, qmpReturn, qmpRefusal, qmpEvent, `{"return":1`, `{"QMP":null}`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := decode(line)
		if err != nil {
			return
		}
		if (m.Greeting != nil) == (m.Return != nil || m.Error != nil || m.Event != "") {
			t.Fatalf("%q is not one kind: %+v", line, m)
		}
	})
}

// peer is QEMU's end of a QMP connection.
type peer struct {
	t     *testing.T
	conn  net.Conn
	lines *bufio.Scanner
}

func newPeer(t *testing.T) (*peer, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return &peer{t, a, bufio.NewScanner(a)}, b
}

func (p *peer) send(line string) {
	if _, err := io.WriteString(p.conn, line+"\r\n"); err != nil {
		p.t.Errorf("sending %s: %v", line, err)
	}
}

func (p *peer) expect(want string) {
	if !p.lines.Scan() {
		p.t.Errorf("got %v, want %s", p.lines.Err(), want)
	} else if got := p.lines.Text(); got != want {
		p.t.Errorf("got %s, want %s", got, want)
	}
}

func TestClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		qemu, conn := newPeer(t)
		var events []string
		go func() {
			qemu.send(qmpGreeting)
			qemu.expect(`{"execute":"qmp_capabilities","id":1}`)
			qemu.send(`{"return": {}, "id": 1}`)
			qemu.expect(`{"execute":"query-status","id":2}`)
			qemu.send(qmpEvent)
			qemu.send(`{"return": {"status": "running"}, "id": 2}`)
			qemu.expect(`{"execute":"qom-set","arguments":{"value":1},"id":3}`)
			qemu.send(`{"error": {"class": "GenericError", "desc": "no"}, "id": 3}`)
			qemu.expect(`{"execute":"stop","id":4}`)
			time.Sleep(time.Minute) // the caller has given up by then
			qemu.send(`{"return": {}, "id": 4}`)
			qemu.expect(`{"execute":"cont","id":5}`)
			qemu.send(`{"return": {}, "id": 5}`)
		}()
		c, err := New(ctx, conn, func(name string, data []byte) { events = append(events, name+string(data)) })
		if err != nil {
			t.Fatal(err)
		}
		var status struct {
			Status string `json:"status"`
		}
		if err := c.Execute(ctx, "query-status", nil, &status); err != nil || status.Status != "running" {
			t.Fatalf("got %v, %v", status, err)
		}
		if want := `RESET{"guest": true, "reason": "guest-reset"}`; len(events) != 1 || events[0] != want {
			t.Fatalf("got events %v, want %s", events, want)
		}
		err = c.Execute(ctx, "qom-set", map[string]int{"value": 1}, nil)
		if e := (*Error)(nil); !errors.As(err, &e) || e.Desc != "no" {
			t.Fatalf("got %v, want QEMU's refusal", err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := c.Execute(short, "stop", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the deadline", err)
		}
		if err := c.Execute(ctx, "cont", nil, nil); err != nil {
			t.Fatalf("after a late answer: %v", err)
		}
		c.Close()
		if err := c.Execute(ctx, "cont", nil, nil); err == nil {
			t.Fatal("no error on a closed connection")
		}
	})
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
	}{
		{"end", nil},
		{"no greeting", []string{qmpEvent}},
		{"second greeting", []string{qmpGreeting, qmpGreeting}},
		{"garbage", []string{"QEMU 7.2 monitor"}},
		{"answer to nothing", []string{qmpGreeting, `{"return":{},"id":9}`}},
		{"answer without id", []string{qmpGreeting, `{"return":{}}`}},
		{"long line", []string{strings.Repeat(" ", maxLine+1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				qemu, conn := newPeer(t)
				go func() {
					for _, l := range c.lines {
						if _, err := io.WriteString(qemu.conn, l+"\n"); err != nil {
							return // the client has seen enough
						}
					}
					if len(c.lines) < 2 {
						qemu.conn.Close()
						return
					}
					for qemu.lines.Scan() { // the request for capabilities
					}
				}()
				if q, err := New(t.Context(), conn, func(string, []byte) {}); err == nil {
					q.Close()
					t.Fatal("no error")
				}
			})
		})
	}
	t.Run("silence", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, conn := newPeer(t)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := New(ctx, conn, func(string, []byte) {}); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v, want the deadline", err)
			}
		})
	})
}
