//go:build bench

package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const benchUser, benchSecret = "admin", "bench-secret"

// A peer is an IPMI server that is measured.
type peer struct {
	name, addr string
	suite      algorithms
	pid        int
}

// board runs bmcsim with limits that do not get in a benchmark's way: by
// default one address may begin 20 logins a second.
func board(b *testing.B) *sim {
	b.Helper()
	config := filepath.Join(b.TempDir(), "bmc.json")
	text := `{"version": 1, "ipmi": {"cipher_suite_3": true, "logins_per_second": 10000}}`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return start(b, "-host", "fake", "-config", config, "-password", benchSecret)
}

// ipmiSim runs OpenIPMI's simulator, the C peer.
func ipmiSim(b *testing.B) peer {
	b.Helper()
	dir := b.TempDir()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	port := l.LocalAddr().(*net.UDPAddr).Port
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{
		"lan.conf": fmt.Sprintf(`name "bench"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 %d
    priv_limit admin
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  user 2 true "%s" "%s" admin 60 none md2 md5 straight
`, port, benchUser, benchSecret),
		"sim.emu": "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "ipmi_sim", "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "sim.emu"), "-s", dir, "-n")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cancel(); cmd.Wait() }) // its error is the kill
	p := peer{"ipmi_sim", fmt.Sprintf("127.0.0.1:%d", port), suite3, cmd.Process.Pid}
	eventually(b, "ipmi_sim", 10*time.Second, func() bool {
		conn, err := net.Dial("udp", p.addr)
		if err != nil {
			return false
		}
		defer conn.Close()
		s, err := open(conn, benchUser, benchSecret, p.suite)
		return err == nil && s.close() == nil
	})
	return p
}

func dial(b *testing.B, p peer) (net.Conn, *session) {
	b.Helper()
	conn, err := net.Dial("udp", p.addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	s, err := open(conn, benchUser, benchSecret, p.suite)
	if err != nil {
		b.Fatalf("%s: %v", p.name, err)
	}
	return conn, s
}

// BenchmarkIPMI measures nitrino and ipmi_sim in turns of the same run, and
// reports nitrino's figures with suite 3, as ipmi_sim knows no better, and
// with 17; ratio is nitrino with suite 3 over ipmi_sim.
func BenchmarkIPMI(b *testing.B) {
	s := board(b)
	peers := []peer{
		{"nitrino", s.IPMI, suite3, s.cmd.Process.Pid},
		{"nitrino-17", s.IPMI, suite17, s.cmd.Process.Pid},
		ipmiSim(b),
	}
	b.Run("GetDeviceID", func(b *testing.B) {
		var sessions []*session
		for _, p := range peers {
			_, x := dial(b, p)
			sessions = append(sessions, x)
		}
		took := make([][]time.Duration, len(peers))
		for b.Loop() {
			for i, x := range sessions {
				for range 10 {
					began := time.Now()
					if err := x.command(0x06, 0x01); err != nil {
						b.Fatalf("%s: %v", peers[i].name, err)
					}
					took[i] = append(took[i], time.Since(began))
				}
			}
		}
		report(b, "cmd/s", peers, took)
		for _, x := range sessions {
			if err := x.close(); err != nil {
				b.Error(err)
			}
		}
	})
	b.Run("Sessions", func(b *testing.B) {
		took := make([][]time.Duration, len(peers))
		for b.Loop() {
			for i, p := range peers {
				conn, err := net.Dial("udp", p.addr)
				if err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				x, err := open(conn, benchUser, benchSecret, p.suite)
				if err != nil {
					b.Fatalf("%s: %v", p.name, err)
				}
				if err := x.close(); err != nil {
					b.Fatalf("%s: %v", p.name, err)
				}
				took[i] = append(took[i], time.Since(began))
				conn.Close()
			}
		}
		report(b, "sessions/s", peers, took)
	})
	// What the servers bear: eight sessions at once, and the processor time
	// that each command costs the server.
	b.Run("EightSessions", func(b *testing.B) {
		const clients, commands = 8, 500
		wall := make([]time.Duration, len(peers))
		cpu := make([]time.Duration, len(peers))
		var all [][]*session
		for _, p := range peers {
			var own []*session
			for range clients {
				_, x := dial(b, p)
				own = append(own, x)
			}
			all = append(all, own)
		}
		rounds := 0
		for b.Loop() {
			rounds++
			for i, p := range peers {
				used, began := cpuTime(b, p.pid), time.Now()
				var g sync.WaitGroup
				for _, x := range all[i] {
					g.Go(func() {
						for range commands {
							if err := x.command(0x06, 0x01); err != nil {
								b.Errorf("%s: %v", p.name, err)
								return
							}
						}
					})
				}
				g.Wait()
				wall[i] += time.Since(began)
				cpu[i] += cpuTime(b, p.pid) - used
			}
		}
		n := float64(rounds * clients * commands)
		for i, p := range peers {
			b.ReportMetric(n/wall[i].Seconds(), p.name+"_cmd/s")
			b.ReportMetric(float64(cpu[i].Microseconds())/n, p.name+"_cpu_us/cmd")
		}
		b.ReportMetric(wall[2].Seconds()/wall[0].Seconds(), "ratio")
		b.ReportMetric(0, "ns/op")
		for _, own := range all {
			for _, x := range own {
				if err := x.close(); err != nil {
					b.Error(err)
				}
			}
		}
	})
}

// report says how many a second each peer did, its p99, and the ratio.
func report(b *testing.B, unit string, peers []peer, took [][]time.Duration) {
	var rate [8]float64
	for i, p := range peers {
		var sum time.Duration
		for _, d := range took[i] {
			sum += d
		}
		slices.Sort(took[i])
		rate[i] = float64(len(took[i])) / sum.Seconds()
		b.ReportMetric(rate[i], p.name+"_"+unit)
		b.ReportMetric(float64(took[i][len(took[i])*99/100].Microseconds()), p.name+"_p99_us")
	}
	b.ReportMetric(rate[0]/rate[2], "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkReady measures the time from the start of the process to its ready
// line, on a fresh folder and on one that is set up.
func BenchmarkReady(b *testing.B) {
	for _, kind := range []string{"qemu", "fake"} {
		b.Run(kind, func(b *testing.B) {
			var first, again time.Duration
			n := 0
			for b.Loop() {
				s := &sim{tb: b, program: program, dir: b.TempDir(), args: []string{"-host", kind}, base: freeBase(b)}
				began := time.Now()
				s.run()
				first += time.Since(began)
				s.stop()
				began = time.Now()
				s.run()
				again += time.Since(began)
				s.stop()
				n++
			}
			b.ReportMetric(float64(first.Milliseconds())/float64(n), "first_ms")
			b.ReportMetric(float64(again.Milliseconds())/float64(n), "again_ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkMemory reports the resident memory of the one process: idle, with
// 60 IPMI sessions, and after password logins (argon2id takes 19 MiB each).
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		s := board(b)
		pid := s.cmd.Process.Pid
		time.Sleep(3 * time.Second)
		b.ReportMetric(resident(b, pid), "idle_MiB")
		var open []*session
		for range 60 {
			_, x := dial(b, peer{"nitrino", s.IPMI, suite17, pid})
			open = append(open, x)
		}
		b.ReportMetric(resident(b, pid), "60_sessions_MiB")
		for _, x := range open {
			if err := x.close(); err != nil {
				b.Error(err)
			}
		}
		s.ssh("whoami").must(b)
		time.Sleep(3 * time.Second)
		b.ReportMetric(resident(b, pid), "after_login_MiB")
		s.stop()
	}
	b.ReportMetric(0, "ns/op")
}

// cpuTime is what a process has used, user and system, in ticks of 10 ms.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	var ticks int
	for _, at := range []int{11, 12} { // utime and stime of proc(5), state being field 0
		n, err := strconv.Atoi(f[at])
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}
