//go:build e2e

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// golden is the generation of the blocks of the image that the kill test clones.
const golden = 0xffffffff

// goldenImage has a web server give an image.
func goldenImage(t *testing.T, size int) (image []byte, url string) {
	t.Helper()
	image = make([]byte, size)
	for n := range size / blockSize {
		fill(image[n*blockSize:][:blockSize], n, golden)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "gold.img", time.Time{}, bytes.NewReader(image))
	}))
	t.Cleanup(web.Close)
	return image, web.URL
}

// diskSim is a bmcsim whose target has three units: a clone of an image, a plain
// volume, and the image.
func diskSim(t *testing.T, dir, url string, size int) (*sim, portal) {
	t.Helper()
	return iscsiSim(t, dir, fmt.Sprintf(`{"name": "gold", "image": {"url": %q, "format": "raw"}}, {"name": "clone", "clone": "gold", "size": %d}, {"name": "plain", "size": %d}`, url, size, size),
		"clone", "plain", "gold")
}

// iscsiSim is a bmcsim with volumes, as bmc.json has them, and a target whose units are
// those that are named, from LUN 0 on.
func iscsiSim(t *testing.T, dir, volumes string, units ...string) (*sim, portal) {
	t.Helper()
	const name = "iqn.2026-01.io.nitrino:units"
	var luns []string
	for n, u := range units {
		luns = append(luns, fmt.Sprintf(`{"lun": %d, "volume": %q}`, n, u))
	}
	config := filepath.Join(t.TempDir(), "bmc.json")
	text := fmt.Sprintf(`{"version": 1, "volumes": [%s], "iscsi": {"enabled": true, "targets": [{"name": %q, "luns": [%s]}]}}`, volumes, name, strings.Join(luns, ", "))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &sim{tb: t, program: program, dir: dir, args: []string{"-host", "fake", "-config", config}, base: freeBase(t)}
	s.run()
	t.Cleanup(s.stop)
	p := portal{s.ISCSI, name}
	for lun := range units {
		eventually(t, "the volume behind each LUN", 30*time.Second, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			i, err := login(ctx, p, loginOptions{isid: 9, lun: byte(lun)})
			if err != nil {
				return false
			}
			defer i.close()
			got, err := i.capacity(ctx)
			return err == nil && got > 0
		})
	}
	return s, p
}

// same fails the test unless a unit has these bytes.
func same(t *testing.T, what string, p portal, lun byte, want []byte) {
	t.Helper()
	i := openSession(t, p, loginOptions{isid: 90, lun: lun})
	const step = 1 << 20
	for at := 0; at < len(want); at += step {
		piece := want[at:min(at+step, len(want))]
		if got, err := i.readAt(within(t, 10*time.Second), int64(at), len(piece)); err != nil || !bytes.Equal(got, piece) {
			t.Fatalf("%s is not what it was at %d, %v", what, at, err)
		}
	}
}

// TestKillDisk kills bmcsim with SIGKILL while initiators write to a clone of a
// golden image and to a plain volume: all that was acknowledged is there afterwards,
// and the image is what it was.
func TestKillDisk(t *testing.T) {
	const size = 16 << 20
	image, url := goldenImage(t, size)
	s, p := diskSim(t, t.TempDir(), url, size)
	clone := &verifier{tb: t, portal: p, login: loginOptions{isid: 1, lun: 0}, workers: 4, size: size, initial: golden}
	plain := &verifier{tb: t, portal: p, login: loginOptions{isid: 2, lun: 1}, workers: 4, size: size, fua: true}
	working, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	busy.Go(func() { clone.run(working) })
	busy.Go(func() { plain.run(working) })
	for range killRounds(t) {
		time.Sleep(200*time.Millisecond + rand.N(500*time.Millisecond))
		s.kill()
		s.run()
	}
	cancel()
	busy.Wait()
	t.Logf("clone: %d writes, %d sessions; plain: %d writes, %d sessions", clone.writes.Load(), clone.sessions.Load(), plain.writes.Load(), plain.sessions.Load())

	same(t, "the golden image", p, 2, image)
}

// TestFullCardDisk fills a card by a clone and by a plain volume: the initiator is
// told that there is no room, an event too, and what was written stays, also over a
// SIGKILL.
func TestFullCardDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatalf("mounting a small card: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	image, url := goldenImage(t, 4<<20)
	s, p := diskSim(t, dir, url, 96<<20)
	const step = 256 << 10
	var wrote [2][]byte
	// The clone takes a part, the plain volume the rest, then the clone has no room.
	for n, most := range []int{16 << 20, 96 << 20, 96 << 20} {
		lun := byte(n % 2)
		i := openSession(t, p, loginOptions{isid: uint16(n), lun: lun})
		var err error
		for err == nil && len(wrote[lun]) < most {
			data := bytes.Repeat([]byte{lun + 1, byte(len(wrote[lun]) / step), 0xda, 0x7a}, step/4)
			if err = i.writeAt(within(t, 20*time.Second), int64(len(wrote[lun])), data, true); err == nil {
				wrote[lun] = append(wrote[lun], data...)
			}
		}
		if sense, ok := errors.AsType[*scsiError](err); n > 0 && (!ok || sense.key != 7 || sense.code != 0x2707) || n == 0 && err != nil {
			t.Fatalf("LUN %d, after %d bytes: %v, want 7/2707 once the card is full", lun, len(wrote[lun]), err)
		}
	}
	if got := s.ssh("events").must(t); !strings.Contains(got, "volume.full") {
		t.Errorf("no event tells of the full card: %s", got)
	}
	check := func() {
		t.Helper()
		same(t, "the clone", p, 0, wrote[0])
		same(t, "the plain volume", p, 1, wrote[1])
		same(t, "the golden image", p, 2, image)
	}
	check()
	s.kill()
	s.run()
	check()
}
