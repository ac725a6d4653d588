//go:build e2e

package test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
)

// TestISCSILinux: the kernel's initiator of a Debian guest, with open-iscsi, does what
// a server does with its disks.
func TestISCSILinux(t *testing.T) {
	t.Parallel() // it waits for long
	g := bootLinux(t, []string{"ip", "iscsid", "iscsiadm", "fio", "blkdiscard", "blockdev", "sg_persist", "sg_reset", "ls", "cat", "cp"}, map[string]string{
		"/etc/passwd":                    "root:x:0:0:root:/:/bin/false\n",
		"/etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.2026-01.io.nitrino:guest\n",
		"/etc/iscsi/iscsid.conf":         "node.startup = manual\n",
		"/run/lock/iscsi/":               "",
		"/tmp/":                          "",
		"/short":                         "10\n", // seconds
		"/long":                          "120\n",
	})
	g.run("iscsid").must(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *linuxGuest)
	}{{"stall", linuxStall}, {"CHAP", linuxCHAP}, {"disk", linuxDisk}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, g.in(t))
		})
	}
}

// A linuxNode is a target as open-iscsi in the guest knows it.
type linuxNode struct {
	g *linuxGuest
	portal
}

// node makes one. That of a discovery would not do: it has the address that the board
// has on that way, which QEMU's network hides.
func (g *linuxGuest) node(p portal, settings ...[2]string) *linuxNode {
	g.tb.Helper()
	_, port, _ := strings.Cut(p.addr, ":")
	n := &linuxNode{g, portal{"10.0.2.2:" + port, p.target}}
	n.iscsiadm("-o", "new").must(g.tb)
	if len(settings) > 0 {
		n.set(settings...)
	}
	return n
}

func (n *linuxNode) iscsiadm(args ...string) result {
	n.g.tb.Helper()
	return n.g.run(append([]string{"iscsiadm", "-m", "node", "-T", n.target, "-p", n.addr}, args...)...)
}

// set changes settings, as iscsiadm(8) names them.
func (n *linuxNode) set(settings ...[2]string) {
	n.g.tb.Helper()
	args := []string{"-o", "update"}
	for _, s := range settings {
		args = append(args, "-n", s[0], "-v", s[1])
	}
	n.iscsiadm(args...).must(n.g.tb)
}

// linuxCHAP: each side proves by each algorithm that open-iscsi has who it is, and
// neither gets through with a wrong secret.
func linuxCHAP(t *testing.T, g *linuxGuest) {
	const secret, mutual = "twelve-bytes-or-more", "another-secret-of-it"
	e := export(t, block.Target{Name: "iqn.2026-01.io.nitrino:chap", CHAP: block.Credentials{User: "guest", Secret: secret}, Mutual: block.Credentials{User: "board", Secret: mutual}}, rawDisk(t, 16<<20))
	var said lockedBuffer // by the target, in logins
	p, _ := through(t, e.portal, inspecting(false, false, func(pdu []byte, _ *rand.Rand) {
		if pdu[0]&0x3f == opLoginResponse {
			said.Write(pdu[48:]) // never fails
		}
	}))
	n := g.node(p, [2]string{"node.session.auth.authmethod", "CHAP"}, [2]string{"node.session.auth.username", "guest"},
		[2]string{"node.session.initial_login_retry_max", "1"})
	const refused = 24 // ISCSI_ERR_LOGIN_AUTH_FAILED of iscsiadm(8)
	for _, c := range []struct {
		algorithms string
		number     int // of the first one, as CHAP_A has it
	}{{"MD5", 5}, {"SHA256", 7}, {"SHA3-256,SHA256,MD5", 8}} {
		n.set([2]string{"node.session.auth.chap_algs", c.algorithms})
		before := len(said.String())
		logins := []struct {
			name             string
			ours, board, its string // the secrets, and the target's user: "" does not ask for it
			in               bool
		}{
			{"a wrong secret", "not-the-right-secret", "", "", false},
			{"one way", secret, "", "", true},
			{"a wrong secret of the target's", secret, "board", "not-what-the-board-has", false},
			{"mutual", secret, "board", mutual, true},
		}
		for _, l := range logins {
			n.set([2]string{"node.session.auth.password", l.ours}, [2]string{"node.session.auth.username_in", l.board}, [2]string{"node.session.auth.password_in", l.its})
			r := n.iscsiadm("--login")
			if (r.code == 0) != l.in || l.ours != secret && r.code != refused {
				t.Errorf("%s, %s: exit code %d\n%s", c.algorithms, l.name, r.code, r.out)
			}
			if got := e.server.Sessions(); (len(got) == 1 && got[0].User == "guest") != l.in {
				t.Errorf("%s, %s: sessions are %+v", c.algorithms, l.name, got)
			}
			if r.code == 0 {
				n.iscsiadm("--logout").must(t)
			}
		}
		// An initiator that is refused may try again.
		text := said.String()[before:]
		all, by, answers := strings.Count(text, "CHAP_A="), strings.Count(text, fmt.Sprintf("CHAP_A=%d\x00", c.number)), strings.Count(text, "CHAP_R=")
		if by < len(logins) || by != all || answers == 0 {
			t.Errorf("%s: of %d challenges in %d logins %d were by algorithm %d, and %d of the initiator's were answered", c.algorithms, all, len(logins), by, c.number, answers)
		}
	}
}

// linuxDisk: CHAP both ways and digests, verified work in many sizes, a disk that grows
// meanwhile, two ways to it, discards, reservations.
func linuxDisk(t *testing.T, g *linuxGuest) {
	const size, larger = 96 << 20, 128 << 20
	disk := rawDisk(t, size)
	e := export(t, block.Target{
		Name:   "iqn.2026-01.io.nitrino:disk",
		CHAP:   block.Credentials{User: "guest", Secret: "twelve-bytes-or-more"},
		Mutual: block.Credentials{User: "board", Secret: "another-secret-of-it"},
	}, disk)
	n := g.node(e.portal,
		[2]string{"node.session.auth.authmethod", "CHAP"},
		[2]string{"node.session.auth.username", "guest"},
		[2]string{"node.session.auth.password", "twelve-bytes-or-more"},
		[2]string{"node.session.auth.username_in", "board"},
		[2]string{"node.session.auth.password_in", "another-secret-of-it"},
		[2]string{"node.conn[0].iscsi.HeaderDigest", "CRC32C"},
		[2]string{"node.conn[0].iscsi.DataDigest", "CRC32C"})
	if got := g.run("iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", n.addr).must(t); !strings.Contains(got, e.target) {
		t.Errorf("discovery finds %q", got)
	}
	n.iscsiadm("--login").must(t)
	first := g.disk(e.target, "")
	for _, name := range []string{"header_digest", "data_digest"} {
		connection := "connection" + strings.TrimPrefix(g.sessions(e.target)[0], "session") + ":0"
		if got := strings.TrimSpace(g.run("cat", "/sys/class/iscsi_connection/"+connection+"/"+name).must(t)); got != "1" {
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
	n.iscsiadm("--rescan").must(t)
	if got := g.size(first); got != larger {
		t.Errorf("after it grew, the disk has %d bytes, want %d", got, int64(larger))
	}

	// A second session is a second way to the same disk.
	n.set([2]string{"node.session.nr_sessions", "2"})
	n.iscsiadm("--login").must(t)
	if got := e.server.Sessions(); len(got) != 2 {
		t.Errorf("there are %d sessions, want 2", len(got))
	}
	second := g.disk(e.target, first)
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

	n.iscsiadm("--logout").must(t)
	if got := e.server.Sessions(); len(got) != 0 {
		t.Errorf("after logout there are sessions: %+v", got)
	}
}

// sessions are the guest's with a target, as sysfs names them.
func (g *linuxGuest) sessions(target string) []string {
	g.tb.Helper()
	var of []string
	for _, s := range strings.Fields(g.run("ls", "/sys/class/iscsi_session").must(g.tb)) {
		// One that has gone meanwhile is another target's.
		if r := g.run("cat", "/sys/class/iscsi_session/"+s+"/targetname"); r.code == 0 && strings.TrimSpace(r.out) == target {
			of = append(of, s)
		}
	}
	return of
}

// disk waits for a disk of a target in the guest, other than that one, and answers its
// name.
func (g *linuxGuest) disk(target, other string) string {
	g.tb.Helper()
	var name string
	eventually(g.tb, "a disk in the guest", 30*time.Second, func() bool {
		sessions := g.sessions(target)
		for line := range strings.Lines(g.run("ls", "-l", "/sys/block").must(g.tb)) {
			// "… sda -> ../devices/platform/host2/session1/target2:0:0/2:0:0:0/block/sda"
			_, path, _ := strings.Cut(strings.TrimSpace(line), " -> ")
			in := func(session string) bool { return strings.Contains(path, "/"+session+"/") }
			if name = filepath.Base(path); slices.ContainsFunc(sessions, in) && name != other && g.size(name) > 0 {
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
