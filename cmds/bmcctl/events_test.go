package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

func TestReadEvents(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{": hello\n\n", ""},
		{"id: 1\ndata: a\n\n", "1 0s a;"},
		{"id: 1\r\ndata: a\r\ndata:b\r\n\r\nid: 2\r\rid\n\n", "1 0s a\nb;2 0s ; 0s ;"},
		{"\ufeffdata: x\nunknown: y\n\ndata: cut off\n", "- 0s x;"},
		{"retry: 1500\n\nretry: no\n\n", "- 1.5s ;"},
		{"data\n\n", "- 0s ;"},
		{"id: a\x00b\ndata: 1\n\n", "- 0s 1;"},
	} {
		for name, in := range map[string]func(string) string{
			"whole": func(s string) string { return readAllEvents(t, strings.NewReader(s)) },
			"bytes": func(s string) string { return readAllEvents(t, iotest.OneByteReader(strings.NewReader(s))) },
		} {
			if got := in(c.in); got != c.want {
				t.Errorf("%s %q: got %q, want %q", name, c.in, got, c.want)
			}
		}
	}
}

func readAllEvents(t *testing.T, r interface{ Read([]byte) (int, error) }) string {
	t.Helper()
	var all strings.Builder
	err := readEvents(r, func(e streamEvent) error {
		id := "-"
		if e.id != nil {
			id = *e.id
		}
		fmt.Fprintf(&all, "%s %v %s;", id, e.retry, e.data)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return all.String()
}

func FuzzEvents(f *testing.F) {
	f.Add("id: 1\r\ndata: {}\r\n\r\n: x\n\nretry: 5\n\n", "{}")
	f.Add("\ufeffdata\rdata\n\n", `{"Events":[{"Message":"\u001b[2J","OriginOfCondition":null}]}`)
	f.Fuzz(func(t *testing.T, stream, event string) {
		if err := readEvents(strings.NewReader(stream), func(e streamEvent) error {
			if e.retry < 0 || len(e.data) > len(stream) || e.id != nil && len(*e.id) > len(stream) {
				t.Errorf("made up %+v", e)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		d := &desk{t: t, env: map[string]string{}}
		p, out, _ := d.program()
		p.global.output = "table"
		if err := p.event([]byte(event), eventFilter{}); err == nil && strings.ContainsAny(out.String(), "\x1b\x07\r") {
			t.Errorf("the terminal would be told %q", out)
		}
	})
}

// A stream that breaks off goes on after the last event.
func TestFollow(t *testing.T) {
	v := newVendor(t)
	d := newDesk(t, v)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var n atomic.Int64
	event := func(id int, severity string) string {
		return fmt.Sprintf("id: %d\ndata: {\"Events\":[{\"EventId\":\"%d\",\"MessageSeverity\":%q,\"MessageId\":\"Power.1.0.On\",\"Message\":\"Event %d\",\ndata: \"OriginOfCondition\":{\"@odata.id\":\"/x/y\"}}]}\n\n", id, id, severity, id)
	}
	v.handle("GET", "/redfish/v1/E/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		switch last := r.Header.Get("Last-Event-ID"); n.Add(1) {
		case 1:
			if last != "" || r.URL.Query().Get("$filter") != "Severity eq 'OK'" {
				t.Errorf("began after %q with %s", last, r.URL.RawQuery)
			}
			fmt.Fprint(w, "retry: 10\n\n", event(1, "OK"), event(2, "Warning"))
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			if last != "2" {
				t.Errorf("went on after %q, want 2", last)
			}
			fmt.Fprint(w, event(3, "OK"))
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			time.AfterFunc(100*time.Millisecond, cancel) // as Ctrl-C would
			<-r.Context().Done()
		}
	})
	p, stdout, stderr := d.program()
	code := p.main(ctx, []string{"events", "follow", "-o", "json", "-severity", "ok", "-registry", "power", "-message", "On", "-origin", "/x", "-filter", "Severity eq 'OK'"})
	if code != exitInterrupted || v.open() != 0 {
		t.Errorf("code %d, %d sessions open; want %d, none; %s", code, v.open(), exitInterrupted, stderr)
	}
	var ids []string
	for line := range strings.Lines(stdout.String()) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Error(err)
		}
		ids = append(ids, e.ID)
	}
	if got := strings.Join(ids, " "); got != "1 3" {
		t.Errorf("events %s, want 1 3; %s", got, stderr)
	}
	// A refusal is not tried again.
	v.handle("GET", "/redfish/v1/E/stream", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	if r := d.run("events", "follow"); r.code != exitDenied {
		t.Errorf("refused: %+v", r)
	}
	v.set("/redfish/v1/E", "{}")
	if r := d.run("events", "follow"); r.code != exitUnsupported {
		t.Errorf("without a stream: %+v", r)
	}
}

// What is in two logs is shown once; what one log has twice happened twice.
func TestOnce(t *testing.T) {
	both := func(log string) entry {
		return entry{ID: "7", Log: log, Time: "2026-01-01T00:00:00Z", Message: "Fan failed."}
	}
	other := both("system/Sel")
	other.ID = "8"
	got := once([]entry{both("system/Sel"), both("system/Sel"), both("manager/Log"), other})
	if want := []entry{both("system/Sel"), both("system/Sel"), other}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
