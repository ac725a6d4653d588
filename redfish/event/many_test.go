package event

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/resource"
)

// many has a thousand destinations and as many streams as may be, lets events
// happen, and returns when each of them got all, and how much the heap grew at
// most meanwhile.
func many(t testing.TB, events int) (most uint64) {
	const marker = "The wire works again, number "
	b := newBench(t, newStore(t))
	var got atomic.Int64
	count := func(body []byte) { got.Add(int64(bytes.Count(body, []byte(`"Message":"`+marker)))) }
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		count(body)
	}))
	t.Cleanup(server.Close)
	for range maxPushes {
		sub := &subscription{target: target{Destination: server.URL, Policy: retryForever}}
		if err := b.service.subscribe(sub, nil); err != nil {
			t.Fatal(err)
		}
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	for range maxStreams {
		f := b.stream("?$filter=ResourceType%20eq%20ComputerSystem")
		readers.Go(func() {
			for {
				line, err := f.read.ReadBytes('\n')
				if err != nil {
					return // the test ends it
				}
				count(line)
			}
		})
		defer f.end()
	}
	before := memory()
	for n := range events {
		b.events.Add(host.Event{Kind: "wire.restored", Message: marker + fmt.Sprint(n)})
		if n%100 == 0 {
			time.Sleep(time.Millisecond) // as no machine is faster
		}
	}
	want := int64(events) * (maxPushes + maxStreams)
	eventually(t, "all have all", func() bool {
		if now := memory(); now > before {
			most = max(most, now-before)
		}
		return got.Load() >= want
	})
	if n := got.Load(); n != want {
		t.Errorf("got %d events, want %d", n, want)
	}
	if n := len(b.members()); n != maxPushes+maxStreams {
		t.Errorf("got %d subscriptions, want %d", n, maxPushes+maxStreams)
	}
	return most
}

// A thousand subscribers cost no more than their places.
func TestMany(t *testing.T) {
	if most := many(t, 64); most > 24<<20 {
		t.Errorf("the heap grew by %d KiB", most>>10)
	}
}

// BenchmarkMany sends 2,000 events to 1,000 destinations and 64 streams.
func BenchmarkMany(b *testing.B) {
	const events = 2000
	var most uint64
	for b.Loop() {
		most = max(most, many(b, events))
	}
	b.ReportMetric(float64(most)/(1<<20), "MiB")
	b.ReportMetric(events*(maxPushes+maxStreams)*float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// Anything may be posted.
func FuzzSubscription(f *testing.F) {
	f.Add(`{"Protocol":"Redfish","Destination":"http://192.0.2.1","HttpHeaders":[{"A":"b"}],"MessageIds":["Base.Success"],"OriginResources":[{"@odata.id":"/redfish/v1"}]}`)
	s := &Service{subs: map[string]*subscription{}}
	for i := range maxPushes {
		s.subs[fmt.Sprint(i)] = &subscription{} // full: nothing is kept
	}
	f.Fuzz(func(t *testing.T, text string) {
		body, problem := resource.Decode([]byte(text), "")
		if problem != nil {
			return
		}
		r := s.postDestination(&resource.Request{Request: httptest.NewRequest("POST", resource.SubscriptionsURI, nil), Body: body})
		if len(r.Problems) == 0 {
			t.Errorf("%s: made", text)
		}
	})
}
