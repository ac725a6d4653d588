//go:build e2e

package test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
)

// TestISCSIQEMU: QEMU's initiator, which is libiscsi, copies images in and out, also
// over a network that fragments and delays, and does what qemu-io can.
func TestISCSIQEMU(t *testing.T) {
	const size = 24 << 20
	chap := block.Credentials{User: "qemu", Secret: "twelve-bytes-or-more"}
	disk := rawDisk(t, size)
	e := export(t, block.Target{CHAP: chap}, disk)
	bad, _ := through(t, e.portal, fragmenting)

	image := make([]byte, size)
	if _, err := rand.Read(image); err != nil {
		t.Fatal(err)
	}
	clear(image[4<<20 : 12<<20]) // zeros, which qemu-img does not write as data
	in, out := filepath.Join(t.TempDir(), "in.img"), filepath.Join(t.TempDir(), "out.img")
	if err := os.WriteFile(in, image, 0o600); err != nil {
		t.Fatal(err)
	}
	// options are an image that QEMU opens by its portal, with a header's digests.
	options := func(p portal, digest string) string {
		return fmt.Sprintf("driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=%s,file.target=%s,file.lun=0,file.user=%s,file.password-secret=secret,file.header-digest=%s",
			p.addr, p.target, chap.User, digest)
	}
	secret := "secret,id=secret,data=" + chap.Secret
	for _, c := range []struct {
		name   string
		p      portal
		digest string
	}{{"loopback", e.portal, "none"}, {"digests", e.portal, "crc32c"}, {"fragments", bad, "none"}} {
		if err := disk.WriteZeroes(0, size, false); err != nil {
			t.Fatal(err)
		}
		client(t, "qemu-img", "convert", "--object", secret, "-n", "-f", "raw", "--target-image-opts", in, options(c.p, c.digest)).must(t)
		got := make([]byte, size)
		if err := disk.Readv([][]byte{got}, 0); err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(got) != sha256.Sum256(image) {
			t.Errorf("%s: what qemu-img wrote is not on the disk", c.name)
		}
		client(t, "qemu-img", "convert", "--object", secret, "--image-opts", "-O", "raw", options(c.p, c.digest), out).must(t)
		if got, err := os.ReadFile(out); err != nil || sha256.Sum256(got) != sha256.Sum256(image) {
			t.Errorf("%s: what qemu-img reads back is not what it wrote, %v", c.name, err)
		}
	}
	if r := client(t, "qemu-img", "info", strings.Replace(e.url(0), "//", "//qemu%not-the-right-secret@", 1)); r.code == 0 {
		t.Errorf("qemu-img gets in with a wrong secret:\n%s", r.out)
	}

	url := strings.Replace(e.url(0), "//", "//"+chap.User+"%"+chap.Secret+"@", 1)
	work := []string{"-f", "raw", "-t", "none"}
	for _, command := range []string{
		"write -P 0xa5 0 1M", "aio_write -P 0x5a 1M 256k", "aio_write -P 0xc3 2M 4k", "aio_flush",
		"writev -P 0x77 3M 512 1024 4096", "write -f -P 0x78 4M 64k", "write -z 512k 64k", "discard 768k 128k", "flush",
		"read -P 0xa5 0 512k", "read -P 0 512k 64k", "read -P 0xa5 576k 192k", "read -P 0 768k 128k",
		"read -P 0x5a 1M 256k", "read -P 0xc3 2M 4k", "readv -P 0x77 3M 512 1024 4096", "read -P 0x78 4M 64k",
	} {
		work = append(work, "-c", command)
	}
	if got := client(t, "qemu-io", append(work, url)...).must(t); strings.Contains(got, "failed") {
		t.Errorf("qemu-io: %s", got)
	}
}

// TestISCSIBootCD: a host's firmware in QEMU boots a CD that is a logical unit, by
// QEMU's initiator and the target's CD-ROM drive.
func TestISCSIBootCD(t *testing.T) {
	const hello = "hello from a disc behind iSCSI"
	cd := bootableCD(1<<20, hello+"\r\n")
	_, d := rawFile(t, int64(len(cd)))
	if err := d.Writev([][]byte{cd}, 0); err != nil {
		t.Fatal(err)
	}
	e := exportUnits(t, block.Target{}, unit{disk: newDisk(t, d, true), cd: true})
	com1 := filepath.Join(t.TempDir(), "com1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var console lockedBuffer
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "pc", "-accel", "tcg", "-m", "128", "-boot", "d",
		"-drive", "format=raw,media=cdrom,readonly=on,file="+e.url(0),
		"-chardev", "file,id=com1,path="+com1, "-serial", "chardev:com1")
	qemu.Stdout, qemu.Stderr = &console, &console
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		qemu.Wait() // its error is the kill
	}()
	eventually(t, "the host boots the disc", 40*time.Second, func() bool {
		text, err := os.ReadFile(com1)
		return err == nil && strings.Contains(string(text), hello)
	})
}
