package ipmi

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/sol"
)

// BenchmarkSessions opens 64 sessions that have used all their reply slots, as
// many SOL payloads as there can be, and tells the memory of that.
func BenchmarkSessions(b *testing.B) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	for b.Loop() {
		before := heap()
		s := newOn(b, func(o *Options, _ *machine) { o.Config.LoginsPerSecond = 10000 })
		stop := s.run(b)
		for i := range maxSlots {
			c := s.console(b, fmt.Sprintf("192.0.2.1:%d", 1000+i)).at(command.Operator)
			for range 64 {
				c.command(command.Chassis, 0x02, 1)
			}
			if i < sol.Instances {
				c.activate(byte(i + 1))
			}
		}
		if s.table.count != maxSlots {
			b.Fatalf("%d sessions", s.table.count)
		}
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB/64sessions")
		stop()
		runtime.KeepAlive(s)
	}
}

// BenchmarkSOLInput is one packet from a console: verified, decrypted, taken
// and answered.
func BenchmarkSOLInput(b *testing.B) {
	s := newOn(b)
	defer s.run(b)()
	c := s.console(b, here).at(command.Operator)
	c.activate(1)
	// Without characters: the fake port keeps all that is written.
	packets := make([][]byte, 4095)
	for i := range packets {
		packets[i] = c.seal(uint32(i+1000), 0xC1, []byte{byte(i%15 + 1), 0, 0, 0})
	}
	x := s.table.byID[c.id]
	var in [maxPacket]byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%len(packets) == 0 { // the packets are new to a new payload
			b.StopTimer()
			x.window = newWindow()
			s.sol.End(x.sol, "")
			stream, err := s.sol.Activate(1, &carrier{s: s.Server, x: x})
			if err != nil {
				b.Fatal(err)
			}
			x.sol = stream
			b.StartTimer()
		}
		p := packets[i%len(packets)]
		copy(in[:], p)
		if len(c.w.handle(in[:len(p)])) == 0 {
			b.Fatal("no answer")
		}
		c.w.finish()
	}
}
