//go:build bench

package test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const systemURI = "/redfish/v1/Systems/system"

// A reader reads resources over connections that are kept, with the token of a
// session.
type reader struct {
	caller
	token string
}

func (s *sim) reader() reader {
	s.tb.Helper()
	a := s.admin().do(http.StatusCreated, "POST", "/redfish/v1/SessionService/Sessions", fmt.Sprintf(`{"UserName": %q, "Password": %q}`, s.User, s.Password))
	return reader{s.as("", ""), a.header.Get("X-Auth-Token")}
}

// read reads one, and looks at nothing but the status.
func (r reader) read(path string) error {
	q := r.request("GET", path, nil)
	q.Header.Set("X-Auth-Token", r.token)
	resp, err := r.client.Do(q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return nil
}

// BenchmarkRedfish measures reads. There is no peer beside it: Debian has a
// Redfish service in no package.
func BenchmarkRedfish(b *testing.B) {
	s := start(b, "-host", "fake", "-password", benchSecret)
	tree := s.admin().walk()
	for uri, a := range tree {
		if a.status != http.StatusOK {
			b.Fatalf("GET %s: %d", uri, a.status)
		}
	}
	r := s.reader()

	// Over one connection.
	b.Run("Get", func(b *testing.B) {
		var took []time.Duration
		for b.Loop() {
			began := time.Now()
			if err := r.read(systemURI); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		var sum time.Duration
		for _, d := range took {
			sum += d
		}
		slices.Sort(took)
		b.ReportMetric(float64(len(took))/sum.Seconds(), "get/s")
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50_us")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99_us")
		b.ReportMetric(0, "ns/op")
	})

	// What the server bears, and the processor time that each read costs it.
	b.Run("EightConnections", func(b *testing.B) {
		const clients, reads = 8, 100
		var wall, cpu time.Duration
		rounds := 0
		for b.Loop() {
			rounds++
			used, began := cpuTime(b, s.cmd.Process.Pid), time.Now()
			var g sync.WaitGroup
			for range clients {
				g.Go(func() {
					for range reads {
						if err := r.read(systemURI); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			g.Wait()
			wall += time.Since(began)
			cpu += cpuTime(b, s.cmd.Process.Pid) - used
		}
		n := float64(rounds * clients * reads)
		b.ReportMetric(n/wall.Seconds(), "get/s")
		b.ReportMetric(float64(cpu.Microseconds())/n, "cpu_us/get")
		b.ReportMetric(0, "ns/op")
	})

	// All resources, one after the other.
	b.Run("Tree", func(b *testing.B) {
		var took time.Duration
		rounds := 0
		for b.Loop() {
			rounds++
			began := time.Now()
			for uri := range tree {
				if err := r.read(uri); err != nil {
					b.Fatal(err)
				}
			}
			took += time.Since(began)
		}
		b.ReportMetric(float64(took.Microseconds())/1000/float64(rounds), "ms")
		b.ReportMetric(float64(len(tree)), "resources")
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkRedfishMemory reports the resident memory of the one process: idle,
// after all resources were read, with 1,000 subscribers, and at most while 32
// events are posted to each; and how many events a second that is.
func BenchmarkRedfishMemory(b *testing.B) {
	const subscribers, events = 1000, 32
	for b.Loop() {
		s := start(b, "-host", "fake", "-password", benchSecret)
		pid := s.cmd.Process.Pid
		time.Sleep(3 * time.Second)
		b.ReportMetric(resident(b, pid), "idle_MiB")
		admin := s.admin()
		admin.walk()
		b.ReportMetric(resident(b, pid), "after_walk_MiB")

		var got atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text, err := io.ReadAll(r.Body)
			if err != nil {
				b.Error(err)
			}
			got.Add(int64(strings.Count(string(text), `.TestMessage"`)))
			w.WriteHeader(http.StatusNoContent)
		}))
		body := fmt.Sprintf(`{"Destination": %q, "Protocol": "Redfish", "MessageIds": ["ResourceEvent.1.0.TestMessage"]}`, server.URL)
		var g sync.WaitGroup
		for range 8 {
			g.Go(func() {
				for range subscribers / 8 {
					a, err := admin.try("POST", "/redfish/v1/EventService/Subscriptions", body)
					if err != nil || a.status != http.StatusCreated {
						b.Errorf("subscription: %d, %v, %s", a.status, err, a.body)
						return
					}
				}
			})
		}
		g.Wait()
		most, began := resident(b, pid), time.Now()
		b.ReportMetric(most, "1000_subscribers_MiB")
		for range events {
			admin.do(http.StatusNoContent, "POST", "/redfish/v1/EventService/Actions/EventService.TestEventSubscription", "{}")
		}
		for got.Load() < subscribers*events {
			if time.Since(began) > time.Minute {
				b.Fatalf("%d of %d events came", got.Load(), subscribers*events)
			}
			most = max(most, resident(b, pid))
			time.Sleep(5 * time.Millisecond)
		}
		b.ReportMetric(float64(got.Load())/time.Since(began).Seconds(), "events/s")
		b.ReportMetric(most, "while_posting_MiB")
		s.stop()
		server.Close()
	}
	b.ReportMetric(0, "ns/op")
}
