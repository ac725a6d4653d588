package bmc

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/block"
)

// reserve registers an initiator at LUN 0 and reserves it, to outlive a loss of power.
func (i *initiator) reserve() error {
	for _, out := range []struct {
		action, kind byte
		key, next    uint64
	}{{0, 0, 0, 10}, {1, 1, 10, 0}} {
		list := binary.BigEndian.AppendUint64(nil, out.key)
		list = append(binary.BigEndian.AppendUint64(list, out.next), 0, 0, 0, 0, 1 /* APTPL */, 0, 0, 0)
		if status, _, err := i.command([]byte{0x5F, out.action, out.kind, 0, 0, 0, 0, 0, 24, 0}, list, 0); err != nil || status != 0 {
			return cmp.Or(err, fmt.Errorf("PERSISTENT RESERVE OUT %d: status %#x", out.action, status))
		}
	}
	return nil
}

// TestReservations: they outlive the process, go with their volume, and if they are
// damaged people are told and the host has its disk.
func TestReservations(t *testing.T) {
	r := newDiskRig(t)
	dir := t.TempDir()
	d, stop := openDisk(t, "one", dir)
	defer func() { stop() }()
	ctx, from := t.Context(), testOrigin()
	kept := filepath.Join(dir, diskISCSI, reservations)
	files := func() (names []string) {
		t.Helper()
		entries, err := os.ReadDir(kept)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	die := r.join(d)
	r.await("joined", r.Up)
	// restart is the loss of the process, after which change has been made.
	restart := func(change func()) {
		t.Helper()
		die()
		stop()
		change()
		d, stop = openDisk(t, "again", dir)
		die = r.join(d)
		r.await("joined", r.Up)
		r.await("it listens", func() bool { return d.iscsi.address() != "" })
	}

	want := map[string]string{} // the file of each volume
	if err := r.set.Set("iscsi.enabled", "true"); err != nil {
		t.Fatal(err)
	}
	r.await("it listens", func() bool { return r.State().Health.ISCSI != "" })
	for _, name := range []string{"a", "b", "c"} {
		i, err := r.Create(ctx, block.CreateRequest{Name: name, Size: 1 << 20}, from)
		if err != nil {
			t.Fatal(err)
		}
		want[name] = strings.ReplaceAll(i.UUID, "-", "")
		if err := r.PutTarget(ctx, TargetOf(name), from); err != nil {
			t.Fatal(err)
		}
		host, err := login(r.State().Health.ISCSI, TargetName(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := host.reserve(); err != nil {
			t.Fatal(err)
		}
		host.Close()
	}
	if got := files(); len(got) != 3 || !slices.Contains(got, want["a"]) {
		t.Fatalf("got the files %q, want %v", got, want)
	}
	stray := strings.Repeat("0f", 16)
	restart(func() {
		if err := os.WriteFile(filepath.Join(kept, stray), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if got := files(); len(got) != 3 || slices.Contains(got, stray) {
		t.Errorf("got the files %q, want none of what is no volume's", got)
	}
	host, err := login(d.iscsi.address(), TargetName("a"))
	if err != nil {
		t.Fatal(err)
	}
	status, got, err := host.command([]byte{0x5E, 1, 0, 0, 0, 0, 0, 0, 24, 0}, nil, 24)
	if err != nil || status != 0 || len(got) != 24 || got[15] != 10 || got[21] != 1 {
		t.Errorf("READ RESERVATION after the restart: got status %#x, %x, %v, want that of key 10", status, got, err)
	}
	host.Close()

	for _, damage := range []struct{ name, text string }{{"a", "{"}, {"b", ""}} {
		restart(func() {
			if err := os.WriteFile(filepath.Join(kept, want[damage.name]), []byte(damage.text), 0o600); err != nil {
				t.Fatal(err)
			}
		})
		r.await("its event", func() bool {
			return slices.ContainsFunc(r.events.Since(0, 0), func(e Event) bool {
				return e.Kind == kindReservationsLost && strings.Contains(e.Message, "volume "+damage.name+" ")
			})
		})
		host, err := login(d.iscsi.address(), TargetName(damage.name))
		if err != nil {
			t.Fatal(err)
		}
		if err := host.check(1); err != nil {
			t.Errorf("%s: the disk is not there: %v", damage.name, err)
		}
		host.Close()
		if got := files(); !slices.Contains(got, want[damage.name]+damagedSuffix) || slices.Contains(got, want[damage.name]) {
			t.Errorf("%s: got the files %q, want it set aside", damage.name, got)
		}
	}
	restart(func() {})
	lost := 0
	for _, kind := range r.kinds() {
		if kind == kindReservationsLost {
			lost++
		}
	}
	if lost != 2 {
		t.Errorf("told %d times that reservations are lost, want once of each", lost)
	}

	for _, name := range []string{"a", "b", "c"} {
		if err := r.DeleteTarget(ctx, TargetName(name), from); err != nil {
			t.Fatal(err)
		}
		r.await("nobody uses "+name, func() bool { return r.Delete(ctx, name, from) == nil })
		if got := files(); slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, want[name]) }) {
			t.Errorf("%s is deleted: got the files %q", name, got)
		}
	}
}

// TestSweepDamaged: as long as a volume's description cannot be read, what may be its
// reservations is kept.
func TestSweepDamaged(t *testing.T) {
	dir := t.TempDir()
	d, stop := openDisk(t, "one", dir)
	if _, err := d.volumes.Create(t.Context(), block.CreateRequest{Name: "a", Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	stop()
	path := filepath.Join(dir, diskISCSI, reservations, strings.Repeat("0f", 16))
	for _, file := range []string{path, filepath.Join(dir, diskStore, "volumes", "a.json")} {
		if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, stop = openDisk(t, "two", dir)
	defer stop()
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
