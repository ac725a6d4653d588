//go:build e2e

package test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
)

// open-iscsi's settings of a node, as iscsiadm(8) names them.
type nodeSettings [][2]string

// TestISCSILinux: the kernel's initiator of a Debian guest, with open-iscsi, CHAP
// both ways and digests, does what a server does with its disks.
func TestISCSILinux(t *testing.T) {
	const size, larger = 96 << 20, 128 << 20
	disk := rawDisk(t, size)
	e := export(t, block.Target{
		CHAP:   block.Credentials{User: "guest", Secret: "twelve-bytes-or-more"},
		Mutual: block.Credentials{User: "board", Secret: "another-secret-of-it"},
	}, disk)
	g := bootLinux(t, []string{"ip", "iscsid", "iscsiadm", "fio", "blkdiscard", "blockdev", "sg_persist", "ls", "cat"}, map[string]string{
		"/etc/passwd":                    "root:x:0:0:root:/:/bin/false\n",
		"/etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.2026-01.io.nitrino:guest\n",
		"/etc/iscsi/iscsid.conf": "node.startup = manual\n" +
			"discovery.sendtargets.auth.authmethod = CHAP\n" +
			"discovery.sendtargets.auth.username = guest\n" +
			"discovery.sendtargets.auth.password = twelve-bytes-or-more\n",
		"/run/lock/iscsi/": "",
		"/tmp/":            "",
	})
	g.run("iscsid").must(t)
	_, port, _ := strings.Cut(e.addr, ":")
	portal := "10.0.2.2:" + port
	node := func(args ...string) result {
		t.Helper()
		return g.run(append([]string{"iscsiadm", "-m", "node", "-T", e.target, "-p", portal}, args...)...)
	}

	if got := g.run("iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", portal).must(t); !strings.Contains(got, e.target) {
		t.Errorf("discovery finds %q", got)
	}
	// Its address is the one that the board has on that way, which QEMU's network hides.
	node("-o", "new").must(t)
	set := func(s nodeSettings) {
		t.Helper()
		for _, kv := range s {
			node("-o", "update", "-n", kv[0], "-v", kv[1]).must(t)
		}
	}
	set(nodeSettings{
		{"node.session.auth.authmethod", "CHAP"},
		{"node.session.auth.username", "guest"},
		{"node.session.auth.password", "not-the-right-secret"},
		{"node.session.initial_login_retry_max", "1"},
		{"node.conn[0].iscsi.HeaderDigest", "CRC32C"},
		{"node.conn[0].iscsi.DataDigest", "CRC32C"},
	})
	const wrongSecret = 24 // ISCSI_ERR_LOGIN_AUTH_FAILED of iscsiadm(8)
	if r := node("--login"); r.code != wrongSecret {
		t.Errorf("login with a wrong secret: exit code %d, want %d\n%s", r.code, wrongSecret, r.out)
	}
	set(nodeSettings{{"node.session.auth.password", "twelve-bytes-or-more"}})

	// The initiator alone proves who it is, then the target too; a target that
	// proves it by the wrong secret is refused by the initiator.
	for _, c := range []struct {
		name   string
		secret string
		code   int
	}{
		{"one way", "", 0},
		{"a wrong secret of the target's", "not-what-the-board-has", wrongSecret},
		{"mutual", "another-secret-of-it", 0},
	} {
		if c.secret != "" {
			set(nodeSettings{{"node.session.auth.username_in", "board"}, {"node.session.auth.password_in", c.secret}})
		}
		if r := node("--login"); r.code != c.code && (c.code == 0 || r.code == 0) {
			t.Fatalf("login, %s: exit code %d, want %d\n%s", c.name, r.code, c.code, r.out)
		}
		if c.code == 0 && c.name != "mutual" {
			node("--logout").must(t)
		}
	}
	first := g.disk("")
	for _, name := range []string{"header_digest", "data_digest"} {
		glob := strings.TrimSpace(g.run("ls", "/sys/class/iscsi_connection").must(t))
		if got := strings.TrimSpace(g.run("cat", "/sys/class/iscsi_connection/"+glob+"/"+name).must(t)); got != "1" {
			t.Errorf("%s is %s, want 1", name, got)
		}
	}
	if got := e.server.Sessions(); len(got) != 1 || got[0].User != "guest" || got[0].Initiator != "iqn.2026-01.io.nitrino:guest" {
		t.Errorf("sessions are %+v", got)
	}

	// Each block size its own part of the disk, all at once.
	fio := []string{"fio", "--direct=1", "--ioengine=libaio", "--rw=randrw", "--verify=crc32c", "--verify_fatal=1", "--filename=/dev/" + first}
	for i, bs := range []string{"4k", "64k", "512k"} {
		fio = append(fio, "--name=b"+bs, "--bs="+bs, "--iodepth=16", fmt.Sprintf("--offset=%dm", 24*i), fmt.Sprintf("--size=%dm", []int{3, 8, 12}[i]))
	}
	working := g.begin(fio...)
	// The disk grows meanwhile.
	time.Sleep(time.Second)
	if err := disk.Resize(larger); err != nil {
		t.Fatal(err)
	}
	if r := g.end(working); r.code != 0 || strings.Contains(r.out, "verify:") {
		t.Fatalf("fio: exit code %d\n%s", r.code, r.out)
	}
	g.run("iscsiadm", "-m", "session", "--rescan").must(t)
	if got := g.size(first); got != larger {
		t.Errorf("after it grew, the disk has %d bytes, want %d", got, int64(larger))
	}

	// A second session is a second way to the same disk.
	set(nodeSettings{{"node.session.nr_sessions", "2"}})
	node("--login").must(t)
	if n := len(e.server.Sessions()); n != 2 {
		t.Errorf("there are %d sessions, want 2", n)
	}
	second := g.disk(first)
	write := []string{"fio", "--direct=1", "--ioengine=libaio", "--name=two", "--rw=write", "--bs=64k", "--iodepth=4", "--size=4m", "--offset=100m", "--verify=crc32c"}
	g.run(append(write, "--do_verify=0", "--filename=/dev/"+first)...).must(t)
	g.run(append(write, "--verify_only", "--filename=/dev/"+second)...).must(t)

	g.run("blkdiscard", "-o", strconv.Itoa(100<<20), "-l", strconv.Itoa(2<<20), "/dev/"+first).must(t)
	got := make([]byte, 4<<20)
	if err := disk.Readv([][]byte{got}, 100<<20); err != nil {
		t.Fatal(err)
	}
	if zero := make([]byte, 2<<20); !bytes.Equal(got[:2<<20], zero) || bytes.Equal(got[2<<20:], zero) {
		t.Error("what blkdiscard gave up is not zeros, or more than that is")
	}

	// The first session's reservation keeps the second from writing.
	persist := func(dev string, args ...string) result {
		t.Helper()
		return g.run(append(append([]string{"sg_persist", "--no-inquiry", "--out"}, args...), "/dev/"+dev)...)
	}
	persist(first, "--register", "--param-sark=abc1").must(t)
	persist(first, "--reserve", "--param-rk=abc1", "--prout-type=5").must(t)
	if r := g.run(append(write, "--do_verify=0", "--filename=/dev/"+second)...); r.code == 0 {
		t.Errorf("the second session writes in spite of the first one's reservation\n%s", r.out)
	}
	persist(first, "--clear", "--param-rk=abc1").must(t)
	g.run(append(write, "--do_verify=0", "--filename=/dev/"+second)...).must(t)

	node("--logout").must(t)
	if got := e.server.Sessions(); len(got) != 0 {
		t.Errorf("after logout there are sessions: %+v", got)
	}
}

// disk waits for an iSCSI disk in the guest other than that one, and answers its
// name.
func (g *linuxGuest) disk(other string) string {
	g.tb.Helper()
	var name string
	eventually(g.tb, "a disk in the guest", 30*time.Second, func() bool {
		for _, name = range strings.Fields(g.run("ls", "/sys/block").must(g.tb)) {
			if strings.HasPrefix(name, "sd") && name != other && g.size(name) > 0 {
				return true
			}
		}
		return false
	})
	return name
}

func (g *linuxGuest) size(disk string) int64 {
	g.tb.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(g.run("blockdev", "--getsize64", "/dev/"+disk).must(g.tb)), 10, 64)
	if err != nil {
		g.tb.Fatal(err)
	}
	return n
}
