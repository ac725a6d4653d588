//go:build bench

package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// benchDisk is the size of the disk that is measured. It is in memory.
const benchDisk = 512 << 20

// An iscsiPeer is a target that is measured, in a process of its own.
type iscsiPeer struct {
	name string
	portal
	lun int
	pid int
}

// iscsiPeers runs nitrino and tgt over one and the same file.
func iscsiPeers(b *testing.B) []iscsiPeer {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "nitrino-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	config := filepath.Join(dir, "bmc.json")
	const name = "iqn.2026-01.io.nitrino:bench"
	text := fmt.Sprintf(`{"version": 1, "volumes": [{"name": "bench", "size": %d}],
		"iscsi": {"enabled": true, "targets": [{"name": %q, "luns": [{"lun": 1, "volume": "bench"}]}]}}`, benchDisk, name)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	s := &sim{tb: b, program: program, dir: filepath.Join(dir, "sim"), args: []string{"-host", "fake", "-config", config}, base: freeBase(b)}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		b.Fatal(err)
	}
	s.run()
	b.Cleanup(s.stop)
	ours := iscsiPeer{"nitrino", portal{s.ISCSI, name}, 1, s.cmd.Process.Pid}
	eventually(b, "the volume", 20*time.Second, func() bool { return client(b, "iscsi-inq", ours.url(1)).code == 0 })

	var file string
	err = filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil && info.Size() == benchDisk {
			file = path
		}
		return nil
	})
	if err != nil || file == "" {
		b.Fatalf("the volume's file is not there, %v", err)
	}
	// No target shall have to find memory for the file while it is measured.
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	filler := make([]byte, 1<<20)
	for i := range filler {
		filler[i] = byte(i>>12 + i)
	}
	for at := int64(0); at < benchDisk; at += int64(len(filler)) {
		if _, err := f.WriteAt(filler, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return []iscsiPeer{ours, startTGT(b, file)}
}

// startTGT runs tgt, the C target, tuned: its defaults are much slower.
func startTGT(b *testing.B, file string) iscsiPeer {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	control := strconv.Itoa(os.Getpid() % 32768) // the number of its control socket
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	const name = "iqn.2026-01.io.nitrino:tgt"
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "tgtd", "-f", "--iscsi", "portal="+addr, "-C", control)
	if err := cmd.Start(); err != nil {
		cancel()
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		cmd.Wait() // its error is the kill
		for _, left := range []string{"/var/run/tgtd/socket." + control, "/var/run/tgtd/socket." + control + ".lock"} {
			if err := os.Remove(left); err != nil && !os.IsNotExist(err) {
				b.Error(err)
			}
		}
	})
	admin := func(args ...string) result {
		return client(b, "tgtadm", append([]string{"-C", control, "--lld", "iscsi", "--tid", "1"}, args...)...)
	}
	eventually(b, "tgtd", 10*time.Second, func() bool { return admin("--op", "new", "--mode", "target", "-T", name).code == 0 })
	admin("--op", "new", "--mode", "logicalunit", "--lun", "1", "-b", file).must(b)
	admin("--op", "update", "--mode", "logicalunit", "--lun", "1", "--params", "thin_provisioning=1").must(b)
	for _, kv := range [][2]string{
		{"MaxRecvDataSegmentLength", "262144"}, {"FirstBurstLength", "262144"}, {"MaxBurstLength", "1048576"},
		{"InitialR2T", "No"}, {"MaxOutstandingR2T", "8"},
	} {
		admin("--op", "update", "--mode", "target", "--name", kv[0], "--value", kv[1]).must(b)
	}
	admin("--op", "bind", "--mode", "target", "-I", "ALL").must(b)
	return iscsiPeer{"tgt", portal{addr, name}, 1, cmd.Process.Pid}
}

var (
	perfAverage = regexp.MustCompile(`(?m)^iops average (\d+)`)
	benchTook   = regexp.MustCompile(`Run completed in ([0-9.]+) seconds`)
)

// A load is what an initiator did.
type load struct {
	rate  float64 // requests a second
	bytes float64
	busy  float64 // of one processor, the initiator's own
}

// generate runs an initiator, and answers what it printed.
func generate(b *testing.B, name string, args ...string) (out string, busy float64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	began := time.Now()
	text, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%s %v: %v\n%s", name, args, err, text)
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return strings.ReplaceAll(string(text), "\r", "\n"), used.Seconds() / time.Since(began).Seconds()
}

// number finds what the pattern has in parentheses.
func number(b *testing.B, in *regexp.Regexp, out string) float64 {
	b.Helper()
	m := in.FindStringSubmatch(out)
	if m == nil {
		b.Fatalf("no %v in %q", in, out)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// random has libiscsi's iscsi-perf read blocks of 4 KiB at random places.
func (p iscsiPeer) random(b *testing.B, depth int) load {
	b.Helper()
	const seconds = 2
	out, busy := generate(b, "iscsi-perf", "-r", "-b", "8", "-m", strconv.Itoa(depth), "-t", strconv.Itoa(seconds), p.url(p.lun))
	rate := number(b, perfAverage, out)
	return load{rate, rate * seconds * 4096, busy}
}

// bench has QEMU's initiator do count requests, each step bytes after the one
// before.
func (p iscsiPeer) bench(b *testing.B, write bool, size, step, depth, count int) load {
	b.Helper()
	args := []string{"bench", "-f", "raw", "-t", "none", "-c", strconv.Itoa(count), "-d", strconv.Itoa(depth), "-s", strconv.Itoa(size), "-S", strconv.Itoa(step)}
	if write {
		args = append(args, "-w")
	}
	out, busy := generate(b, "qemu-img", append(args, p.url(p.lun))...)
	return load{float64(count) / number(b, benchTook, out), float64(count) * float64(size), busy}
}

// BenchmarkISCSI measures nitrino beside tgt, tuned, in turns of the same run over
// the same file in memory: medians of three, the processor time of the server for
// each GiB, and its resident memory. The initiators are libiscsi's iscsi-perf and
// qemu-img bench, each of which has one processor at most: where "client", the
// busiest of an initiator's runs, is near 1, it is the initiator that is measured.
func BenchmarkISCSI(b *testing.B) {
	peers := iscsiPeers(b)
	const kib, mib = 1 << 10, 1 << 20
	for _, row := range []struct {
		name  string
		unit  string
		run   func(p iscsiPeer) load
		scale float64 // from requests to the unit
	}{
		{"4k-random-read/1", "IOPS", func(p iscsiPeer) load { return p.random(b, 1) }, 1},
		{"4k-random-read/32", "IOPS", func(p iscsiPeer) load { return p.random(b, 32) }, 1},
		// Steps that are no power of two: each write goes somewhere else.
		{"4k-strided-write/1", "IOPS", func(p iscsiPeer) load { return p.bench(b, true, 4*kib, 1052672, 1, 25000) }, 1},
		{"4k-strided-write/32", "IOPS", func(p iscsiPeer) load { return p.bench(b, true, 4*kib, 1052672, 32, 100000) }, 1},
		{"128k-read/1", "MiB/s", func(p iscsiPeer) load { return p.bench(b, false, 128*kib, 128*kib, 1, 12000) }, 1. / 8},
		{"128k-read/8", "MiB/s", func(p iscsiPeer) load { return p.bench(b, false, 128*kib, 128*kib, 8, 24000) }, 1. / 8},
		{"1M-read/1", "MiB/s", func(p iscsiPeer) load { return p.bench(b, false, mib, mib, 1, 3000) }, 1},
		{"1M-read/8", "MiB/s", func(p iscsiPeer) load { return p.bench(b, false, mib, mib, 8, 3000) }, 1},
		{"128k-write/1", "MiB/s", func(p iscsiPeer) load { return p.bench(b, true, 128*kib, 128*kib, 1, 12000) }, 1. / 8},
		{"128k-write/8", "MiB/s", func(p iscsiPeer) load { return p.bench(b, true, 128*kib, 128*kib, 8, 24000) }, 1. / 8},
		{"1M-write/1", "MiB/s", func(p iscsiPeer) load { return p.bench(b, true, mib, mib, 1, 3000) }, 1},
		{"1M-write/8", "MiB/s", func(p iscsiPeer) load { return p.bench(b, true, mib, mib, 8, 3000) }, 1},
	} {
		b.Run(row.name, func(b *testing.B) {
			const rounds = 3
			rates := make([][]float64, len(peers))
			cpu := make([]time.Duration, len(peers))
			bytes := make([]float64, len(peers))
			busy, largest := make([]float64, len(peers)), make([]float64, len(peers))
			for b.Loop() {
				for range rounds {
					for i, p := range peers {
						forgetPeak(b, p.pid)
						used := cpuTime(b, p.pid)
						did := row.run(p)
						cpu[i] += cpuTime(b, p.pid) - used
						largest[i] = max(largest[i], peak(b, p.pid))
						rates[i] = append(rates[i], did.rate*row.scale)
						bytes[i] += did.bytes
						busy[i] = max(busy[i], did.busy)
					}
				}
			}
			for i, p := range peers {
				b.ReportMetric(median(rates[i]), p.name+"_"+row.unit)
				b.ReportMetric(cpu[i].Seconds()/(bytes[i]/(1<<30)), p.name+"_cpu_s/GiB")
				b.ReportMetric(largest[i], p.name+"_MiB")
				b.ReportMetric(busy[i], p.name+"_client")
			}
			b.ReportMetric(median(rates[0])/median(rates[1]), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// peak is the most memory that a process had resident since forgetPeak, in MiB
// (proc(5), VmHWM and clear_refs).
func peak(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	var kib float64
	if _, err := fmt.Sscan(after, &kib); err != nil {
		b.Fatalf("process %d has no VmHWM: %v", pid, err)
	}
	return kib / 1024
}

func forgetPeak(b *testing.B, pid int) {
	b.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		b.Fatal(err)
	}
}
